"""The work of a tick: purge the clips that are due, and announce those that will be due soon."""

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime

import structlog

from clip_shared.contracts.registry_api import DueClips
from janitor.domain import PurgeLimit
from janitor.metrics import JanitorMetrics
from janitor.registry import JanitorRegistry

log = structlog.get_logger()

# While another replica holds the clips that are left: long enough for it to end, short enough for the budget.
PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class TickLimits:
    """What a tick may do.

    Attributes:
        batch_size: the most clips that one call purges, or looks at for notices.
        budget_seconds: the time after which a tick hands over to a follow-up tick.
        purge_limit: how many clips may be purged at once.
    """

    batch_size: int
    budget_seconds: float
    purge_limit: PurgeLimit


async def purge_due(
    registry: JanitorRegistry, metrics: JanitorMetrics, due: DueClips, *, batch_size: int, deadline: float
) -> bool:
    """Purge in batches what ``due`` counted; return whether all of it is purged.

    The cutoff stays that of ``due``: clips that fall due meanwhile are left to the next tick, so that a tick
    comes to an end. It also ends after the batch in which ``deadline`` (of the monotonic clock) passes, or in
    which more clips were purged than ``due`` counted: only a changed clock or database makes that happen.

    Raises:
        TransientError: the registry is out.
    """
    purged = 0
    while True:
        result = await registry.purge(batch_size, due.cutoff)
        purged += result.expired
        metrics.purged(result.expired)
        must_end = time.monotonic() >= deadline or purged > due.due
        if not result.more or must_end:
            log.info("clips purged", purged=purged, cutoff=due.cutoff.isoformat(), more=result.more)
            return not result.more
        if result.expired == 0:
            await asyncio.sleep(PAUSE_SECONDS)


async def announce_expiring(registry: JanitorRegistry, *, batch_size: int, deadline: float) -> bool:
    """Announce in batches what expires soon; return whether every account has been told.

    It ends after the batch in which ``deadline`` (of the monotonic clock) passes.

    Raises:
        TransientError: the registry is out.
    """
    notified = 0
    since: datetime | None = None
    while True:
        result = await registry.notify(batch_size, since)
        since = result.reached
        notified += result.notified
        if not result.more or time.monotonic() >= deadline:
            log.info("coming expiry announced", accounts=notified, more=result.more)
            return not result.more
