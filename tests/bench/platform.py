"""Kafka and the database for the benchmarks of the services."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from clip_shared.bus.envelope import to_record
from clip_shared.contracts.events import ClipLifecycle, Event
from local_stack.stack import LocalStack


class BenchmarkPlatform:
    """The benchmark's own connections to Kafka and the database."""

    def __init__(self, stack: LocalStack, database: Any) -> None:
        self.stack = stack
        self.database = database
        self._brokers = stack.environment["KAFKA_BOOTSTRAP_SERVERS"]
        self.producer = AIOKafkaProducer(bootstrap_servers=self._brokers, acks="all", linger_ms=5)

    @classmethod
    @asynccontextmanager
    async def running(cls, stack: LocalStack) -> AsyncIterator[Self]:
        """Connect to both."""
        database = await asyncpg.connect(_plain(stack.environment["DATABASE_URL"]))
        platform = cls(stack, database)
        try:
            async with platform.producer:
                yield platform
        finally:
            await database.close()

    @property
    def database_url(self) -> str:
        """The database's URL for asyncpg."""
        return _plain(self.stack.environment["DATABASE_URL"])

    async def publish(self, events: Sequence[Event[Any]]) -> None:
        """Publish events as fast as the broker takes them."""
        sent = []
        for event in events:
            record = to_record(event)
            sent.append(
                await self.producer.send(record.topic, record.value, record.key, headers=record.headers)
            )
        await asyncio.gather(*sent)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[AIOKafkaConsumer]:
        """Run a consumer of the registry's events from now on."""
        consumer = AIOKafkaConsumer(ClipLifecycle.TOPIC, bootstrap_servers=self._brokers)
        await consumer.start()
        try:
            await consumer.seek_to_end()
            for place in consumer.assignment():
                await consumer.position(place)
            yield consumer
        finally:
            await consumer.stop()


def _plain(url: str) -> str:
    return url.replace("+asyncpg", "")
