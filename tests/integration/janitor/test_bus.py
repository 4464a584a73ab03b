"""The janitor on a real bus and a real bucket: releases are deleted, ticks go on until nothing is left."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer
from prometheus_client import CollectorRegistry

from clip_shared.bus.bus import Bus
from clip_shared.bus.clients import publish_once
from clip_shared.bus.settings import KafkaSettings
from clip_shared.storage import s3_client
from janitor.domain import PurgeLimit
from janitor.handlers import JanitorHandlers, subscribe
from janitor.metrics import JanitorMetrics
from janitor.storage import ClipBucket
from janitor.tick import TickLimits
from tests.integration.janitor.conftest import keys_in, put
from tests.unit.janitor.fakes import NOON, FakeJanitorRegistry, a_key, a_release, a_tick

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LIMIT = PurgeLimit(1000, 30)
pytestmark = pytest.mark.usefixtures("topics")


@dataclass
class RunningJanitor:
    """The janitor's handlers on a bus."""

    bus: Bus
    registry: FakeJanitorRegistry
    prometheus: CollectorRegistry

    def value(self, name: str, **labels: str) -> float:
        return self.prometheus.get_sample_value(name, labels) or 0


@asynccontextmanager
async def janitor_on(
    kafka: KafkaSettings, s3: "S3Client", bucket: str, registry: FakeJanitorRegistry, limits: TickLimits
) -> AsyncIterator[RunningJanitor]:
    prometheus = CollectorRegistry()
    # A group of its own for every test: it sees all that is on the topics, also what is not its own.
    bus = Bus(kafka, service=f"janitor-{uuid4().hex[:8]}", registry=prometheus)
    metrics = JanitorMetrics(prometheus)
    subscribe(bus, JanitorHandlers(registry, ClipBucket(s3, bucket), metrics, limits, publish=bus.publish))
    await bus.start()
    try:
        yield RunningJanitor(bus, registry, prometheus)
    finally:
        await bus.stop()


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def dead_letter_keys(kafka: KafkaSettings, service: str) -> set[str]:
    """The Kafka keys of what a service dead-lettered among the releases."""
    consumer = AIOKafkaConsumer(
        "clip-objects-released.dlq",
        bootstrap_servers=kafka.kafka_bootstrap_servers,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        records: list[Any] = []
        while batches := await consumer.getmany(timeout_ms=1000):
            records += [record for batch in batches.values() for record in batch]
    finally:
        await consumer.stop()
    return {
        record.key.decode() for record in records if dict(record.headers)["dlq_service"].decode() == service
    }


async def test_released_objects_are_deleted_and_what_cannot_be_is_dead_lettered(
    kafka_settings: KafkaSettings, s3: "S3Client", bucket: str
) -> None:
    ours = [a_key(str(number)) for number in range(30)]
    await put(s3, bucket, *ours, "vods/stays.mp4")
    foreign, other = a_release(a_key(bucket), "vods"), a_release("vods/stays.mp4", bucket)
    async with janitor_on(
        kafka_settings, s3, bucket, FakeJanitorRegistry(), TickLimits(10, 60, LIMIT)
    ) as janitor:
        await janitor.bus.publish(foreign)
        await janitor.bus.publish(other)
        for key in [*ours, a_key("absent")]:
            await janitor.bus.publish(a_release(key, bucket))
        await until(lambda: janitor.value("clips_objects_deleted_total") >= 31)
        letters = {foreign.data.object_key, other.data.object_key}
        await until(lambda: janitor.value("clips_objects_failed_total", reason="not_a_clip") == 1)
    assert await keys_in(s3, bucket) == {"vods/stays.mp4"}
    assert letters <= await dead_letter_keys(kafka_settings, janitor.bus.service)


async def test_what_was_released_while_no_janitor_ran_is_deleted_by_the_next(
    kafka_settings: KafkaSettings, s3: "S3Client", bucket: str
) -> None:
    keys = [a_key(f"{bucket}/{number}") for number in range(2)]
    await put(s3, bucket, *keys)
    for key in keys:
        await publish_once(kafka_settings, a_release(key, bucket))
    async with janitor_on(
        kafka_settings, s3, bucket, FakeJanitorRegistry(), TickLimits(10, 60, LIMIT)
    ) as janitor:
        await until(lambda: janitor.value("clips_objects_deleted_total") >= 2)
    assert await keys_in(s3, bucket) == set()


async def test_an_outage_of_the_storage_loses_and_dead_letters_nothing(
    kafka_settings: KafkaSettings, s3: "S3Client", bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {a_key(f"{bucket}/a"), a_key(f"{bucket}/b")}
    await put(s3, bucket, *ours)
    client = s3_client(
        endpoint="http://127.0.0.1:1", region="us-east-1", access_key="x", secret_key="y", max_attempts=1
    )
    async with janitor_on(
        kafka_settings, client, bucket, FakeJanitorRegistry(), TickLimits(10, 60, LIMIT)
    ) as janitor:
        for key in ours:
            await janitor.bus.publish(a_release(key, bucket))
        retried = {"topic": "clip-objects-released", "outcome": "retried"}
        await until(lambda: janitor.value("clips_events_total", **retried) >= 2)
        assert await keys_in(s3, bucket) == ours
        assert janitor.value("clips_oldest_retry_seconds", topic="clip-objects-released") > 0
        monkeypatch.setattr(client, "delete_objects", s3.delete_objects)
        await until(lambda: janitor.value("clips_objects_deleted_total") >= 2)
    assert await keys_in(s3, bucket) == set()
    assert not ours & await dead_letter_keys(kafka_settings, janitor.bus.service)


async def test_a_tick_goes_on_in_follow_ups_until_nothing_is_left(
    kafka_settings: KafkaSettings, s3: "S3Client", bucket: str
) -> None:
    due = [NOON - timedelta(seconds=number) for number in range(25)]
    async with janitor_on(
        kafka_settings, s3, bucket, FakeJanitorRegistry(*due), TickLimits(10, 1e-6, LIMIT)
    ) as janitor:
        await janitor.bus.publish(a_tick(named=uuid4().hex))
        await until(lambda: janitor.value("clips_expired_total") == 25)
        await until(lambda: janitor.value("clips_tick_seconds_count", end="finished") >= 1)
    assert janitor.registry.due_at == []
