"""The checker can fail: each case breaks one thing of a whole system, and the checker sees just that."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from clip_shared.contracts.events import clip_id_for
from tests.chaos.checker import Violation, check, re_encoded, refused
from tests.chaos.ledger import LastAnswer, Ledger
from tests.chaos.observe import ClipRow, ObservedMessage, Partition, Snapshot
from tests.chaos.plan import ExpectedEnd, Flaw, Send

Break = Callable[[Ledger, Snapshot], Snapshot]
PURGE_TIME, EXPIRY, LATER = "2026-01-01T00:00:10Z", "2026-01-01T00:00:06Z", "2026-01-01T00:01:00Z"
KEPT, GONE = "h-kept", "h-gone"


def message(type_: str, data: dict[str, Any], id_: str = "", **headers: str) -> ObservedMessage:
    name = id_ or f"{type_} {data.get('clip_id')} {data.get('version')}"
    return ObservedMessage(name, type_, json.dumps(data).encode(), {"ce_id": name, **headers})


def change(type_: str, highlight: str, version: int, **data: Any) -> ObservedMessage:
    return message(type_, {"clip_id": str(clip_id_for(highlight)), "version": version, **data})


def created(highlight: str) -> ObservedMessage:
    data = {"clip_id": str(clip_id_for(highlight)), "highlight_event_id": f"{highlight}-e0"}
    return message("clip.created.v1", data, f"created {highlight}")


def row(highlight: str, status: str, version: int) -> ClipRow:
    return ClipRow(
        clip_id=clip_id_for(highlight),
        stream_highlight_id=highlight,
        status=status,
        object_key=f"clips/{highlight}.mp4",
        poster_key=f"clips/{highlight}.jpg",
        file_size_bytes=1000,
        highlight_event_id=f"{highlight}-e0",
        version=version,
        purged_at=None,
    )


def standing(committed: int, end: int) -> Partition:
    return Partition("clip-registry.clip-created", "clip-created", 4, committed, end)


def dead(event: str, error: str, offset: int = 0, *, id_: str | None = None) -> ObservedMessage:
    """A dead letter of an event that stood at an offset of partition 0."""
    name = event if id_ is None else id_
    notes = {"dlq_error_type": error, "dlq_partition": "0", "dlq_offset": str(offset)}
    return ObservedMessage(name, "", b"{", notes)


@pytest.fixture
def ledger() -> Ledger:
    """Two clips, a skipped, a dead-lettered and an unreadable highlight; a clip is kept for its account."""
    sends = [
        Send(0, f"{highlight}-e0", highlight, "a", expected)
        for highlight, expected in (
            (KEPT, ExpectedEnd.CLIP), (GONE, ExpectedEnd.CLIP),
            ("h-skip", ExpectedEnd.SKIPPED), ("h-dead", ExpectedEnd.DEAD),
        )
    ]  # fmt: skip
    sends.append(Send(0, "h-bomb-e0", "h-bomb", "a", ExpectedEnd.DEAD, Flaw.BOMB))
    found = Ledger(answers={clip_id_for(KEPT): LastAnswer("a", kept=True)})
    for offset, each in enumerate(sends):
        found.accept(each, 0, offset)
    return found


@pytest.fixture
def whole() -> Snapshot:
    """The state of the same system without a violation."""
    return Snapshot(
        rows=[row(KEPT, "kept", 2), row(GONE, "purged", 2)],
        objects={f"clips/{KEPT}.mp4": 1000, f"clips/{KEPT}.jpg": 10},
        topics={
            "clip-created": [created(KEPT), created(GONE), created(GONE)],
            "clip-skipped": [
                message(
                    "clip.skipped.v1",
                    {"highlight_event_id": "h-skip-e0", "stream_highlight_id": "h-skip"},
                    "skip",
                )
            ],
            "clip-lifecycle": [
                change("clip.available.v1", KEPT, 1, expires_at=EXPIRY),
                change("clip.kept.v1", KEPT, 2),
                change("clip.available.v1", GONE, 1, expires_at=EXPIRY),
                change("clip.available.v1", GONE, 1, expires_at=EXPIRY),
                change("clip.purged.v1", GONE, 2, purged_at=PURGE_TIME),
            ],
            "clip-objects-released": [],
            "highlight-detected.dlq": [
                dead("h-dead-e0", "InvalidEvent", 3),
                dead("h-bomb-e0", "InvalidEvent", 4, id_=""),
            ],
            "highlight-encodings.dlq": [],
            "clip-created.dlq": [],
            "clip-skipped.dlq": [],
            "clip-objects-released.dlq": [],
            "daily-tick.dlq": [],
        },
        partitions=[standing(3, 3), Partition("janitor.daily-tick", "daily-tick", 0, 7, 7)],
    )


def with_topic(snapshot: Snapshot, topic: str, messages: list[ObservedMessage]) -> Snapshot:
    return replace(snapshot, topics={**snapshot.topics, topic: messages})


def without(topic: str, number: int) -> Break:
    """Remove a message."""

    def break_it(_ledger: Ledger, snapshot: Snapshot) -> Snapshot:
        messages = list(snapshot.topics[topic])
        del messages[number]
        return with_topic(snapshot, topic, messages)

    return break_it


def added(topic: str, extra: ObservedMessage) -> Break:
    """Add a message."""
    return lambda _, snapshot: with_topic(snapshot, topic, [*snapshot.topics[topic], extra])


def in_place(number: int, changed: ObservedMessage) -> Break:
    """Replace a message of a clip."""

    def break_it(_ledger: Ledger, snapshot: Snapshot) -> Snapshot:
        messages = list(snapshot.topics["clip-lifecycle"])
        messages[number] = changed
        return with_topic(snapshot, "clip-lifecycle", messages)

    return break_it


def rows(*rows: ClipRow) -> Break:
    return lambda _, snapshot: replace(snapshot, rows=list(rows))


def objects(**changes: int | None) -> Break:
    """Change objects by file name: another size, or None to remove it."""

    def break_it(_ledger: Ledger, snapshot: Snapshot) -> Snapshot:
        named = {f"clips/{name.replace('__', '.').replace('_', '-')}": size for name, size in changes.items()}
        found = {**snapshot.objects, **named}
        return replace(snapshot, objects={key: size for key, size in found.items() if size is not None})

    return break_it


def rest(**changes: Any) -> Break:
    return lambda _, snapshot: replace(snapshot, **changes)


def more_answers(ledger: Ledger, snapshot: Snapshot) -> Snapshot:
    """The account of a purged clip was answered that the clip is kept."""
    ledger.answers[clip_id_for(GONE)] = LastAnswer("a", kept=True)
    return snapshot


def more_accepted(ledger: Ledger, snapshot: Snapshot) -> Snapshot:
    """The broker acknowledged an event that has no end."""
    ledger.accepted["h-new-e0"] = Send(0, "h-new-e0", "h-new", "a", ExpectedEnd.CLIP)
    return snapshot


def skipped_in_place_of_cut(ledger: Ledger, snapshot: Snapshot) -> Snapshot:
    """A highlight that should have become a clip was skipped."""
    ledger.accepted["h-skip-e0"] = replace(ledger.accepted["h-skip-e0"], expected=ExpectedEnd.CLIP)
    return snapshot


def dead_letter_of_another_position(_ledger: Ledger, snapshot: Snapshot) -> Snapshot:
    """A dead letter names another position than that of the unreadable event."""
    topic = "highlight-detected.dlq"
    moved = dead("h-bomb-e0", "InvalidEvent", 5, id_="")
    return with_topic(snapshot, topic, [snapshot.topics[topic][0], moved])


def unreadable_event_cut(_ledger: Ledger, snapshot: Snapshot) -> Snapshot:
    """An event that could not be read has a clip."""
    return with_topic(snapshot, "clip-created", [*snapshot.topics["clip-created"], created("h-bomb")])


def nameless(ledger: Ledger, snapshot: Snapshot) -> Snapshot:
    """An event without an id was accepted, and no message names its highlight."""
    ledger.accept(Send(0, "h-new-e0", "h-new", "a", ExpectedEnd.CLIP, Flaw.NO_ID), 0, 9)
    return snapshot


def given_up(_ledger: Ledger, snapshot: Snapshot) -> Snapshot:
    """A highlight that should have been skipped was dead-lettered because it gave up."""
    letters = [*snapshot.topics["highlight-detected.dlq"], dead("h-skip-e0", "GivenUp", 2)]
    return with_topic(with_topic(snapshot, "clip-skipped", []), "highlight-detected.dlq", letters)


def refused_and_skipped(_ledger: Ledger, snapshot: Snapshot) -> Snapshot:
    """The broker refused the announcement of a clip, and a skip was announced."""
    letters = [*snapshot.topics["highlight-detected.dlq"], dead("h-skip-e0", "RefusedRecord", 2)]
    return with_topic(snapshot, "highlight-detected.dlq", letters)


V = Violation
CASES: dict[str, tuple[Break, set[Violation]]] = {
    "an event without an end": (more_accepted, {V.LOST}),
    "a missing skip": (without("clip-skipped", 0), {V.LOST}),
    "a missing dead letter": (without("highlight-detected.dlq", 0), {V.LOST}),
    "an unreadable event without a dead letter": (without("highlight-detected.dlq", 1), {V.LOST}),
    "an unreadable event with a dead letter of another position": (dead_letter_of_another_position, {V.LOST}),
    "an unreadable event that was cut": (unreadable_event_cut, {V.TWO_ENDS, V.LOST}),
    "an event without an id and without an end": (nameless, {V.LOST}),
    "a highlight that was given up": (given_up, {V.WRONG_END}),
    "a refused record, and skipped": (refused_and_skipped, {V.TWO_ENDS}),
    "a cut that the registry does not know": (rows(row(KEPT, "kept", 2)), {V.LOST, V.BROKEN_HISTORY}),
    "a good event among the dead letters": (
        added("highlight-detected.dlq", dead(f"{KEPT}-e0", "ValueError")),
        {V.TWO_ENDS},
    ),
    "a good event skipped": (
        skipped_in_place_of_cut,
        {V.WRONG_END},
    ),
    "a cut among the dead letters": (added("clip-created.dlq", created(KEPT)), {V.WRONG_END}),
    "kept, and purged": (
        rows(row(KEPT, "purged", 2), row(GONE, "purged", 2)),
        {V.WRONGLY_PURGED, V.BROKEN_HISTORY, V.ORPHAN},
    ),
    "kept, and available without an unkeep": (
        rows(row(KEPT, "available", 2), row(GONE, "purged", 2)),
        {V.FALSE_ANSWER, V.BROKEN_HISTORY},
    ),
    "kept, and its row is missing": (
        rows(row(GONE, "purged", 2)), {V.FALSE_ANSWER, V.LOST, V.BROKEN_HISTORY, V.ORPHAN}
    ),
    "answered kept after the purge": (more_answers, {V.WRONGLY_PURGED}),
    "no video": (objects(h_kept__mp4=None), {V.MISSING_OBJECT, V.FALSE_ANSWER}),
    "no poster": (objects(h_kept__jpg=None), {V.MISSING_OBJECT, V.FALSE_ANSWER}),
    "half a video": (objects(h_kept__mp4=500), {V.MISSING_OBJECT, V.FALSE_ANSWER}),
    "an object of a purged clip": (objects(h_gone__mp4=1000), {V.ORPHAN}),
    "a change without an event": (without("clip-lifecycle", 1), {V.LOST}),
    "a purge without an event": (without("clip-lifecycle", 4), {V.LOST}),
    "a change with two events": (
        added("clip-lifecycle", replace(change("clip.kept.v1", KEPT, 2), id="x")),
        {V.DUPLICATE_EFFECT},
    ),
    "an id with two contents": (
        added("clip-lifecycle", change("clip.available.v1", KEPT, 1, expires_at=LATER)), {V.DUPLICATE_EFFECT}
    ),
    "one cut, two videos": (
        in_place(1, change("clip.available.v1", KEPT, 2, expires_at=EXPIRY)),
        {V.DUPLICATE_EFFECT, V.BROKEN_HISTORY},
    ),
    "purged when it was kept": (
        in_place(1, change("clip.purged.v1", KEPT, 2, purged_at=EXPIRY)), {V.BROKEN_HISTORY}
    ),
    "purged too early": (
        in_place(4, change("clip.purged.v1", GONE, 2, purged_at="2026-01-01T00:00:05Z")), {V.WRONGLY_PURGED}
    ),
    "a change that cannot follow": (
        in_place(1, change("clip.unpublished.v1", KEPT, 2)), {V.BROKEN_HISTORY}
    ),
    "events in the outbox": (rest(outbox=1), {V.BACKLOG}),
    "an event that the outbox gave up": (rest(outbox_dead=1), {V.BACKLOG}),
    "a stuck partition": (rest(partitions=[standing(2, 3)]), {V.STUCK_PARTITION}),
    "a partition without a committed offset": (rest(partitions=[standing(0, 3)]), {V.STUCK_PARTITION}),
    "an ffmpeg": (rest(strays=["1 ffmpeg"]), {V.LEFTOVER}),
    "a temporary file": (rest(files=["worker-1/job-1"]), {V.LEFTOVER}),
    "a lock": (rest(locks=["advisory lock of 1"]), {V.LEFTOVER}),
}  # fmt: skip


def test_a_whole_system_passes(ledger: Ledger, whole: Snapshot) -> None:
    result = check(ledger, whole)
    assert result.findings == []
    assert result.ends == {"kept": 1, "purged": 1, "skipped": 1, "DLQ": 2}


@pytest.mark.parametrize(("break_it", "expected"), CASES.values(), ids=CASES.keys())
def test_each_violation_is_found(
    ledger: Ledger, whole: Snapshot, break_it: Break, expected: set[Violation]
) -> None:
    result = check(ledger, break_it(ledger, whole))
    assert {each.violation for each in result.findings} == expected


@pytest.mark.parametrize("error", ["RepeatedCrash", "RefusedRecord"])
def test_a_dead_letter_caused_by_a_fault_is_no_violation(ledger: Ledger, whole: Snapshot, error: str) -> None:
    topics = {
        **whole.topics,
        "clip-created": [created(KEPT)],
        "clip-lifecycle": whole.topics["clip-lifecycle"][:2],
        "highlight-detected.dlq": [*whole.topics["highlight-detected.dlq"], dead(f"{GONE}-e0", error, 1)],
    }
    snapshot = replace(whole, rows=whole.rows[:1], topics=topics)
    assert check(ledger, snapshot).findings == []


def test_a_repetition_of_a_refused_record_may_be_cut(ledger: Ledger, whole: Snapshot) -> None:
    snapshot = added("highlight-detected.dlq", dead(f"{KEPT}-e0", "RefusedRecord"))(ledger, whole)
    assert check(ledger, snapshot).findings == []
    assert (refused(snapshot), refused(whole)) == (1, 0)


def test_a_standing_partition_is_named_with_its_offsets(ledger: Ledger, whole: Snapshot) -> None:
    (finding,) = check(ledger, replace(whole, partitions=[standing(2, 5)])).findings
    assert finding.what == "clip-registry.clip-created has committed 2 of 5 in clip-created-4"


def test_an_event_without_an_id_is_known_by_its_highlight(ledger: Ledger, whole: Snapshot) -> None:
    send = ledger.accepted.pop(f"{KEPT}-e0")
    ledger.accept(replace(send, event="never-sent", flaw=Flaw.NO_ID), 0, 0)
    named = message(
        "clip.created.v1",
        {"clip_id": str(clip_id_for(KEPT)), "highlight_event_id": "derived", "stream_highlight_id": KEPT},
    )
    snapshot = with_topic(whole, "clip-created", [named, created(GONE)])
    assert check(ledger, snapshot).findings == []


def test_an_event_without_an_id_may_end_in_the_lane_of_re_encodes(ledger: Ledger, whole: Snapshot) -> None:
    send = ledger.accepted.pop("h-dead-e0")
    ledger.accept(replace(send, event="never-sent", flaw=Flaw.NO_ID), 0, 3)
    letter = ObservedMessage(
        "derived", "", b'{"stream_highlight_id": "h-dead"}', {"dlq_error_type": "Poison"}
    )
    snapshot = with_topic(whole, "highlight-detected.dlq", whole.topics["highlight-detected.dlq"][1:])
    assert {each.violation for each in check(ledger, snapshot).findings} == {V.LOST}
    assert check(ledger, with_topic(snapshot, "highlight-encodings.dlq", [letter])).findings == []


def test_an_unfinished_upload_is_not_an_object(ledger: Ledger, whole: Snapshot) -> None:
    assert check(ledger, rest(unfinished=["clips/x.mp4"])(ledger, whole)).findings == []


def test_clips_whose_video_was_re_encoded_are_counted(whole: Snapshot) -> None:
    made = [
        message("clip.created.v1", {"highlight_event_id": name, "cut_receipt": {"mode": mode}})
        for name, mode in (("a", "exact"), ("a", "exact"), ("b", "copy"))
    ]
    assert re_encoded(with_topic(whole, "clip-created", made)) == 1


def test_a_deleted_clip_is_restored_or_purged(ledger: Ledger, whole: Snapshot) -> None:
    ledger.answers[clip_id_for(KEPT)].asked("delete")
    history = [
        change("clip.available.v1", KEPT, 1, expires_at=EXPIRY),
        change("clip.kept.v1", KEPT, 2),
        change("clip.deleted.v1", KEPT, 3, expires_at=EXPIRY),
        change("clip.restored.v1", KEPT, 4, status="kept", expires_at=None),
        change("clip.deleted.v1", KEPT, 5, expires_at=EXPIRY),
        change("clip.purged.v1", KEPT, 6, purged_at=PURGE_TIME),
    ]
    snapshot = with_topic(whole, "clip-lifecycle", [*history, *whole.topics["clip-lifecycle"][2:]])
    gone = replace(snapshot, rows=[row(KEPT, "purged", 6), *whole.rows[1:]], objects={})
    assert check(ledger, gone).findings == []
    broken = in_place(4, change("clip.kept.v1", KEPT, 5))(ledger, gone)
    assert {each.violation for each in check(ledger, broken).findings} == {V.BROKEN_HISTORY, V.WRONGLY_PURGED}


@pytest.mark.parametrize("decided", ["kept", "published", "deleted"])
def test_no_detector_gives_another_video_to_what_its_owner_decided_about(
    ledger: Ledger, whole: Snapshot, decided: str
) -> None:
    ledger.answers.clear()
    newer = message("clip.created.v1", {**created(KEPT).data, "highlight_event_id": f"{KEPT}-e1"}, "newer")
    history = [
        change("clip.available.v1", KEPT, 1, expires_at=EXPIRY),
        change(f"clip.{decided}.v1", KEPT, 2),
        change("clip.available.v1", KEPT, 3, expires_at=EXPIRY),
    ]
    topics = {
        "clip-created": [*whole.topics["clip-created"], newer],
        "clip-lifecycle": [*history, *whole.topics["clip-lifecycle"][2:]],
    }
    snapshot = replace(
        whole, rows=[row(KEPT, decided, 3), *whole.rows[1:]], topics={**whole.topics, **topics}
    )
    (finding,) = check(ledger, snapshot).findings
    assert finding.what.endswith(f"another video when it was {decided}")


def test_a_restored_clip_that_was_kept_is_kept() -> None:
    last_answer = LastAnswer("a")
    for action in ("keep", "delete", "restore"):
        last_answer.asked(action)
        assert not last_answer.kept
        last_answer.answered(action)
    assert last_answer.kept
    unkept = LastAnswer("a")
    for action in ("delete", "restore"):
        unkept.asked(action)
        unkept.answered(action)
    assert not unkept.kept


def test_after_an_unkeep_or_delete_the_clip_may_be_lost() -> None:
    last_answer = LastAnswer("a")
    last_answer.asked("keep")
    last_answer.answered("keep")
    assert last_answer.kept
    last_answer.asked("unkeep")
    assert not last_answer.kept
