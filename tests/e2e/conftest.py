"""One running system for all e2e tests. It stops before the integration tests, which use its topics."""

import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import pytest_asyncio

from local_stack.demo.vod import generate_vod
from local_stack.servers.servers import Addresses
from local_stack.stack import SERVICE_VARIABLES, LocalStack, temporary_stack
from tests.e2e.platform import Platform
from tests.support.collector import Collector, running_collector


class _Embedding(BaseHTTPRequestHandler):
    """A page with only a frame of the address in its query."""

    def do_GET(self) -> None:
        source = parse_qs(urlsplit(self.path).query).get("src", [""])[0]
        page = (
            f'<!doctype html><title>Friends</title><iframe src="{escape(source)}" allow="autoplay"></iframe>'
        )
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *_: object) -> None:
        """Write no log."""


@dataclass(frozen=True)
class EmbeddingSite:
    """A server with two origins: an allowed origin, and another."""

    port: int

    @property
    def allowed(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def other(self) -> str:
        return f"http://localhost:{self.port}"

    @staticmethod
    def page(origin: str, source: str) -> str:
        return f"{origin}/?src={quote(source, safe='')}"


@pytest.fixture(scope="package")
def embedding_site() -> Iterator[EmbeddingSite]:
    """A site that embeds clips."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Embedding) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield EmbeddingSite(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    """The collector of the stack's traces."""
    with running_collector() as collector:
        yield collector


@pytest.fixture(scope="package")
def stack(addresses: Addresses, embedding_site: EmbeddingSite, collector: Collector) -> Iterator[LocalStack]:
    """The four services on the servers of this run, with tracing."""
    settings = {name: {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url} for name in SERVICE_VARIABLES}
    settings["clip-gateway"]["EMBED_ORIGINS"] = embedding_site.allowed
    with temporary_stack(addresses=addresses, settings=settings) as stack:
        yield stack


@pytest.fixture(scope="package")
def vod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VOD of a minute in which every frame shows its number."""
    path = tmp_path_factory.mktemp("vod") / "vod.mp4"
    generate_vod(path)
    return path


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def platform(stack: LocalStack, vod: Path) -> AsyncIterator[Platform]:
    """The platform around the system, with the VOD in its source bucket."""
    async with Platform(stack) as platform:
        platform.upload(vod)
        yield platform
