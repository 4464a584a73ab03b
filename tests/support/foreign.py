"""Another producer (librdkafka), records that our libraries cannot make, and a broker's size limit."""

import time
from collections.abc import Sequence
from typing import Any, cast

from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c
from confluent_kafka import KafkaException, Message, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are public by its documentation
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from clip_shared.bus.envelope import OutgoingRecord

ANSWER_SECONDS = 20.0
LARGEST = "max.message.bytes"
Headers = Sequence[tuple[str, bytes | None]]


class Librdkafka:
    """librdkafka's producer. Its methods block."""

    def __init__(self, bootstrap_servers: str, **options: str | int) -> None:
        """``options`` as librdkafka names them, with ``_`` in place of ``.``."""
        named = {name.replace("_", "."): value for name, value in options.items()}
        # No log of brokers that are down: some tests stop the broker.
        self.raw = Producer({"bootstrap.servers": bootstrap_servers, "log_level": 0, **named})

    def send(self, record: OutgoingRecord, *, partition: int = -1, value: bytes | None = None) -> None:
        """Send a record, with ``value`` in place of its own value when it is given."""
        self.raw.produce(
            record.topic,
            key=record.key,
            value=record.value if value is None else value,
            headers=cast("Any", list(record.headers)),
            partition=partition,
        )

    def flush(self) -> None:
        """Wait until the broker has confirmed every record."""
        assert self.raw.flush(ANSWER_SECONDS) == 0

    def deliver(
        self, topic: str, value: bytes, *, key: bytes | None, headers: Headers, partition: int = -1
    ) -> tuple[int, int]:
        """Send a record, and wait for the broker.

        Returns:
            the record's partition and offset.

        Raises:
            KafkaException: the broker did not confirm the record.
        """
        ends: list[tuple[Any, Message]] = []
        self.raw.produce(
            topic,
            key=key,
            value=value,
            headers=cast("Any", list(headers)),
            partition=partition,
            on_delivery=lambda error, message: ends.append((error, message)),
        )
        deadline = time.monotonic() + ANSWER_SECONDS
        while not ends and time.monotonic() < deadline:
            self.raw.poll(0.1)
        if not ends or ends[0][0] is not None:
            raise KafkaException(ends[0][0] if ends else None)
        message = ends[0][1]
        return cast("int", message.partition()), cast("int", message.offset())


BAD_NAME = "BADNAME"  # a header with this name gets a name that is not UTF-8


async def send_crafted(
    producer: AIOKafkaProducer,
    topic: str,
    records: Sequence[tuple[bytes | None, bytes, Headers]],
    *,
    partition: int = 0,
    timestamp: int | None = None,
) -> int:
    """Send records (key, value, headers) as one batch that no client library would make.

    A header with the name :data:`BAD_NAME` gets a name that is not UTF-8. ``timestamp`` is that of all the
    records, in milliseconds; any number is allowed.

    Returns:
        the offset of the first record.

    Raises:
        KafkaError: the broker did not confirm the batch.
    """
    batch = producer.create_batch()
    for key, value, headers in records:
        appended = batch.append(key=key, value=value, timestamp=timestamp, headers=list(headers))
        assert appended is not None, "the batch is full"
    batch.close()
    data = bytearray(batch._build())
    data[:] = data.replace(BAD_NAME.encode(), b"BAD\xff\xfe\xfd\xfc")
    data[17:21] = calc_crc32c(bytes(data[21:])).to_bytes(4, "big")
    batch._buffer = data
    sent = await (await producer.send_batch(batch, topic, partition=partition))
    return cast("int", sent.offset)


def limit_records(bootstrap_servers: str, topic: str, size: int) -> int:
    """Set the largest size of a topic's records, in bytes; return the previous limit."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    kind = ConfigResource.Type.TOPIC
    (found,) = admin.describe_configs([ConfigResource(kind, topic)]).values()
    before = int(found.result(ANSWER_SECONDS)[LARGEST].value)
    change = ConfigEntry(LARGEST, str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(kind, topic, incremental_configs=[change])
    (done,) = admin.incremental_alter_configs([resource]).values()
    done.result(ANSWER_SECONDS)
    return before
