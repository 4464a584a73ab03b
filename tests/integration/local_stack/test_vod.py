"""The generated VOD shows every frame's number, in every container."""

import json
from pathlib import Path

import pytest

from local_stack.demo.vod import COLUMNS, ROWS, generate_vod, read_frame_number
from local_stack.processes.ffmpeg import FfmpegFailed, find_tools, run_tool


@pytest.mark.parametrize(("suffix", "b_frames"), [(".mp4", 0), (".mkv", 2), (".ts", 2), (".flv", 0)])
def test_every_frame_shows_its_own_number(tmp_path: Path, suffix: str, b_frames: int) -> None:
    vod = tmp_path / f"vod{suffix}"
    generate_vod(vod, seconds=3, b_frames=b_frames)
    assert frame_numbers(vod) == list(range(90))
    streams = json.loads(run_tool(find_tools().ffprobe, ["-v", "error", "-show_streams", "-of", "json", vod]))
    assert [stream["codec_name"] for stream in streams["streams"]] == ["h264", "aac"]


def frame_numbers(vod: Path) -> list[int]:
    arguments = f"-loglevel error -i {vod} -vf scale={COLUMNS}:{ROWS}:flags=area -fps_mode passthrough"
    grey = run_tool(find_tools().ffmpeg, [*arguments.split(), "-pix_fmt", "gray", "-f", "rawvideo", "-"])
    size = COLUMNS * ROWS
    return [read_frame_number(grey[start : start + size]) for start in range(0, len(grey), size)]


def test_the_error_quotes_the_output_of_a_tool_that_fails(tmp_path: Path) -> None:
    with pytest.raises(FfmpegFailed, match=r"ffprobe\S* failed with exit code 1:\n.*no-such-file"):
        run_tool(find_tools().ffprobe, ["-v", "error", tmp_path / "no-such-file"])
