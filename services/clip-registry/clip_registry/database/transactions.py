"""Transactions and single queries, and the errors of the database as errors of :mod:`clip_shared.errors`."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from clip_shared.errors import PermanentError, TransientError

# SQLSTATE classes of bad data: data exception (also what asyncpg cannot encode), integrity constraint
# violation, value too large for an index.
DATA_ERRORS = ("22", "23", "54")
# SQLSTATE class of bugs in our SQL; but a missing table, column or right may only be missing until a
# migration.
BUGS = "42"
NOT_MIGRATED = {"42P01", "42703", "42501"}
# A lock was not free in time, or the transaction was chosen to end a deadlock.
LOCKED = {"55P03", "40P01"}


class LockTimeout(TransientError):
    """Another transaction held, for too long, a lock that a statement needs."""


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a transaction: committed at the end of the block, rolled back when the block raises.

    Raises:
        PermanentError: the data breaks a rule of the database, or cannot be sent to it.
        TransientError: the database cannot be reached, takes no writes, is overloaded or is not migrated; or
            it did not confirm the commit.
        DBAPIError: a statement is wrong. This is a bug.
    """
    with _clips_errors():
        async with engine.begin() as connection:
            await _limit(engine, connection)
            yield connection


def for_queries(engine: AsyncEngine) -> AsyncEngine:
    """Return the engine for :func:`reading`: the same pool with autocommit, so that a query is a round trip.

    Behind a pooler it is the engine itself: limits hold for a whole transaction there, and not for less.
    """
    pooled = bool(engine.get_execution_options()["limits"])
    return engine if pooled else engine.execution_options(isolation_level="AUTOCOMMIT")


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a connection for queries. Each query sees the database at the moment when it begins.

    ``engine`` comes from :func:`for_queries`. Raises as :func:`transaction` does.
    """
    with _clips_errors():
        async with engine.connect() as connection:
            await _limit(engine, connection)
            yield connection


@asynccontextmanager
async def connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a connection whose user begins and ends the transactions. Raises as :func:`transaction` does."""
    with _clips_errors():
        async with engine.connect() as connection:
            yield connection


@contextmanager
def _clips_errors() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if _is_bug(error):
            raise
        raise _as_clips_error(error) from error
    except (
        *(PoolTimeout, OSError, asyncpg.PostgresError, asyncpg.InterfaceError),
        asyncpg.InternalClientError,
    ) as error:
        raise TransientError(f"the database cannot be reached: {error!r}") from error


async def _limit(engine: AsyncEngine, connection: AsyncConnection) -> None:
    """Behind a pooler, set the limits for this transaction; without a pooler, the session has them."""
    if limits := engine.get_execution_options()["limits"]:
        settings = (f"set_config('{name}', '{value}', true)" for name, value in limits.items())
        await connection.exec_driver_sql(f"SELECT {', '.join(settings)}")


def _is_bug(error: DBAPIError) -> bool:
    sqlstate = sqlstate_of(error.orig)
    return sqlstate.startswith(BUGS) and sqlstate not in NOT_MIGRATED


def _as_clips_error(error: DBAPIError) -> PermanentError | TransientError:
    sqlstate = sqlstate_of(error.orig)
    if sqlstate.startswith(DATA_ERRORS):
        return PermanentError(f"the database refused the data: {error.orig}")
    if sqlstate in LOCKED:
        return LockTimeout(f"another transaction holds a lock: {error.orig}")
    return TransientError(f"the database failed: {error.orig}")


def sqlstate_of(error: BaseException | None) -> str:
    """Return the SQLSTATE of an error of the database; an empty string for every other error."""
    return getattr(error, "sqlstate", None) or ""
