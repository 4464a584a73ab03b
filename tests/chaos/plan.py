"""What happens in a round, drawn from its seed: the load, and the faults. Pure; the timing is the machine's.

Faults are dealt like cards. Each deck has every fault once; consecutive seeds take consecutive hands of a
deck that is shuffled for them. So ``ROUNDS_PER_DECK`` seeds, from a multiple of it on, see every fault.
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
# Faults that nothing has run into by then are waited for, and so long some more highlights are sent.
EXTRA_SECONDS = 12.0
EXTRA_EVERY_SECONDS = 1.5
HIGHLIGHTS = 20
ACCOUNTS = 4
TICK_SECONDS = 2.0
# Half of the highlights come at once, so that there are clips to act on when faults begin; the others, and
# the faults, are spread over the time.
RUSH_SECONDS = 3.0
SENT_UNTIL = 18.0
FAULTS_FROM, FAULTS_UNTIL = 4.0, 17.0
ROUNDS_PER_DECK = 6


class FaultKind(StrEnum):
    """What is done to the system."""

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
    """A fault, ``at`` seconds after the load began, for ``seconds`` (where it lasts)."""

    kind: FaultKind
    target: str
    at: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        """As in the printed plan."""
        lasting = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:5.1f} s  {self.kind}: {self.target}{lasting}"


class ExpectedEnd(StrEnum):
    """What has to become of a highlight."""

    CLIP = "clip"
    SKIPPED = "skipped"
    DEAD = "dead-lettered"


class Flaw(StrEnum):
    """What is wrong with a highlight, or strange."""

    NONE = ""
    NOT_CLIPABLE = "not clipable"
    OUTSIDE = "window outside of the VOD"
    MISSING = "VOD missing"
    NOT_JSON = "not JSON"
    FOREIGN = "foreign bucket"
    KILLER = "killer"
    NEVER_ANSWERED = "VOD that is never answered for"
    # Good ones, of careless producers.
    NULL_HEADER = "null header"
    NO_ID = "no ce_id"
    LARGE_HEADERS = "large headers"
    NEGATIVE_TIME = "negative timestamp"
    # Bad ones of which no handler hears, or whose dead letter is too large.
    BOMB = "batch that unpacks to 150 MB"
    HEADER_NAME = "header name that is not UTF-8"
    LARGE_AND_BAD = "large headers, not JSON"


# They stop things below the handlers: good ones stand before and after them in the same partition.
BELOW_HANDLERS = {Flaw.BOMB, Flaw.HEADER_NAME}


@dataclass(frozen=True)
class Send:
    """A highlight event to publish; events of one ``highlight`` are detected in the order of ``detected``.

    ``codec``: sent by librdkafka, compressed in this way; without one by aiokafka, as it is.
    """

    at: float
    event: str
    highlight: str
    account: str
    fate: ExpectedEnd
    flaw: Flaw = Flaw.NONE
    codec: str = ""
    detected: int = 0
    start: float = 0.0
    seconds: float = 2.0
    vod: str = "vod.mp4"


@dataclass(frozen=True)
class AccountRequests:
    """What an account asks of a clip: at first ``haste`` seconds after it is there, then every ``pause``."""

    highlight: str
    account: str
    actions: tuple[str, ...]
    haste: float = 0.0
    pause: float = 0.0


@dataclass(frozen=True)
class RoundPlan:
    """A round, of which ``seconds`` are for load and faults."""

    seed: int
    sends: tuple[Send, ...]
    wishes: tuple[AccountRequests, ...]
    faults: tuple[Fault, ...]
    seconds: float = LOAD_SECONDS

    def __str__(self) -> str:
        """The same for the same seed."""
        flawed = sum(each.fate is not ExpectedEnd.CLIP for each in self.sends)
        load = f"{len(self.sends)} events ({flawed} flawed), {len(self.wishes)} clips asked for"
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
_WISHES = (
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
# Each is read in a way of its own, or its clips go another way. The others are of a plain MP4.
_OTHER_VODS = {
    **dict.fromkeys((4, 10, 16), RE_ENCODED_VOD),
    **dict.fromkeys((5, 11, 17), "vod.ts"),
    **dict.fromkeys((7, 13), LARGE_VOD),
    **dict.fromkeys((8, 14), "vod.flv"),
    **dict.fromkeys((9, 19), "fragmented.mp4"),
}
# From the start of each recording: the shortest is still long enough.
STARTS_UNTIL = {LARGE_VOD: 4.0}


def deck() -> tuple[Fault, ...]:
    """Every fault there is, once."""
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
        *(Fault(FaultKind.STORAGE, trouble, seconds=5) for trouble in StorageFault),
        *(Fault(FaultKind.REPEATED, topic) for topic in REPEATABLE),
        Fault(FaultKind.DISK_FULL, "clip-cutter", seconds=4),
        Fault(FaultKind.KILLER, "clip-cutter"),
        Fault(FaultKind.POISONED_SOURCE, "clip-cutter"),
    )


def draw(seed: int) -> RoundPlan:
    """The round of a seed."""
    dice = random.Random(seed)  # noqa: S311 - chance, not a secret
    sends = tuple(sorted(_sends(seed, dice), key=lambda each: each.at))
    clips = {each.highlight: each.account for each in sends if each.fate is ExpectedEnd.CLIP}
    wished = dice.sample(sorted(clips), len(clips) * 6 // 10)
    wishes = tuple(
        AccountRequests(
            each,
            clips[each],
            _WISHES[number % len(_WISHES)],
            haste=dice.uniform(0, 1.5),
            pause=dice.uniform(0, 4),
        )
        for number, each in enumerate(wished)
    )
    return RoundPlan(seed, sends, wishes, tuple(_faults(seed, dice)))


def _faults(seed: int, dice: random.Random) -> list[Fault]:
    number, hand = divmod(seed, ROUNDS_PER_DECK)
    cards = list(deck())
    random.Random(number).shuffle(cards)  # noqa: S311 - chance, not a secret
    dealt = [
        Fault(card.kind, card.target, at=dice.uniform(FAULTS_FROM, FAULTS_UNTIL), seconds=card.seconds)
        for card in cards[hand::ROUNDS_PER_DECK]
    ]
    return sorted(dealt, key=lambda fault: fault.at)


def _event_id(name: str, number: int = 0) -> str:
    """A random UUID to whoever reads it, which every service therefore keeps."""
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
            _carelessness(number),
            _CODECS[number % len(_CODECS)],
            start=dice.uniform(0, STARTS_UNTIL.get(vod, 15.0)),
            seconds=dice.uniform(3.5, 4) if vod == LARGE_VOD else dice.uniform(2, 4),
            vod=vod,
        )
        yield first
        if number % 5 == 1:  # a newer detection of the same, which may even arrive before
            later = at + dice.uniform(-2, 6)
            yield replace(first, at=max(0.0, later), event=_event_id(name, 1), detected=1)
    for number, (fate, flaw) in enumerate(_FLAWS):
        name = f"s{seed}-f{number}"
        yield Send(dice.uniform(0, SENT_UNTIL), _event_id(name), name, f"s{seed}-a0", fate, flaw)


def _carelessness(number: int) -> Flaw:
    if number % 8 == 2:
        return Flaw.NO_ID
    return Flaw.NULL_HEADER if number % 6 == 3 else Flaw.NONE


def neighbours(send: Send) -> tuple[Send, Send]:
    """The good highlights before and after one that stops things below the handlers."""
    before, after = (
        replace(send, event=_event_id(name), highlight=name, fate=ExpectedEnd.CLIP, flaw=Flaw.NONE)
        for name in (f"{send.highlight}-before", f"{send.highlight}-after")
    )
    return before, after


def extra(plan: RoundPlan, number: int) -> Send:
    """One more highlight, while there are faults that nothing has run into."""
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
    """A highlight whose cutter dies of it, every time."""
    name = f"{KILLER_PREFIX}s{seed}"
    return Send(0.0, _event_id(name), name, f"s{seed}-a0", ExpectedEnd.DEAD, Flaw.KILLER)


def never_answered(seed: int) -> Send:
    """A highlight whose VOD the storage answers with errors, every time."""
    name = f"never-answered-s{seed}"
    return Send(0.0, _event_id(name), name, f"s{seed}-a0", ExpectedEnd.DEAD, Flaw.NEVER_ANSWERED)


def passer_by(seed: int, number: int) -> Send:
    """A highlight that succeeds at once, as a skip."""
    name = f"s{seed}-p{number}"
    return Send(0.0, _event_id(name), name, f"s{seed}-a0", ExpectedEnd.SKIPPED, Flaw.NOT_CLIPABLE)
