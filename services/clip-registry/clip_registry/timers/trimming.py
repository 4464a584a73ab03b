"""Trimming: skips, titles of purged clips and, later, rows of purged clips are deleted.

The row of a purged clip says what became of its highlight, for as long as an event of before the purge may
still arrive: see decision 0044. With the row, the database loses the last data that names an account.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Executable,
    Integer,
    Interval,
    any_,
    bindparam,
    delete,
    func,
    null,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.database.tables import ROW_TO_TRIM, TITLE_TO_TRIM, skipped_highlights
from clip_registry.database.tables import generated_clips as clips
from clip_registry.database.transactions import transaction
from clip_shared.errors import TransientError

log = structlog.get_logger()

# Since the skip, or since the purge of the clip.
SKIPS_AND_TITLES_KEPT = timedelta(days=30)
ROWS_KEPT = timedelta(days=40)
BATCH_ROWS = 1000
INTERVAL_SECONDS = 60 * 60.0

# Parameters of each statement: age and limit.
OLD = func.now() - bindparam("age", type_=Interval)


def _batch(key: ColumnElement[Any], *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Choose at most ``limit`` rows that meet the conditions. A locked row waits for the next time."""
    rows = (
        select(key.label("key"))
        .where(*conditions)
        .limit(bindparam("limit", type_=Integer))
        .with_for_update(skip_locked=True)
        .cte("old")
    )
    # With an array, PostgreSQL finds the rows by their key; a join may read the whole table for a batch.
    return key == any_(func.array(select(rows.c.key).scalar_subquery(), type_=ARRAY(key.type)))


TRIM_SKIPS = delete(skipped_highlights).where(
    _batch(skipped_highlights.c.stream_highlight_id, skipped_highlights.c.skipped_at < OLD)
)
# The texts that people wrote. No event is sent: neither the version nor the time of the change moves.
TRIM_TITLES = (
    update(clips)
    .where(_batch(clips.c.clip_id, TITLE_TO_TRIM, clips.c.purged_at < OLD), TITLE_TO_TRIM)
    .values(title="", offer=null())
)
# The whole row, when no event of before the purge can arrive any more: see decision 0044.
TRIM_ROWS = delete(clips).where(_batch(clips.c.clip_id, ROW_TO_TRIM, clips.c.purged_at < OLD), ROW_TO_TRIM)


@dataclass(frozen=True)
class Trimmed:
    """How many skips, titles of purged clips, and rows of purged clips were deleted."""

    skips: int
    titles: int
    rows: int


async def trim(engine: AsyncEngine, *, at_once: int = BATCH_ROWS) -> Trimmed:
    """Delete everything that is old enough, ``at_once`` rows in a transaction.

    Raises:
        TransientError: the database cannot be used. Rows that were deleted before that stay deleted.
    """
    return Trimmed(
        skips=await _trim(engine, TRIM_SKIPS, SKIPS_AND_TITLES_KEPT, at_once),
        titles=await _trim(engine, TRIM_TITLES, SKIPS_AND_TITLES_KEPT, at_once),
        rows=await _trim(engine, TRIM_ROWS, ROWS_KEPT, at_once),
    )


async def _trim(engine: AsyncEngine, statement: Executable, age: timedelta, at_once: int) -> int:
    trimmed = 0
    while True:
        async with transaction(engine) as connection:
            result = await connection.execute(statement, {"age": age, "limit": at_once})
        trimmed += result.rowcount
        if result.rowcount < at_once:
            return trimmed


async def keep_trimming(
    engine: AsyncEngine, on_trimmed: Callable[[Trimmed], None], *, every_seconds: float = INTERVAL_SECONDS
) -> None:
    """Trim at an interval until cancelled. Several replicas may do so: no replica waits for another."""
    while True:
        try:
            trimmed = await trim(engine)
            on_trimmed(trimmed)
            log.info("trimmed", **vars(trimmed))
        except TransientError as error:
            log.warning("cannot trim; will try again at the next interval", error=str(error))
        await asyncio.sleep(every_seconds)
