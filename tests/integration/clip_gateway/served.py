"""A gateway that browsers reach: its registry is in memory, its clips are in a real S3 server."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from playwright.async_api import BrowserContext

from clip_gateway import asgi
from clip_gateway.addresses import PublicAddresses
from clip_gateway.presign import Presigner
from clip_gateway.rate_limits import RateLimits
from clip_shared.contracts.registry_api import ClipRecord
from tests.integration.clip_gateway.conftest import serving
from tests.unit.clip_gateway.fakes import InMemoryRegistry, a_clip
from tests.unit.clip_gateway.parts import COOKIE, gateway_parts
from tests.unit.clip_gateway.tokens import hs256

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class ClipFiles:
    """A video that a browser plays, and its poster."""

    video: bytes
    poster: bytes


def put_files(s3: "S3Client", clip: ClipRecord, files: ClipFiles) -> None:
    """Put a clip's objects into the bucket."""
    s3.put_object(Bucket=clip.bucket, Key=clip.object_key, Body=files.video)
    if clip.poster_key is not None:
        s3.put_object(Bucket=clip.bucket, Key=clip.poster_key, Body=files.poster)


class RecordedLimits(RateLimits):
    """Rate limits that no test reaches; ``presigns`` lists the account of every presigned URL."""

    def __init__(self) -> None:
        super().__init__(presigns_per_minute=10_000, visits_per_minute=10_000)
        self.presigns: list[str] = []

    def count_presign(self, account_id: str) -> None:
        self.presigns.append(account_id)
        super().count_presign(account_id)


@dataclass(frozen=True)
class ServedGateway:
    """The address of a running gateway, and what its clips are made of."""

    url: str
    registry: InMemoryRegistry
    limits: RecordedLimits
    s3: "S3Client"
    files: ClipFiles

    async def put(self, clip: ClipRecord, files: ClipFiles | None = None) -> ClipRecord:
        """Put a clip into the registry and its objects into the bucket."""
        await asyncio.to_thread(put_files, self.s3, clip, files or self.files)
        return self.registry.put(clip)

    async def add(self, **values: Any) -> ClipRecord:
        """Put a clip of ann's, unless changed by keyword."""
        return await self.put(a_clip(**values))

    async def sign_in(self, context: BrowserContext, account: str = "ann") -> None:
        """Give a browser an account's cookie."""
        token = hs256(sub=account, exp=timedelta(hours=1))
        await context.add_cookies([{"name": COOKIE, "value": token, "url": self.url}])


@asynccontextmanager
async def served_gateway(
    s3: "S3Client", files: ClipFiles, *, url_seconds: int = 900, **addresses: Any
) -> AsyncIterator[ServedGateway]:
    """Serve a gateway on a port of its own; its presigned URLs live for ``url_seconds``.

    ``addresses`` are fields of PublicAddresses.
    """
    registry, limits = InMemoryRegistry(), RecordedLimits()
    presigner = Presigner(s3, "clips", longest_seconds=url_seconds)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        public = PublicAddresses(public_url=url, media_origin=presigner.origin, **addresses)
        parts = gateway_parts(registry, presigner, public, limits=limits)
        async with serving(asgi.create(parts), listener):
            yield ServedGateway(url, registry, limits, s3, files)
