from pathlib import Path

import pytest

from clip_cutter.domain.policy import Window
from clip_shared.contracts.events import CutMode
from tests.bench.bare import BareFfmpeg


def command(suffix: str, mode: CutMode) -> str:
    ffmpeg = BareFfmpeg("ffmpeg", Path("clip.mp4"), threads=2)
    return " ".join(ffmpeg.command("http://s3/vod", suffix, Window(301.0, 331.0), mode))


@pytest.mark.parametrize(
    ("suffix", "begin", "length"), [(".mp4", "301", "30"), (".flv", "301", "30"), (".ts", "295", "36")]
)
def test_a_copy_is_read_from_where_it_begins_with_video(suffix: str, begin: str, length: str) -> None:
    found = command(suffix, CutMode.COPY)
    assert f"-ss {begin}.000000 -i http://s3/vod " in found
    assert f"-c copy -t {length}.000000 -threads 2 " in found
    assert found.endswith("-movflags +faststart -use_editlist 1 -movie_timescale 90000 -y clip.mp4")


def test_a_re_encode_is_as_the_cutter_encodes() -> None:
    assert "-c:v libx264 -preset veryfast -crf 20 " in command(".mp4", CutMode.EXACT)
