"""A TCP proxy on loopback that counts the bytes that a server sends, and can delay its answers."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
HANG_UP_SECONDS = 5
# A server sends as much as the buffers to its client hold. Over a network that is little; on loopback it
# would be megabytes that the client never reads.
BUFFER_BYTES = 64 * 1024


class CountingProxy:
    """Passes connections on to one server. ``pulled_bytes`` is what clients got since it was last reset.

    What clients send, as a rule a request at a time, is passed on after ``delay_seconds``.
    """

    def __init__(self, endpoint: str, *, delay_seconds: float = 0.0) -> None:
        address = urlsplit(endpoint)
        self._target = (address.hostname or LOOPBACK, address.port or 80)
        self._delay_seconds = delay_seconds
        self.pulled_bytes = 0
        self.endpoint = ""
        self._connections: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen on a free port while this context is entered. Its clients must have ended before its end."""
        server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self.endpoint = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            server.close()
            if self._connections:
                await asyncio.wait(self._connections, timeout=HANG_UP_SECONDS)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        downstream: socket.socket = writer.get_extra_info("socket")
        downstream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        upstream = socket.socket()
        upstream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        upstream.setblocking(False)
        await asyncio.get_running_loop().sock_connect(upstream, self._target)
        server_reader, server_writer = await asyncio.open_connection(sock=upstream, limit=BUFFER_BYTES)
        ways = [
            asyncio.create_task(self._ask(reader, server_writer)),
            asyncio.create_task(self._answer(server_reader, writer)),
        ]
        # The end of one side ends both.
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for each in (writer, server_writer):
            each.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(BUFFER_BYTES):
                await asyncio.sleep(self._delay_seconds)
                writer.write(data)
                await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(BUFFER_BYTES):
                writer.write(data)
                await writer.drain()
                self.pulled_bytes += len(data)
