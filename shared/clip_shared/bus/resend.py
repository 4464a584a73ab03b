"""Send a record once more, from a command."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer, ConsumerRecord

from clip_shared.bus.clients import producer
from clip_shared.bus.envelope import copied_headers
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.service_names import CLIP_SHARED


@asynccontextmanager
async def sender(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    """Connect a producer for this context. It raises aiokafka's own errors."""
    connected = producer(settings, client_id=CLIP_SHARED)
    try:
        await connected.start()
        yield connected
    finally:
        await connected.stop()


async def send_copy(through: AIOKafkaProducer, record: ConsumerRecord) -> None:
    """Send a copy of a record to the topic and, if that exists, the partition where it stood.

    It has the identity and the time of the original, see :func:`clip_shared.bus.envelope.copied_headers`. Its
    own timestamp is the present: with the old one, its topic's retention could remove it before it is read.
    Returns after Kafka has confirmed it.
    """
    partitions = await through.partitions_for(record.topic)
    await through.send_and_wait(
        record.topic,
        key=record.key,
        value=record.value,
        headers=copied_headers(record),
        partition=record.partition if record.partition in partitions else None,
    )
