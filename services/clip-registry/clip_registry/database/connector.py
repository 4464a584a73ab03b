"""Opens connections to the first host of a database URL that takes writes."""

import math
from typing import Any

import asyncpg

from clip_registry.database.url import DatabaseUrl
from clip_shared.errors import TransientError
from clip_shared.refused_connections import Cause, OnRefused, certificate_cause


class UnusableDatabase(TransientError):
    """The database cannot be used as DATABASE_URL and DATABASE_POOLER say.

    A start-up ends with it. For a service that runs it is an outage: no event becomes a dead letter.
    """


class Connector:
    """Opens connections to the first host that takes writes, beginning with the last one that did.

    Arguments are those of :func:`clip_registry.database.engine.open_engine`; ``pooled``: behind a pooler.
    """

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
        # For each host: to connect, and to check for a pooler.
        self.longest_seconds = 2 * url.connect_timeout_seconds * len(url.hosts)
        self.answer_seconds = math.inf if command_timeout is None else command_timeout
        self._arguments: dict[str, Any] = {
            "timeout": url.connect_timeout_seconds,
            "command_timeout": command_timeout,
            # Without a cache, asyncpg uses no named statement: it sends the statement with each execution.
            **({"statement_cache_size": 0} if pooled else {"server_settings": server_settings}),
        }

    async def connect(self) -> asyncpg.Connection:
        """Open a connection.

        Raises:
            UnusableDatabase: the server is not as the settings say.
            OSError, asyncpg.PostgresError, asyncpg.InternalClientError: no host can be used now; the error is
                that of the first host.
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
        cause = Cause.CREDENTIALS if is_refused else certificate_cause(error)
        if cause is not None:
            self._on_refused(cause)

    async def _connect_to(self, host: str) -> asyncpg.Connection:
        try:
            connection = await asyncpg.connect(host, **self._arguments)
        except asyncpg.ClientConfigurationError as error:
            raise UnusableDatabase(f"DATABASE_URL cannot be used: {error}") from error
        except asyncpg.ProtocolViolationError as error:
            # PgBouncer uses this SQLSTATE for every error of its own, also when its server cannot be reached.
            if self.pooled or "unsupported startup parameter" not in str(error):
                raise
            raise UnusableDatabase(f"{error} (behind PgBouncer, set DATABASE_POOLER=transaction)") from error
        try:
            await self._check(connection)
        except BaseException:  # also of a cancelled check
            connection.terminate()
            raise
        return connection

    async def _check(self, connection: asyncpg.Connection) -> None:
        """Detect a pooler that the settings do not name: another process works than the one that greeted."""
        if self.pooled:
            return
        worker = await connection.fetchval("SELECT pg_backend_pid()", timeout=self._arguments["timeout"])
        if worker != connection.get_server_pid():
            raise UnusableDatabase("the database is behind a pooler: set DATABASE_POOLER=transaction")
