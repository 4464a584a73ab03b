"""What tests of the bus need: buses of their own, events, dead letters, and what is committed."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata
from prometheus_client import CollectorRegistry

from clip_shared.bus.bus import Bus
from clip_shared.bus.log_reader import log_reader
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import Event, HighlightDetected


def highlight(title: str, highlight_id: str) -> Event[HighlightDetected]:
    return Event.new(
        HighlightDetected.model_validate(
            {
                "stream_highlight_id": highlight_id,
                "twitch_account_id": "account-1",
                "source_vod_id": "vod-1",
                "source": {"profile": "local", "bucket": "vods", "key": "vod.mp4"},
                "start_seconds": 1,
                "end_seconds": 2,
                "kind": "heuristic",
                "title": title,
            }
        ),
        source="detector",
    )


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(bus: Bus) -> AsyncIterator[Bus]:
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


async def dead_letters(settings: KafkaSettings, topic: str, key: bytes | None) -> list[ConsumerRecord]:
    name = f"{topic}.dlq"
    async with log_reader(settings, f"read {name}", name) as reader:
        return [
            record
            for partition in reader.partitions(name)
            async for record in reader.read(partition, *await reader.bounds(partition))
            if record.key == key
        ]


def new_bus(settings: KafkaSettings, service: str | None = None, *, grace_seconds: float = 20) -> Bus:
    name = service or f"test-{uuid.uuid4().hex[:8]}"
    return Bus(settings, service=name, registry=CollectorRegistry(), grace_seconds=grace_seconds)


@asynccontextmanager
async def admin_of(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def committed(settings: KafkaSettings, group: str) -> dict[TopicPartition, OffsetAndMetadata]:
    async with admin_of(settings) as admin:
        found: dict[TopicPartition, OffsetAndMetadata] = await admin.list_consumer_group_offsets(group)
    return found


async def skip_to_end(settings: KafkaSettings, service: str, topic: str, *, metadata: str = "") -> None:
    """Let a service's group begin behind the messages of other tests, with the metadata of its commits."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=f"{service}.{topic}",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        async with admin_of(settings) as admin:
            (found,) = await admin.describe_topics([topic])
        partitions = [TopicPartition(topic, each["partition"]) for each in found["partitions"]]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.commit({each: (offset, metadata) for each, offset in ends.items()})
    finally:
        await consumer.stop()
