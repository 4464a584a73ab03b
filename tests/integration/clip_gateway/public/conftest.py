"""A published clip with real media, the gateway that shows it, and two other sites that embed it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp

from clip_gateway import asgi
from clip_gateway.addresses import PublicAddresses
from clip_gateway.presign import Presigner
from clip_shared.contracts.registry_api import ClipRecord, ClipStatus, Publication
from tests.integration.clip_cutter.media import ffmpeg
from tests.integration.clip_gateway.conftest import serving
from tests.integration.clip_gateway.served import ClipFiles, put_files
from tests.unit.clip_gateway.fakes import InMemoryRegistry, a_clip
from tests.unit.clip_gateway.parts import gateway_parts

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SECONDS = 30
TITLE = "Der größte Moment: 1v4 on the last round"


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> ClipFiles:
    """A video too large for browsers to load ahead, and its poster."""
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
    return ClipFiles(video.read_bytes(), poster.read_bytes())


@pytest.fixture
def registry() -> InMemoryRegistry:
    return InMemoryRegistry()


@pytest.fixture
async def clip(registry: InMemoryRegistry, s3: "S3Client", media: ClipFiles) -> ClipRecord:
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
    await asyncio.to_thread(put_files, s3, clip, media)
    return registry.put(clip)


@dataclass(frozen=True)
class EmbeddingSites:
    """Addresses of the gateway, of an allowed site (friend) and of another one (stranger)."""

    gateway: str
    friend: str
    stranger: str


@pytest.fixture
async def sites(
    registry: InMemoryRegistry, clip: ClipRecord, s3: "S3Client"
) -> AsyncIterator[EmbeddingSites]:
    """The gateway, and two sites with the clip's player in a frame; only one of them is allowed."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    gateway, friend, stranger = (f"http://127.0.0.1:{each.getsockname()[1]}" for each in listeners)
    presigner = Presigner(s3, "clips", longest_seconds=900)
    public = PublicAddresses(public_url=gateway, media_origin=presigner.origin, embed_origins=(friend,))
    framing = _framing(f"{gateway}/e/{clip.share_slug}")
    async with (
        _listening(asgi.create(gateway_parts(registry, presigner, public)), listeners[0]),
        _listening(framing, listeners[1]),
        _listening(framing, listeners[2]),
    ):
        yield EmbeddingSites(gateway, friend, stranger)


@asynccontextmanager
async def _listening(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    with listener:
        async with serving(app, listener):
            yield


def _framing(url: str) -> ASGIApp:
    """Another site, with the embedded player."""
    return HTMLResponse(
        '<!doctype html><html lang="en"><title>A site</title>'
        f'<h1>Another site</h1><iframe src="{url}" title="The clip" width="640" height="360"'
        ' style="border:0" allowfullscreen></iframe></html>'
    )
