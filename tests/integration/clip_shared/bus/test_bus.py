"""The bus on a real Kafka-protocol broker: nothing lost, nothing stuck, failures are found."""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from clip_shared.bus.admin import create_topics
from clip_shared.bus.bus import Bus, Rejected
from clip_shared.bus.closing import CLOSE_SECONDS
from clip_shared.bus.delivery.crash_marks import MARK_SECONDS
from clip_shared.bus.envelope import OutgoingRecord, to_record
from clip_shared.bus.groups import CANCEL_SECONDS
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import DailyTick, Event, HighlightDetected, ObjectReleased, ReleaseReason
from clip_shared.errors import PermanentError, TransientError
from local_stack.processes.workspace import Workspace
from local_stack.servers.apache_kafka import ApacheKafka
from tests.integration.clip_shared.bus.buses import (
    admin_of,
    dead_letters,
    highlight,
    new_bus,
    running,
    skip_to_end,
    until,
)

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
        await bus.publish_record(OutgoingRecord(good.topic, good.key, b"not json", good.headers))
        await bus.publish_record(OutgoingRecord(good.topic, good.key, good.value, [("ce_id", b"\xff")]))
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


class TestRebalance:
    """A group rebalances while a job is at work: it waits for the job, and nobody does it again."""

    async def test_a_consumer_that_joins_does_not_make_a_running_job_run_twice(
        self, settings: KafkaSettings
    ) -> None:
        team = await _Team.of(settings)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(running(team.bus()))
            await team.begin("long")
            async with team.rebalancing():
                await stack.enter_async_context(running(team.bus()))
            assert team.runs == ["long"]
            team.may_end.set()
            await team.handle("after it")
        assert team.runs == ["long", "after it"]

    async def test_nor_does_one_that_leaves(self, settings: KafkaSettings) -> None:
        team = await _Team.of(settings)
        async with running(team.bus()) as first, running(team.bus()) as second:
            await team.settled(members=2)
            at_work = await team.begin("long")
            async with team.rebalancing():
                leaving = asyncio.create_task((second if at_work is first else first).stop())
            assert team.runs == ["long"]
            team.may_end.set()
            await team.handle("after it")
            await leaving
        assert team.runs == ["long", "after it"]


@dataclass
class _Team:
    """Workers of one service. Their first job lasts until it may end."""

    settings: KafkaSettings
    service: str
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    runs: list[str] = field(default_factory=list)
    at_work: Bus | None = None
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    async def of(cls, settings: KafkaSettings) -> "_Team":
        team = cls(settings, f"test-{uuid.uuid4().hex[:8]}")
        await skip_to_end(settings, team.service, HighlightDetected.TOPIC)
        return team

    def bus(self) -> Bus:
        bus = new_bus(self.settings, self.service)

        @bus.subscriber(HighlightDetected, deadline_seconds=30)
        async def handle(event: Event[HighlightDetected]) -> None:
            if event.data.stream_highlight_id == self.key:
                self.at_work = bus
                self.runs.append(event.data.title)
                await self.may_end.wait()

        return bus

    async def begin(self, title: str) -> Bus | None:
        """Publish, and wait until somebody is at it: who?"""
        publisher = new_bus(self.settings)
        async with running(publisher):
            await publisher.publish(highlight(title, self.key))
        await until(lambda: title in self.runs)
        return self.at_work

    async def handle(self, title: str) -> None:
        """Publish another one: it comes after all that is delivered again of its partition."""
        await self.begin(title)
        await self.settled()

    @asynccontextmanager
    async def rebalancing(self) -> AsyncIterator[None]:
        """Leave the context only when the group rebalances, and the consumer at work knows it."""
        with capture_logs() as logs:
            yield
            await until(lambda: any(each.get("partitions") for each in logs))
        # Long enough for somebody to take the job over, if the rebalance did not wait for it.
        await asyncio.sleep(1.5)
        await self._state("PreparingRebalance")

    async def settled(self, members: int = 1) -> None:
        await self._state("Stable", members)

    async def _state(self, wanted: str, members: int = 0) -> None:
        async with admin_of(self.settings) as admin, asyncio.timeout(20):
            while True:
                (response,) = await admin.describe_consumer_groups([f"{self.service}.highlight-detected"])
                (group,) = response.to_object()["groups"]
                if group["state"] == wanted and len(group["members"]) >= members:
                    return
                await asyncio.sleep(0.05)


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
        await bus.publish_record(OutgoingRecord("clip-objects-released", prefix.encode(), b"{}", []))
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

    monkeypatch.setattr("clip_shared.bus.subscription.longest_attempt_seconds", lambda deadline: deadline)
    async with running(bus):
        await bus.publish(Event.new(DailyTick(), source="test"))
        await asyncio.wait_for(entered.wait(), 20)
        await bus.check_alive()
        await asyncio.sleep(1.2)
        with pytest.raises(RuntimeError, match="running for more than"):
            await bus.check_alive()
        leave.set()


async def test_without_a_broker_the_error_names_the_address() -> None:
    bus = new_bus(KafkaSettings(kafka_bootstrap_servers="127.0.0.1:1"))
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:1"):
        await bus.start()


async def test_it_stops_while_it_still_waits_to_join(settings: KafkaSettings) -> None:
    bus = new_bus(settings)

    @bus.subscriber(DailyTick, deadline_seconds=1)
    async def handle(_event: Event[DailyTick]) -> None:
        pass

    await bus.start()
    await bus.stop()


async def test_it_stops_in_time_when_the_broker_does_not_answer() -> None:
    entered, grace_seconds = asyncio.Event(), 1
    with Workspace() as site, ApacheKafka(site) as broker:
        settings = KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers)
        await create_topics(settings, replication_factor=1)
        bus = new_bus(settings, grace_seconds=grace_seconds)

        @bus.subscriber(DailyTick, deadline_seconds=60)
        async def handle(_event: Event[DailyTick]) -> None:
            entered.set()
            await asyncio.sleep(60)

        await bus.start()
        await bus.publish(Event.new(DailyTick(), source="test"))
        await asyncio.wait_for(entered.wait(), 20)
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGSTOP)
        began = time.monotonic()
        await bus.stop()
        assert time.monotonic() - began < grace_seconds + MARK_SECONDS + 2 * CLOSE_SECONDS + CANCEL_SECONDS
        os.kill(broker.pid, signal.SIGCONT)
