"""Events on the wire: what is written is read, careless producers still work, broken ones are told why."""

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.records import consumed

from clip_shared.bus.envelope import copied_headers, from_record, identity_of, to_record
from clip_shared.contracts.events import ClipCreated, DailyTick, Event, EventData, HighlightDetected
from clip_shared.errors import InvalidEvent

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LAST_MS = 253_402_300_799_999
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


def read(
    body: object, headers: dict[str, bytes | None] | None = None, **place: int
) -> Event[HighlightDetected]:
    return from_record(HighlightDetected, record_of(body, headers, **place))


def record_of(body: object, headers: dict[str, bytes | None] | None = None, **place: int) -> ConsumerRecord:
    value = body if isinstance(body, bytes) else json.dumps(body).encode()
    facts: dict[str, Any] = {"timestamp": NOW_MS, **place}
    return consumed("highlight-detected", value=value, headers=list((headers or {}).items()), **facts)


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
    received = consumed(record.topic, value=record.value, headers=record.headers, timestamp=NOW_MS)
    assert from_record(HighlightDetected, received) == event


class TestIdentity:
    def test_without_an_id_a_redelivery_is_the_same_event_and_a_new_record_another(self) -> None:
        first, again = read(highlight(), offset=7), read(highlight(), offset=7)
        assert first.id == again.id
        assert first.time == NOW
        others = [
            read(highlight(), offset=8),
            read(highlight(), offset=7, partition=1),
            read(highlight(), offset=7, timestamp=NOW_MS + 1),  # of a topic that was made again
            read(highlight(title="Another"), offset=7),
        ]
        assert len({first.id, *(each.id for each in others)}) == 5

    def test_an_id_is_unique_for_its_source_only(self) -> None:
        def id_of(source: bytes) -> str:
            return read(highlight(), {"ce_id": b"1", "ce_source": source}).id

        assert id_of(b"heuristic") == id_of(b"heuristic") != id_of(b"refiner")

    @pytest.mark.parametrize("version", [4, 7])
    def test_a_random_uuid_is_kept(self, version: int) -> None:
        given_id = str(uuid.UUID(int=(version << 76) | (2 << 62) | 12345))
        assert read(highlight(), {"ce_id": given_id.encode(), "ce_source": b"anyone"}).id == given_id

    def test_so_is_what_our_own_services_gave(self) -> None:
        derived = str(uuid.uuid5(uuid.NAMESPACE_DNS, "one"))
        assert read(highlight(), {"ce_id": derived.encode(), "ce_source": b"clip-registry"}).id == derived
        assert read(highlight(), {"ce_id": derived.encode(), "ce_source": b"detector"}).id != derived

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"ce_id": b""},
            {"CE_Id": None, "ce_source": b"detector"},
            {"ce_id": b"1", "ce_time": b"2026-02-28T00:00:00Z"},
            {"ce_id": b"1", "CE_TIME": b"2999-01-01T00:00:00Z"},
            {"ce_id": b"../1", "ce_source": b"detector", "x-trace": b"\xff"},
        ],
    )
    def test_a_copy_has_the_identity_and_the_time_of_the_original(
        self, headers: dict[str, bytes | None]
    ) -> None:
        record = record_of(highlight(), headers, offset=7)
        copy = replace(record, offset=99, timestamp=NOW_MS + 86_400_000, headers=copied_headers(record))
        original = from_record(HighlightDetected, record)
        assert from_record(HighlightDetected, copy) == original
        assert identity_of(copy) == identity_of(record) == original.id
        assert [each for each in copy.headers if each[0] == "x-trace"] == [
            each for each in record.headers if each[0] == "x-trace"
        ]

    def test_a_copy_of_what_cannot_be_read_is_as_it_was(self) -> None:
        record = record_of(highlight(), {"ce_time": b"yesterday"})
        assert copied_headers(record) == list(record.headers)


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


def test_null_headers_and_headers_of_others_are_passed_over() -> None:
    headers = {"ce_id": None, "ce_type": None, "x-binary": b"\xff\xfe", "traceparent": None}
    assert read(highlight(), headers).id == read(highlight()).id


def test_names_of_headers_are_read_in_any_case_and_the_last_of_several_counts() -> None:
    facts = [("CE_SOURCE", b"first"), ("ce_source", b"last"), ("Ce_Source", None), ("ce_source", b"")]
    record = consumed("highlight-detected", value=json.dumps(highlight()).encode(), headers=facts)
    assert from_record(HighlightDetected, record).source == "last"


@pytest.mark.parametrize("timestamp", [-1, -(2**63), 2**62, 2**63 - 1, 253_402_300_800_000])
def test_a_timestamp_out_of_range_is_said(timestamp: int) -> None:
    with pytest.raises(InvalidEvent, match=f"timestamp {timestamp} is not a time"):
        read(highlight(), timestamp=timestamp)


class TestBounds:
    """What no later step could store or compute with."""

    @pytest.mark.parametrize(
        ("sent", "read_as"),
        [("a\x00b", "a b"), ("\x00\x1b[31mred\r\n", "[31mred"), ("\u0085é\x7f", "é"), ("\x00", "")],
    )
    def test_a_title_has_no_control_characters(self, sent: str, read_as: str) -> None:
        assert read(highlight(title=sent)).data.title == read_as

    @pytest.mark.parametrize("title", [b'"\\ud800"', b'"\xed\xa0\x80"'])
    def test_a_lone_surrogate_is_refused(self, title: bytes) -> None:
        body = json.dumps(highlight(title="TITLE")).encode().replace(b'"TITLE"', title)
        with pytest.raises(InvalidEvent, match="JSON"):
            read(body)

    @pytest.mark.parametrize("seconds", [1e300, -1e300, 2_592_001])
    def test_seconds_are_those_of_a_vod(self, seconds: float) -> None:
        with pytest.raises(InvalidEvent, match=r"end_seconds: .*2592000 seconds"):
            read(highlight(end_seconds=seconds))

    def test_a_key_is_bounded_in_bytes(self) -> None:
        assert read(highlight(source={"profile": "p", "bucket": "vods", "key": "é" * 512})).data.source.key
        with pytest.raises(InvalidEvent, match=r"source\.key: .*1024 bytes"):
            read(highlight(source={"profile": "p", "bucket": "vods", "key": "é" * 513}))

    @pytest.mark.parametrize(
        ("path", "value", "outcome"),
        [
            (("object", "size_bytes"), 2**63, "size_bytes"),
            (("duration_seconds",), 1e300, "duration_seconds"),
            (("cut_receipt", "audio_video_skew_ms"), float("inf"), "audio_video_skew_ms"),
            (("highlight_detected_at",), "0001-01-01T00:00:00+14:00", "highlight_detected_at"),
            (("cut_receipt", "fallback_reason"), "no\x00keyframe", None),
            (("object", "content_type"), "video/mp4\x00", None),
        ],
    )
    def test_so_is_what_the_registry_stores(
        self, path: tuple[str, ...], value: object, outcome: str | None
    ) -> None:
        body = created()
        *parents, last = path
        place = body
        for name in parents:
            place = place[name]
        place[last] = value
        record = consumed("clip-created", value=json.dumps(body).encode())
        if outcome is None:
            assert "\\u0000" not in from_record(ClipCreated, record).data.model_dump_json()
        else:
            with pytest.raises(InvalidEvent, match=outcome):
                from_record(ClipCreated, record)


def created() -> dict[str, Any]:
    return {
        **{name: highlight()[name] for name in ("stream_highlight_id", "twitch_account_id", "source_vod_id")},
        "kind": "refined",
        "highlight_event_id": "e",
        "highlight_detected_at": "2026-03-01T00:00:00Z",
        "clip_id": str(uuid.uuid4()),
        "title": "t",
        "object": {"bucket": "clips", "key": "k", "size_bytes": 1},
        "duration_seconds": 1,
        "cut_receipt": {
            "mode": "copy",
            **dict.fromkeys(("requested_start_seconds", "requested_end_seconds"), 1),
            **dict.fromkeys(("actual_start_seconds", "actual_end_seconds"), 1),
        },
    }


NAMES = st.one_of(
    st.sampled_from(["ce_id", "ce_time", "ce_source", "CE_Type", "content-type", "traceparent", "dlq_error"]),
    st.text(),
)
TIMES = st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat().encode())
VALUES = st.one_of(st.none(), st.binary(), TIMES, st.text().map(lambda text: text.encode(errors="replace")))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
BODIES = st.one_of(
    st.none(),
    st.binary(),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(sorted(highlight())), JSON).map(
        lambda changes: json.dumps(highlight(**changes)).encode()
    ),
    st.dictionaries(st.sampled_from(sorted(created())), JSON).map(
        lambda changes: json.dumps({**created(), **changes}).encode()
    ),
)


@settings(deadline=None)
@given(
    data_type=st.sampled_from([HighlightDetected, ClipCreated, DailyTick]),
    value=BODIES,
    headers=st.lists(st.tuples(NAMES, VALUES)),
    timestamp=st.integers(-(2**63), 2**63 - 1) | st.integers(0, 253_402_300_799_999),
)
def test_whatever_comes_is_an_event_or_invalid(
    data_type: type[EventData],
    value: bytes | None,
    headers: list[tuple[str, bytes | None]],
    timestamp: int,
) -> None:
    record = consumed("highlight-detected", value=value, headers=headers, timestamp=timestamp)
    copy = replace(record, offset=1, timestamp=LAST_MS, headers=copied_headers(record))
    try:
        event = from_record(data_type, record)
    except InvalidEvent:
        return
    to_record(event)
    assert from_record(data_type, copy) == event


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
def test_what_is_wrong_is_said(body: object, headers: dict[str, bytes | None], reason: str) -> None:
    with pytest.raises(InvalidEvent, match=reason):
        read(body, headers)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    body = json.dumps(highlight()).replace('"start_seconds": 10', f'"start_seconds": {number}').encode()
    with pytest.raises(InvalidEvent, match="start_seconds"):
        read(body)
