"""The command line and the service cut alike: the same receipt, the same bytes.

What ffmpeg encodes is not always the same to the byte, even from the same file by the same command: a
re-encode shows the same pictures at the same times, a poster the same picture.
"""

from pathlib import Path

import pytest

from clip_shared.contracts.events import TrackFate
from tests.integration.clip_cutter.conftest import WAYS, CutBy, WindowOutcome
from tests.integration.clip_cutter.media import DecodedFile, ffmpeg
from tests.integration.clip_cutter.played_windows import PLAYED_WINDOWS, PlayedWindow, VodOf, path_of

# Of 255, in any point: far less than between two neighbouring pictures, whose numbers are black on white.
POSTER_LEVELS = 12
POSTER_SIZE = "160x90"


@pytest.mark.parametrize("window", PLAYED_WINDOWS, ids=str)
async def test_both_ways_agree(cut_by: CutBy, vod: VodOf, window: PlayedWindow) -> None:
    path = path_of(window, vod)
    results = [await cut_by(way, path, window.start, window.end) for way in WAYS]
    assert said(results[0]) == said(results[1])
    assert written(results[0]) == written(results[1])
    looks = [look(result.clip.poster) for result in results if result.clip]
    assert not looks or farthest(*looks) <= POSTER_LEVELS


def said(result: WindowOutcome) -> str:
    """What is told of it."""
    return result.receipt.model_dump_json() if result.receipt else str(result.skipped)


def written(result: WindowOutcome) -> tuple[object, ...] | None:
    """What was made of it."""
    clip, receipt = result.clip, result.receipt
    if clip is None or receipt is None:
        return None
    fates = {track.fate for track in (receipt.video, receipt.audio) if track}
    if TrackFate.RE_ENCODED not in fates:
        return (clip.video.read_bytes(),)
    seen = DecodedFile(clip.video)
    times = tuple(round(frame.time, 3) for frame in seen.frames)
    heard = tuple(round(moment, 2) for moment in seen.beeps) if seen.stream("audio") else None
    return times, tuple(seen.numbers()), heard, clip.skew_ms


def look(poster: Path) -> bytes:
    """A poster in grey, made smaller."""
    small = f"scale={POSTER_SIZE.replace('x', ':')}:flags=area,format=gray"
    return ffmpeg("-i", str(poster), "-vf", small, "-f", "rawvideo", "pipe:1")


def farthest(one: bytes, other: bytes) -> int:
    """By how much two pictures differ where they differ most."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))
