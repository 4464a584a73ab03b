"""Dead letters: count them, read them, and send them back to where they came from.

A dead letter stays in ``<topic>.dlq`` until its retention ends. What has been dealt with is remembered as the
committed offsets of one consumer group per topic, ``<topic>.dlq.replay``: *pending* is what lies after them.
A replayed message keeps its key, value and headers, and with them its event id: a consumer that had done the
work after all does it once.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from clip_shared.delivery import DLQ_SUFFIX
from clip_shared.errors import PermanentError, TransientError
from clip_shared.kafka import client_security, producer
from clip_shared.settings import KafkaSettings
from clip_shared.topics import TOPICS

NOTE_PREFIX = "dlq_"
FETCH_TIMEOUT_MS = 2000


@dataclass(frozen=True)
class DeadLetter:
    """A message that could not be handled, and what is known about it."""

    record: ConsumerRecord
    notes: Mapping[str, str]

    @property
    def position(self) -> str:
        """Where it stands in the dead letters: ``partition:offset``."""
        return f"{self.record.partition}:{self.record.offset}"

    @property
    def time(self) -> datetime:
        """When it was dead-lettered."""
        return datetime.fromtimestamp(self.record.timestamp / 1000, UTC)

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """Its headers as they came, without the notes of the dead letters."""
        return [(name, value) for name, value in self.record.headers if not name.startswith(NOTE_PREFIX)]


async def count(settings: KafkaSettings, topic: str) -> tuple[int, int]:
    """How many dead letters a topic has: (pending, all that are retained)."""
    async with _reader(settings, topic) as consumer:
        partitions = consumer.assignment()
        first, last = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        pending = [last[each] - max(first[each], await _dealt_with(consumer, each)) for each in partitions]
        return sum(pending), sum(last[each] - first[each] for each in partitions)


async def pending(settings: KafkaSettings, topic: str, *, limit: int) -> list[DeadLetter]:
    """The oldest dead letters of a topic that nobody has dealt with, at most ``limit``."""
    async with _reader(settings, topic) as consumer:
        return [letter async for letter in _pending(consumer, limit)]


async def replay(settings: KafkaSettings, topic: str, *, limit: int, discard: bool = False) -> int:
    """Send pending dead letters back to their topic, oldest first, and mark them as dealt with.

    Each is marked only once the bus has confirmed it: an interruption repeats at most one.

    Args:
        settings: the bus.
        topic: the topic that they came from (not its dead letters).
        limit: at most so many.
        discard: mark them without sending them back.

    Returns:
        how many were dealt with.
    """
    sender = producer(settings, client_id="clip-shared-dlq")
    dealt_with = 0
    async with _reader(settings, topic) as consumer:
        await sender.start()
        try:
            async for letter in _pending(consumer, limit):
                if not discard:
                    await sender.send_and_wait(
                        topic, key=letter.record.key, value=letter.record.value, headers=letter.headers
                    )
                await consumer.commit({_partition(letter.record): letter.record.offset + 1})
                dealt_with += 1
        finally:
            await sender.stop()
    return dealt_with


@asynccontextmanager
async def _reader(settings: KafkaSettings, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    name = topic + DLQ_SUFFIX
    if name not in {each.name for each in TOPICS}:
        raise PermanentError(f"{topic} has no dead letters; see: clip-shared dlq list")
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers.split(","),
        group_id=f"{name}.replay",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **client_security(settings),
    )
    try:
        await consumer.start()
        consumer.assign(await _partitions(settings, name))
        yield consumer
    except KafkaError as error:
        raise TransientError(f"cannot read {name} at {settings.kafka_bootstrap_servers}: {error}") from error
    finally:
        await consumer.stop()


async def _partitions(settings: KafkaSettings, name: str) -> list[TopicPartition]:
    servers = settings.kafka_bootstrap_servers.split(",")
    admin = AIOKafkaAdminClient(bootstrap_servers=servers, **client_security(settings))
    try:
        await admin.start()
        (topic,) = await admin.describe_topics([name])
    finally:
        await admin.close()
    return sorted(TopicPartition(name, each["partition"]) for each in topic["partitions"])


async def _dealt_with(consumer: AIOKafkaConsumer, partition: TopicPartition) -> int:
    return await consumer.committed(partition) or 0


async def _pending(consumer: AIOKafkaConsumer, limit: int) -> AsyncIterator[DeadLetter]:
    remaining = limit
    for partition in sorted(consumer.assignment()):
        first = (await consumer.beginning_offsets([partition]))[partition]
        last = (await consumer.end_offsets([partition]))[partition]
        position = max(first, await _dealt_with(consumer, partition))
        consumer.seek(partition, position)
        while remaining > 0 and position < last:
            batches = await consumer.getmany(partition, timeout_ms=FETCH_TIMEOUT_MS, max_records=remaining)
            records = batches.get(partition, [])
            if not records:
                break
            for record in records:
                yield _letter(record)
            remaining -= len(records)
            position = records[-1].offset + 1


def _letter(record: ConsumerRecord) -> DeadLetter:
    notes = {
        name: value.decode(errors="replace")
        for name, value in record.headers
        if name.startswith(NOTE_PREFIX) and value is not None
    }
    return DeadLetter(record, notes)


def _partition(record: ConsumerRecord) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)
