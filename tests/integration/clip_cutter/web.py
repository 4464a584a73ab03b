"""A web server that serves ranges like S3, or breaks in one of the ways in which servers break."""

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

CHUNK = 32 * 1024


class Web:
    """``files`` by path. The query says how it behaves: ``?short``, ``?reset``, ``?stall``, ``?503``, …"""

    def __init__(self, port: int) -> None:
        self.files: dict[str, bytes] = {}
        self.content_types: dict[str, str] = {}
        self.requests: list[str] = []
        self.sent_before_breaking = 4096
        self.breaks_left = 1_000_000
        self.stopped = threading.Event()
        self._port = port

    def url(self, path: str, behaviour: str = "") -> str:
        """Where a file is."""
        return f"http://127.0.0.1:{self._port}{path}?{behaviour}&X-Amz-Signature=secret"

    def serve(self, path: str, content: bytes, content_type: str = "video/mp4") -> str:
        """Serve a file; returns its address."""
        self.files[path] = content
        self.content_types[path] = content_type
        return self.url(path)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.web = Web(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Be quiet."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        web, behaviour = self.server.web, parts.query.split("&")[0]
        web.requests.append(parts.path)
        content = web.files.get(parts.path)
        if behaviour.isdigit() or content is None:
            self._refuse(int(behaviour or 404))
            return
        first = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(first[1]) if first else 0
        if start >= len(content):
            self._refuse(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", web.content_types[parts.path])
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self._send(content[start:], behaviour)

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, content: bytes, behaviour: str) -> None:
        web = self.server.web
        if behaviour:
            web.breaks_left -= 1
            behaviour = behaviour if web.breaks_left >= 0 else ""
        rest = content[: web.sent_before_breaking] if behaviour else content
        self.close_connection = bool(behaviour)
        try:
            for at in range(0, len(rest), CHUNK):
                self.wfile.write(rest[at : at + CHUNK])
        except OSError:  # the client has what it wanted
            self.close_connection = True
        if behaviour == "stall":
            web.stopped.wait(20)
        if behaviour == "reset":
            time.sleep(0.05)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def running_web() -> Iterator[Web]:
    """A server on a free loopback port."""
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.web
    finally:
        server.web.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
