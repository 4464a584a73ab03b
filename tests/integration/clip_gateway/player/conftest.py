"""Pages in a browser: the gateway on a registry in memory, and media on a real S3 server."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Browser, BrowserContext, Page
from prometheus_client import CollectorRegistry

from clip_gateway import asgi
from clip_gateway.addresses import PublicAddresses
from clip_gateway.auth import SessionCookie, SignIn, TokenVerifier
from clip_gateway.metrics import GatewayMetrics
from clip_gateway.parts import GatewayParts
from clip_gateway.presign import Presigner
from clip_gateway.rate_limits import RateLimits
from clip_shared.contracts.registry_api import ClipRecord
from clip_shared.storage import s3_client
from local_stack.servers.servers import Addresses
from tests.integration.clip_cutter.media import ffmpeg
from tests.integration.clip_gateway.conftest import serving
from tests.support.browser import running_browser
from tests.unit.clip_gateway.fakes import FakeRegistry
from tests.unit.clip_gateway.tokens import AUDIENCE, ISSUER, SECRET, hs256

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

COOKIE = "clips_session"
SECONDS = 20
FRAMES_PER_SECOND = 25
# A presigned URL lives for this long in a test that waits for its end.
URL_SECONDS = 3
WAIT_MS = 20_000


@dataclass(frozen=True)
class Media:
    """A clip's files."""

    video: bytes
    poster: bytes


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    """A video every frame of which is another picture, and its poster."""
    return _recorded(tmp_path_factory.mktemp("media"), "size=640x360", "-crf", "30")


@pytest.fixture(scope="session")
def large_media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    """A video too large to be read ahead to its end, and its poster."""
    return _recorded(tmp_path_factory.mktemp("large-media"), "size=640x360", "-crf", "8", noise=60)


def _recorded(folder: Path, size: str, *options: str, noise: int = 1) -> Media:
    video, poster = folder / "clip.mp4", folder / "clip.jpg"
    picture = f"testsrc2={size}:rate={FRAMES_PER_SECOND}:duration={SECONDS},noise=alls={noise}:allf=t"
    ffmpeg(
        *("-f", "lavfi", "-i", picture),
        *("-f", "lavfi", "-i", f"sine=frequency=440:duration={SECONDS}"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-g", str(FRAMES_PER_SECOND), *options),
        *("-pix_fmt", "yuv420p", "-c:a", "aac", "-movflags", "+faststart", str(video)),
    )
    ffmpeg("-ss", "3", "-i", str(video), "-frames:v", "1", str(poster))
    return Media(video.read_bytes(), poster.read_bytes())


@dataclass(frozen=True)
class Served:
    """A gateway that browsers reach, and what it asks."""

    url: str
    registry: FakeRegistry
    limits: "Limits"


class Limits(RateLimits):
    """Rate limits that a test can exhaust."""

    def __init__(self) -> None:
        super().__init__(presigns_per_minute=10_000, visits_per_minute=10_000)
        self.presigns: list[str] = []

    def count_presign(self, account_id: str) -> None:
        self.presigns.append(account_id)
        super().count_presign(account_id)


@asynccontextmanager
async def served(addresses: Addresses, url_seconds: int = URL_SECONDS) -> AsyncIterator[Served]:
    """Serve a gateway on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        registry, limits = FakeRegistry(), Limits()
        app = asgi.create(_parts(url, registry, limits, addresses, url_seconds))
        async with serving(app, listener):
            yield Served(url, registry, limits)


def _parts(
    url: str, registry: FakeRegistry, limits: RateLimits, addresses: Addresses, url_seconds: int
) -> GatewayParts:
    async def secret(_kid: str | None) -> str:
        return SECRET

    client = s3_client(
        endpoint=addresses.s3_endpoint_url,
        region=addresses.s3_region,
        access_key=addresses.s3_access_key,
        secret_key=addresses.s3_secret_key,
    )
    presigner = Presigner(client, "clips", longest_seconds=url_seconds)
    verifier = TokenVerifier(algorithm="HS256", issuer=ISSUER, audience=AUDIENCE, key_for=secret)
    public_addresses = PublicAddresses(
        public_url=url,
        media_origin=presigner.origin,
        login_url="/static/icon.svg",
        embed_origins=("https://friends.example",),
    )
    return GatewayParts(
        registry=registry,
        presigner=presigner,
        sign_in=SignIn(verifier, SessionCookie(name=COOKIE, secure=False), public_addresses.origin),
        limits=limits,
        metrics=GatewayMetrics(CollectorRegistry()),
        addresses=public_addresses,
    )


@pytest.fixture
async def gateway(addresses: Addresses) -> AsyncIterator[Served]:
    """The gateway of one test."""
    async with served(addresses) as gateway:
        yield gateway


Store = Callable[..., Awaitable[ClipRecord]]


@pytest.fixture
def store(gateway: Served, s3: "S3Client", media: Media) -> Store:
    """Puts a clip into the registry, and its media into the bucket."""

    async def put(clip: ClipRecord, files: Media = media) -> ClipRecord:
        await asyncio.to_thread(put_media, s3, clip, files)
        return gateway.registry.put(clip)

    return put


def put_media(s3: "S3Client", clip: ClipRecord, media: Media) -> None:
    """Put a clip's media into the bucket."""
    assert clip.poster_key is not None
    s3.put_object(Bucket=clip.bucket, Key=clip.object_key, Body=media.video)
    s3.put_object(Bucket=clip.bucket, Key=clip.poster_key, Body=media.poster)


@pytest.fixture(scope="session")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    async with running_browser(Path(tmp_path_factory.mktemp("home"))) as browser:
        yield browser


@pytest.fixture
async def context(browser: Browser, gateway: Served) -> AsyncIterator[BrowserContext]:
    """Ann's browser."""
    context = await signed_in(browser, gateway)
    yield context
    await context.close()


async def signed_in(browser: Browser, gateway: Served, **options: object) -> BrowserContext:
    """A window in which ann is signed in; ``options`` are Playwright's."""
    context = await browser.new_context(locale="en-GB", timezone_id="Europe/Berlin", **options)  # type: ignore[arg-type]
    context.set_default_timeout(WAIT_MS)
    await context.add_cookies([{"name": COOKIE, "value": hs256(), "url": gateway.url}])
    return context


@pytest.fixture
async def page(context: BrowserContext) -> Page:
    return await context.new_page()
