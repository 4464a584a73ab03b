"""Bringing the database to the newest schema, while the registry works on it.

Works from an installed package, from any folder. Two runs at once are safe: the second waits, and then
finds nothing to do.

A step that waits for a lock makes everybody wait who comes after it, so it gives up after a moment and is
tried again: a long transaction of somebody else delays the step, and nobody besides.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, event, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.database.engine import (
    LockTimeout,
    Pooler,
    UnusableDatabase,
    connected,
    open_engine,
    transaction,
)
from clip_shared.errors import TransientError

log = structlog.get_logger()

# Any constant: it only has to be ours alone among the advisory locks of this database.
MIGRATION_LOCK = 0x434C495053
PAUSE_SECONDS = 0.5
# How long others may have to wait behind a step that waits itself, and how long they then have.
LOCK_SECONDS = 2.0
LOCK_PAUSE_SECONDS = 5.0
LOCK_ATTEMPTS = 60
# The transaction that holds the lock is idle while the steps run. A SELECT at its end would leave it with a
# view of the database as it was, and an index that is built waits for those to go; a SET leaves none.
NEVER_ENDED = "SET LOCAL idle_in_transaction_session_timeout = 0"
ALONE = select(func.pg_try_advisory_xact_lock(MIGRATION_LOCK))


async def migrate(
    url: str, *, wait_seconds: float, pooler: Pooler = "none", lock_seconds: float = LOCK_SECONDS
) -> str:
    """Apply every missing step, each in transactions of its own.

    Args:
        url: ``postgresql://…``.
        wait_seconds: how long to wait for a database that does not answer yet.
        pooler: what stands between us and the server.
        lock_seconds: how long a step waits for a lock before it lets others pass and tries again.

    Returns:
        the revision that the database is at now.

    Raises:
        LockTimeout: a transaction of somebody else held a table for minutes. Run it again.
        TransientError: the database did not answer in time, or refused.
    """
    engine = open_engine(url, pool_size=2, statement_timeout_seconds=None, pooler=pooler)
    try:
        await _wait_for(engine, wait_seconds)
        async with _alone(engine):
            return await _upgrade_between_others(engine, lock_seconds)
    finally:
        await engine.dispose()


@asynccontextmanager
async def _alone(engine: AsyncEngine) -> AsyncIterator[None]:
    """Wait until no other migration runs, and keep others waiting.

    By asking again and again: building an index waits for every statement that runs, and would wait for one
    that waits for this lock without end.
    """
    while True:
        async with transaction(engine) as connection:
            if (await connection.execute(ALONE)).scalar_one():
                await connection.exec_driver_sql(NEVER_ENDED)
                yield
                return
        await asyncio.sleep(PAUSE_SECONDS)


async def _upgrade_between_others(engine: AsyncEngine, lock_seconds: float) -> str:
    for _ in range(LOCK_ATTEMPTS - 1):
        try:
            return await _upgrade(engine, lock_seconds)
        except LockTimeout as error:
            log.info("somebody holds a table that a step needs; it will be tried again", error=str(error))
            await asyncio.sleep(LOCK_PAUSE_SECONDS * lock_seconds / LOCK_SECONDS)
    return await _upgrade(engine, lock_seconds)


async def _upgrade(engine: AsyncEngine, lock_seconds: float) -> str:
    async with connected(engine) as connection:
        return await connection.run_sync(_upgrade_with, lock_seconds)


def _upgrade_with(connection: Connection, lock_seconds: float) -> str:
    limit = f"SET LOCAL lock_timeout = {int(lock_seconds * 1000)}"
    event.listen(connection, "begin", lambda begun: begun.exec_driver_sql(limit))
    before = _revision(connection)
    command.upgrade(alembic_config(connection), "head")
    connection.rollback()
    after = _revision(connection)
    log.info("schema is up to date", before=before, after=after)
    return str(after)


def _revision(connection: Connection) -> str | None:
    try:
        return MigrationContext.configure(connection).get_current_revision()
    finally:
        connection.rollback()  # as Alembic does not, here and where nothing is to do


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration: the migrations inside this package, on the given connection."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "clip_registry:migrations")
    config.set_main_option("path_separator", "os")
    return config


async def _wait_for(engine: AsyncEngine, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            async with transaction(engine) as connection:
                await connection.execute(select(1))
        except TransientError as error:
            if isinstance(error, UnusableDatabase) or time.monotonic() >= deadline:
                raise
            log.info("waiting for the database", error=str(error))
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return
