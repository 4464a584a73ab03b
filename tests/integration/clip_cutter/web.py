"""A web server that serves ranges like S3, or breaks in one of the ways in which servers break."""

import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol
from urllib.parse import urlsplit

from tests.integration.clip_cutter.remote import RemoteFile

CHUNK = 32 * 1024
# How far a server runs ahead of its client. Over a network that is little; on loopback it would be megabytes
# that nobody asked for.
SEND_BUFFER = 64 * 1024

BREAKS = frozenset({"short", "reset", "stall"})


class ServedContent(Protocol):
    """What can be served: bytes, or what makes them up as they are asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, wanted: slice, /) -> bytes: ...


class FaultyWebServer:
    """``files`` by path. The query says how it behaves: ``?short``, ``?reset``, ``?stall``, ``?503``, …

    ``sent`` has the length of everything that was sent of them.
    """

    def __init__(self, port: int) -> None:
        self.files: dict[str, ServedContent] = {}
        self.content_types: dict[str, str] = {}
        self.requests: list[str] = []
        self.sent: list[int] = []
        self.behaviour = ""  # of requests whose query says nothing
        self.sent_before_breaking = 4096
        self.breaks_left = 1_000_000
        self.stopped = threading.Event()
        self._port = port

    def url(self, path: str, behaviour: str = "") -> str:
        """Where a file is."""
        return f"http://127.0.0.1:{self._port}{path}?{behaviour}&X-Amz-Signature=secret"

    def serve(self, path: str, content: ServedContent, content_type: str = "video/mp4") -> str:
        """Serve a file; returns its address."""
        self.files[path] = content
        self.content_types[path] = content_type
        return self.url(path)

    def vod(self, path: str, behaviour: str = "") -> RemoteFile:
        """A file as a VOD."""
        return RemoteFile(self.url(path, behaviour), len(self.files[path]))


class _WebServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _WebHandler)
        self.web = FaultyWebServer(self.server_address[1])


class _WebHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _WebServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Be quiet."""

    def do_HEAD(self) -> None:
        self._answer(is_get=False)

    def do_GET(self) -> None:
        self._answer(is_get=True)

    def _answer(self, *, is_get: bool) -> None:
        parts = urlsplit(self.path)
        web = self.server.web
        behaviour = parts.query.split("&")[0] or web.behaviour
        web.requests.append(parts.path)
        content = web.files.get(parts.path)
        if behaviour.isdigit() or content is None:
            self._refuse(int(behaviour) if behaviour.isdigit() else 404)
            return
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        wanted = _range(asked, len(content)) if asked else range(len(content))
        if asked and not wanted:
            self._refuse(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", _etag(content))
        self.send_header("Content-Type", web.content_types[parts.path])
        self.send_header("Content-Length", str(len(wanted)))
        self.send_header("Content-Range", f"bytes {wanted.start}-{wanted.stop - 1}/{len(content)}")
        self.end_headers()
        if is_get:
            self._send(content, wanted, behaviour)

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, content: ServedContent, wanted: range, behaviour: str) -> None:
        web = self.server.web
        breaks = behaviour in BREAKS
        if breaks:
            web.breaks_left -= 1
            breaks = web.breaks_left >= 0
        rest = wanted[: web.sent_before_breaking] if breaks else wanted
        self.close_connection = breaks
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        try:
            for at in range(rest.start, rest.stop, CHUNK):
                web.sent.append(self.wfile.write(content[at : min(at + CHUNK, rest.stop)]))
        except OSError:  # the client has what it wanted
            self.close_connection = True
        if breaks and behaviour == "stall":
            web.stopped.wait(20)
        if breaks and behaviour == "reset":
            time.sleep(0.05)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _etag(content: ServedContent) -> str:
    """Another one for another content."""
    return f'"{zlib.crc32(content) if isinstance(content, bytes) else id(content)}"'


def _range(asked: re.Match[str], size: int) -> range:
    """The bytes of a request, as far as there are any."""
    last = int(asked[2]) if asked[2] else size - 1
    return range(int(asked[1]), min(last + 1, size))


@contextmanager
def running_web() -> Iterator[FaultyWebServer]:
    """A server on a free loopback port."""
    server = _WebServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.web
    finally:
        server.web.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
