"""What nobody needs any more is forgotten: skips, and the titles of purged clips, after 30 days."""

import asyncio
from datetime import timedelta

import structlog
from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry import query_statements as sql
from clip_registry.database import transaction
from clip_shared.errors import TransientError

log = structlog.get_logger()

REMEMBERED = timedelta(days=30)
AT_ONCE = 1000
EVERY_SECONDS = 60 * 60.0


async def forget(engine: AsyncEngine, *, at_once: int = AT_ONCE) -> int:
    """Forget everything that is old enough, ``at_once`` rows in a transaction.

    Returns:
        how many skips and titles were forgotten.

    Raises:
        TransientError: the database is away. What was forgotten before that stays forgotten.
    """
    return sum([await _forget(engine, each, at_once) for each in (sql.FORGET_SKIPS, sql.FORGET_TITLES)])


async def _forget(engine: AsyncEngine, statement: Executable, at_once: int) -> int:
    forgotten = 0
    while True:
        async with transaction(engine) as connection:
            result = await connection.execute(statement, {"age": REMEMBERED, "limit": at_once})
        forgotten += result.rowcount
        if result.rowcount < at_once:
            return forgotten


async def keep_forgetting(engine: AsyncEngine, *, every_seconds: float = EVERY_SECONDS) -> None:
    """Forget now and then until cancelled. Several replicas may: none waits for another."""
    while True:
        try:
            forgotten = await forget(engine)
            log.info("forgot skips and titles of purged clips", number=forgotten)
        except TransientError as error:
            log.warning("cannot forget now", error=str(error))
        await asyncio.sleep(every_seconds)
