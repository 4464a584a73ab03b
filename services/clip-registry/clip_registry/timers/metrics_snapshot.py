"""What the registry's metrics show of the store. Costs the same however many clips there are."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Double, Row, cast, extract, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.database.engine import transaction
from clip_registry.database.tables import MORTAL, outbox, outbox_dlq
from clip_registry.database.tables import generated_clips as clips
from clip_registry.domain.clips import VISIBLE
from clip_registry.timers import clip_counts as counts
from clip_shared.contracts.registry_api import ClipStatus

DAYS = 7
COUNTED = (*VISIBLE, ClipStatus.DELETED)
EXPIRED_BEFORE = -1

# Of the ten minutes that are under way, which the counts hold as a whole.
JUST_EXPIRED = text("""
SELECT count(*) FROM generated_clips
WHERE status IN ('available', 'deleted') AND expires_at <= now()
  AND expires_at >= date_bin('10 minutes', now(), '2000-01-01 00:00:00+00')
""")
FIRST_EXPIRY_SECONDS = select(
    cast(func.coalesce(extract("epoch", func.now() - func.min(clips.c.expires_at)), 0), Double)
).where(MORTAL)
# What is due: not what is to leave later. Its age counts from when it was.
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
    """The state of the store at one moment. Ages in seconds.

    ``clips`` and ``bytes`` by status, all but purged; ``purged`` clips whose rows are still there.
    ``leaving`` and ``leaving_bytes``: available clips by the day, from now on, on which they expire.
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
    """Count for the metrics.

    Raises:
        TransientError: the database is away.
    """
    async with transaction(engine) as connection:
        counted = (await connection.execute(counts.BY_STATUS_AND_DAY)).all()
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
