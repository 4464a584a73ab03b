"""The state of the clips and of the outbox that the metrics show. Its cost does not grow with the clips."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Double, Row, cast, extract, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.database.tables import CAN_EXPIRE, outbox, outbox_dlq
from clip_registry.database.tables import generated_clips as clips
from clip_registry.database.transactions import transaction
from clip_registry.domain.clips import VISIBLE
from clip_registry.timers import clip_counts
from clip_shared.contracts.registry_api import ClipStatus
from clip_shared.errors import TransientError

log = structlog.get_logger()

DAYS = 7
COUNTED = (*VISIBLE, ClipStatus.DELETED)
EXPIRED_BEFORE = -1

# The counts hold whole periods of ten minutes; this counts the expired clips of the present period.
JUST_EXPIRED = text("""
SELECT count(*) FROM generated_clips
WHERE status IN ('available', 'deleted') AND expires_at <= now()
  AND expires_at >= date_bin('10 minutes', now(), '2000-01-01 00:00:00+00')
""")
FIRST_EXPIRY_SECONDS = select(
    cast(func.coalesce(extract("epoch", func.now() - func.min(clips.c.expires_at)), 0), Double)
).where(CAN_EXPIRE)
# The events that are due, without those that leave later. An event's age counts from when it was due.
OUTBOX_BACKLOG = select(
    func.count(),
    cast(
        func.coalesce(
            extract(
                "epoch",
                func.now() - func.min(func.coalesce(outbox.c.first_attempt_at, outbox.c.next_attempt_at)),
            ),
            0,
        ),
        Double,
    ),
).where(or_(outbox.c.attempts_count > 0, outbox.c.next_attempt_at <= func.now()))
OUTBOX_DEAD = select(func.count()).select_from(outbox_dlq)


@dataclass(frozen=True)
class MetricsSnapshot:
    """The state of the clips and of the outbox at one moment. Ages are in seconds.

    ``clips`` and ``bytes``: by status, without purged clips. ``purged``: purged clips whose row is still
    there. ``overdue``: clips that have expired and are not purged. ``leaving`` and ``leaving_bytes``:
    available clips by the day on which they expire, beginning with the next 24 hours.
    """

    clips: dict[ClipStatus, int]
    bytes: dict[ClipStatus, int]
    purged: int
    overdue: int
    purge_lag_seconds: float
    leaving: tuple[int, ...]
    leaving_bytes: tuple[int, ...]
    outbox_depth: int
    outbox_age_seconds: float
    outbox_dead: int


async def take_snapshot(engine: AsyncEngine) -> MetricsSnapshot:
    """Add the recent changes to the counts, and count for the metrics.

    Raises:
        TransientError: the database cannot be used.
    """
    await clip_counts.fold(engine)
    async with transaction(engine) as connection:
        counted = (await connection.execute(clip_counts.BY_STATUS_AND_DAY)).all()
        just_expired = (await connection.execute(JUST_EXPIRED)).scalar_one()
        first_expiry = (await connection.execute(FIRST_EXPIRY_SECONDS)).scalar_one()
        depth, age = (await connection.execute(OUTBOX_BACKLOG)).one()
        dead = (await connection.execute(OUTBOX_DEAD)).scalar_one()
    clips_by_status, bytes_by_status = (_by_status(counted, of) for of in ("clips", "bytes"))
    leaving = [row for row in counted if row.status == ClipStatus.AVAILABLE and row.day is not None]
    return MetricsSnapshot(
        clips={status: clips_by_status[status] for status in COUNTED},
        bytes={status: bytes_by_status[status] for status in COUNTED},
        purged=clips_by_status[ClipStatus.PURGED],
        overdue=sum(row.clips for row in counted if row.day == EXPIRED_BEFORE) + just_expired,
        purge_lag_seconds=max(0.0, first_expiry),
        leaving=_by_day(leaving, "clips"),
        leaving_bytes=_by_day(leaving, "bytes"),
        outbox_depth=depth,
        outbox_age_seconds=age,
        outbox_dead=dead,
    )


def _by_status(counted: Sequence[Row[Any]], of: str) -> Counter[str]:
    numbers: Counter[str] = Counter()
    for row in counted:
        numbers[row.status] += getattr(row, of)
    return numbers


def _by_day(leaving: Sequence[Row[Any]], of: str) -> tuple[int, ...]:
    days = {row.day: getattr(row, of) for row in leaving}
    return tuple(days.get(day, 0) for day in range(DAYS))


async def keep_counting(
    engine: AsyncEngine, on_counted: Callable[[MetricsSnapshot], None], *, every_seconds: float
) -> None:
    """Take a snapshot at an interval until cancelled, so that a scrape needs no query."""
    while True:
        try:
            on_counted(await take_snapshot(engine))
        except TransientError as error:
            log.warning("cannot count for the metrics", error=str(error))
        await asyncio.sleep(every_seconds)
