"""The rules that a system must meet after its faults are over and it has settled. Pure functions.

- Every accepted event has exactly one end, and it is the expected one.
- An account that was answered "kept" has its clip: the row and the objects.
- An event id has one content and one effect.
- Every consumer group has committed the end of every partition.
- No backlog, orphan, process, file or lock is left.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from clip_shared.contracts.events import clip_id_for
from clip_shared.errors import RefusedRecord, RepeatedCrash
from tests.chaos.ledger import Ledger
from tests.chaos.observe import ClipRow, ObservedMessage, Snapshot
from tests.chaos.plan import ExpectedEnd, Flaw, Send

LIVING = ("available", "kept", "published")


class Violation(StrEnum):
    """A broken rule."""

    LOST = "lost"
    TWO_ENDS = "two ends"
    WRONG_END = "wrong end"
    FALSE_ANSWER = "false answer"
    WRONGLY_PURGED = "wrongly purged"
    MISSING_OBJECT = "missing object"
    ORPHAN = "orphan"
    DUPLICATE_EFFECT = "duplicate effect"
    BROKEN_HISTORY = "broken history"
    BACKLOG = "backlog"
    STUCK_PARTITION = "stuck partition"
    LEFTOVER = "leftover"


@dataclass(frozen=True)
class Finding:
    """A violation, and its description."""

    violation: Violation
    what: str


@dataclass(frozen=True)
class CheckResult:
    """Every violation, and the number of accepted highlights by their end."""

    findings: list[Finding]
    ends: Counter[str]

    def count(self, violation: Violation) -> int:
        """Return the number of violations of a rule."""
        return sum(each.violation is violation for each in self.findings)


def check(ledger: Ledger, snapshot: Snapshot) -> CheckResult:
    """Compare the state of the system with the accepted events and the answers to accounts."""
    findings = [
        *_check_ends(ledger, snapshot),
        *_check_answers(ledger, snapshot),
        *_check_objects(snapshot),
        *_check_contents(snapshot),
        *_check_histories(snapshot),
        *_check_partitions(snapshot),
        *_check_rest(snapshot),
    ]
    return CheckResult(findings, _count_ends(ledger, snapshot))


# Every accepted event has one end.


@dataclass(frozen=True)
class _Ends:
    """The ends of highlight events.

    An event is found by its id; an event without an id by its highlight; and an event whose headers could
    not be read, or without an id that no service passed on, by its position.
    """

    clips: set[str]
    skips: set[str]
    dead_ids: dict[str, ObservedMessage]
    dead_highlights: dict[str, ObservedMessage]
    dead_positions: dict[tuple[int, int], ObservedMessage]

    @classmethod
    def of(cls, snapshot: Snapshot) -> "_Ends":
        dead = snapshot.topics["highlight-detected.dlq"]
        not_encoded = snapshot.topics["highlight-encodings.dlq"]
        return cls(
            _names(snapshot.topics["clip-created"]),
            _names(snapshot.topics["clip-skipped"]),
            {each.id: each for each in (*dead, *not_encoded) if each.id},
            {str(each.data.get("stream_highlight_id")): each for each in not_encoded},
            {_position(each): each for each in dead},
        )

    def dead_letter(self, ledger: Ledger, send: Send) -> ObservedMessage | None:
        """Return the dead letter of an event, or None."""
        if send.flaw is Flaw.NO_ID and send.highlight in self.dead_highlights:
            return self.dead_highlights[send.highlight]
        position = ledger.positions.get(send.event)
        return self.dead_ids.get(send.event) or (self.dead_positions.get(position) if position else None)

    def come_to(self, ledger: Ledger, send: Send) -> set[ExpectedEnd]:
        """Return all ends of an event."""
        name = send.highlight if send.flaw is Flaw.NO_ID else send.event
        found = {
            ExpectedEnd.CLIP: name in self.clips,
            ExpectedEnd.SKIPPED: name in self.skips,
            ExpectedEnd.DEAD: self.dead_letter(ledger, send) is not None,
        }
        return {end for end, is_so in found.items() if is_so}


def _names(messages: Iterable[ObservedMessage]) -> set[str]:
    fields = ("highlight_event_id", "stream_highlight_id")
    return {str(each.data[name]) for each in messages for name in fields if name in each.data}


def _position(dead_letter: ObservedMessage) -> tuple[int, int]:
    return int(dead_letter.headers.get("dlq_partition", -2)), int(dead_letter.headers.get("dlq_offset", -2))


def _check_ends(ledger: Ledger, snapshot: Snapshot) -> Iterator[Finding]:
    ends = _Ends.of(snapshot)
    rows = {each.clip_id: each for each in snapshot.rows}
    for event, send in ledger.accepted.items():
        found, dead_letter = ends.come_to(ledger, send), ends.dead_letter(ledger, send)
        about = f"{send.highlight} ({', '.join(each for each in (event, send.flaw, send.codec) if each)})"
        yield from _check_end(about, send, found, dead_letter)
        if ExpectedEnd.CLIP in found and clip_id_for(send.highlight) not in rows:
            yield Finding(Violation.LOST, f"{about}: it was cut, but the registry has no clip of it")
    for position in (ledger.positions[each.event] for each in ledger.unreadable):
        if position not in ends.dead_positions:
            yield Finding(
                Violation.LOST, f"unreadable event at {position}: no dead letter names its position"
            )
    for topic in ("clip-created.dlq", "clip-skipped.dlq", "daily-tick.dlq"):
        for message in snapshot.topics[topic]:
            yield Finding(Violation.WRONG_END, f"{message.id} of {topic}: {_error(message)}")


def _check_end(
    about: str, send: Send, found: set[ExpectedEnd], dead_letter: ObservedMessage | None
) -> Iterator[Finding]:
    if not found:
        yield Finding(Violation.LOST, f"{about}: no clip, no skip and no dead letter")
    elif dead_letter is None or not _is_excused(dead_letter, found):
        named = ", ".join(sorted(found)) + (f" ({_error(dead_letter)})" if dead_letter else "")
        if len(found) > 1:
            yield Finding(Violation.TWO_ENDS, f"{about}: {named}")
        elif found != {send.expected}:
            yield Finding(Violation.WRONG_END, f"{about}: {named} in place of {send.expected}")


def _is_excused(dead_letter: ObservedMessage, found: set[ExpectedEnd]) -> bool:
    """Return whether injected faults explain the dead letter, so that it is no violation.

    They do for an event whose process was killed three times in a row, and for an event whose result the
    broker refused; a repetition of such an event can be cut.
    """
    error_type = dead_letter.headers.get("dlq_error_type")
    if error_type == RefusedRecord.__name__:
        return found <= {ExpectedEnd.CLIP, ExpectedEnd.DEAD}
    return error_type == RepeatedCrash.__name__ and len(found) == 1


def refused(snapshot: Snapshot) -> int:
    """Return the number of highlights that were dead-lettered because the broker refused their results."""
    dead_letters = (*snapshot.topics["highlight-detected.dlq"], *snapshot.topics["highlight-encodings.dlq"])
    return sum(each.headers.get("dlq_error_type") == RefusedRecord.__name__ for each in dead_letters)


def re_encoded(snapshot: Snapshot) -> int:
    """Return the number of highlights whose clip was re-encoded."""
    return len(
        {
            each.data["highlight_event_id"]
            for each in snapshot.topics["clip-created"]
            if each.data["cut_receipt"]["mode"] == "exact"
        }
    )


def _error(dead_letter: ObservedMessage) -> str:
    return f"{dead_letter.headers.get('dlq_error_type')}: {dead_letter.headers.get('dlq_error')}"


def _count_ends(ledger: Ledger, snapshot: Snapshot) -> Counter[str]:
    """Return the number of highlights by the status of their clip, or by their end without a clip."""
    ends = _Ends.of(snapshot)
    statuses = {each.stream_highlight_id: each.status for each in snapshot.rows}
    names = {ExpectedEnd.CLIP: "cut", ExpectedEnd.SKIPPED: "skipped", ExpectedEnd.DEAD: "DLQ"}
    last = {each.highlight: ends.come_to(ledger, each) for each in ledger.accepted.values()}
    return Counter(
        statuses.get(highlight) or next((names[each] for each in sorted(found)), "nowhere")
        for highlight, found in last.items()
    )


# The answers to accounts are true.


def _check_answers(ledger: Ledger, snapshot: Snapshot) -> Iterator[Finding]:
    rows = {each.clip_id: each for each in snapshot.rows}
    for clip_id, answer in ledger.answers.items():
        row = rows.get(clip_id)
        if not answer.kept or (row and row.status in {"kept", "published"} and _is_whole(row, snapshot)):
            continue
        state = "gone" if row is None else row.status
        purged = row is not None and row.status == "purged"
        violation = Violation.WRONGLY_PURGED if purged else Violation.FALSE_ANSWER
        yield Finding(
            violation, f"clip {clip_id}: {answer.account} was answered that it is kept; it is {state}"
        )


def _is_whole(row: ClipRow, snapshot: Snapshot) -> bool:
    return snapshot.objects.get(row.object_key) == row.file_size_bytes and row.keys <= snapshot.objects.keys()


# Rows and objects match.


def orphans(snapshot: Snapshot) -> list[str]:
    """Return the keys of objects that no clip owns."""
    owned = {key for row in snapshot.rows for key in row.keys}
    return sorted(snapshot.objects.keys() - owned)


def _check_objects(snapshot: Snapshot) -> Iterator[Finding]:
    for row in snapshot.rows:
        for key in sorted(row.keys - snapshot.objects.keys()):
            yield Finding(Violation.MISSING_OBJECT, f"{row.status} clip {row.clip_id} without {key}")
        size = snapshot.objects.get(row.object_key)
        if row.keys and size is not None and size != row.file_size_bytes:
            problem = f"{row.object_key} has {size} bytes in place of the {row.file_size_bytes} of its clip"
            yield Finding(Violation.MISSING_OBJECT, problem)
    for key in orphans(snapshot):
        yield Finding(Violation.ORPHAN, key)


# An event id has one content, and one effect.


def _check_contents(snapshot: Snapshot) -> Iterator[Finding]:
    for topic in ("clip-created", "clip-lifecycle", "clip-objects-released"):
        contents: dict[str, set[bytes]] = defaultdict(set)
        for message in snapshot.topics[topic]:
            contents[message.id].add(message.value)
        for event, values in contents.items():
            if len(values) > 1:
                problem = f"{event} on {topic} has {len(values)} contents: {sorted(values)}"
                yield Finding(Violation.DUPLICATE_EFFECT, problem)


def _check_histories(snapshot: Snapshot) -> Iterator[Finding]:
    """Check that each change of a clip has one event, and that the events end with the clip's status."""
    events: dict[UUID, dict[int, list[ObservedMessage]]] = defaultdict(lambda: defaultdict(list))
    seen: set[str] = set()
    for message in snapshot.topics["clip-lifecycle"]:
        if message.type != "clip.expiring.v1" and message.id not in seen:
            seen.add(message.id)
            events[UUID(message.data["clip_id"])][message.data["version"]].append(message)
    cuts: dict[UUID, set[str]] = defaultdict(set)
    for message in snapshot.topics["clip-created"]:
        cuts[UUID(message.data["clip_id"])].add(message.data["highlight_event_id"])
    for row in snapshot.rows:
        yield from _check_history(row, events.pop(row.clip_id, {}), cuts[row.clip_id])
    for clip_id in events:
        yield Finding(Violation.BROKEN_HISTORY, f"events of clip {clip_id}, which does not exist")


def _check_history(
    row: ClipRow, events: dict[int, list[ObservedMessage]], cuts: set[str]
) -> Iterator[Finding]:
    about = f"clip {row.clip_id}"
    if missing := set(range(1, row.version + 1)) - events.keys():
        yield Finding(Violation.LOST, f"{about}: no event has its versions {sorted(missing)}")
        return
    for version, messages in events.items():
        if version > row.version or len(messages) > 1:
            types = [each.type for each in messages]
            yield Finding(Violation.DUPLICATE_EFFECT, f"{about} version {version} of {row.version}: {types}")
    history = [events[version][0] for version in range(1, row.version + 1)]
    if (videos := sum(each.type == "clip.available.v1" for each in history)) > len(cuts):
        yield Finding(Violation.DUPLICATE_EFFECT, f"{about}: {videos} videos of {len(cuts)} cuts")
    status, findings = _replay(history, about)
    yield from findings
    if status != row.status:
        yield Finding(Violation.BROKEN_HISTORY, f"{about} is {row.status}; its events end with {status}")


_CHANGES = {
    "clip.kept.v1": ({"available"}, "kept"),
    "clip.unkept.v1": ({"kept"}, "available"),
    "clip.published.v1": ({"available", "kept", "published"}, "published"),
    "clip.unpublished.v1": ({"published"}, "kept"),
    "clip.deleted.v1": ({"available", "kept", "published"}, "deleted"),
    "clip.purged.v1": ({"available", "deleted"}, "purged"),
}


def _change(message: ObservedMessage) -> tuple[set[str], str]:
    """Return the statuses from which, and the status to which, a message changes a clip."""
    if message.type == "clip.restored.v1":
        return {"deleted"}, message.data["status"]
    return _CHANGES[message.type]


def _replay(history: Iterable[ObservedMessage], about: str) -> tuple[str, list[Finding]]:
    """Return the status after all events, and the violations among them."""
    status, expires_at = "none", None
    findings = []
    for message in history:
        data = message.data
        if message.type == "clip.available.v1":
            # All cuts of this suite are detectors': a clip keeps its video once its owner has decided.
            if status in {"kept", "published", "deleted"}:
                problem = f"{about}: another video when it was {status}"
                findings.append(Finding(Violation.BROKEN_HISTORY, problem))
            else:
                status = "available"
        else:
            sources, target = _change(message)
            if status not in sources:
                purged = message.type == "clip.purged.v1"
                violation = Violation.WRONGLY_PURGED if purged else Violation.BROKEN_HISTORY
                findings.append(Finding(violation, f"{about}: {message.type} when it was {status}"))
            status = target
        if message.type == "clip.purged.v1" and _is_before(data["purged_at"], expires_at):
            problem = f"{about}: purged at {data['purged_at']}, before it expired at {expires_at}"
            findings.append(Finding(Violation.WRONGLY_PURGED, problem))
        expires_at = data.get("expires_at")
    return status, findings


def _is_before(time: str, other: Any) -> bool:
    return other is None or datetime.fromisoformat(time) < datetime.fromisoformat(other)


# Every partition is handled to its end.


def _check_partitions(snapshot: Snapshot) -> Iterator[Finding]:
    for each in snapshot.partitions:
        if each.lag:
            problem = (
                f"{each.group} has committed {each.committed} of {each.end} in {each.topic}-{each.number}"
            )
            yield Finding(Violation.STUCK_PARTITION, problem)


# Nothing is left.


def _check_rest(snapshot: Snapshot) -> Iterator[Finding]:
    backlogs = {"outbox": snapshot.outbox, "outbox's dead letters": snapshot.outbox_dead}
    for name, number in backlogs.items():
        if number:
            yield Finding(Violation.BACKLOG, f"{name}: {number}")
    for what in (*snapshot.strays, *snapshot.files, *snapshot.locks):
        yield Finding(Violation.LEFTOVER, what)
