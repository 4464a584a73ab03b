"""Brings the database to the newest schema, while registries work on it.

Works from an installed package, in any folder. Two runs at the same time are safe: the second waits, and then
has nothing to do.

A step that waits for a table's lock makes every later statement on the table wait, too. It therefore gives up
after a moment and is tried again: a long transaction delays the step, and nothing else.
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

from clip_registry.database.connector import UnusableDatabase
from clip_registry.database.engine import Pooler, open_engine
from clip_registry.database.transactions import LockTimeout, connected, transaction
from clip_shared.errors import TransientError

log = structlog.get_logger()

# An arbitrary constant that no other advisory lock of this database has.
MIGRATION_LOCK = 0x434C495053
PAUSE_SECONDS = 0.5
# How long other statements may have to wait behind a step that waits, and the pause for them after it.
LOCK_SECONDS = 2.0
LOCK_PAUSE_SECONDS = 5.0
LOCK_ATTEMPTS = 60
# The transaction that holds the lock is idle while the steps run. If its last statement were a SELECT, it
# would keep a snapshot, and building an index waits for transactions with an older snapshot. A SET keeps
# none.
NO_IDLE_LIMIT = "SET LOCAL idle_in_transaction_session_timeout = 0"
TRY_MIGRATION_LOCK = select(func.pg_try_advisory_xact_lock(MIGRATION_LOCK))


async def migrate(
    url: str, *, wait_seconds: float, pooler: Pooler = "none", lock_seconds: float = LOCK_SECONDS
) -> str:
    """Apply the missing steps, each in transactions of its own.

    Args:
        url: ``postgresql://…``.
        wait_seconds: how long to wait for a database that does not answer yet.
        pooler: the pooler between this process and the server.
        lock_seconds: how long a step waits for a lock before it gives up and is tried again.

    Returns:
        the revision of the database afterwards.

    Raises:
        LockTimeout: another transaction held a table for minutes. Run it again.
        TransientError: the database did not answer within ``wait_seconds``, or failed.
    """
    engine = open_engine(url, pool_size=2, statement_timeout_seconds=None, pooler=pooler)
    try:
        await _wait_for(engine, wait_seconds)
        async with _alone(engine):
            return await _upgrade_with_retries(engine, lock_seconds)
    finally:
        await engine.dispose()


@asynccontextmanager
async def _alone(engine: AsyncEngine) -> AsyncIterator[None]:
    """Wait until no other migration runs, and keep other migrations out.

    It polls for the lock: building an index waits for every running statement, and would wait without end for
    one that waits for this lock.
    """
    while True:
        async with transaction(engine) as connection:
            if (await connection.execute(TRY_MIGRATION_LOCK)).scalar_one():
                await connection.exec_driver_sql(NO_IDLE_LIMIT)
                yield
                return
        await asyncio.sleep(PAUSE_SECONDS)


async def _upgrade_with_retries(engine: AsyncEngine, lock_seconds: float) -> str:
    for _ in range(LOCK_ATTEMPTS - 1):
        try:
            return await _upgrade(engine, lock_seconds)
        except LockTimeout as error:
            log.info(
                "another transaction holds a table that a step needs; it will be tried again",
                error=str(error),
            )
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
        connection.rollback()  # Alembic leaves the transaction open


def alembic_config(connection: Connection | None = None) -> Config:
    """Return the configuration of Alembic: the migrations of this package, on the given connection."""
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
