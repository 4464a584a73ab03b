"""Ticks and releases, through the handlers, without a bus."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from clip_shared.bus.bus import Rejected
from clip_shared.contracts.events import DailyTick, Event, EventData, ObjectReleased
from clip_shared.errors import PermanentError, TransientError
from janitor import storage, tick
from janitor.domain import PurgeLimit, follow_up_tick
from janitor.handlers import JanitorHandlers, subscribe
from janitor.metrics import JanitorMetrics
from janitor.storage import ClipBucket
from janitor.tick import TickLimits
from tests.unit.janitor.fakes import (
    NOON,
    FakeJanitorRegistry,
    InMemoryBucket,
    a_key,
    a_release,
    a_tick,
    client_error,
)

SECOND = timedelta(seconds=1)


class RecordingBus:
    """Keeps the handlers and what they publish."""

    def __init__(self) -> None:
        self.handlers: dict[type[EventData], Callable[[Any], Awaitable[Any]]] = {}
        self.published: list[Event[Any]] = []

    def subscriber(self, data_type: type[EventData], *, deadline_seconds: float) -> Any:
        assert deadline_seconds > 0
        return lambda handler: self.handlers.setdefault(data_type, handler)

    def batch_subscriber(
        self, data_type: type[EventData], *, deadline_seconds: float, max_records: int
    ) -> Any:
        assert deadline_seconds > storage.BUDGET_SECONDS
        assert max_records <= storage.MAX_KEYS
        return lambda handler: self.handlers.setdefault(data_type, handler)

    async def publish(self, event: Event[Any]) -> None:
        self.published.append(event)


class JanitorOnFakes:
    """All of it, on fakes."""

    def __init__(
        self,
        *,
        due: int = 0,
        batch_size: int = 10,
        budget_seconds: float = 60,
        limit: PurgeLimit = PurgeLimit(1000, 30),  # noqa: B008 - immutable
    ) -> None:
        self.bus = RecordingBus()
        self.registry = FakeJanitorRegistry(*(NOON - n * SECOND for n in range(due)))
        self.s3 = InMemoryBucket()
        self.prometheus = CollectorRegistry()
        bucket = ClipBucket(cast("Any", self.s3), "clips")
        metrics = JanitorMetrics(self.prometheus)
        metrics.show_failed_deletion(lambda: bucket.deletion_problem is not None)
        limits = TickLimits(batch_size, budget_seconds, limit)
        handlers = JanitorHandlers(self.registry, bucket, metrics, limits, publish=self.bus.publish)
        subscribe(cast("Any", self.bus), handlers)

    async def tick(self, event: Event[DailyTick]) -> None:
        await self.bus.handlers[DailyTick](event)

    async def release(self, *events: Event[ObjectReleased]) -> list[Rejected[ObjectReleased]]:
        rejected: list[Rejected[ObjectReleased]] = await self.bus.handlers[ObjectReleased](list(events))
        return rejected

    def value(self, name: str, **labels: str) -> float | None:
        return self.prometheus.get_sample_value(name, labels)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tick, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(storage, "FIRST_PAUSE_SECONDS", 0)


async def test_a_tick_expires_in_batches_until_nothing_is_left() -> None:
    janitor = JanitorOnFakes(due=25)
    await janitor.tick(a_tick())
    assert janitor.registry.due_at == []
    assert [limit for limit, _ in janitor.registry.calls] == [10, 10, 10]
    assert janitor.bus.published == []
    assert janitor.value("clips_expired_total") == 25
    assert janitor.value("clips_tick_seconds_count", end="finished") == 1


async def test_what_falls_due_during_a_tick_is_left_to_the_next() -> None:
    janitor = JanitorOnFakes(due=15)
    later = [NOON + n * SECOND for n in range(1, 50)]
    janitor.registry.due_at += later
    await janitor.tick(a_tick())
    assert janitor.registry.due_at == later
    assert [cutoff for _, cutoff in janitor.registry.calls] == [NOON, NOON]


async def test_a_tick_refuses_when_too_much_is_due_at_once_and_tells_accounts_all_the_same() -> None:
    janitor = JanitorOnFakes(due=25, limit=PurgeLimit(clips=24, percent=30))
    janitor.registry.untold = 5
    await janitor.tick(a_tick())
    assert (len(janitor.registry.due_at), janitor.registry.calls, janitor.registry.untold) == (25, [], 0)
    assert janitor.bus.published == []
    assert janitor.value("clips_tick_refused_due") == 25
    assert janitor.value("clips_tick_seconds_count", end="refused") == 1
    assert janitor.value("clips_tick_seconds_count", end="finished") == 0
    # The next one finds a larger registry: the same number is a smaller share of it.
    janitor.registry.due_at += [NOON + timedelta(days=1 + n) for n in range(60)]
    await janitor.tick(a_tick(named="tick-2"))
    assert len(janitor.registry.due_at) == 60
    assert janitor.value("clips_tick_refused_due") == 0
    assert janitor.value("clips_expired_total") == 25


async def test_a_tick_out_of_time_after_a_refusal_goes_on_telling() -> None:
    janitor = JanitorOnFakes(due=25, budget_seconds=1e-9, limit=PurgeLimit(clips=0, percent=0))
    janitor.registry.untold = 15
    await janitor.tick(a_tick())
    await janitor.tick(janitor.bus.published[-1])
    assert (janitor.registry.untold, janitor.registry.calls, len(janitor.bus.published)) == (0, [], 1)
    assert janitor.value("clips_tick_seconds_count", end="refused") == 2


async def test_a_tick_stops_when_clips_become_due_that_were_not_counted() -> None:
    """As when a database is put back to an earlier moment while it purges."""
    janitor = JanitorOnFakes(due=15)

    def put_back() -> None:
        if len(janitor.registry.calls) == 2:
            janitor.registry.due_at += [NOON - SECOND] * 1000

    janitor.registry.on_call = put_back
    await janitor.tick(a_tick())
    assert len(janitor.registry.calls) == 2
    assert len(janitor.registry.due_at) == 995
    # The follow-up counts again.
    janitor.registry.due_at += [NOON - SECOND] * 6
    await janitor.tick(janitor.bus.published[0])
    assert len(janitor.registry.due_at) == 1001
    assert janitor.value("clips_tick_refused_due") == 1001


async def test_out_of_time_a_tick_hands_over() -> None:
    janitor = JanitorOnFakes(due=25, budget_seconds=1e-9)
    tick = a_tick()
    await janitor.tick(tick)
    assert len(janitor.registry.due_at) == 15
    assert janitor.bus.published[0].id == follow_up_tick(tick).id
    assert janitor.value("clips_tick_seconds_count", end="out_of_time") == 1
    while len(janitor.bus.published) < 3:
        done = len(janitor.bus.published)
        await janitor.tick(janitor.bus.published[-1])
        if len(janitor.bus.published) == done:
            break
    assert janitor.registry.due_at == []
    assert [event.data.continuation for event in janitor.bus.published] == [1, 2]


async def test_a_tick_waits_for_clips_that_others_hold() -> None:
    janitor = JanitorOnFakes(due=3)
    janitor.registry.held = 3

    def let_go() -> None:
        janitor.registry.held = 3 if len(janitor.registry.calls) < 4 else 0

    janitor.registry.on_call = let_go
    await janitor.tick(a_tick())
    assert janitor.registry.due_at == []
    assert len(janitor.registry.calls) == 4


async def test_an_outage_during_a_tick_goes_to_the_bus() -> None:
    janitor = JanitorOnFakes(due=3)

    def fail() -> None:
        raise TransientError("the registry is away")

    janitor.registry.on_call = fail
    with pytest.raises(TransientError):
        await janitor.tick(a_tick())
    assert janitor.bus.published == []


async def test_a_tick_that_comes_twice_or_overlaps_does_the_work_once() -> None:
    janitor = JanitorOnFakes(due=25)
    janitor.registry.untold = 5
    await asyncio.gather(janitor.tick(a_tick()), janitor.tick(a_tick()))
    await janitor.tick(a_tick())
    assert (janitor.registry.due_at, janitor.registry.untold) == ([], 0)
    assert janitor.value("clips_expired_total") == 25


async def test_a_tick_tells_accounts_what_expires_soon() -> None:
    janitor = JanitorOnFakes(due=3)
    janitor.registry.untold = 25
    await janitor.tick(a_tick())
    assert janitor.registry.untold == 0
    assert janitor.registry.notice_calls == [(10, None), (10, NOON + 2 * SECOND), (10, NOON + 3 * SECOND)]
    assert janitor.bus.published == []


async def test_out_of_time_a_follow_up_tells_the_rest() -> None:
    janitor = JanitorOnFakes(due=15, budget_seconds=1e-9)
    janitor.registry.untold = 15
    await janitor.tick(a_tick())
    assert (len(janitor.registry.due_at), janitor.registry.untold) == (5, 15)
    await janitor.tick(janitor.bus.published[0])
    assert (len(janitor.registry.due_at), janitor.registry.untold) == (0, 5)
    await janitor.tick(janitor.bus.published[1])
    assert janitor.registry.untold == 0
    assert len(janitor.bus.published) == 2


async def test_released_objects_are_deleted() -> None:
    janitor = JanitorOnFakes()
    video, poster, other, absent = a_key("1"), a_key("1", "jpg"), a_key("2"), a_key("3")
    janitor.s3.keys = {video, poster, other}
    ten_minutes_ago = datetime.now(UTC) - timedelta(minutes=10)
    releases = [a_release(key, time=ten_minutes_ago) for key in (video, poster, absent, video)]
    assert await janitor.release(*releases) == []
    assert janitor.s3.keys == {other}
    assert janitor.s3.batches == [[video, poster, absent]]
    assert janitor.value("clips_objects_deleted_total") == 3
    assert janitor.value("clips_release_to_deletion_seconds_sum") == pytest.approx(1800, abs=10)


async def test_what_may_not_or_cannot_be_deleted_is_rejected_and_the_rest_goes() -> None:
    janitor = JanitorOnFakes()
    janitor.s3.keys = {a_key("good"), a_key("stuck"), "vods/precious.mp4"}
    janitor.s3.stuck[a_key("stuck")] = ["InvalidRequest"] * 10
    foreign, outside = a_release(a_key("good"), "vods"), a_release("vods/precious.mp4")
    stuck, again, good = a_release(a_key("stuck")), a_release(a_key("stuck")), a_release(a_key("good"))
    rejected = await janitor.release(foreign, stuck, good, outside, again)
    assert {id(each.event) for each in rejected} == {id(each) for each in (foreign, outside, stuck, again)}
    assert all(isinstance(each.error, PermanentError) for each in rejected)
    assert "vods" in str(rejected[0].error)
    assert janitor.s3.keys == {a_key("stuck"), "vods/precious.mp4"}
    for reason in ("foreign_bucket", "not_a_clip", "InvalidRequest"):
        assert janitor.value("clips_objects_failed_total", reason=reason) == 1


@pytest.mark.parametrize(
    "code", ["SlowDown", "InternalError", "AccessDenied", "NoSuchBucket", "404", "Strange"]
)
async def test_an_outage_that_is_told_of_some_keys_is_never_a_fact_about_them(code: str) -> None:
    janitor = JanitorOnFakes()
    janitor.s3.keys = {a_key("good"), a_key("later")}
    janitor.s3.stuck[a_key("later")] = [code] * 10
    with pytest.raises(TransientError, match=code):
        await janitor.release(a_release(a_key("good")), a_release(a_key("later")))
    assert janitor.s3.keys == {a_key("later")}
    assert janitor.value("clips_objects_deleted_total") == 0
    janitor.s3.stuck.clear()
    assert await janitor.release(a_release(a_key("good")), a_release(a_key("later"))) == []
    assert janitor.s3.keys == set()


async def test_an_outage_of_the_storage_keeps_the_whole_batch_and_shows() -> None:
    janitor = JanitorOnFakes()
    janitor.s3.outage = client_error("ServiceUnavailable", 503)
    releases = [a_release(a_key("a"), "vods"), a_release(a_key("a"))]
    with pytest.raises(TransientError):
        await janitor.release(*releases)
    assert janitor.value("clips_storage_refuses_deletion") == 1
    janitor.s3.outage = None
    assert len(await janitor.release(*releases)) == 1
    assert janitor.value("clips_storage_refuses_deletion") == 0
