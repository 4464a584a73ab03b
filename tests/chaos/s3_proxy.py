"""A proxy in front of the S3 server that delays, refuses and breaks off requests.

Each connection has one request (the proxy adds ``Connection: close``), so that the proxy can read every
request and pass its bytes on unchanged: the signature covers them. During "delete errors", the proxy answers
DeleteObjects itself, and deletes the keys without an error with its own client.
"""

import asyncio
import contextlib
import random
import socket
import struct
import xml.etree.ElementTree as ET
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

LOOPBACK = "127.0.0.1"
CHUNK_BYTES = 64 * 1024
MAX_HEAD_BYTES = 64 * 1024
SLOW_CHUNK_BYTES, SLOW_SECONDS = 16 * 1024, 0.1
# Of the keys of a DeleteObjects: one in this many always fails, and this share of the others fails once.
STUCK_ONE_IN, UNLUCKY_SHARE = 4, 0.3
PAGE = b"<!DOCTYPE html><html><body><h1>Not here</h1></body></html>"
S3_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class StorageFault(StrEnum):
    """A fault of the storage."""

    ERROR_500 = "500"
    ERROR_503 = "503"
    SLOW = "slow"
    RESET = "reset"
    DELETE_ERRORS = "delete_errors"
    # Answers of another server, or without permission: they say nothing about an object.
    PAGE_404 = "404 with a page"
    DENIED = "403 AccessDenied"
    OTHER_BODY = "200 with another body"
    NO_BULK_DELETE = "501 for DeleteObjects"


_DELETES = {StorageFault.DELETE_ERRORS, StorageFault.NO_BULK_DELETE}
# These faults hit all requests: were half of them answered, the services could rely on the answers.
WHOLE = {StorageFault.DELETE_ERRORS, StorageFault.DENIED, StorageFault.NO_BULK_DELETE}


@dataclass(frozen=True)
class _ProxiedRequest:
    method: str
    target: str
    head: bytes
    length: int

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def is_batch_delete(self) -> bool:
        return self.method == "POST" and self.target.partition("?")[2] in {"delete", "delete="}


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    content_type: str = "application/xml"

    @classmethod
    def error(cls, status: int, code: str) -> "_Answer":
        return cls(status, f"<Error><Code>{code}</Code><Message>chaos</Message></Error>".encode())


_ANSWERS: dict[StorageFault | None, _Answer] = {
    StorageFault.ERROR_500: _Answer.error(500, "InternalError"),
    StorageFault.ERROR_503: _Answer.error(503, "SlowDown"),
    StorageFault.PAGE_404: _Answer(404, PAGE, "text/html"),
    StorageFault.DENIED: _Answer.error(403, "AccessDenied"),
    StorageFault.OTHER_BODY: _Answer(200, PAGE, "text/html"),
    StorageFault.NO_BULK_DELETE: _Answer.error(501, "NotImplemented"),
}


class FaultyS3Proxy:
    """A proxy on one loopback port.

    Args:
        port: the port that it listens on.
        upstream: the S3 server's URL.
        delete: deletes one object (bucket, key); called from a thread.
        seed: seed of its random choices.

    ``fault`` is the present fault, which hits a ``share`` of the requests. ``injected`` counts these
    requests; of delete errors, it counts the keys that always fail. Requests for a path in ``poisoned`` are
    always answered with 500.
    """

    def __init__(self, port: int, upstream: str, delete: Callable[[str, str], object], *, seed: int) -> None:
        self.url = f"http://{LOOPBACK}:{port}"
        self.fault: StorageFault | None = None
        self.share = 0.0
        self.poisoned: set[str] = set()
        self.injected: Counter[StorageFault] = Counter()
        self._port = port
        address = urlsplit(upstream)
        self._upstream = (address.hostname or LOOPBACK, address.port or 80)
        self._delete = delete
        self._dice = random.Random(seed)  # noqa: S311 - chance, not a secret
        self._connections: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen while this context is entered."""
        server = await asyncio.start_server(self._accept, LOOPBACK, self._port, limit=MAX_HEAD_BYTES)
        try:
            yield
        finally:
            server.close()
            for connection in self._connections:
                connection.cancel()
            if self._connections:
                await asyncio.wait(self._connections, timeout=5)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                request = await _read_request(reader)
                await self._handle(request, self._draw(request), reader, writer)
        finally:
            writer.close()

    def _draw(self, request: _ProxiedRequest) -> StorageFault | None:
        """Draw the fault of a request, or None."""
        fault = self.fault
        if request.path in self.poisoned:
            return StorageFault.ERROR_500
        if fault is None or self._dice.random() >= self.share:
            return None
        if fault in _DELETES and not request.is_batch_delete:
            return None
        if fault is StorageFault.OTHER_BODY and request.method != "GET":
            return None
        if fault is not StorageFault.DELETE_ERRORS:  # counted by key
            self.injected[fault] += 1
        return fault

    async def _handle(
        self,
        request: _ProxiedRequest,
        fault: StorageFault | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if fault in _ANSWERS:
            await _answer(reader, writer, request, _ANSWERS[fault])
            return
        match fault:
            case StorageFault.DELETE_ERRORS:
                await self._delete_some(reader, writer, request)
            case StorageFault.RESET:
                # At any point: before the request, within it, within the answer, or before its end.
                await self._pass_on(request, reader, writer, break_after=self._dice.choice((0, 1, 2, 20)))
            case _:
                await self._pass_on(request, reader, writer, slow=fault is StorageFault.SLOW)

    async def _pass_on(
        self,
        request: _ProxiedRequest,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        slow: bool = False,
        break_after: int | None = None,
    ) -> None:
        """Connect the client with the server.

        Args:
            request: the head of the request, which was read already.
            reader: the client's stream.
            writer: the client's stream.
            slow: pass small chunks, with pauses.
            break_after: reset the client's connection after this number of chunks in either direction.
        """
        server_reader, server_writer = await asyncio.open_connection(*self._upstream)
        chunks = iter(range(break_after)) if break_after is not None else None
        ways = []
        try:
            server_writer.write(request.head)
            up = asyncio.create_task(_pass(reader, server_writer, slow=slow, chunks=chunks))
            down = asyncio.create_task(_pass(server_reader, writer, slow=slow, chunks=chunks))
            ways = [up, down]
            await asyncio.wait([down])
            if down.result():
                _reset(writer)
        finally:
            for way in ways:
                way.cancel()
            server_writer.close()

    async def _delete_some(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: _ProxiedRequest
    ) -> None:
        """Delete some keys and answer with errors for the others; some of these succeed when repeated."""
        body = await _read_body(reader, writer, request)
        bucket = request.path.strip("/")
        errors = []
        for key in _keys_of(body):
            if zlib.crc32(key.encode()) % STUCK_ONE_IN == 0:
                errors.append(_key_error(key, "AccessDenied"))
                self.injected[StorageFault.DELETE_ERRORS] += 1
            elif self._dice.random() < UNLUCKY_SHARE:
                errors.append(_key_error(key, "InternalError"))
            else:
                await asyncio.to_thread(self._delete, bucket, key)
        text = f'<DeleteResult xmlns="{S3_NAMESPACE[1:-1]}">{"".join(errors)}</DeleteResult>'
        _write(writer, _Answer(200, text.encode()))
        await writer.drain()


async def _read_request(reader: asyncio.StreamReader) -> _ProxiedRequest:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *fields = head[:-4].split(b"\r\n")
    method, target, _ = first.decode("latin-1").split(" ", 2)
    kept = [line for line in fields if not line.lower().startswith(b"connection:")]
    lengths = [int(line.split(b":")[1]) for line in kept if line.lower().startswith(b"content-length:")]
    changed = b"\r\n".join([first, *kept, b"Connection: close"]) + b"\r\n\r\n"
    return _ProxiedRequest(method, target, changed, lengths[0] if lengths else 0)


async def _read_body(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: _ProxiedRequest
) -> bytes:
    if b"100-continue" in request.head.lower():
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return await reader.readexactly(request.length)


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: _ProxiedRequest, answer: _Answer
) -> None:
    await _read_body(reader, writer, request)
    _write(writer, replace(answer, body=b"") if request.method == "HEAD" else answer)
    await writer.drain()


def _write(writer: asyncio.StreamWriter, answer: _Answer) -> None:
    head = (
        f"HTTP/1.1 {answer.status} Trouble\r\nContent-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + answer.body)


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slow: bool, chunks: Iterator[int] | None
) -> bool:
    """Pass bytes on until their end. Return whether the connection was broken off."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(SLOW_CHUNK_BYTES if slow else CHUNK_BYTES):
            if chunks is not None and next(chunks, None) is None:
                return True
            writer.write(data)
            await writer.drain()
            if slow:
                await asyncio.sleep(SLOW_SECONDS)
    return False


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST, as a crashing server does."""
    connection: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _key_error(key: str, code: str) -> str:
    return f"<Error><Key>{escape(key)}</Key><Code>{code}</Code><Message>chaos</Message></Error>"


def _keys_of(body: bytes) -> list[str]:
    """Return the keys of a DeleteObjects. The body comes from our services, so its XML is trusted."""
    root = ET.fromstring(body)  # noqa: S314 - see above
    return [element.text or "" for tag in (f"{S3_NAMESPACE}Key", "Key") for element in root.iter(tag)]
