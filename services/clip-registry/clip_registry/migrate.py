"""Bringing the database to the newest schema.

Works from an installed package, from any folder. Two runs at once are safe: the second waits, and then
finds nothing to do.
"""

import asyncio
import time

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.database import Pooler, UnusableDatabase, open_engine, transaction
from clip_shared.errors import TransientError

log = structlog.get_logger()

# Any constant: it only has to be ours alone among the advisory locks of this database.
MIGRATION_LOCK = 0x434C495053
PAUSE_SECONDS = 0.5


async def migrate(url: str, *, wait_seconds: float, pooler: Pooler = "none") -> str:
    """Apply every missing step in one transaction.

    Args:
        url: ``postgresql://…``.
        wait_seconds: how long to wait for a database that does not answer yet.
        pooler: what stands between us and the server.

    Returns:
        the revision that the database is at now.

    Raises:
        TransientError: the database did not answer in time, or refused.
    """
    engine = open_engine(url, pool_size=1, statement_timeout_seconds=None, pooler=pooler)
    try:
        await _wait_for(engine, wait_seconds)
        async with transaction(engine) as connection:
            await connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            return await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> str:
    before = MigrationContext.configure(connection).get_current_revision()
    command.upgrade(alembic_config(connection), "head")
    after = MigrationContext.configure(connection).get_current_revision()
    log.info("schema is up to date", before=before, after=after)
    return str(after)


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
