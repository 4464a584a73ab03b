"""Limits for the connections of a port: clients that send slowly, or nothing, keep no other client out.

uvicorn has no time limit for a request, and no length limit for its head. Its ``limit_concurrency`` counts
idle connections, too: at the limit it answers 503 to every request.
"""

import asyncio
import math
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# For a whole request: from the connection, or its first byte, to its last byte.
RECEIVE_SECONDS = 10.0
# Longer than reverse proxies keep an idle connection (60 s): else they send requests on a closing connection.
KEEP_ALIVE_SECONDS = 75
# For the request line and headers, beyond the first piece that arrives. Proxies allow 8 to 32 KiB.
LONGEST_HEAD_BYTES = 32 * 1024


class BoundedConnection(HttpToolsProtocol):
    """A connection with a time limit for its requests, which may be closed to make room for another.

    ``limit_concurrency`` of the configuration is the largest number of connections. A further connection
    replaces the one that has waited longest for a request, or for the rest of a request; while all of them
    are at work, the new one is closed.
    """

    def __init__(self, config: Config, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        self._most, self.limit_concurrency = self.limit_concurrency, None
        self._waiting_since = math.inf
        self._deadline: asyncio.TimerHandle | None = None
        self._requests = 0  # begun so far
        self._unanswered = 0  # requests whose head has arrived, without an answer yet
        self._in_head = self._in_body = False  # how far the last request has arrived
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Make room for this connection, and wait for its first request."""
        super().connection_made(transport)
        self._watch()
        if self._most is not None and len(self.connections) > self._most:
            oldest = min(self.connections, key=lambda each: getattr(each, "_waiting_since", math.inf))
            self.connections.discard(oldest)
            oldest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request, or several requests."""
        requests = self._requests
        if not self._unanswered and not self._in_body:
            self._in_head = True  # an empty line begins a head, too
        self._unset_keepalive_if_required()
        self._feed(data)
        if self._in_head and self._requests == requests:
            self._head_bytes += len(data)
        if self._head_bytes > LONGEST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")
        self._watch()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as offer:
            if self.parser.get_method() == b"CONNECT":
                self.send_400_response("This is no proxy.")
                return
            # The parser accepts every offer to upgrade, and then reads no body. We accept no upgrade.
            head, self.parser = self._head_without_offer(), HttpRequestParser(self)
            self._feed(head + data[offer.args[0] :])
        except HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")

    def _head_without_offer(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        headers = (b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade")
        return b"".join([b"%s %s HTTP/%s\r\n" % (method, self.url, version.encode()), *headers, b"\r\n"])

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._requests += 1
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """The head of a request is here: it is worked on while its body comes."""
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        self._in_head, self._in_body = False, True
        self._unanswered += 1

    def on_message_complete(self) -> None:
        """The whole of a request is here."""
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._in_body = False

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._unanswered -= 1
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()

    def _watch(self) -> None:
        # While an earlier request is worked on, the next request has no time limit.
        receiving = (self._in_body and self._unanswered <= 1) or (self._in_head and not self._unanswered)
        if self._unanswered and not receiving:
            self._waiting_since = math.inf
        elif self._waiting_since == math.inf:
            self._waiting_since = self.loop.time()
        self._limit(receiving=receiving or not self._requests)

    def _limit(self, *, receiving: bool) -> None:
        if receiving and self._deadline is None:
            self._deadline = self.loop.call_later(RECEIVE_SECONDS, self.transport.abort)
        elif not receiving and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
