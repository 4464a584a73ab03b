"""The bus: ticks expire what is due and announce what will be, releases delete what is no longer owned."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from clip_shared.bus.bus import Bus, Rejected
from clip_shared.contracts.events import DailyTick, Event, ObjectReleased
from clip_shared.contracts.registry_api import DueClips
from clip_shared.errors import PermanentError, TransientError
from janitor.domain import (
    Plan,
    PurgeLimit,
    Refusal,
    Release,
    TickEnd,
    are_stuck,
    follow_up,
    plan_deletion,
)
from janitor.metrics import Metrics
from janitor.registry_client import Registry
from janitor.storage import MAX_KEYS, ClipBucket

log = structlog.get_logger()

# What may come after the budget is spent: a last call of each kind with all its attempts, and the follow-up.
TICK_MARGIN_SECONDS = 120
DELETION_DEADLINE_SECONDS = 120
# When others hold all that is left: long enough for them to end, short enough for the budget.
PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class Pace:
    """How a tick works: clips per call, seconds until it hands over, and what it may purge at once."""

    batch_size: int
    budget_seconds: float
    limit: PurgeLimit


def subscribe(bus: Bus, registry: Registry, storage: ClipBucket, metrics: Metrics, pace: Pace) -> None:
    """Register the janitor's handlers."""
    metrics.show_trouble(lambda: storage.trouble is not None)

    @bus.subscriber(DailyTick, deadline_seconds=pace.budget_seconds + TICK_MARGIN_SECONDS)
    async def daily_tick(event: Event[DailyTick]) -> None:
        started = time.monotonic()
        deadline = started + pace.budget_seconds
        due = await registry.due()
        end = TickEnd.REFUSED if refuses(due, pace.limit, metrics) else TickEnd.FINISHED
        done = end is TickEnd.REFUSED or await expire_due(registry, metrics, pace.batch_size, deadline, due)
        if not (done and await tell_of_expiry(registry, pace.batch_size, deadline)):
            await bus.publish(follow_up(event))
            end = end if end is TickEnd.REFUSED else TickEnd.OUT_OF_TIME
        metrics.ticked(time.monotonic() - started, end)

    @bus.batch_subscriber(ObjectReleased, deadline_seconds=DELETION_DEADLINE_SECONDS, max_records=MAX_KEYS)
    async def objects_released(events: list[Release]) -> list[Rejected[ObjectReleased]]:
        plan = plan_deletion(events, storage.bucket)
        rejected = [_refuse(*each, metrics) for each in plan.refused] + await _delete(plan, storage, metrics)
        log.info("objects deleted", deleted=len(events) - len(rejected), failed=len(rejected))
        return rejected


def refuses(due: DueClips, limit: PurgeLimit, metrics: Metrics) -> bool:
    """Whether so much is due at once that a person has to look first; and tell whoever watches."""
    is_refused = limit.forbids(due.due, due.ephemeral)
    metrics.refused(due.due if is_refused else 0)
    if is_refused:
        log.error("too many clips are due at once: nothing is purged", due=due.due, unkept=due.ephemeral)
    return is_refused


async def expire_due(
    registry: Registry, metrics: Metrics, batch_size: int, deadline: float, due: DueClips
) -> bool:
    """Purge, batch by batch, what was counted as due. True: nothing of it is left.

    At ``deadline``, on the monotonic clock, it gives up after the batch at hand; and so it does when it has
    purged as many as were counted: whatever makes clips due at a moment that is past, it is not expiry.

    The cutoff stays: what falls due meanwhile is the next tick's, so that a tick comes to an end.
    """
    total = 0
    while True:
        result = await registry.expire(batch_size, due.cutoff)
        total += result.expired
        metrics.expired(result.expired)
        is_over = time.monotonic() >= deadline or total > due.due
        if not result.more or is_over:
            log.info("clips expired", expired=total, cutoff=due.cutoff.isoformat(), more=result.more)
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


async def _delete(plan: Plan, storage: ClipBucket, metrics: Metrics) -> list[Rejected[ObjectReleased]]:
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
