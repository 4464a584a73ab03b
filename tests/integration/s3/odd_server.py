"""A server with a part of S3 that answers other requests as other servers and proxies do.

It does not check signatures. It gives answers that real servers do not give on demand.
"""

import base64
import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from local_stack.processes.ports import LOOPBACK

HTML = "html"
# A parser of XML accepts this page as an answer without content.
PAGE = "<html><head><title>Sorry</title></head><body><p>Not here</p></body></html>"
Answer = tuple[int, str]
"""A status and S3's error code; ``HTML`` for the page of a proxy in S3's place."""


@dataclass
class OddS3:
    """Its objects, and its answers where they are not the usual ones.

    ``stuck`` maps keys to the error code of each of them. ``requests`` has the method and path of each.
    """

    url: str = ""
    keys: set[str] = field(default_factory=set)
    stuck: dict[str, str] = field(default_factory=dict)
    bulk: Answer | None = None
    single: Answer | None = None
    versioning: Answer | None = None
    everything: Answer | None = None
    demands_md5: bool = False
    requests: list[str] = field(default_factory=list)

    def deletions(self) -> int:
        """The number of requests for single deletions."""
        return sum(each.startswith("DELETE") for each in self.requests)


@contextmanager
def odd_server(odd: OddS3) -> Iterator[OddS3]:
    """Serve on a loopback port while this context is entered."""

    class BoundOddHandler(_OddHandler):
        s3 = odd

    with ThreadingHTTPServer((LOOPBACK, 0), BoundOddHandler) as server:
        odd.url = f"http://{LOOPBACK}:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield odd
        finally:
            server.shutdown()


class _OddHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    s3: OddS3

    def do_GET(self) -> None:
        answer = self.s3.versioning if self.path.endswith("?versioning") else (404, "NoSuchKey")
        self._answer(answer, "<VersioningConfiguration/>")

    def do_PUT(self) -> None:
        self._body()
        self._answer(None, "<nothing/>")

    def do_HEAD(self) -> None:
        self._answer((404, "NoSuchKey"))

    def do_POST(self) -> None:
        body = self._body()
        if self.s3.bulk is None and self.s3.demands_md5 and not self._is_checked(body):
            self._answer((400, "MissingContentMD5"))
            return
        keys = re.findall("<Key>([^<]*)</Key>", body.decode())
        failed = [key for key in keys if key in self.s3.stuck] if self.s3.bulk is None else []
        if self.s3.bulk is None:
            self.s3.keys -= set(keys) - set(failed)
        errors = "".join(
            f"<Error><Key>{key}</Key><Code>{self.s3.stuck[key]}</Code></Error>" for key in failed
        )
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys if key not in failed)
        self._answer(self.s3.bulk, f"<DeleteResult>{deleted}{errors}</DeleteResult>")

    def do_DELETE(self) -> None:
        key = self.path.partition("/clips/")[2]
        if key not in self.s3.stuck:
            self.s3.keys.discard(key)
        self._answer((400, self.s3.stuck[key]) if key in self.s3.stuck else self.s3.single)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _is_checked(self, body: bytes) -> bool:
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        return self.headers.get("Content-MD5") == base64.b64encode(digest).decode()

    def _answer(self, error: Answer | None, body: str = "") -> None:
        self.s3.requests.append(f"{self.command} {self.path}")
        status, code = self.s3.everything or error or (200 if body else 204, "")
        if code == HTML:
            body = PAGE
        elif code:
            body = f"<Error><Code>{code}</Code><Message>No.</Message></Error>"
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if code == HTML else "application/xml")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Write no log."""
