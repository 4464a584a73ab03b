"""The events that the janitor handles.

A tick purges the clips that are due and announces those that soon will be. A released object is deleted.
"""

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from clip_shared.bus.bus import Bus, Rejected
from clip_shared.contracts.events import DailyTick, Event, ObjectReleased
from clip_shared.contracts.registry_api import DueClips
from clip_shared.errors import PermanentError, TransientError
from janitor.domain import (
    DeletionPlan,
    DeletionRefusal,
    Release,
    TickOutcome,
    are_stuck,
    follow_up_tick,
    plan_deletion,
)
from janitor.metrics import JanitorMetrics
from janitor.registry import JanitorRegistry
from janitor.storage import MAX_KEYS, ClipBucket
from janitor.tick import TickLimits, announce_expiring, purge_due

log = structlog.get_logger()

# Past its budget, a tick may make one more call of each kind with all its attempts, and sends the follow-up.
TICK_MARGIN_SECONDS = 120
DELETION_DEADLINE_SECONDS = 120


@dataclass(frozen=True)
class JanitorHandlers:
    """What the handlers need. ``publish`` sends an event to the bus."""

    registry: JanitorRegistry
    bucket: ClipBucket
    metrics: JanitorMetrics
    limits: TickLimits
    publish: Callable[[Event[Any]], Awaitable[None]]

    async def daily_tick(self, tick: Event[DailyTick]) -> None:
        """Purge what is due, unless it is too much at once; announce what expires soon.

        A tick that runs out of time sends a follow-up tick.

        Raises:
            TransientError: the registry is out.
        """
        started = time.monotonic()
        deadline = started + self.limits.budget_seconds
        due = await self.registry.due()
        is_refused = self._is_refused(due)
        is_done = (is_refused or await self._purge(due, deadline)) and await self._announce(deadline)
        if not is_done:
            await self.publish(follow_up_tick(tick))
        outcome = TickOutcome.of(is_refused=is_refused, is_done=is_done)
        self.metrics.ticked(time.monotonic() - started, outcome)

    async def object_released(self, releases: list[Release]) -> list[Rejected[ObjectReleased]]:
        """Delete released objects; return the releases that can never be carried out.

        Raises:
            TransientError: the storage does not delete now.
        """
        plan = plan_deletion(releases, self.bucket.name)
        refused = [self._refuse(*each) for each in plan.refused]
        stuck = await self._delete(plan)
        log.info(
            "objects deleted", deleted=len(releases) - len(refused) - len(stuck), failed=len(refused + stuck)
        )
        return refused + stuck

    def _is_refused(self, due: DueClips) -> bool:
        """Whether so much is due at once that a person has to look first."""
        is_refused = self.limits.purge_limit.forbids(due.due, due.ephemeral)
        self.metrics.show_refused(due.due if is_refused else 0)
        if is_refused:
            log.error("too many clips are due at once: nothing is purged", due=due.due, unkept=due.ephemeral)
        return is_refused

    async def _purge(self, due: DueClips, deadline: float) -> bool:
        size = self.limits.batch_size
        return await purge_due(self.registry, self.metrics, due, batch_size=size, deadline=deadline)

    async def _announce(self, deadline: float) -> bool:
        return await announce_expiring(self.registry, batch_size=self.limits.batch_size, deadline=deadline)

    async def _delete(self, plan: DeletionPlan) -> list[Rejected[ObjectReleased]]:
        failures = await self.bucket.delete(list(plan.by_key))
        if failures and not are_stuck(len(plan.by_key), failures):
            raise TransientError(f"storage does not delete now: {next(iter(failures.items()))}")
        stuck = []
        for key, releases in plan.by_key.items():
            if (failure := failures.get(key)) is None:
                self.metrics.deleted(max(_ages(releases)))
                continue
            self.metrics.failed(failure.code)
            error = PermanentError(f"storage does not delete {key}: {failure.code} {failure.message}")
            stuck += [Rejected(release, error) for release in releases]
        return stuck

    def _refuse(self, release: Release, refusal: DeletionRefusal) -> Rejected[ObjectReleased]:
        self.metrics.failed(refusal)
        place = f"{release.data.object_key} in bucket {release.data.bucket}"
        return Rejected(release, PermanentError(f"{place} is not an object of a clip ({refusal})"))


def _ages(releases: Iterable[Release]) -> list[float]:
    now = datetime.now(UTC)
    return [(now - each.time).total_seconds() for each in releases]


def subscribe(bus: Bus, handlers: JanitorHandlers) -> None:
    """Say which events the janitor handles."""
    tick_deadline = handlers.limits.budget_seconds + TICK_MARGIN_SECONDS
    bus.subscriber(DailyTick, deadline_seconds=tick_deadline)(handlers.daily_tick)
    bus.batch_subscriber(ObjectReleased, deadline_seconds=DELETION_DEADLINE_SECONDS, max_records=MAX_KEYS)(
        handlers.object_released
    )
