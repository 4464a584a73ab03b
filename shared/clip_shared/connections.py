"""Bounds on the connections of a port: who sends slowly, or nothing, keeps nobody else out.

uvicorn has no time limit for a request that never ends, and its ``limit_concurrency`` counts connections that
only wait: at the limit it answers 503 to everybody.
"""

import asyncio
import math
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

# For the whole of a request, from the connection or from its first byte to its last.
RECEIVE_SECONDS = 10.0
# Longer than reverse proxies keep an idle connection (60 s): else they send requests to one that is closing.
KEEP_ALIVE_SECONDS = 75


class BoundedConnection(H11Protocol):
    """A connection that has to send its requests in time, and makes room when there are too many.

    ``limit_concurrency`` of the configuration is the number of connections. One more takes the place of the
    one that has waited longest for a request, or for the rest of one; while all are at work, it is closed.
    """

    def __init__(self, config: Config, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        self._most, self.limit_concurrency = self.limit_concurrency, None
        self._waiting_since = math.inf
        self._answered = False  # anything yet: only then may it idle
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Make room for this connection, and wait for its first request."""
        super().connection_made(transport)
        self._watch()
        if self._most is not None and len(self.connections) > self._most:
            oldest = min(self.connections, key=lambda each: getattr(each, "_waiting_since", math.inf))
            self.connections.discard(oldest)
            oldest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._answered = True
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()

    def _watch(self) -> None:
        theirs = self.conn.their_state
        if theirs not in {h11.IDLE, h11.SEND_BODY}:
            self._waiting_since = math.inf
        elif self._waiting_since == math.inf:
            self._waiting_since = self.loop.time()
        begun = not self._answered or bool(self.conn.trailing_data[0])
        self._limit(receiving=theirs is h11.SEND_BODY or (theirs is h11.IDLE and begun))

    def _limit(self, *, receiving: bool) -> None:
        if receiving and self._deadline is None:
            self._deadline = self.loop.call_later(RECEIVE_SECONDS, self.transport.abort)
        elif not receiving and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
