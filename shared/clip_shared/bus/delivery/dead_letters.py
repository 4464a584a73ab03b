"""The record for ``<topic>.dlq``: as much of a message as fits, with its origin and what was wrong.

What does not fit is truncated or left out, and the notes say so: a dead letter must never stop a partition. A
dead letter that lacks a part of its message cannot be sent back (see :mod:`clip_shared.bus.dlq`).
"""

import hashlib
from collections.abc import Iterable, Iterator
from enum import StrEnum

from aiokafka import ConsumerRecord

from clip_shared.bus.envelope import OutgoingRecord
from clip_shared.bus.fetching import UnreadableRecord
from clip_shared.contracts.topics import DLQ_SUFFIX
from clip_shared.errors import (
    DeadlineExceeded,
    GivenUp,
    InvalidEvent,
    PermanentError,
    RefusedRecord,
    RepeatedCrash,
)

NOTE_PREFIX = "dlq_"
TRUNCATED = "dlq_truncated"  # the size of the whole value, in bytes
SHA256 = "dlq_sha256"  # of the whole value
LEFT_OUT = "dlq_left_out"  # which other parts are missing, for a person

# Kafka's own limit of a message is 1 MiB where a topic sets none: a dead letter fits there too.
MAX_DEAD_LETTER_BYTES = 900 * 1024
MAX_HEADERS_BYTES = 64 * 1024
MAX_KEY_BYTES = 16 * 1024
MAX_NOTES_BYTES = 16 * 1024
MAX_ERROR_LENGTH = 1000
HEADER_OVERHEAD_BYTES = 12  # of Kafka's record format, at most: the lengths of a name and of a value

Header = tuple[str, bytes]


class DeadLetterReason(StrEnum):
    """Why a message is dead-lettered: a label value for each error of :mod:`clip_shared.errors`."""

    INVALID = "invalid"
    REFUSED = "refused"
    GIVEN_UP = "given_up"
    RECORD_REFUSED = "record_refused"
    KILLED_PROCESS = "killed_process"
    DEADLINE = "deadline"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, error: BaseException) -> "DeadLetterReason":
        """Return the reason that an error stands for."""
        return next((reason for known, reason in _REASONS.items() if isinstance(error, known)), cls.UNKNOWN)


# Subclasses stand before their base.
_REASONS: dict[type[BaseException], DeadLetterReason] = {
    InvalidEvent: DeadLetterReason.INVALID,
    GivenUp: DeadLetterReason.GIVEN_UP,
    RefusedRecord: DeadLetterReason.RECORD_REFUSED,
    RepeatedCrash: DeadLetterReason.KILLED_PROCESS,
    PermanentError: DeadLetterReason.REFUSED,
    DeadlineExceeded: DeadLetterReason.DEADLINE,
}


def dead_letter_of(
    record: ConsumerRecord, error: BaseException, service: str, attempts: int
) -> OutgoingRecord:
    """Return the dead letter of a message; it has at most ``MAX_DEAD_LETTER_BYTES``.

    Args:
        record: the message as it was delivered.
        error: why it is dead-lettered.
        service: which service could not handle it.
        attempts: how often it was tried.
    """
    notes = {
        "dlq_topic": record.topic,
        "dlq_partition": str(record.partition),
        "dlq_offset": str(record.offset),
        "dlq_timestamp_ms": str(record.timestamp),
        "dlq_service": service,
        "dlq_attempts": str(attempts),
        "dlq_error_type": type(error).__name__,
        "dlq_error": str(error)[:MAX_ERROR_LENGTH],
    }
    came = [each for each in record.headers if each[1] is not None and not each[0].startswith(NOTE_PREFIX)]
    headers = list(_that_fit(came))
    key = record.key if len(record.key or b"") <= MAX_KEY_BYTES else None
    if left_out := [
        *_unreadable(record),
        *_key_left_out(record, key),
        *_headers_left_out(len(came) - len(headers)),
    ]:
        notes[LEFT_OUT] = " and ".join(left_out)
    value = record.value or b""
    room = MAX_DEAD_LETTER_BYTES - MAX_NOTES_BYTES - len(key or b"") - sum(map(_size, headers))
    if len(value) > room:
        notes |= {TRUNCATED: str(len(value)), SHA256: hashlib.sha256(value).hexdigest()}
    return OutgoingRecord(
        topic=record.topic + DLQ_SUFFIX,
        key=key,
        value=value[:room],
        headers=headers + [(name, text.encode(errors="backslashreplace")) for name, text in notes.items()],
    )


def _that_fit(headers: Iterable[Header]) -> Iterator[Header]:
    room = MAX_HEADERS_BYTES
    for header in headers:
        if (size := _size(header)) <= room:
            room -= size
            yield header


def _size(header: Header) -> int:
    return len(header[0].encode()) + len(header[1]) + HEADER_OVERHEAD_BYTES


def _unreadable(record: ConsumerRecord) -> list[str]:
    return ["what could not be read"] if isinstance(record, UnreadableRecord) else []


def _key_left_out(record: ConsumerRecord, key: bytes | None) -> list[str]:
    return [] if key == record.key else [f"the key ({len(record.key)} bytes)"]


def _headers_left_out(count: int) -> list[str]:
    return [f"{count} header(s)"] if count else []
