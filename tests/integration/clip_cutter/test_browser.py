"""A clip in a real browser: what it shows at 0, how long it says it is, and that it plays."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import pytest
from playwright.async_api import Page

from clip_cutter.cutter import Clip
from clip_cutter.domain.cut import COPY_TOLERANCE_SECONDS
from clip_shared.events import CutMode
from tests.integration.clip_cutter.conftest import Cutting
from tests.integration.clip_cutter.media import BITS, BOX, Seen

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Vod = Callable[[str], Seen]

SECONDS, PLAYED_SECONDS, SOUGHT_SECONDS = 3.0, 1.0, 2.0
# A page that plays may see the next pictures before it is told of this one.
AHEAD_SECONDS = 0.25
PATIENCE_MS, URL_SECONDS = 20_000, 120

HTML = '<!doctype html><title>A clip</title><video src="{address}" preload="auto"></video>'
SCRIPT = """
const video = document.querySelector("video")
const pixels = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true})

// The number in the picture that is on screen: a row of boxes, the lowest bit on the left, white is 1.
function shown({bits, box}) {
  Object.assign(pixels.canvas, {width: video.videoWidth, height: video.videoHeight})
  pixels.drawImage(video, 0, 0)
  const row = pixels.getImageData(0, box / 2, bits * box, 1).data
  return Array.from({length: bits}, (_, bit) => row[4 * (bit * box + box / 2)] > 127 ? 1 << bit : 0)
    .reduce((sum, value) => sum + value)
}

// Every picture that is shown while the first seconds play: when it should be, and its number.
async function play({seconds, ...strip}) {
  const seen = []
  const done = new Promise(resolve => {
    const note = (_, frame) => {
      seen.push([frame.mediaTime, shown(strip)])
      frame.mediaTime < seconds ? video.requestVideoFrameCallback(note) : resolve()
    }
    video.requestVideoFrameCallback(note)
  })
  await video.play()
  await done
  video.pause()
  return seen
}

async function seek({seconds, ...strip}) {
  const there = new Promise(resolve => video.requestVideoFrameCallback(resolve))
  video.currentTime = seconds
  await there
  return shown(strip)
}
"""
STRIP = {"bits": BITS, "box": BOX}


class Player:
    """A page that has a clip in it, on the storage that the clip is on: else it may not be looked at."""

    def __init__(self, page: Page, s3: "S3Client") -> None:
        self._page = page
        self._s3 = s3

    async def open(self, clip: Clip) -> None:
        """Show the page, and wait for the first picture."""
        video = self._upload("video/mp4", clip.video.read_bytes())
        html = HTML.format(address=video.replace("&", "&amp;"))
        await self._page.goto(self._upload("text/html", html.encode()))
        await self._page.add_script_tag(content=SCRIPT)
        await self._page.wait_for_function("video.readyState >= 2 || video.error", timeout=PATIENCE_MS)
        assert await self.about("video.error && video.error.message") is None

    async def about(self, expression: str) -> Any:
        """What the page sees of its video."""
        return await self._page.evaluate(expression)

    async def shown(self) -> int:
        """The number in the picture."""
        return int(await self._page.evaluate("strip => shown(strip)", STRIP))

    async def play(self, seconds: float) -> list[tuple[float, int]]:
        """The pictures that are seen meanwhile."""
        seen = await self._page.evaluate("wish => play(wish)", {"seconds": seconds, **STRIP})
        return [(time, number) for time, number in seen]

    async def seek(self, seconds: float) -> int:
        """The number in the picture at another time."""
        return int(await self._page.evaluate("wish => seek(wish)", {"seconds": seconds, **STRIP}))

    def _upload(self, content_type: str, content: bytes) -> str:
        key = f"browser/{uuid4()}"
        self._s3.put_object(Bucket="clips", Key=key, Body=content, ContentType=content_type)
        place = {"Bucket": "clips", "Key": key}
        return self._s3.generate_presigned_url("get_object", Params=place, ExpiresIn=URL_SECONDS)


@pytest.fixture
def player(page: Page, s3: "S3Client") -> Player:
    """Comes last among a test's fixtures: the browser must be gone when the cutter looks for processes."""
    return Player(page, s3)


class Case(NamedTuple):
    """A recording, where in it the clip begins, and how it is cut."""

    name: str
    start: float
    mode: str


CASES = [
    Case("closed-60.mp4", 5.3, "copy"),  # between keyframes at 4 and 6 s
    Case("b-frames.mp4", 6.717, "copy"),  # at no frame's time
    Case("b-frames.ts", 5.3, "auto"),
    Case("b-frames.mp4", 5.3, "exact"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.mode}")
async def test_a_browser_shows_the_frame_that_was_asked_for_and_plays_on(
    vod: Vod, cut_stored: Cutting, player: Player, case: Case
) -> None:
    source = vod(case.name)
    clip = await cut_stored(source.path, case.start, case.start + SECONDS, case.mode)
    assert clip.mode is (CutMode.EXACT if case.mode == "exact" else CutMode.COPY)
    await player.open(clip)
    await assert_plays(player, clip, source, case.start)


@pytest.mark.parametrize("name", ["open-gop.mp4", "open-gop.ts"])
async def test_a_browser_plays_a_clip_from_the_midst_of_open_gops(
    vod: Vod, cut_stored: Cutting, player: Player, name: str
) -> None:
    clip = await cut_stored(vod(name).path, 5.3, 5.3 + SECONDS)
    await player.open(clip)
    await assert_plays(player, clip, vod(name), 5.3)


async def assert_plays(player: Player, clip: Clip, source: Seen, start: float) -> None:
    """The right frame at 0, the right length, and picture and sound as time goes on."""
    wanted = source.from_to(start, start + SECONDS)
    first, frame_seconds = source.frames.index(wanted[0]), SECONDS / len(wanted)
    assert await player.about("video.currentTime") == 0
    assert await player.shown() == first
    tolerance = COPY_TOLERANCE_SECONDS if clip.mode is CutMode.COPY else frame_seconds
    assert await player.about("video.duration") == pytest.approx(SECONDS, abs=tolerance)

    for time, number in await player.play(PLAYED_SECONDS):
        assert -1 <= number - first - time / frame_seconds <= AHEAD_SECONDS / frame_seconds
    assert await player.shown() >= first + PLAYED_SECONDS / frame_seconds - 1
    sought = first + SOUGHT_SECONDS / frame_seconds
    assert await player.seek(SOUGHT_SECONDS + frame_seconds / 2) == pytest.approx(sought, abs=1)
    assert await player.about("video.webkitVideoDecodedByteCount") > 0
    assert await player.about("video.webkitAudioDecodedByteCount") > 0
