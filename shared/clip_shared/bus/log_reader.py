"""Read the present records of topics, from a command: without a consumer group, and without commits."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from clip_shared.bus import fetching
from clip_shared.bus.clients import client_security
from clip_shared.bus.settings import KafkaSettings
from clip_shared.errors import PermanentError, TransientError

FETCH_TIMEOUT_MS = 1000
# The broker answers the requests of a connection in order: a fetch that waits at the end of a partition holds
# up the next request.
FETCH_MAX_WAIT_MS = 50
MAX_SILENCE = 15  # fetches in a row without a record, before Kafka counts as out


@dataclass(frozen=True)
class LogReader:
    """Reads partitions between two offsets, one partition at a time.

    All partitions stay assigned, and all but the one that is read are paused: aiokafka's consumer may never
    stop once its assignment was replaced while it fetched.
    """

    consumer: AIOKafkaConsumer

    def partitions(self, topic: str) -> list[TopicPartition]:
        """Return all partitions of a topic, in order."""
        return sorted(each for each in self.consumer.assignment() if each.topic == topic)

    async def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """Return the offset of the oldest record, and the offset that the next record will have."""
        first = await self.consumer.beginning_offsets([partition])
        last = await self.consumer.end_offsets([partition])
        return first[partition], last[partition]

    async def since(self, partition: TopicPartition, timestamp_ms: int) -> int:
        """Return the offset of the first record that is not older than a time, else of the next record."""
        found = await self.consumer.offsets_for_times({partition: timestamp_ms})
        place = found[partition]
        return int(place.offset) if place else (await self.bounds(partition))[1]

    async def ranges(self, topic: str, timestamp_ms: int) -> list[tuple[TopicPartition, int, int]]:
        """Return the partitions with records that are not older than a time, and their offsets: from, to."""
        partitions = self.partitions(topic)
        places = await self.consumer.offsets_for_times(dict.fromkeys(partitions, timestamp_ms))
        ends = await self.consumer.end_offsets(partitions)
        return [(each, place.offset, ends[each]) for each in partitions if (place := places[each])]

    async def read(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[ConsumerRecord]:
        """Yield the records from offset ``start`` to before ``end``.

        Raises:
            TransientError: Kafka sends no more records before the end.
        """
        self.consumer.seek(partition, start)
        self.consumer.resume(partition)
        silence = 0
        # The position moves over the markers of transactions too, which are not records.
        while await self.consumer.position(partition) < end:
            found = await self.consumer.getmany(partition, timeout_ms=FETCH_TIMEOUT_MS)
            records = found.get(partition, [])
            silence = 0 if records else silence + 1
            if silence > MAX_SILENCE:
                raise TransientError(f"{partition.topic} gives no more records")
            for record in records:
                if record.offset < end:
                    yield record
        self.consumer.pause(partition)


@asynccontextmanager
async def log_reader(settings: KafkaSettings, purpose: str, *topics: str) -> AsyncIterator[LogReader]:
    """Open a reader of topics. ``purpose`` completes "cannot …" in the error.

    Raises:
        PermanentError: a topic is missing.
        TransientError: Kafka cannot be reached, at the start or within the context.
    """
    servers = settings.kafka_bootstrap_servers
    fetching.install()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers.split(","),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
        **client_security(settings),
    )
    try:
        await consumer.start()
        partitions = await _partitions(settings, topics)
        consumer.assign(partitions)
        consumer.pause(*partitions)
        yield LogReader(consumer)
    except KafkaError as error:
        raise TransientError(f"cannot {purpose} at {servers}: {error}") from error
    finally:
        await consumer.stop()


async def _partitions(settings: KafkaSettings, topics: Sequence[str]) -> list[TopicPartition]:
    servers = settings.kafka_bootstrap_servers.split(",")
    admin = AIOKafkaAdminClient(bootstrap_servers=servers, **client_security(settings))
    try:
        await admin.start()
        described = await admin.describe_topics(list(topics))
    finally:
        await admin.close()
    if missing := [each["topic"] for each in described if each["error_code"] != 0]:
        raise PermanentError(f"{', '.join(missing)} missing; make it with: clip-shared topics create")
    return [
        TopicPartition(each["topic"], partition["partition"])
        for each in described
        for partition in each["partitions"]
    ]
