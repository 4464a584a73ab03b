"""What SREs see of a backlog, on a real broker."""

import asyncio
import uuid

import pytest
from prometheus_client import CollectorRegistry

from clip_shared.bus.bus import Bus
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import Event, HighlightDetected
from clip_shared.errors import TransientError
from tests.integration.clip_shared.bus.buses import highlight, running, skip_to_end, until

pytestmark = pytest.mark.usefixtures("topics")

TOPIC = HighlightDetected.TOPIC


def lag(registry: CollectorRegistry) -> float:
    return sum(
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "clips_consumer_lag" and sample.labels["topic"] == TOPIC
    )


def oldest(registry: CollectorRegistry) -> float:
    value = registry.get_sample_value("clips_oldest_waiting_seconds", {"topic": TOPIC})
    assert value is not None
    return value


async def test_what_waits_is_counted_until_it_is_handled(
    kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clip_shared.bus.partitions.REFRESH_SECONDS", 0.2)
    service, registry, go_on = f"test-{uuid.uuid4().hex[:8]}", CollectorRegistry(), asyncio.Event()
    await skip_to_end(kafka_settings, service, TOPIC)
    bus, key = Bus(kafka_settings, service=service, registry=registry), uuid.uuid4().hex
    begun: list[str] = []

    @bus.subscriber(HighlightDetected, deadline_seconds=60)
    async def handle(event: Event[HighlightDetected]) -> None:
        begun.append(event.data.title)
        await go_on.wait()

    async with running(bus):
        await bus.publish(highlight("first", key))
        await until(lambda: begun == ["first"])
        # While this one is handled, the consumer has no reason to fetch: it hears of the others all the same.
        for number in range(4):
            await bus.publish(highlight(f"later {number}", key))
        await until(lambda: lag(registry) == 5)
        before = oldest(registry)
        await until(lambda: oldest(registry) > before > 0)
        go_on.set()
        await until(lambda: len(begun) == 5 and lag(registry) == 0)
        await until(lambda: oldest(registry) == 0)


async def test_what_fails_goes_on_waiting(kafka_settings: KafkaSettings) -> None:
    service, registry = f"test-{uuid.uuid4().hex[:8]}", CollectorRegistry()
    await skip_to_end(kafka_settings, service, TOPIC)
    bus, attempts, is_mended = Bus(kafka_settings, service=service, registry=registry), list[str](), False

    @bus.subscriber(HighlightDetected, deadline_seconds=60)
    async def handle(event: Event[HighlightDetected]) -> None:
        attempts.append(event.id)
        if not is_mended:
            raise TransientError("the storage is down")

    async with running(bus):
        event = highlight("good", uuid.uuid4().hex)
        await bus.publish(event)
        await until(lambda: len(attempts) >= 3)
        assert lag(registry) == 1
        assert oldest(registry) > 0
        assert bus.backlog.oldest_event_seconds(TOPIC) >= oldest(registry) - 1
        is_mended = True
        await until(lambda: lag(registry) == 0 and oldest(registry) == 0)
    assert bus.backlog.oldest_event_seconds(TOPIC) == 0
