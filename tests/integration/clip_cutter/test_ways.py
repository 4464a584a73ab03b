"""The command line and the service cut alike: the same receipt, the same bytes.

What ffmpeg re-encodes is not always the same to the byte, even from the same file by the same command; it
shows the same pictures at the same times.
"""

import pytest

from clip_shared.events import TrackFate
from tests.integration.clip_cutter.conftest import WAYS, CutBy, Result
from tests.integration.clip_cutter.media import Seen
from tests.integration.clip_cutter.showings import SHOWINGS, Showing, VodOf, path_of


@pytest.mark.parametrize("showing", SHOWINGS, ids=str)
async def test_both_ways_agree(cut_by: CutBy, vod: VodOf, showing: Showing) -> None:
    path = path_of(showing, vod)
    results = [await cut_by(way, path, showing.start, showing.end) for way in WAYS]
    assert said(results[0]) == said(results[1])
    assert written(results[0]) == written(results[1])


def said(result: Result) -> str:
    """What is told of it."""
    return result.receipt.model_dump_json() if result.receipt else str(result.skipped)


def written(result: Result) -> tuple[object, ...] | None:
    """What was made of it."""
    clip, receipt = result.clip, result.receipt
    if clip is None or receipt is None:
        return None
    fates = {track.fate for track in (receipt.video, receipt.audio) if track}
    if TrackFate.RE_ENCODED not in fates:
        return clip.video.read_bytes(), clip.poster.read_bytes()
    seen = Seen(clip.video)
    times = tuple(round(frame.time, 3) for frame in seen.frames)
    heard = tuple(round(moment, 2) for moment in seen.beeps) if seen.stream("audio") else None
    return times, tuple(seen.numbers()), heard, clip.skew_ms
