"""Records as a Kafka consumer returns them."""

from collections.abc import Sequence

from aiokafka import ConsumerRecord


def consumed(
    topic: str,
    *,
    key: bytes | None = None,
    value: bytes | None = None,
    headers: Sequence[tuple[str, bytes | None]] = (),
    partition: int = 0,
    offset: int = 0,
    timestamp: int = 1_700_000_000_000,
) -> ConsumerRecord:
    """Return a record with the timestamp of its producer's clock."""
    return ConsumerRecord(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=timestamp,
        timestamp_type=0,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=len(key or b""),
        serialized_value_size=len(value or b""),
        headers=tuple(headers),
    )
