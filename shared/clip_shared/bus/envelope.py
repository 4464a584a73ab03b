"""CloudEvents 1.0 in Kafka's binary mode: attributes in ``ce_*`` headers, data as the JSON body.

Source: CloudEvents Kafka Protocol Binding 1.0.2, §3.2 (binary content mode).

Producers outside this system may be careless, and still work: a missing id, source, type or time is
filled from the record, never from the clock, so that a redelivered message reads the same.

The identity of an event (``Event.id``) follows from its headers and its record:

- CloudEvents ids are unique for their source only, so the id is a hash of ``ce_source`` and ``ce_id``. Two
  kinds are kept as they are: random UUIDs (versions 4 and 7), which are unique wherever they were made, and
  the ids of our own services.
- A record without ``ce_id`` is read as if it had sent its topic, partition, offset, timestamp and body as
  ``ce_id``: the same for a redelivery, different for another record with the same body.
- A copy of a record that carries :func:`copied_headers` has the identity and the time of the original.
"""

import hashlib
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka import ConsumerRecord
from pydantic import ValidationError

from clip_shared import tracing
from clip_shared.contracts.events import Data, Event, event_id
from clip_shared.contracts.service_names import CLIP_CUTTER, CLIP_REGISTRY, CLIP_SHARED, JANITOR
from clip_shared.errors import InvalidEvent

SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
MAX_SHOWN_PROBLEMS = 10
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_INVALID_MS = 253_402_300_800_000  # the year 10000, which datetime does not know
OUR_SERVICES = frozenset({CLIP_CUTTER, CLIP_REGISTRY, JANITOR, CLIP_SHARED})
UNIQUE_VERSIONS = frozenset({4, 7})  # of UUIDs, RFC 9562 §5.4, §5.7: random

# The headers that are read; any other may hold any bytes.
ATTRIBUTES = frozenset(
    {"ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "content-type", "traceparent"}
)
Attributes = dict[str, str]


@dataclass(frozen=True)
class OutgoingRecord:
    """A Kafka record to be sent."""

    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]


def to_record(event: Event[Any]) -> OutgoingRecord:
    """Serialise an event for the topic that its data names.

    An event that names no cause is written as a consequence of the work at hand, if that is traced.
    """
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": event.id,
        "ce_type": event.data.TYPE,
        "ce_source": event.source,
        "ce_time": _wire_time(event.time),
        "content-type": "application/json",
    }
    if traceparent := event.traceparent or tracing.traceparent():
        attributes["traceparent"] = traceparent
    key = event.data.key()
    return OutgoingRecord(
        topic=event.data.TOPIC,
        key=key.encode() if key is not None else None,
        value=event.data.model_dump_json().encode(),
        headers=[(name, value.encode()) for name, value in attributes.items()],
    )


def from_record(data_type: type[Data], record: ConsumerRecord) -> Event[Data]:
    """Read a consumed record as an event of the given type.

    The event's time is never later than the record's. On a topic with ``LogAppendTime``
    (``highlight-detected``) the record's time is the broker's: a producer whose clock runs ahead cannot make
    its event win over every later one. On any other topic it is the producer's own, and bounds ``ce_time``
    only.

    Raises:
        InvalidEvent: what is wrong, in words for the person who reads the dead letter.
    """
    attributes = _attributes(record)
    _check_attributes(attributes, data_type.TYPE)
    event_type: type[Event[Data]] = Event[data_type]  # type: ignore[valid-type]  # known at run time only
    try:
        return event_type(
            id=_identity(attributes, record),
            source=_source(attributes)[:200],
            time=_time(attributes, record),
            traceparent=_read_traceparent(attributes.get("traceparent")),
            data=data_type.model_validate_json(record.value or b""),
        )
    except ValidationError as error:
        raise InvalidEvent(f"not a valid {data_type.TYPE}: {_problems(error)}") from error


def identity_of(record: ConsumerRecord) -> str:
    """Return the id that :func:`from_record` gives the event of a record. Its data is not read.

    Raises:
        InvalidEvent: a header of CloudEvents is not UTF-8.
    """
    return _identity(_attributes(record), record)


def event_time(record: ConsumerRecord) -> datetime | None:
    """Return the time that :func:`from_record` gives the event of a record; None: it has none."""
    try:
        return _time(_attributes(record), record)
    except InvalidEvent:
        return None


def copied_headers(record: ConsumerRecord) -> list[tuple[str, bytes]]:
    """Return the headers with which a copy of a record is read as the same event, of the same time.

    A missing ``ce_id`` is filled in, and ``ce_time`` is the time of the event, since the copy has a timestamp
    of its own. What cannot be read stays as it is: the copy is as invalid as the original.
    """
    try:
        attributes = _attributes(record)
        filled = {} if "ce_id" in attributes else {"ce_id": _position_id(record)}
        filled["ce_time"] = _wire_time(_time(attributes, record))
    except InvalidEvent:
        return list(record.headers)
    kept = [(name, value) for name, value in record.headers if name.lower() not in filled]
    return kept + [(name, value.encode()) for name, value in filled.items()]


def _attributes(record: ConsumerRecord) -> Attributes:
    """Return the CloudEvents headers by their names in lower case. Null and empty ones count as missing."""
    found = {}
    for name, value in record.headers:
        if value and name.lower() in ATTRIBUTES:
            try:
                found[name.lower()] = value.decode()
            except UnicodeDecodeError as error:
                raise InvalidEvent("a header is not UTF-8") from error
    return found


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


def _source(attributes: Attributes) -> str:
    return attributes.get("ce_source", "unknown")


def _identity(attributes: Attributes, record: ConsumerRecord) -> str:
    given, source = attributes.get("ce_id") or _position_id(record), _source(attributes)
    if SAFE_ID.fullmatch(given) and (source in OUR_SERVICES or _is_random_uuid(given)):
        return given
    return event_id(source, given)


def _position_id(record: ConsumerRecord) -> str:
    digest = hashlib.sha256(record.value or b"").hexdigest()
    return f"{record.topic}/{record.partition}/{record.offset}/{record.timestamp}/{digest}"


def _is_random_uuid(text: str) -> bool:
    try:
        return uuid.UUID(text).version in UNIQUE_VERSIONS
    except ValueError:
        return False


def _time(attributes: Attributes, record: ConsumerRecord) -> datetime:
    recorded_at = _read_timestamp(record.timestamp)
    return min(_read_time(attributes.get("ce_time")) or recorded_at, recorded_at)


def _read_timestamp(milliseconds: int) -> datetime:
    # Kafka takes any; -1 stands for "no timestamp".
    if not 0 <= milliseconds < FIRST_INVALID_MS:
        raise InvalidEvent(f"the record's timestamp {milliseconds} is not a time")
    return EPOCH + timedelta(milliseconds=milliseconds)


def _read_time(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidEvent(f"ce_time {text[:40]!r} is not an RFC 3339 time") from error


def _wire_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


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
