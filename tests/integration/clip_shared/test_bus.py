"""The bus on a real Kafka-protocol broker: nothing lost, nothing stuck, failures are found."""

import asyncio
import time
import uuid

import pytest

from clip_shared.bus import Bus, Rejected
from clip_shared.envelope import Record, to_record
from clip_shared.errors import PermanentError, TransientError
from clip_shared.events import DailyTick, Event, HighlightDetected, ObjectReleased, ReleaseReason
from clip_shared.settings import KafkaSettings
from tests.integration.clip_shared.buses import dead_letters, highlight, new_bus, running, until

pytestmark = pytest.mark.usefixtures("topics")


@pytest.fixture
def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    return kafka_settings


async def test_failures_end_where_they_belong_and_the_next_event_is_handled(settings: KafkaSettings) -> None:
    bus, highlight_id = new_bus(settings), uuid.uuid4().hex
    attempts: dict[str, int] = {}
    done: list[str] = []

    @bus.subscriber(HighlightDetected, deadline_seconds=5)
    async def handle(event: Event[HighlightDetected]) -> None:
        if event.data.stream_highlight_id != highlight_id:
            return
        title = event.data.title
        attempts[title] = attempts.get(title, 0) + 1
        if title == "outage" and attempts[title] < 3:
            raise TransientError("storage is down")
        if title == "refused":
            raise PermanentError("not allowed here")
        if title == "bug":
            raise KeyError("surprise")
        done.append(title)

    async with running(bus):
        good = to_record(highlight("first", highlight_id))
        await bus.publish_record(good)
        await bus.publish_record(Record(good.topic, good.key, b"not json", good.headers))
        await bus.publish_record(Record(good.topic, good.key, good.value, [("ce_id", b"\xff")]))
        for title in ("outage", "refused", "bug", "last"):
            await bus.publish(highlight(title, highlight_id))
        await until(lambda: "last" in done)

    assert done == ["first", "outage", "last"]
    assert attempts == {"first": 1, "outage": 3, "refused": 1, "bug": 5, "last": 1}
    letters = await dead_letters(settings, "highlight-detected", highlight_id.encode())
    reasons = [dict(letter.headers)["dlq_error"].decode() for letter in letters]
    assert len(letters) == 4
    assert "Invalid JSON" in reasons[0]
    assert reasons[1:] == ["a header is not UTF-8", "not allowed here", "'surprise'"]
    headers = dict(letters[0].headers)
    assert letters[0].value == b"not json"
    assert headers["dlq_topic"] == b"highlight-detected"
    assert headers["dlq_service"] == bus.service.encode()
    assert dict(letters[3].headers)["dlq_attempts"] == b"5"


async def test_what_was_not_finished_is_delivered_again_to_the_next_process(settings: KafkaSettings) -> None:
    service, highlight_id = f"test-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    started: list[str] = []
    finished: list[str] = []

    def subscribe(bus: Bus, seconds: float) -> None:
        @bus.subscriber(HighlightDetected, deadline_seconds=60)
        async def handle(event: Event[HighlightDetected]) -> None:
            if event.data.stream_highlight_id == highlight_id:
                started.append(event.id)
                await asyncio.sleep(seconds)
                finished.append(event.id)

    first = new_bus(settings, service, grace_seconds=0.2)
    subscribe(first, 60)
    event = highlight("slow", highlight_id)
    async with running(first):
        await first.publish(event)
        await until(lambda: started == [event.id])
        stop_began = time.monotonic()
    assert time.monotonic() - stop_began < 5
    assert finished == []

    second = new_bus(settings, service)
    subscribe(second, 0)
    async with running(second):
        await until(lambda: finished == [event.id])


async def test_a_consumer_that_joins_does_not_make_a_running_job_run_twice(settings: KafkaSettings) -> None:
    if not settings.kafka_enable_idempotence:
        pytest.skip("the embedded broker refuses commits while a group rebalances; Apache Kafka does not")
    service, highlight_id = f"test-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    runs: list[str] = []

    def subscribe(bus: Bus) -> None:
        @bus.subscriber(HighlightDetected, deadline_seconds=30)
        async def handle(event: Event[HighlightDetected]) -> None:
            if event.data.stream_highlight_id == highlight_id:
                runs.append(event.id)
                await asyncio.sleep(6)

    first, second = new_bus(settings, service), new_bus(settings, service)
    subscribe(first)
    subscribe(second)
    async with running(first):
        await first.publish(highlight("long", highlight_id))
        await until(lambda: len(runs) == 1)
        async with running(second):
            await asyncio.sleep(8)
    assert len(runs) == 1


async def test_a_batch_rejects_one_by_one(settings: KafkaSettings) -> None:
    bus, handled = new_bus(settings), list[str]()
    prefix = uuid.uuid4().hex

    @bus.batch_subscriber(ObjectReleased, deadline_seconds=5, max_records=100)
    async def handle(events: list[Event[ObjectReleased]]) -> list[Rejected[ObjectReleased]]:
        mine = [event for event in events if event.data.object_key.startswith(prefix)]
        handled.extend(event.data.object_key for event in mine)
        return [
            Rejected(each, PermanentError("AccessDenied"))
            for each in mine
            if each.data.object_key.endswith("bad")
        ]

    async with running(bus):
        for name in ("good", "bad", "fine"):
            data = ObjectReleased(bucket="clips", object_key=f"{prefix}-{name}", reason=ReleaseReason.PURGED)
            await bus.publish(Event.new(data, source="test"))
        await bus.publish_record(Record("clip-objects-released", prefix.encode(), b"{}", []))
        await until(lambda: len(handled) == 3)
        await asyncio.sleep(0.5)
    bad = await dead_letters(settings, "clip-objects-released", f"{prefix}-bad".encode())
    broken = await dead_letters(settings, "clip-objects-released", prefix.encode())
    assert [dict(letter.headers)["dlq_error"] for letter in bad] == [b"AccessDenied"]
    assert len(broken) == 1


async def test_a_stuck_handler_is_seen(settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    bus, entered, leave = new_bus(settings), asyncio.Event(), asyncio.Event()

    @bus.subscriber(DailyTick, deadline_seconds=1)
    async def handle(_event: Event[DailyTick]) -> None:
        entered.set()
        while not leave.is_set():  # swallows its own cancellation, as broken code does
            try:
                await leave.wait()
            except asyncio.CancelledError:
                continue

    monkeypatch.setattr("clip_shared.bus.LONGEST_PAUSE_SECONDS", 0)
    monkeypatch.setattr("clip_shared.bus.CANCEL_SECONDS", 0)
    monkeypatch.setattr("clip_shared.bus.MARK_SECONDS", 0)
    async with running(bus):
        await bus.publish(Event.new(DailyTick(), source="test"))
        await asyncio.wait_for(entered.wait(), 20)
        await bus.check_alive()
        await asyncio.sleep(1.2)
        with pytest.raises(RuntimeError, match="running for more than"):
            await bus.check_alive()
        leave.set()


async def test_without_a_broker_the_error_names_the_address() -> None:
    bus = new_bus(KafkaSettings(kafka_bootstrap_servers="127.0.0.1:1", kafka_enable_idempotence=False))
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:1"):
        await bus.start()


async def test_it_stops_while_it_still_waits_to_join(settings: KafkaSettings) -> None:
    bus = new_bus(settings)

    @bus.subscriber(DailyTick, deadline_seconds=1)
    async def handle(_event: Event[DailyTick]) -> None:
        pass

    await bus.start()
    await bus.stop()
