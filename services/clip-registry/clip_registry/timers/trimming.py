"""What nobody needs any more is forgotten: skips and titles of purged clips, and later the rows of those.

A purged clip's row says what became of its highlight, for as long as an event of before the purge may still
come: see decision 0044. With the row goes the last that names an account.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.database.engine import transaction
from clip_registry.queries import statements as sql
from clip_shared.errors import TransientError

log = structlog.get_logger()

REMEMBERED = timedelta(days=30)
ROWS_REMEMBERED = timedelta(days=40)
AT_ONCE = 1000
EVERY_SECONDS = 60 * 60.0


@dataclass(frozen=True)
class Trimmed:
    """How many skips, titles of purged clips, and rows of purged clips were forgotten."""

    skips: int
    titles: int
    rows: int


async def trim(engine: AsyncEngine, *, at_once: int = AT_ONCE) -> Trimmed:
    """Forget everything that is old enough, ``at_once`` rows in a transaction.

    Raises:
        TransientError: the database is away. What was forgotten before that stays forgotten.
    """
    return Trimmed(
        skips=await _forget(engine, sql.FORGET_SKIPS, REMEMBERED, at_once),
        titles=await _forget(engine, sql.FORGET_TITLES, REMEMBERED, at_once),
        rows=await _forget(engine, sql.TRIM, ROWS_REMEMBERED, at_once),
    )


async def _forget(engine: AsyncEngine, statement: Executable, age: timedelta, at_once: int) -> int:
    forgotten = 0
    while True:
        async with transaction(engine) as connection:
            result = await connection.execute(statement, {"age": age, "limit": at_once})
        forgotten += result.rowcount
        if result.rowcount < at_once:
            return forgotten


async def keep_trimming(
    engine: AsyncEngine, on_forgotten: Callable[[Trimmed], None], *, every_seconds: float = EVERY_SECONDS
) -> None:
    """Forget now and then until cancelled. Several replicas may: none waits for another."""
    while True:
        try:
            forgotten = await trim(engine)
            on_forgotten(forgotten)
            log.info("forgot what is old", **vars(forgotten))
        except TransientError as error:
            log.warning("cannot forget now", error=str(error))
        await asyncio.sleep(every_seconds)
