"""The bus: ticks expire what is due and announce what will be, releases delete what is no longer owned."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from clip_shared.bus import Bus, Rejected
from clip_shared.errors import PermanentError, TransientError
from clip_shared.events import DailyTick, Event, ObjectReleased
from janitor.domain import Plan, Refusal, Release, are_stuck, follow_up, plan_deletion
from janitor.metrics import Metrics
from janitor.registry_client import Registry
from janitor.storage import MAX_KEYS, ClipStorage

log = structlog.get_logger()

# What may come after the budget is spent: a last call of each kind with all its attempts, and the follow-up.
TICK_MARGIN_SECONDS = 120
DELETION_DEADLINE_SECONDS = 120
# When others hold all that is left: long enough for them to end, short enough for the budget.
PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class Pace:
    """How a tick works: clips per call, and seconds until it hands over."""

    batch_size: int
    budget_seconds: float


def subscribe(bus: Bus, registry: Registry, storage: ClipStorage, metrics: Metrics, pace: Pace) -> None:
    """Register the janitor's handlers."""
    metrics.show_trouble(lambda: storage.trouble is not None)

    @bus.subscriber(DailyTick, deadline_seconds=pace.budget_seconds + TICK_MARGIN_SECONDS)
    async def daily_tick(event: Event[DailyTick]) -> None:
        started = time.monotonic()
        deadline = started + pace.budget_seconds
        finished = await expire_due(registry, metrics, pace.batch_size, deadline)
        finished = finished and await tell_of_expiry(registry, pace.batch_size, deadline)
        metrics.ticked(time.monotonic() - started, finished=finished)
        if not finished:
            await bus.publish(follow_up(event))

    @bus.batch_subscriber(ObjectReleased, deadline_seconds=DELETION_DEADLINE_SECONDS, max_records=MAX_KEYS)
    async def objects_released(events: list[Release]) -> list[Rejected[ObjectReleased]]:
        plan = plan_deletion(events, storage.bucket)
        rejected = [_refuse(*each, metrics) for each in plan.refused] + await _delete(plan, storage, metrics)
        log.info("objects deleted", deleted=len(events) - len(rejected), failed=len(rejected))
        return rejected


async def expire_due(registry: Registry, metrics: Metrics, batch_size: int, deadline: float) -> bool:
    """Purge, batch by batch, what was due at the first call's moment. True: nothing of it is left.

    At ``deadline``, on the monotonic clock, it gives up after the batch at hand.

    The cutoff stays: what falls due meanwhile is the next tick's, so that a tick comes to an end.
    """
    cutoff: datetime | None = None
    total = 0
    while True:
        result = await registry.expire(batch_size, cutoff)
        cutoff = result.cutoff
        total += result.expired
        metrics.expired(result.expired)
        out_of_time = time.monotonic() >= deadline
        if not result.more or out_of_time:
            log.info("clips expired", expired=total, cutoff=cutoff.isoformat(), more=result.more)
            return not result.more
        if result.expired == 0:
            await asyncio.sleep(PAUSE_SECONDS)


async def tell_of_expiry(registry: Registry, batch_size: int, deadline: float) -> bool:
    """Have accounts told, batch by batch, of what expires soon. True: all of them know."""
    total = 0
    since: datetime | None = None
    while True:
        result = await registry.notify(batch_size, since)
        since = result.reached
        total += result.notified
        if not result.more or time.monotonic() >= deadline:
            log.info("accounts told of coming expiry", notified=total, more=result.more)
            return not result.more


async def _delete(plan: Plan, storage: ClipStorage, metrics: Metrics) -> list[Rejected[ObjectReleased]]:
    failures = await storage.delete(list(plan.by_key))
    if failures and not are_stuck(len(plan.by_key), failures):
        raise TransientError(f"storage does not delete now: {next(iter(failures.items()))}")
    rejected = []
    for key, releases in plan.by_key.items():
        if (failure := failures.get(key)) is None:
            metrics.deleted(max(_ages(releases)))
            continue
        metrics.failed(failure.code)
        error = PermanentError(f"storage does not delete {key}: {failure.code} {failure.message}")
        rejected += [Rejected(release, error) for release in releases]
    return rejected


def _refuse(release: Release, refusal: Refusal, metrics: Metrics) -> Rejected[ObjectReleased]:
    metrics.failed(refusal)
    problem = f"{refusal}: {release.data.object_key} in {release.data.bucket} is not a clip of ours"
    return Rejected(release, PermanentError(problem))


def _ages(releases: Iterable[Release]) -> list[float]:
    now = datetime.now(UTC)
    return [(now - each.time).total_seconds() for each in releases]
