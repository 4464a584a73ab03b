"""The engine: a bounded pool of connections to PostgreSQL, with time limits on both ends."""

import math
import time
from typing import Any, Literal

import structlog
from sqlalchemy import event, select
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from clip_registry.database.connector import Connector, UnusableDatabase
from clip_registry.database.transactions import sqlstate_of, transaction
from clip_registry.database.url import DatabaseUrl
from clip_shared.errors import TransientError
from clip_shared.refused_connections import OnRefused, uncounted

log = structlog.get_logger()

POOL_TIMEOUT_SECONDS = 5.0
# A connection that was idle for longer than this is tried before it is handed out.
TRIED_AFTER_SECONDS = 1.0
# The client gives up this much later than the server should: only a dead or frozen server takes so long.
CLIENT_MARGIN_SECONDS = 5.0
READ_ONLY = "25006"

Pooler = Literal["none", "transaction"]


def open_engine(
    url: str,
    *,
    pool_size: int,
    statement_timeout_seconds: float | None,
    pooler: Pooler = "none",
    on_refused: OnRefused = uncounted,
) -> AsyncEngine:
    """Build an engine that connects on first use, and only to a server that takes writes.

    Args:
        url: ``postgresql://…``, with the parameters that :class:`DatabaseUrl` understands.
        pool_size: the most connections that it opens.
        statement_timeout_seconds: a statement that runs longer, or waits half as long for a lock, is
            cancelled. None: no limit.
        pooler: the pooler between the registry and the server. "transaction": each transaction may have
            another session, so nothing is left in a session, neither settings nor prepared statements.
        on_refused: called when a server refuses the password, or has a certificate that is not trusted.
    """
    limits = _limits(statement_timeout_seconds)
    connector = Connector(
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


async def check_usable(url: str, pooler: Pooler) -> None:
    """Check at start-up that the database is as the settings say. If it cannot be reached, this is logged.

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


def _leave_read_only_server(context: ExceptionContext) -> None:
    """Drop the connections to a server that has become read-only: there has been a failover."""
    if sqlstate_of(context.original_exception) == READ_ONLY:
        context.is_disconnect = True


def _note_use(_connection: Any, record: ConnectionPoolEntry) -> None:
    record.info["used_at"] = time.monotonic()


def _try_idle_connection(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
    """Replace the pool's connections when the one that is handed out is dead.

    SQLAlchemy's pre-ping would try each connection each time: three round trips before a query of one.
    """
    used_at = record.info.get("used_at", math.inf)
    if time.monotonic() - used_at < TRIED_AFTER_SECONDS and not connection.driver_connection.is_closed():
        return
    try:
        connection.ping()
    except connection.dbapi.Error as error:
        raise InvalidatePoolError("the connection is dead") from error
