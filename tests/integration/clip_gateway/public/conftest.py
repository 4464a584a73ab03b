"""A published clip with real media, the gateway that shows it, and sites that would like to embed it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Browser
from prometheus_client import CollectorRegistry
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp

from clip_gateway import asgi
from clip_gateway.addresses import PublicAddresses
from clip_gateway.auth import SessionCookie, SignIn, TokenVerifier
from clip_gateway.metrics import GatewayMetrics
from clip_gateway.parts import GatewayParts
from clip_gateway.presign import Presigner
from clip_gateway.rate_limits import RateLimits
from clip_gateway.registry_client import Registry
from clip_shared.contracts.registry_api import ClipRecord, ClipStatus, Publication
from clip_shared.storage import s3_client
from local_stack.servers.servers import Addresses
from tests.integration.clip_cutter.media import ffmpeg
from tests.integration.clip_gateway.conftest import serving
from tests.support.browser import running_browser
from tests.unit.clip_gateway.fakes import FakeRegistry, a_clip
from tests.unit.clip_gateway.tokens import AUDIENCE, ISSUER, SECRET

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SECONDS = 30
TITLE = "Der größte Moment: 1v4 on the last round"


@dataclass(frozen=True)
class Media:
    """A clip's files."""

    video: bytes
    poster: bytes


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    """A video that no browser loads to its end before it is asked to, and its poster."""
    folder = tmp_path_factory.mktemp("media")
    video, poster = folder / "clip.mp4", folder / "clip.jpg"
    picture = f"testsrc2=size=640x360:rate=30:duration={SECONDS},noise=alls=40:allf=t"
    ffmpeg(
        *("-f", "lavfi", "-i", picture),
        *("-f", "lavfi", "-i", f"sine=frequency=440:duration={SECONDS}"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-crf", "24", "-pix_fmt", "yuv420p"),
        *("-c:a", "aac", "-movflags", "+faststart", str(video)),
    )
    ffmpeg("-ss", "3", "-i", str(video), "-frames:v", "1", str(poster))
    return Media(video.read_bytes(), poster.read_bytes())


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
async def clip(registry: FakeRegistry, s3: "S3Client", media: Media) -> ClipRecord:
    """Ann's published clip, whose objects are in the bucket."""
    publication = Publication(revision=1, until=None, embed=True, downloadable=True, indexable=False)
    clip = a_clip(
        status=ClipStatus.PUBLISHED,
        share_slug="Xy3_9-first",
        publication=publication,
        title=TITLE,
        duration_seconds=float(SECONDS),
        file_size_bytes=len(media.video),
    )
    await asyncio.to_thread(_put, s3, clip, media)
    return registry.put(clip)


def _put(s3: "S3Client", clip: ClipRecord, media: Media) -> None:
    assert clip.poster_key is not None
    s3.put_object(Bucket=clip.bucket, Key=clip.object_key, Body=media.video)
    s3.put_object(Bucket=clip.bucket, Key=clip.poster_key, Body=media.poster)


@dataclass(frozen=True)
class World:
    """Where the gateway and the two other sites are."""

    gateway: str
    friend: str
    stranger: str


@pytest.fixture
async def world(registry: FakeRegistry, clip: ClipRecord, addresses: Addresses) -> AsyncIterator[World]:
    """The gateway and two sites that show the clip's player in a frame, of which one may."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    gateway, friend, stranger = (f"http://127.0.0.1:{each.getsockname()[1]}" for each in listeners)
    public_addresses = PublicAddresses(
        public_url=gateway, media_origin=addresses.s3_endpoint_url, embed_origins=(friend,)
    )
    framing = _framing(f"{gateway}/e/{clip.share_slug}")
    async with (
        _listening(asgi.create(parts_of(registry, addresses, public_addresses)), listeners[0]),
        _listening(framing, listeners[1]),
        _listening(framing, listeners[2]),
    ):
        yield World(gateway, friend, stranger)


@asynccontextmanager
async def _listening(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    with listener:
        async with serving(app, listener):
            yield


def _framing(url: str) -> ASGIApp:
    """A site of somebody's, with a player of ours."""
    return HTMLResponse(
        '<!doctype html><html lang="en"><title>A site</title>'
        f'<h1>A site of somebody</h1><iframe src="{url}" title="The clip" width="640" height="360"'
        ' style="border:0" allowfullscreen></iframe></html>'
    )


def parts_of(registry: Registry, addresses: Addresses, public_addresses: PublicAddresses) -> GatewayParts:
    async def secret(_kid: str | None) -> str:
        return SECRET

    client = s3_client(
        endpoint=addresses.s3_endpoint_url,
        region=addresses.s3_region,
        access_key=addresses.s3_access_key,
        secret_key=addresses.s3_secret_key,
    )
    verifier = TokenVerifier(algorithm="HS256", issuer=ISSUER, audience=AUDIENCE, key_for=secret)
    return GatewayParts(
        registry=registry,
        presigner=Presigner(client, "clips", longest_seconds=900),
        sign_in=SignIn(verifier, SessionCookie(name="clips_session", secure=False), public_addresses.origin),
        limits=RateLimits(presigns_per_minute=1000, visits_per_minute=1000),
        metrics=GatewayMetrics(CollectorRegistry()),
        addresses=public_addresses,
    )


@pytest.fixture(scope="session")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    async with running_browser(Path(tmp_path_factory.mktemp("home"))) as browser:
        yield browser
