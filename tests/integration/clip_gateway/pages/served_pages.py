"""The gateway's pages behind a socket, on a registry in memory and clips in a real S3 server."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.async_api import BrowserContext
from prometheus_client import CollectorRegistry

from clip_gateway import asgi
from clip_gateway.addresses import PublicAddresses
from clip_gateway.auth import SessionCookie, SignIn, TokenVerifier
from clip_gateway.metrics import GatewayMetrics
from clip_gateway.parts import GatewayParts
from clip_gateway.presign import Presigner
from clip_gateway.rate_limits import RateLimits
from clip_shared.contracts.registry_api import ClipRecord
from local_stack.servers.servers import Addresses
from tests.integration.clip_cutter.media import ffmpeg, h264, record
from tests.integration.clip_gateway.conftest import serving
from tests.unit.clip_gateway.fakes import FakeRegistry, a_clip
from tests.unit.clip_gateway.tokens import AUDIENCE, ISSUER, SECRET, hs256

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

COOKIE = "clips_session"


@dataclass(frozen=True)
class Media:
    """A video that a browser plays, and its poster."""

    video: bytes
    poster: bytes


def make_media(folder: Path) -> Media:
    """Four seconds of video, ready to be played while it is fetched."""
    video = record(folder / "clip.mp4", *h264(), "-movflags", "+faststart", seconds=4, size=(640, 360))
    ffmpeg("-i", str(video), "-frames:v", "1", "-q:v", "5", str(folder / "clip.jpg"))
    return Media(video.read_bytes(), (folder / "clip.jpg").read_bytes())


@dataclass(frozen=True)
class Stage:
    """Where the pages are, and the hands that put clips on them."""

    url: str
    registry: FakeRegistry
    s3: "S3Client"
    media: Media

    async def add(self, **values: Any) -> ClipRecord:
        """A clip of ann's, unless changed by keyword, with its objects in the bucket."""
        clip = self.registry.put(a_clip(**values))
        await asyncio.to_thread(self._store, clip)
        return clip

    def _store(self, clip: ClipRecord) -> None:
        self.s3.put_object(Bucket="clips", Key=clip.object_key, Body=self.media.video)
        if clip.poster_key is not None:
            self.s3.put_object(Bucket="clips", Key=clip.poster_key, Body=self.media.poster)

    async def sign_in(self, context: BrowserContext, account: str = "ann") -> None:
        """Give a browser an account's cookie."""
        token = hs256(sub=account, exp=timedelta(hours=1))
        await context.add_cookies([{"name": COOKIE, "value": token, "url": self.url}])


@asynccontextmanager
async def staged(
    addresses: Addresses, s3: "S3Client", media: Media, *, url_seconds: int = 900
) -> AsyncIterator[Stage]:
    """The pages, until this ends; their presigned URLs live for ``url_seconds``."""
    registry = FakeRegistry()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        public_addresses = PublicAddresses(
            public_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            media_origin=addresses.s3_endpoint_url,
            login_url="/sign-in",
        )
        parts = GatewayParts(
            registry=registry,
            presigner=Presigner(s3, "clips", longest_seconds=url_seconds),
            sign_in=SignIn(_verifier(), SessionCookie(name=COOKIE, secure=False), public_addresses.origin),
            limits=RateLimits(presigns_per_minute=10_000, visits_per_minute=10_000),
            metrics=GatewayMetrics(CollectorRegistry()),
            addresses=public_addresses,
        )
        async with serving(asgi.create(parts), listener):
            yield Stage(public_addresses.public_url, registry, s3, media)


def _verifier() -> TokenVerifier:
    async def secret(_key_id: str | None) -> str:
        return SECRET

    return TokenVerifier(algorithm="HS256", issuer=ISSUER, audience=AUDIENCE, key_for=secret)
