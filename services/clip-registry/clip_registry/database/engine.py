"""The connection to PostgreSQL: a bounded pool, timeouts on both ends, and its errors in our words."""

import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

import asyncpg
import structlog
from sqlalchemy import event, select
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from clip_registry.database.url import DatabaseUrl
from clip_shared.errors import PermanentError, TransientError
from clip_shared.refused_connections import Cause, OnRefused, certificate_trouble, uncounted

log = structlog.get_logger()

POOL_TIMEOUT_SECONDS = 5.0
# A connection that was in use a moment ago is taken as it is; one that was idle for longer is tried first.
TRIED_AFTER_SECONDS = 1.0
# The client gives up a little after the server should have: only a dead or frozen server gets there.
CLIENT_MARGIN_SECONDS = 5.0
# SQLSTATE classes that the data itself causes: data exception, integrity constraint violation, and what is
# too large for an index. What asyncpg cannot encode is 22000.
DATA_ERRORS = ("22", "23", "54")
READ_ONLY = "25006"
# Faults of our SQL; but a schema that is not migrated yet, and a right that is not granted yet, end.
FAULTS = "42"
PASSING_FAULTS = {"42P01", "42703", "42501"}
# A lock was not to be had in time, or was the victim of a deadlock.
LOCKED = {"55P03", "40P01"}

Pooler = Literal["none", "transaction"]


class UnusableDatabase(TransientError):
    """The database cannot be used as DATABASE_URL and DATABASE_POOLER say: a start-up ends here.

    While the service runs it is an outage: no event is dead-lettered for it.
    """


class LockTimeout(TransientError):
    """Somebody else held what a statement wanted to lock for too long."""


def open_engine(
    url: str,
    *,
    pool_size: int,
    statement_timeout_seconds: float | None,
    pooler: Pooler = "none",
    on_refused: OnRefused = uncounted,
) -> AsyncEngine:
    """An engine that connects on first use, and only to a server that takes writes.

    Args:
        url: ``postgresql://…``, with what libpq would understand of parameters.
        pool_size: the most connections it ever opens.
        statement_timeout_seconds: a statement that runs longer is cancelled; half of it for a lock.
            None: neither is.
        pooler: what stands between us and the server. "transaction": consecutive transactions may meet
            different sessions, so nothing is left in a session: no setting and no prepared statement.
        on_refused: called when a server refuses our password, or its certificate is not good.
    """
    limits = _limits(statement_timeout_seconds)
    connector = _Connector(
        DatabaseUrl.parse(url),
        pooled=pooler == "transaction",
        server_settings=limits,
        command_timeout=statement_timeout_seconds and statement_timeout_seconds + CLIENT_MARGIN_SECONDS,
        on_refused=on_refused,
    )
    engine = create_async_engine(
        "postgresql+asyncpg://",
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        connect_args={
            "async_creator_fn": connector.connect,
            **({"prepared_statement_cache_size": 0} if connector.pooled else {}),
        },
        execution_options={
            "limits": limits if connector.pooled else {},
            "connecting_seconds": connector.longest_seconds,
            "answer_seconds": connector.answer_seconds,
        },
    )
    event.listen(engine.sync_engine, "handle_error", _leave_read_only_server)
    event.listen(engine.sync_engine, "checkin", _note_use)
    event.listen(engine.sync_engine, "checkout", _try_idle_connection)
    return engine


def _limits(statement_timeout_seconds: float | None) -> dict[str, str]:
    if statement_timeout_seconds is None:
        return {}
    milliseconds = int(statement_timeout_seconds * 1000)
    return {
        "statement_timeout": str(milliseconds),
        "lock_timeout": str(milliseconds // 2),
        "idle_in_transaction_session_timeout": str(milliseconds * 2),
    }


class _Connector:
    """Opens connections to the first host that takes writes, beginning with the one that last did."""

    def __init__(
        self,
        url: DatabaseUrl,
        *,
        pooled: bool,
        server_settings: dict[str, str],
        command_timeout: float | None,
        on_refused: OnRefused,
    ) -> None:
        self.pooled = pooled
        self._on_refused = on_refused
        self._hosts = list(url.hosts)
        # Connecting, and the check for a pooler, for each host.
        self.longest_seconds = 2 * url.connect_timeout_seconds * len(url.hosts)
        self.answer_seconds = math.inf if command_timeout is None else command_timeout
        self._arguments: dict[str, Any] = {
            "timeout": url.connect_timeout_seconds,
            "command_timeout": command_timeout,
            # asyncpg uses no named statement then, and repeats the unnamed one in the message that runs it.
            **({"statement_cache_size": 0} if pooled else {"server_settings": server_settings}),
        }

    async def connect(self) -> asyncpg.Connection:
        """Connect.

        Raises:
            UnusableDatabase: what answers is not as the settings say.
            OSError, asyncpg.PostgresError, asyncpg.InternalClientError: no host can be used now.
        """
        failure: Exception | None = None
        for host in tuple(self._hosts):
            try:
                connection = await self._connect_to(host)
            except (OSError, asyncpg.PostgresError, asyncpg.InternalClientError) as error:
                failure = failure or error
                self._count(error)
            else:
                self._hosts.sort(key=lambda each: each != host)
                return connection
        assert failure is not None  # noqa: S101 - there is a host
        raise failure

    def _count(self, error: Exception) -> None:
        is_refused = isinstance(error, asyncpg.InvalidAuthorizationSpecificationError)
        cause = Cause.CREDENTIALS if is_refused else certificate_trouble(error)
        if cause is not None:
            self._on_refused(cause)

    async def _connect_to(self, host: str) -> asyncpg.Connection:
        try:
            connection = await asyncpg.connect(host, **self._arguments)
        except asyncpg.ClientConfigurationError as error:
            raise UnusableDatabase(f"DATABASE_URL cannot be used: {error}") from error
        except asyncpg.ProtocolViolationError as error:
            # PgBouncer has this SQLSTATE for all that it says itself, such as that its server is away.
            if self.pooled or "unsupported startup parameter" not in str(error):
                raise
            raise UnusableDatabase(f"{error} (behind PgBouncer, set DATABASE_POOLER=transaction)") from error
        try:
            await self._check(connection)
        except BaseException:  # a cancelled check, too, must not leave it open
            connection.terminate()
            raise
        return connection

    async def _check(self, connection: asyncpg.Connection) -> None:
        """Find a pooler that nobody told us of: another process works than greeted us."""
        if self.pooled:
            return
        worker = await connection.fetchval("SELECT pg_backend_pid()", timeout=self._arguments["timeout"])
        if worker != connection.get_server_pid():
            raise UnusableDatabase("the database is behind a pooler: set DATABASE_POOLER=transaction")


def _leave_read_only_server(context: ExceptionContext) -> None:
    """Drop this connection, and the others of the pool as they come up: there has been a failover."""
    if _sqlstate(context.original_exception) == READ_ONLY:
        context.is_disconnect = True


def _note_use(_connection: Any, record: ConnectionPoolEntry) -> None:
    record.info["used_at"] = time.monotonic()


def _try_idle_connection(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
    """Replace the pool's connections when the one that is handed out is dead.

    SQLAlchemy's pre-ping would try every one every time: three round trips before a query of one.
    """
    used_at = record.info.get("used_at", math.inf)
    if time.monotonic() - used_at < TRIED_AFTER_SECONDS and not connection.driver_connection.is_closed():
        return
    try:
        connection.ping()
    except connection.dbapi.Error as error:
        raise InvalidatePoolError("the connection is dead") from error


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One transaction: committed at the end, rolled back when anything is raised.

    Raises:
        PermanentError: the data breaks a rule of the database, or cannot be sent to it.
        TransientError: the database is away, read-only, overloaded, not migrated; or the commit was not
            confirmed.
        DBAPIError: a statement is wrong, which is a bug.
    """
    with _errors_in_our_words():
        async with engine.begin() as connection:
            await _limit(engine, connection)
            yield connection


def for_queries(engine: AsyncEngine) -> AsyncEngine:
    """The engine for :func:`reading`: the same pool, but every statement is a round trip and nothing else is.

    Behind a pooler it is the engine itself, since limits hold for nothing shorter than a transaction there.
    """
    pooled = bool(engine.get_execution_options()["limits"])
    return engine if pooled else engine.execution_options(isolation_level="AUTOCOMMIT")


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection for queries, each of which sees the database as it is at its own moment.

    ``engine`` comes from :func:`for_queries`. Raises what :func:`transaction` does.
    """
    with _errors_in_our_words():
        async with engine.connect() as connection:
            await _limit(engine, connection)
            yield connection


@asynccontextmanager
async def connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection whose user begins and ends transactions. Raises what :func:`transaction` does."""
    with _errors_in_our_words():
        async with engine.connect() as connection:
            yield connection


@contextmanager
def _errors_in_our_words() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if _is_fault(error):
            raise
        raise _in_our_words(error) from error
    except (
        *(PoolTimeout, OSError, asyncpg.PostgresError, asyncpg.InterfaceError),
        asyncpg.InternalClientError,
    ) as error:
        raise TransientError(f"the database cannot be reached: {error!r}") from error


async def _limit(engine: AsyncEngine, connection: AsyncConnection) -> None:
    """Behind a pooler, limits hold for a transaction; else they were set for the session."""
    if limits := engine.get_execution_options()["limits"]:
        settings = (f"set_config('{name}', '{value}', true)" for name, value in limits.items())
        await connection.exec_driver_sql(f"SELECT {', '.join(settings)}")


async def check_usable(url: str, pooler: Pooler) -> None:
    """Find out at start-up what no waiting mends; a database that is away is no reason to end.

    Raises:
        UnusableDatabase: the database cannot be used as the settings say.
    """
    engine = open_engine(url, pool_size=1, statement_timeout_seconds=CLIENT_MARGIN_SECONDS, pooler=pooler)
    try:
        async with transaction(engine) as connection:
            await connection.execute(select(1))
    except UnusableDatabase:
        raise
    except TransientError as error:
        log.warning("the database does not answer yet", error=str(error))
    finally:
        await engine.dispose()


def _is_fault(error: DBAPIError) -> bool:
    sqlstate = _sqlstate(error.orig)
    return sqlstate.startswith(FAULTS) and sqlstate not in PASSING_FAULTS


def _in_our_words(error: DBAPIError) -> PermanentError | TransientError:
    sqlstate = _sqlstate(error.orig)
    if sqlstate.startswith(DATA_ERRORS):
        return PermanentError(f"the database refused the data: {error.orig}")
    if sqlstate in LOCKED:
        return LockTimeout(f"somebody else holds a lock: {error.orig}")
    return TransientError(f"the database failed: {error.orig}")


def _sqlstate(error: BaseException | None) -> str:
    return getattr(error, "sqlstate", None) or ""
