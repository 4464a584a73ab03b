"""CloudEvents 1.0 in Kafka's binary mode: attributes in ``ce_*`` headers, data as the JSON body.

Source: CloudEvents Kafka Protocol Binding 1.0.2, §3.2 (binary content mode).

Producers outside this system may be careless, and still work: a missing id, source, type or time is
filled from the content and from the record, never from the clock, so that a redelivery reads the same.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from clip_shared.errors import InvalidEvent
from clip_shared.events import Data, Event, event_id

SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
MAX_SHOWN_PROBLEMS = 10

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Record:
    """What goes to the bus: one Kafka record."""

    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]


def to_record(event: Event[Any]) -> Record:
    """Serialise an event for the topic that its data names."""
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": event.id,
        "ce_type": event.data.TYPE,
        "ce_source": event.source,
        "ce_time": event.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "content-type": "application/json",
    }
    if event.traceparent:
        attributes["traceparent"] = event.traceparent
    key = event.data.key()
    return Record(
        topic=event.data.TOPIC,
        key=key.encode() if key is not None else None,
        value=event.data.model_dump_json().encode(),
        headers=[(name, value.encode()) for name, value in attributes.items()],
    )


def from_record(
    data_type: type[Data], value: bytes | None, headers: Headers, timestamp_ms: int
) -> Event[Data]:
    """Read a consumed record as an event of the given type.

    The event's time is never later than the record's: a producer whose clock runs ahead cannot make its
    event win over every later one.

    Raises:
        InvalidEvent: what is wrong, in words for the person who reads the dead letter.
    """
    attributes = _decode_headers(headers)
    _check_attributes(attributes, data_type.TYPE)
    body = value or b""
    source = attributes.get("ce_source") or "unknown"
    recorded_at = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    event_type: type[Event[Data]] = Event[data_type]  # type: ignore[valid-type]  # known at run time only
    try:
        return event_type(
            id=_safe_id(attributes.get("ce_id"), source, data_type.TYPE, body),
            source=source[:200],
            time=min(_read_time(attributes.get("ce_time")) or recorded_at, recorded_at),
            traceparent=_read_traceparent(attributes.get("traceparent")),
            data=data_type.model_validate_json(body),
        )
    except ValidationError as error:
        raise InvalidEvent(f"not a valid {data_type.TYPE}: {_problems(error)}") from error


def _decode_headers(headers: Headers) -> dict[str, str]:
    try:
        return {name.lower(): value.decode() for name, value in headers}
    except UnicodeDecodeError as error:
        raise InvalidEvent("a header is not UTF-8") from error


def _check_attributes(attributes: dict[str, str], expected_type: str) -> None:
    content_type = attributes.get("content-type", "application/json").split(";")[0].strip().lower()
    if content_type == "application/cloudevents+json":
        raise InvalidEvent("CloudEvents structured mode is not supported; send binary mode (ce_* headers)")
    if content_type not in {"", "application/json"}:
        raise InvalidEvent(f"content-type is {content_type!r}, expected application/json")
    version = attributes.get("ce_specversion", "1.0")
    if version != "1.0":
        raise InvalidEvent(f"CloudEvents version is {version!r}, expected 1.0")
    found_type = attributes.get("ce_type", expected_type)
    if found_type != expected_type:
        raise InvalidEvent(f"event type is {found_type!r}, expected {expected_type}")


def _safe_id(given: str | None, source: str, event_type: str, body: bytes) -> str:
    """The producer's id where it is safe in a path; else one derived from what makes it unique."""
    if not given:
        return event_id(event_type, body.hex())
    return given if SAFE_ID.fullmatch(given) else event_id(source, given)


def _read_time(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidEvent(f"ce_time {text[:40]!r} is not an RFC 3339 time") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _read_traceparent(text: str | None) -> str | None:
    # W3C Trace Context §2.3: a receiver ignores what it cannot parse.
    return text if text and TRACEPARENT.fullmatch(text) else None


def _problems(error: ValidationError) -> str:
    def shown(details: Iterable[Any]) -> Iterable[str]:
        for detail in details:
            place = ".".join(str(part) for part in detail["loc"])
            yield f"{place}: {detail['msg']}" if place else str(detail["msg"])

    details = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(shown(details[:MAX_SHOWN_PROBLEMS]))
