"""What becomes of messages on a real broker when handling them fails, in every way that it can fail."""

import asyncio
import uuid

import pytest
from prometheus_client import CollectorRegistry

from clip_shared.bus.bus import Bus
from clip_shared.bus.delivery.crash_marks import CrashMark
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import Event, HighlightDetected
from clip_shared.errors import PermanentError, TransientError
from tests.integration.clip_shared.bus.buses import (
    committed,
    dead_letters,
    highlight,
    new_bus,
    running,
    skip_to_end,
    until,
)

pytestmark = pytest.mark.usefixtures("topics")

TOPIC = "highlight-detected"


@pytest.fixture
def service() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_shared.bus.delivery.redelivery.LONGEST_PAUSE_SECONDS", 0.2)


@pytest.mark.usefixtures("quick")
async def test_what_takes_too_long_is_tried_twice(kafka_settings: KafkaSettings, service: str) -> None:
    await skip_to_end(kafka_settings, service, TOPIC)
    bus, key, tried = new_bus(kafka_settings, service), uuid.uuid4().hex, list[str]()

    @bus.subscriber(HighlightDetected, deadline_seconds=0.3)
    async def handle(event: Event[HighlightDetected]) -> None:
        tried.append(event.data.title)
        if event.data.title == "endless":
            await asyncio.sleep(60)

    async with running(bus):
        for title in ("endless", "next"):
            await bus.publish(highlight(title, key))
        await until(lambda: "next" in tried)
    assert tried == ["endless", "endless", "next"]
    (letter,) = await dead_letters(kafka_settings, TOPIC, key.encode())
    headers = dict(letter.headers)
    assert headers["dlq_error_type"] == b"DeadlineExceeded"
    assert headers["dlq_error"] == b"it took longer than 0.3 s"


class TestTooManyDeadLetters:
    @pytest.mark.usefixtures("quick")
    async def test_a_bad_deploy_stops_and_does_not_empty_the_topic(
        self, kafka_settings: KafkaSettings, service: str
    ) -> None:
        await skip_to_end(kafka_settings, service, TOPIC)
        settings = kafka_settings.model_copy(update={"dead_letter_limit": 3})
        prometheus, keys = CollectorRegistry(), [f"{uuid.uuid4().hex[:24]}-{n}" for n in range(8)]
        bus, handled, repaired = Bus(settings, service=service, registry=prometheus), set[str](), False

        @bus.subscriber(HighlightDetected, deadline_seconds=5)
        async def handle(event: Event[HighlightDetected]) -> None:
            if not repaired:
                raise PermanentError("this version is broken")
            handled.add(event.data.stream_highlight_id)

        def value(name: str, **labels: str) -> float:
            return prometheus.get_sample_value(name, {"topic": TOPIC, **labels}) or 0

        async with running(bus):
            assert await bus.check_ready() is None
            for key in keys:
                await bus.publish(highlight("good", key))
            await until(lambda: value("clips_events_total", outcome="retried") >= 6)
            assert (
                await bus.check_ready() == "highlight-detected is held back: too many dead letters or skips"
            )
            assert value("clips_dead_letters_held_back") > 0
            assert value("clips_topic_held_back") == 1
            assert value("clips_dead_letters_total", reason="refused") == 3
            await bus.check_alive()
            repaired = True
            await until(lambda: len(handled) == 5)
            await until(lambda: value("clips_dead_letters_held_back") == 0)
            assert value("clips_topic_held_back") == 0
            assert await bus.check_ready() is None
        lost = [key for key in keys if await dead_letters(kafka_settings, TOPIC, key.encode())]
        assert sorted(lost) == sorted(set(keys) - handled)
        assert len(lost) == 3

    @pytest.mark.usefixtures("quick")
    async def test_it_goes_on_when_the_window_has_room(
        self, kafka_settings: KafkaSettings, service: str
    ) -> None:
        await skip_to_end(kafka_settings, service, TOPIC)
        settings = kafka_settings.model_copy(
            update={"dead_letter_limit": 1, "dead_letter_window_seconds": 1.0}
        )
        bus, key, handled = new_bus(settings, service), uuid.uuid4().hex, list[str]()

        @bus.subscriber(HighlightDetected, deadline_seconds=5)
        async def handle(event: Event[HighlightDetected]) -> None:
            if event.data.title.startswith("bad"):
                raise PermanentError(event.data.title)
            handled.append(event.data.title)

        async with running(bus):
            for title in ("bad 1", "bad 2", "good"):
                await bus.publish(highlight(title, key))
            await until(lambda: bus.delivery.retries.held_back(TOPIC) > 0)
            await until(lambda: handled == ["good"])
        assert not bus.delivery.retries.held_back(TOPIC)
        assert len(await dead_letters(kafka_settings, TOPIC, key.encode())) == 2


class TestCrashMarks:
    """A message is marked while it could be the one that crashed the previous process, and no longer."""

    @pytest.fixture
    def steps(self) -> dict[str, asyncio.Event]:
        return {title: asyncio.Event() for title in ("first", "second")}

    async def test_only_the_first_message_of_a_partition_is_marked(
        self, kafka_settings: KafkaSettings, service: str, steps: dict[str, asyncio.Event]
    ) -> None:
        await skip_to_end(kafka_settings, service, TOPIC)
        bus, started, key = new_bus(kafka_settings, service), list[str](), uuid.uuid4().hex

        @bus.subscriber(HighlightDetected, deadline_seconds=30, crash_marks=True)
        async def handle(event: Event[HighlightDetected]) -> None:
            started.append(event.data.title)
            await steps[event.data.title].wait()

        async def marks() -> list[CrashMark]:
            commits = await committed(kafka_settings, f"{service}.{TOPIC}")
            return [CrashMark.read(each.metadata) for each in commits.values() if each.metadata]

        async with running(bus):
            for title in steps:
                await bus.publish(highlight(title, key))
            await until(lambda: started == ["first"])
            (mark,) = await marks()
            assert mark.crashes_seen_by("somebody else") == 1
            assert mark.crashes_seen_by(mark.process) == 0
            steps["first"].set()
            await until(lambda: started == ["first", "second"])
            assert await marks() == []
            steps["second"].set()

    @pytest.mark.parametrize("grace_seconds", [0.2, 10])
    async def test_a_stop_in_order_is_no_crash(
        self,
        kafka_settings: KafkaSettings,
        service: str,
        steps: dict[str, asyncio.Event],
        grace_seconds: float,
    ) -> None:
        await skip_to_end(kafka_settings, service, TOPIC)
        bus = new_bus(kafka_settings, service, grace_seconds=grace_seconds)
        started, group = asyncio.Event(), f"{service}.{TOPIC}"

        @bus.subscriber(HighlightDetected, deadline_seconds=30, crash_marks=True)
        async def handle(_event: Event[HighlightDetected]) -> None:
            started.set()
            await steps["first"].wait()

        async def marked() -> bool:
            return any(each.metadata for each in (await committed(kafka_settings, group)).values())

        async with running(bus):
            await bus.publish(highlight("first", uuid.uuid4().hex))
            await started.wait()
            assert await marked()
            stopping = asyncio.create_task(bus.stop())
            async with asyncio.timeout(10):
                while await marked():  # also before the grace period is over: it may be cut short
                    await asyncio.sleep(0.02)
            steps["first"].set()
            await stopping

    async def test_a_failure_that_was_survived_is_no_crash(
        self, kafka_settings: KafkaSettings, service: str
    ) -> None:
        await skip_to_end(kafka_settings, service, TOPIC)
        bus, group, key = new_bus(kafka_settings, service), f"{service}.{TOPIC}", uuid.uuid4().hex
        seen: list[bool] = []

        async def marked() -> bool:
            return any(each.metadata for each in (await committed(kafka_settings, group)).values())

        @bus.subscriber(HighlightDetected, deadline_seconds=30, crash_marks=True)
        async def handle(_event: Event[HighlightDetected]) -> None:
            seen.append(await marked())
            raise TransientError("storage is down")

        async with running(bus):
            await bus.publish(highlight("outage", key))
            await until(lambda: len(seen) == 2)
            async with asyncio.timeout(10):
                while await marked():
                    await asyncio.sleep(0.02)
        assert seen == [True, True]
