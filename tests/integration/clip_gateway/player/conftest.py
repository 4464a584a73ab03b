"""The player in a browser: a gateway, videos, and ann's window."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Browser, BrowserContext, Page

from tests.integration.clip_cutter.media import ffmpeg
from tests.integration.clip_gateway.served import ClipFiles, ServedGateway, served_gateway

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SECONDS = 20
FRAMES_PER_SECOND = 25
# A presigned URL lives for this long in a test that waits for its end.
URL_SECONDS = 3
WAIT_MS = 20_000


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> ClipFiles:
    """A video in which every frame differs from the others, and its poster."""
    return _recorded(tmp_path_factory.mktemp("media"), "size=640x360", "-crf", "30")


@pytest.fixture(scope="session")
def large_media(tmp_path_factory: pytest.TempPathFactory) -> ClipFiles:
    """A video too large for browsers to load ahead, and its poster."""
    return _recorded(tmp_path_factory.mktemp("large-media"), "size=640x360", "-crf", "8", noise=60)


def _recorded(folder: Path, size: str, *options: str, noise: int = 1) -> ClipFiles:
    video, poster = folder / "clip.mp4", folder / "clip.jpg"
    picture = f"testsrc2={size}:rate={FRAMES_PER_SECOND}:duration={SECONDS},noise=alls={noise}:allf=t"
    ffmpeg(
        *("-f", "lavfi", "-i", picture),
        *("-f", "lavfi", "-i", f"sine=frequency=440:duration={SECONDS}"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-g", str(FRAMES_PER_SECOND), *options),
        *("-pix_fmt", "yuv420p", "-c:a", "aac", "-movflags", "+faststart", str(video)),
    )
    ffmpeg("-ss", "3", "-i", str(video), "-frames:v", "1", str(poster))
    return ClipFiles(video.read_bytes(), poster.read_bytes())


@pytest.fixture
async def gateway(s3: "S3Client", media: ClipFiles) -> AsyncIterator[ServedGateway]:
    """The gateway of one test. Guests are sent to an address that needs no sign-in."""
    async with served_gateway(
        s3,
        media,
        url_seconds=URL_SECONDS,
        login_url="/static/icon.svg",
        embed_origins=("https://friends.example",),
    ) as gateway:
        yield gateway


@pytest.fixture
async def context(browser: Browser, gateway: ServedGateway) -> AsyncIterator[BrowserContext]:
    """Ann's browser."""
    context = await signed_in(browser, gateway)
    yield context
    await context.close()


async def signed_in(browser: Browser, gateway: ServedGateway, **options: object) -> BrowserContext:
    """A window in which ann is signed in; ``options`` are Playwright's."""
    context = await browser.new_context(locale="en-GB", timezone_id="Europe/Berlin", **options)  # type: ignore[arg-type]
    context.set_default_timeout(WAIT_MS)
    await gateway.sign_in(context)
    return context


@pytest.fixture
async def page(context: BrowserContext) -> Page:
    return await context.new_page()
