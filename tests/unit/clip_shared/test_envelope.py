"""Events on the wire: what is written is read, careless producers still work, broken ones are told why."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clip_shared.envelope import from_record, to_record
from clip_shared.errors import InvalidEvent
from clip_shared.events import Event, HighlightDetected

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


def highlight(**changes: Any) -> dict[str, Any]:
    return {
        "stream_highlight_id": "highlight-1",
        "twitch_account_id": "account-1",
        "source_vod_id": "vod-1",
        "source": {"profile": "local", "bucket": "vods", "key": "vod.mp4"},
        "start_seconds": 10,
        "end_seconds": 20,
        "kind": "refined",
        "title": "Pentakill 🎉",
        **changes,
    }


def read(body: object, headers: dict[str, bytes] | None = None) -> Event[HighlightDetected]:
    value = body if isinstance(body, bytes) else json.dumps(body).encode()
    return from_record(HighlightDetected, value, list((headers or {}).items()), NOW_MS)


def test_what_is_written_is_read_again() -> None:
    event = Event.new(
        HighlightDetected.model_validate(highlight(score=0.5, rank=2)),
        source="detector",
        time=NOW - timedelta(seconds=5),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    record = to_record(event)
    assert record.topic == "highlight-detected"
    assert record.key == b"highlight-1"
    assert from_record(HighlightDetected, record.value, record.headers, NOW_MS) == event


def test_without_headers_the_id_follows_from_the_content() -> None:
    first, again, other = read(highlight()), read(highlight()), read(highlight(title="Another"))
    assert first.id == again.id != other.id
    assert first.time == NOW


@pytest.mark.parametrize("hostile", ["../../etc/passwd", "a/b", "x" * 65, "with space", "é"])
def test_an_id_that_is_unsafe_in_a_path_is_replaced_by_a_stable_one(hostile: str) -> None:
    first = read(highlight(), {"ce_id": hostile.encode()})
    assert first.id == read(highlight(), {"ce_id": hostile.encode()}).id
    assert "/" not in first.id
    assert len(first.id) == 36


def test_a_producer_whose_clock_runs_ahead_gains_nothing() -> None:
    assert read(highlight(), {"ce_time": b"2999-01-01T00:00:00Z"}).time == NOW


def test_unknown_fields_are_ignored() -> None:
    assert read(highlight(colour="blue")).data.title == "Pentakill 🎉"


def test_a_broken_traceparent_is_ignored() -> None:
    assert read(highlight(), {"traceparent": b"nonsense"}).traceparent is None


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b"\xff\xfe", {}, "Invalid JSON"),
        (b"", {}, "Invalid JSON"),
        ([], {}, "valid"),
        (highlight(start_seconds="soon"), {}, "start_seconds"),
        (highlight(stream_highlight_id="../x"), {}, "stream_highlight_id"),
        (highlight(source={"profile": "p", "bucket": "vods", "key": "a\nb"}), {}, "source.key"),
        (highlight(title="x" * 201), {}, "title"),
        (highlight(kind="guess"), {}, "kind"),
        (highlight(), {"ce_type": b"highlight.detected.v2"}, "highlight.detected.v2"),
        (highlight(), {"ce_specversion": b"0.3"}, "0.3"),
        (highlight(), {"ce_time": b"yesterday"}, "RFC 3339"),
        (highlight(), {"content-type": b"text/plain"}, "text/plain"),
        (highlight(), {"content-type": b"application/cloudevents+json"}, "structured mode"),
        (highlight(), {"ce_id": b"\xff"}, "UTF-8"),
    ],
)
def test_what_is_wrong_is_said(body: object, headers: dict[str, bytes], reason: str) -> None:
    with pytest.raises(InvalidEvent, match=reason):
        read(body, headers)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    body = json.dumps(highlight()).replace('"start_seconds": 10', f'"start_seconds": {number}').encode()
    with pytest.raises(InvalidEvent, match="start_seconds"):
        read(body)
