"""The connection to PostgreSQL: a bounded pool, timeouts on both ends, and its errors in our words."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from clip_shared.errors import PermanentError, TransientError

CONNECT_TIMEOUT_SECONDS = 5.0
POOL_TIMEOUT_SECONDS = 5.0
# The client gives up a little after the server should have: only a dead or frozen server gets there.
CLIENT_MARGIN_SECONDS = 5.0
# SQLSTATE classes that the data itself causes: data exception, integrity constraint violation.
DATA_ERRORS = ("22", "23")


def open_engine(url: str, *, pool_size: int, statement_timeout_seconds: float) -> AsyncEngine:
    """An engine that connects on first use.

    Args:
        url: ``postgresql+asyncpg://…``.
        pool_size: the most connections it ever opens.
        statement_timeout_seconds: a statement that runs longer is cancelled; half of it for a lock.
    """
    milliseconds = int(statement_timeout_seconds * 1000)
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_pre_ping=True,
        connect_args={
            "timeout": CONNECT_TIMEOUT_SECONDS,
            "command_timeout": statement_timeout_seconds + CLIENT_MARGIN_SECONDS,
            "server_settings": {
                "application_name": "clip-registry",
                "statement_timeout": str(milliseconds),
                "lock_timeout": str(milliseconds // 2),
                "idle_in_transaction_session_timeout": str(milliseconds * 2),
            },
        },
    )


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One transaction: committed at the end, rolled back when anything is raised.

    Raises:
        PermanentError: the data breaks a rule of the database.
        TransientError: the database is away, overloaded, not migrated; or the commit was not confirmed.
    """
    try:
        async with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        raise _in_our_words(error) from error
    except (PoolTimeout, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise TransientError(f"the database cannot be reached: {error!r}") from error


def _in_our_words(error: DBAPIError) -> PermanentError | TransientError:
    sqlstate = getattr(error.orig, "sqlstate", None) or ""
    if sqlstate.startswith(DATA_ERRORS):
        return PermanentError(f"the database refused the data: {error.orig}")
    return TransientError(f"the database failed: {error.orig}")
