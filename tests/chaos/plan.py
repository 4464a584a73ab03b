"""The plan of a round, drawn from its seed: the load and the faults. Pure functions.

Faults are dealt like cards. A deck has every fault once; ``ROUNDS_PER_DECK`` consecutive seeds (the first one
a multiple of it) share a shuffled deck, and together have every fault.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from tests.chaos.failpoints import FAILPOINTS, KILLER_PREFIX
from tests.chaos.s3_proxy import StorageFault

LOAD_SECONDS = 22.0
# A failpoint that no process has reached is waited for this long, while more highlights are sent.
EXTRA_SECONDS = 12.0
EXTRA_EVERY_SECONDS = 1.5
HIGHLIGHTS = 20
ACCOUNTS = 4
TICK_SECONDS = 2.0
# Half of the highlights are sent at the beginning, so that clips exist when the faults begin; the others, and
# the faults, are spread over the time.
RUSH_SECONDS = 3.0
SENT_UNTIL = 18.0
FAULTS_FROM, FAULTS_UNTIL = 4.0, 17.0
ROUNDS_PER_DECK = 6


class FaultKind(StrEnum):
    """The kind of a fault."""

    KILL_AT = "SIGKILL at a failpoint"
    KILL = "SIGKILL at any moment"
    FREEZE = "SIGSTOP beyond the session"
    TERMINATE = "SIGTERM in mid-job"
    JOIN_AND_LEAVE = "worker joins and leaves"
    JOIN_AND_DIE = "worker joins and is killed"
    BROKER_KILLED = "broker killed"
    BROKER_STOPPED = "broker stopped"
    BROKER_FROZEN = "broker frozen"
    REFUSED = "records refused by the broker"
    ALL_KILLED = "everything killed at once"
    DATABASE_STOPPED = "PostgreSQL stopped at once"
    STORAGE = "S3"
    REPEATED = "events repeated out of order"
    DISK_FULL = "scratch disk full"
    KILLER = "event that kills its process"
    POISONED_SOURCE = "VOD that is never answered for"


@dataclass(frozen=True)
class Fault:
    """A fault that begins ``at`` seconds after the load, and lasts ``seconds`` (0: it has no duration)."""

    kind: FaultKind
    target: str
    at: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return the fault's line in the printed plan."""
        lasting = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:5.1f} s  {self.kind}: {self.target}{lasting}"


class ExpectedEnd(StrEnum):
    """The end that a highlight must have."""

    CLIP = "clip"
    SKIPPED = "skipped"
    DEAD = "dead-lettered"


class Flaw(StrEnum):
    """A defect or an unusual property of a highlight event."""

    NONE = ""
    NOT_CLIPABLE = "not clipable"
    OUTSIDE = "window outside of the VOD"
    MISSING = "VOD missing"
    NOT_JSON = "not JSON"
    FOREIGN = "foreign bucket"
    KILLER = "killer"
    NEVER_ANSWERED = "VOD that is never answered for"
    # Valid events with unusual headers or timestamps.
    NULL_HEADER = "null header"
    NO_ID = "no ce_id"
    LARGE_HEADERS = "large headers"
    NEGATIVE_TIME = "negative timestamp"
    # Events that no handler can read, or whose dead letter is too large.
    BOMB = "batch that unpacks to 150 MB"
    HEADER_NAME = "header name that is not UTF-8"
    LARGE_AND_BAD = "large headers, not JSON"


# These fail below the handlers: a good event is sent before and after them in the same partition.
BELOW_HANDLERS = {Flaw.BOMB, Flaw.HEADER_NAME}


@dataclass(frozen=True)
class Send:
    """A highlight event to publish; events of one ``highlight`` are detected in the order of ``detected``.

    ``codec``: librdkafka sends the event with this compression; without a codec, aiokafka sends it.
    """

    at: float
    event: str
    highlight: str
    account: str
    expected: ExpectedEnd
    flaw: Flaw = Flaw.NONE
    codec: str = ""
    detected: int = 0
    start: float = 0.0
    seconds: float = 2.0
    vod: str = "vod.mp4"


@dataclass(frozen=True)
class AccountRequests:
    """An account's requests: the first ``first_pause`` seconds after the clip exists, then each ``pause``."""

    highlight: str
    account: str
    actions: tuple[str, ...]
    first_pause: float = 0.0
    pause: float = 0.0


@dataclass(frozen=True)
class RoundPlan:
    """The plan of a round. ``seconds``: the time of its load and faults."""

    seed: int
    sends: tuple[Send, ...]
    requests: tuple[AccountRequests, ...]
    faults: tuple[Fault, ...]
    seconds: float = LOAD_SECONDS

    def __str__(self) -> str:
        """Return the printed plan, which is the same for the same seed."""
        flawed = sum(each.expected is not ExpectedEnd.CLIP for each in self.sends)
        load = f"{len(self.sends)} events ({flawed} flawed), {len(self.requests)} clips asked for"
        return "\n".join([f"seed {self.seed}: {load}", *(f"  {fault}" for fault in self.faults)])


WORKERS = ("clip-cutter", "clip-registry", "janitor")
SERVICES = (*WORKERS, "clip-gateway")
REPEATABLE = (
    "highlight-detected",
    "highlight-encodings",
    "clip-created",
    "clip-objects-released",
    "daily-tick",
)
_ACTIONS = (
    ("keep",),
    ("publish",),
    ("keep", "publish", "unpublish"),
    ("keep", "unkeep"),
    ("keep", "unkeep", "keep"),
    ("publish", "unpublish", "unkeep", "keep", "publish"),
    ("keep", *("publish", "unpublish") * 5),
    ("delete",),
    ("keep", "delete"),
    ("keep", "delete", "restore"),
    ("publish", "delete", "restore", "unpublish"),
    ("delete", "restore", "keep"),
)
_FLAWS = (
    (ExpectedEnd.SKIPPED, Flaw.NOT_CLIPABLE),
    (ExpectedEnd.SKIPPED, Flaw.OUTSIDE),
    (ExpectedEnd.SKIPPED, Flaw.MISSING),
    (ExpectedEnd.DEAD, Flaw.NOT_JSON),
    (ExpectedEnd.DEAD, Flaw.FOREIGN),
    (ExpectedEnd.CLIP, Flaw.LARGE_HEADERS),
    (ExpectedEnd.CLIP, Flaw.NEGATIVE_TIME),
    (ExpectedEnd.DEAD, Flaw.BOMB),
    (ExpectedEnd.DEAD, Flaw.HEADER_NAME),
    (ExpectedEnd.DEAD, Flaw.LARGE_AND_BAD),
)
_CODECS = ("", "gzip", "snappy", "lz4", "zstd")
REFUSING = ("clip-created", "clip-lifecycle", "highlight-encodings", "highlight-detected.dlq")
RE_ENCODED_VOD, LARGE_VOD = "deep.mp4", "large.mp4"
# By number of the highlight, VODs that the cutter reads or cuts in another way. The others are a plain MP4.
_OTHER_VODS = {
    **dict.fromkeys((4, 10, 16), RE_ENCODED_VOD),
    **dict.fromkeys((5, 11, 17), "vod.ts"),
    **dict.fromkeys((7, 13), LARGE_VOD),
    **dict.fromkeys((8, 14), "vod.flv"),
    **dict.fromkeys((9, 19), "fragmented.mp4"),
}
# Latest start of a window in a VOD, in seconds.
STARTS_UNTIL = {LARGE_VOD: 4.0}


def deck() -> tuple[Fault, ...]:
    """Return every fault once."""
    return (
        *(Fault(FaultKind.KILL_AT, each.name) for each in FAILPOINTS),
        *(Fault(FaultKind.KILL, service) for service in SERVICES),
        *(Fault(FaultKind.FREEZE, service) for service in WORKERS),
        *(Fault(FaultKind.TERMINATE, service) for service in SERVICES),
        *(Fault(FaultKind.JOIN_AND_LEAVE, service, seconds=5) for service in WORKERS),
        Fault(FaultKind.JOIN_AND_DIE, "clip-cutter", seconds=5),
        Fault(FaultKind.BROKER_KILLED, "kafka", seconds=4),
        Fault(FaultKind.BROKER_KILLED, "kafka, then clip-registry", seconds=7),
        Fault(FaultKind.BROKER_STOPPED, "kafka", seconds=4),
        Fault(FaultKind.BROKER_FROZEN, "kafka", seconds=8),
        *(Fault(FaultKind.REFUSED, topic, seconds=4) for topic in REFUSING),
        Fault(FaultKind.ALL_KILLED, "broker, database and services", seconds=1),
        Fault(FaultKind.DATABASE_STOPPED, "postgres", seconds=2),
        Fault(FaultKind.DATABASE_STOPPED, "postgres", seconds=0.1),
        *(Fault(FaultKind.STORAGE, fault, seconds=5) for fault in StorageFault),
        *(Fault(FaultKind.REPEATED, topic) for topic in REPEATABLE),
        Fault(FaultKind.DISK_FULL, "clip-cutter", seconds=4),
        Fault(FaultKind.KILLER, "clip-cutter"),
        Fault(FaultKind.POISONED_SOURCE, "clip-cutter"),
    )


def draw(seed: int) -> RoundPlan:
    """Return the plan of a seed's round."""
    dice = random.Random(seed)  # noqa: S311 - chance, not a secret
    sends = tuple(sorted(_sends(seed, dice), key=lambda each: each.at))
    clips = {each.highlight: each.account for each in sends if each.expected is ExpectedEnd.CLIP}
    chosen = dice.sample(sorted(clips), len(clips) * 6 // 10)
    requests = tuple(
        AccountRequests(
            each,
            clips[each],
            _ACTIONS[number % len(_ACTIONS)],
            first_pause=dice.uniform(0, 1.5),
            pause=dice.uniform(0, 4),
        )
        for number, each in enumerate(chosen)
    )
    return RoundPlan(seed, sends, requests, tuple(_faults(seed, dice)))


def _faults(seed: int, dice: random.Random) -> list[Fault]:
    number, hand = divmod(seed, ROUNDS_PER_DECK)
    cards = list(deck())
    random.Random(number).shuffle(cards)  # noqa: S311 - chance, not a secret
    faults = [
        Fault(card.kind, card.target, at=dice.uniform(FAULTS_FROM, FAULTS_UNTIL), seconds=card.seconds)
        for card in cards[hand::ROUNDS_PER_DECK]
    ]
    return sorted(faults, key=lambda fault: fault.at)


def _event_id(name: str, number: int = 0) -> str:
    """Return a UUID that follows from the name, and looks random to the services."""
    return str(UUID(bytes=hashlib.md5(f"{name}-e{number}".encode()).digest(), version=4))  # noqa: S324 - no secret


def _sends(seed: int, dice: random.Random) -> Iterator[Send]:
    for number in range(HIGHLIGHTS):
        name = f"s{seed}-h{number}"
        at = dice.uniform(0, RUSH_SECONDS if number % 2 else SENT_UNTIL)
        vod = _OTHER_VODS.get(number, "vod.mp4")
        first = Send(
            at,
            _event_id(name),
            name,
            f"s{seed}-a{number % ACCOUNTS}",
            ExpectedEnd.CLIP,
            _producer_flaw(number),
            _CODECS[number % len(_CODECS)],
            start=dice.uniform(0, STARTS_UNTIL.get(vod, 15.0)),
            seconds=dice.uniform(3.5, 4) if vod == LARGE_VOD else dice.uniform(2, 4),
            vod=vod,
        )
        yield first
        if number % 5 == 1:  # a newer detection of the same highlight, which can be sent first
            later = at + dice.uniform(-2, 6)
            yield replace(first, at=max(0.0, later), event=_event_id(name, 1), detected=1)
    for number, (expected, flaw) in enumerate(_FLAWS):
        name = f"s{seed}-f{number}"
        yield Send(dice.uniform(0, SENT_UNTIL), _event_id(name), name, f"s{seed}-a0", expected, flaw)


def _producer_flaw(number: int) -> Flaw:
    if number % 8 == 2:
        return Flaw.NO_ID
    return Flaw.NULL_HEADER if number % 6 == 3 else Flaw.NONE


def neighbours(send: Send) -> tuple[Send, Send]:
    """Return the good highlights before and after an event that fails below the handlers."""
    before, after = (
        replace(send, event=_event_id(name), highlight=name, expected=ExpectedEnd.CLIP, flaw=Flaw.NONE)
        for name in (f"{send.highlight}-before", f"{send.highlight}-after")
    )
    return before, after


def extra(plan: RoundPlan, number: int) -> Send:
    """Return an additional highlight, sent while a failpoint waits for a process."""
    seed, name = plan.seed, f"s{plan.seed}-x{number}"
    vod = ("vod.mp4", RE_ENCODED_VOD, LARGE_VOD)[number % 3]
    return Send(
        plan.seconds,
        _event_id(name),
        name,
        f"s{seed}-a{number % ACCOUNTS}",
        ExpectedEnd.CLIP,
        start=number % 4,
        seconds=3.5,
        vod=vod,
    )


def killer(seed: int) -> Send:
    """Return a highlight that kills its cutter, every time."""
    name = f"{KILLER_PREFIX}s{seed}"
    return Send(0.0, _event_id(name), name, f"s{seed}-a0", ExpectedEnd.DEAD, Flaw.KILLER)


def never_answered(seed: int) -> Send:
    """Return a highlight whose VOD the storage answers with errors, every time."""
    name = f"never-answered-s{seed}"
    return Send(0.0, _event_id(name), name, f"s{seed}-a0", ExpectedEnd.DEAD, Flaw.NEVER_ANSWERED)


def skipped_highlight(seed: int, number: int) -> Send:
    """Return a highlight that is skipped at once."""
    name = f"s{seed}-p{number}"
    return Send(0.0, _event_id(name), name, f"s{seed}-a0", ExpectedEnd.SKIPPED, Flaw.NOT_CLIPABLE)
