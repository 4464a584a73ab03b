"""VODs as recorders, networks and publishers leave them: see ``tests/cases/README.md``.

Each window is cut, and judged by decoding it: which picture is on screen when,
which beep is heard when, what the receipt says. A browser plays the same clips in ``test_browser.py``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clip_cutter.cutter import FinishedClip
from clip_shared.contracts.events import CutMode, CutReceipt, TrackFate, TrackReceipt
from tests.integration.clip_cutter.cases import (
    CLIPS,
    PICTURE_SECONDS,
    SKIPS,
    CaseWindow,
    bar_problems,
    row_of,
)
from tests.integration.clip_cutter.conftest import WAYS, CutBy
from tests.integration.clip_cutter.judge import beep_problems, picture_problems
from tests.integration.clip_cutter.media import DecodedFile, ffmpeg
from tests.integration.clip_cutter.played_windows import PLAYED, PlayedWindow, VodOf, path_of

START_SECONDS, LENGTH_SECONDS = 0.002, 0.03
COPY_SECONDS, ENCODED_SECONDS = 0.005, 0.02
SKEW_MS = 40.0


async def finished(cut_by: CutBy, row: CaseWindow) -> tuple[FinishedClip, CutReceipt]:
    """The service's clip of a window."""
    result = await cut_by("service", row.path, row.start, row.end)
    if result.clip is None or result.receipt is None:
        pytest.fail(f"skipped: {result.skipped}")
    return result.clip, result.receipt


@pytest.mark.parametrize("row", CLIPS, ids=str)
async def test_the_clip_shows_and_says_what_the_vod_does(cut_by: CutBy, row: CaseWindow) -> None:
    clip, receipt = await finished(cut_by, row)
    problems = [*place_problems(row, clip), *content_problems(row, clip, DecodedFile(clip.video))]
    assert problems == [], receipt


def place_problems(row: CaseWindow, clip: FinishedClip) -> Iterator[str]:
    """What is wrong with where it begins and ends."""
    right, content = row.right, row.case.content
    if right.start is not None and abs(clip.start - right.start) > START_SECONDS:
        yield f"it begins at {clip.start:.3f} s, not {right.start:.3f} s"
    if not row.start - 0.25 <= clip.start <= row.start + PICTURE_SECONDS + START_SECONDS:
        yield f"it begins at {clip.start:.3f} s, far from {row.start:.3f} s"
    latest = min(row.end, content.end) + LENGTH_SECONDS
    earliest = (right.earliest_end or latest - LENGTH_SECONDS) - LENGTH_SECONDS
    if not earliest <= clip.end <= latest:
        yield f"it ends at {clip.end:.3f} s, not between {earliest:.3f} and {latest:.3f} s"


def content_problems(row: CaseWindow, clip: FinishedClip, seen: DecodedFile) -> Iterator[str]:
    """What is wrong with what it shows and says."""
    case = row.case
    seconds, tolerance = clip.end - clip.start, tolerance_of(clip)
    if abs(seen.seconds - seconds) > LENGTH_SECONDS:
        yield f"it lasts {seen.seconds:.3f} s, and the receipt says {seconds:.3f} s"
    right = case.content.within(clip.start, clip.end).joined(seen.pictures)
    if case.has_numbers:
        yield from picture_problems(right, seen.pictures, seconds, COPY_SECONDS)
    yield from beep_problems(right, seen.heard, seconds, tolerance)
    if clip.skew_ms is not None and abs(clip.skew_ms) > SKEW_MS:
        yield f"the receipt says {clip.skew_ms:.0f} ms of skew"
    if not right.beeps and seen.stream("audio") is not None and not row.name.startswith("hole"):
        yield "it has audio"


def tolerance_of(clip: FinishedClip) -> float:
    """How exactly a beep is where it should be."""
    encoded = clip.mode is CutMode.EXACT or any(each.fate is TrackFate.RE_ENCODED for each in clip.tracks)
    return ENCODED_SECONDS if encoded else COPY_SECONDS


@pytest.mark.parametrize("row", CLIPS, ids=str)
async def test_the_receipt_says_what_became_of_the_tracks(cut_by: CutBy, row: CaseWindow) -> None:
    clip, receipt = await finished(cut_by, row)
    right, seen = row.right, DecodedFile(clip.video)
    assert_told(receipt.video, right.video, right.video_why)
    assert receipt.video is not None
    assert (receipt.mode is CutMode.COPY) == (receipt.video.fate is TrackFate.COPIED)
    if right.audio is not None:
        assert_told(receipt.audio, right.audio, right.audio_why)
    has_audio = receipt.audio is not None and receipt.audio.fate is not TrackFate.LEFT_OUT
    assert (seen.stream("audio") is not None) == has_audio
    if right.remark is not None:
        assert right.remark in (receipt.remark or "")
        assert receipt.remark


def assert_told(told: TrackReceipt | None, fate: TrackFate | None, why: str | None) -> None:
    """The receipt has a fate, and a reason unless the track was copied."""
    assert told is not None
    assert fate is None or told.fate is fate
    assert (told.reason is None) == (told.fate is TrackFate.COPIED)
    assert (why or "") in (told.reason or "")


@pytest.mark.parametrize("row", SKIPS, ids=str)
@pytest.mark.parametrize("way", WAYS)
async def test_a_window_outside_is_skipped_with_the_true_reason(
    cut_by: CutBy, row: CaseWindow, way: str
) -> None:
    result = await cut_by(way, row.path, row.start, row.end)
    assert row.right.skipped is not None
    reason, words = row.right.skipped
    assert result.skipped is not None
    assert result.skipped.reason is reason
    assert words in str(result.skipped)


def bars_of(path: Path) -> list[tuple[int, int, int]]:
    """The colour in the middle of each of eight bars, in a file's first picture."""
    middles = (
        "scale=iw:ih:flags=accurate_rnd+full_chroma_int,format=rgb24,crop=iw:2,scale=24:1:flags=neighbor"
    )
    pixels = ffmpeg("-i", str(path), "-map", "0:v", "-frames:v", "1", "-vf", middles, "-f", "rawvideo", "-")
    return [(pixels[at], pixels[at + 1], pixels[at + 2]) for at in range(3, len(pixels), 9)]


@pytest.mark.parametrize("part", ["video", "poster"])
@pytest.mark.parametrize("name", ["rgb.mp4", "hdr-pq.mp4"])
async def test_colours_are_kept_as_far_as_bt709_has_them(cut_by: CutBy, name: str, part: str) -> None:
    clip, _ = await finished(cut_by, row_of(name))
    found = bars_of(getattr(clip, part))
    assert list(bar_problems(name, found, tolerance=3 if part == "video" else 8)) == [], found


@pytest.mark.parametrize("name", ["rgb.mp4", "hdr-pq.mp4", "interlaced.ts"])
async def test_what_is_re_encoded_says_that_it_is_bt709(cut_by: CutBy, name: str) -> None:
    clip, _ = await finished(cut_by, row_of(name))
    video = DecodedFile(clip.video).stream("video")
    assert video is not None
    tags = [video.get(f"color_{each}") for each in ("space", "transfer", "primaries", "range")]
    assert (video["codec_name"], video["pix_fmt"]) == ("h264", "yuv420p")
    assert tags == ["bt709", "bt709", "bt709", "tv"]
    assert video.get("sample_aspect_ratio", "1:1") == "1:1"
    assert video["field_order"] in {"progressive", "unknown"}


async def test_interlaced_video_is_deinterlaced(cut_by: CutBy) -> None:
    row = row_of("interlaced.ts")
    clip, _ = await finished(cut_by, row)
    assert set(scans(row.path)) == {"tff"}
    found = scans(clip.video)
    assert found.count("progressive") >= 0.9 * len(found)


def scans(path: Path) -> list[str]:
    """Whether each picture looks progressive, or as two fields of different moments.

    The numbers are left out: the lowest bit changes with every field, so that its rows stand still.
    """
    key = "lavfi.idet.single.current_frame"
    looked = f"crop=iw:ih*0.75:0:ih*0.25,idet,metadata=print:key={key}:file=-"
    said = ffmpeg("-i", str(path), "-map", "0:v", "-vf", looked, "-f", "null", "-").decode().splitlines()
    return [line.removeprefix(f"{key}=") for line in said if line.startswith(key)]


POSTER_MIDDLE = ("-vf", "scale=1:1:flags=area,format=gray", "-f", "rawvideo", "-")
DARK_LEVEL = 40


@pytest.mark.parametrize("window", PLAYED, ids=str)
async def test_the_poster_shows_something_in_its_true_shape(
    cut_by: CutBy, vod: VodOf, window: PlayedWindow
) -> None:
    path = path_of(window, vod)
    clip = (await cut_by("service", path, window.start, window.end)).clip
    assert clip is not None
    source, poster = DecodedFile(path).stream("video"), DecodedFile(clip.poster).stream("video")
    assert source is not None
    assert poster is not None
    assert poster.get("sample_aspect_ratio", "1:1") in {"1:1", "0:1"}
    assert poster["width"] / poster["height"] == pytest.approx(shape_of(source), rel=0.02)
    assert ffmpeg("-i", str(clip.poster), *POSTER_MIDDLE)[0] > DARK_LEVEL


def shape_of(video: dict[str, Any]) -> float:
    """Width by height, as it is shown."""
    across, down = video.get("sample_aspect_ratio", "1:1").split(":")
    shape = float(video["width"]) * float(across) / (float(video["height"]) * float(down))
    turned = any(abs(each.get("rotation", 0)) == 90 for each in video.get("side_data_list", ()))
    return 1 / shape if turned else shape
