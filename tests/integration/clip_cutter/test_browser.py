"""Clips in a real browser: what is on screen and heard from 0 to the end, and after a seek."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import pytest
from playwright.async_api import Browser, Page

from clip_cutter.cutter import FinishedClip
from clip_shared.contracts.events import CutMode
from tests.integration.clip_cutter.cases import CASES, bar_problems
from tests.integration.clip_cutter.conftest import CutBy, Cutting
from tests.integration.clip_cutter.judge import VodContent, playing_problems
from tests.integration.clip_cutter.media import BITS, BOX, DecodedFile
from tests.integration.clip_cutter.played_windows import PLAYED, PlayedWindow, content_of, path_of
from tests.integration.clip_cutter.player import PlaybackReport, play
from tests.support.browser import running_browser

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# A copy's media may reach a little further than what it shows.
COPY_TOLERANCE_SECONDS = 0.2

Vod = Callable[[str], DecodedFile]

START_SECONDS, SECONDS = 5.3, 3.0
PLAYED_SECONDS, SOUGHT_SECONDS = 1.0, 2.0
# A page that plays may see the next pictures before it is told of this one.
AHEAD_SECONDS = 0.25
# How much longer a browser takes a copy to be: pictures behind the end that others hang from, at 10 a second.
END_SECONDS = 0.35
ROUNDING_SECONDS = 0.05
SIDE_BY_SIDE, SHOWN_A_SECOND = 10, 5
# Chromium reckons with 2.0 where BT.709 has 2.112 for blue (libyuv's 8-bit coefficients).
BAR_LEVELS = 14
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

    async def open(self, clip: FinishedClip) -> None:
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
        seen = await self._page.evaluate("options => play(options)", {"seconds": seconds, **STRIP})
        return [(time, number) for time, number in seen]

    async def seek(self, seconds: float) -> int:
        """The number in the picture at another time."""
        return int(await self._page.evaluate("options => seek(options)", {"seconds": seconds, **STRIP}))

    def _upload(self, content_type: str, content: bytes) -> str:
        key = f"browser/{uuid4()}"
        self._s3.put_object(Bucket="clips", Key=key, Body=content, ContentType=content_type)
        place = {"Bucket": "clips", "Key": key}
        return self._s3.generate_presigned_url("get_object", Params=place, ExpiresIn=URL_SECONDS)


@pytest.fixture
def player(page: Page, s3: "S3Client") -> Player:
    """Comes last among a test's fixtures: the browser must be gone when the cutter looks for processes."""
    return Player(page, s3)


class BrowserCase(NamedTuple):
    """A VOD, where in it the clip begins, and how it is cut."""

    name: str
    start: float
    mode: str


BROWSER_CASES = [
    BrowserCase("closed-60.mp4", 5.3, "copy"),  # between keyframes at 4 and 6 s
    BrowserCase("b-frames.mp4", 6.717, "copy"),  # at no frame's time
    BrowserCase("b-frames.ts", 5.3, "auto"),
    BrowserCase("b-frames.mp4", 5.3, "exact"),
]


@pytest.mark.parametrize("case", BROWSER_CASES, ids=lambda case: f"{case.name}-{case.mode}")
async def test_a_browser_shows_the_frame_that_was_asked_for_and_plays_on(
    vod: Vod, cut_stored: Cutting, player: Player, case: BrowserCase
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


async def assert_plays(player: Player, clip: FinishedClip, source: DecodedFile, start: float) -> None:
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


# Long ones together: a group is played side by side, and lasts as long as its longest clip.
ALL = sorted(PLAYED, key=lambda window: window.start - window.end)
GROUPS = [ALL[at : at + SIDE_BY_SIDE] for at in range(0, len(ALL), SIDE_BY_SIDE)]


@pytest.fixture(scope="session")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    async with running_browser(tmp_path_factory.mktemp("home")) as browser:
        yield browser


@dataclass(frozen=True)
class BrowserPlayback:
    """Plays what the service cuts: groups side by side, and alone what looked bad beside others."""

    cut_by: CutBy
    vod: Vod
    browser: Browser
    s3: "S3Client"
    played: dict[PlayedWindow, PlaybackReport]

    async def clip(self, window: PlayedWindow) -> FinishedClip | None:
        path = path_of(window, self.vod)
        return (await self.cut_by("service", path, window.start, window.end)).clip

    async def first(self, window: PlayedWindow) -> PlaybackReport:
        """What a browser made of it while it played the whole group."""
        if window not in self.played:
            await self._play(next(group for group in GROUPS if window in group))
        return self.played[window]

    async def again(self, window: PlayedWindow) -> PlaybackReport:
        """What a browser makes of it alone: a busy machine is no fault of the clip."""
        await self._play([window])
        return self.played[window]

    async def _play(self, group: list[PlayedWindow]) -> None:
        clips = {window: clip for window in group if (clip := await self.clip(window)) is not None}
        page = await self.browser.new_page()
        longest = max(each.end - each.start for each in group)
        reports = await play(page, self.s3, [clip.video for clip in clips.values()], longest)
        await page.close()
        self.played.update(zip(clips, reports, strict=True))


@pytest.fixture(scope="session")
def played() -> dict[PlayedWindow, PlaybackReport]:
    return {}


@pytest.fixture
def playback(
    cut_by: CutBy, vod: Vod, browser: Browser, s3: "S3Client", played: dict[PlayedWindow, PlaybackReport]
) -> BrowserPlayback:
    return BrowserPlayback(cut_by, vod, browser, s3, played)


@pytest.mark.parametrize("window", ALL, ids=str)
async def test_a_browser_plays_each_clip_to_its_end_in_time(
    vod: Vod, playback: BrowserPlayback, window: PlayedWindow
) -> None:
    clip = await playback.clip(window)
    assert clip is not None, "skipped"
    content = content_of(window, vod)
    problems = [*problems_of(window, clip, content, await playback.first(window))]
    if problems:
        problems = [*problems_of(window, clip, content, await playback.again(window))]
    assert problems == [], clip


def problems_of(
    window: PlayedWindow, clip: FinishedClip, content: VodContent, played: PlaybackReport
) -> Iterator[str]:
    """What is wrong with a clip as a browser played it."""
    seconds = clip.end - clip.start
    if played.problem is not None:
        yield played.problem
    if not 0 <= played.seconds - seconds + ROUNDING_SECONDS <= END_SECONDS:
        yield f"it lasts {played.seconds:.3f} s instead of {seconds:.3f} s"
    if abs(played.at - played.seconds) > ROUNDING_SECONDS:
        yield f"it ends at {played.at:.3f} of {played.seconds:.3f} s"
    case = CASES.get(window.name)
    if case is None or case.has_numbers:
        right = content.within(clip.start, clip.end + END_SECONDS).joined(played.pictures)
        yield from playing_problems(right, played.pictures, played.beeps, seconds)
    else:
        if len(played.pictures) < SHOWN_A_SECOND * seconds:
            yield f"only {len(played.pictures)} pictures"
        yield from bar_problems(window.name, played.bars, BAR_LEVELS)
