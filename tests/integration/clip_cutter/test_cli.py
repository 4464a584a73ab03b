"""The command line."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from clip_cutter.ffmpeg import Programs
from tests.integration.clip_cutter.media import Seen

Vod = Callable[[str], Seen]


async def run(programs: Programs, scratch: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command; its exit code, standard output and standard error."""
    environment = {
        "FFMPEG_PATH": programs.ffmpeg,
        "FFPROBE_PATH": programs.ffprobe,
        "SCRATCH_DIR": str(scratch),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "clip_cutter", *arguments),
        env=os.environ | environment | {"SCRATCH_DIR": str(scratch)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


async def test_a_local_file_is_cut_and_the_receipt_printed(
    vod: Vod, programs: Programs, tmp_path: Path
) -> None:
    source, output = vod("b-frames.ts"), tmp_path / "clip.mp4"
    window = ("--start", "5.3", "--end", "8.3", "--output", str(output))
    code, printed, errors = await run(programs, tmp_path / "scratch", "cut", str(source.path), *window)
    assert (code, errors) == (0, "")
    receipt = json.loads(printed)
    assert (receipt["mode"], receipt["requested_start_seconds"]) == ("copy", 5.3)
    assert Seen(output).hashes == [frame.hash for frame in source.from_to(5.3, 8.3)]
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["lock"]


async def test_what_cannot_be_cut_is_said_in_a_sentence(programs: Programs, tmp_path: Path) -> None:
    text = tmp_path / "vod.mp4"
    text.write_text("not a video")
    window = ("--start", "0", "--end", "9", "--output", str(tmp_path / "clip.mp4"))
    code, printed, errors = await run(programs, tmp_path / "scratch", "cut", str(text), *window)
    assert (code, printed) == (1, "")
    assert "The VOD cannot be read as a video: the file is damaged" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "clip.mp4").exists()


async def test_without_ffmpeg_the_service_does_not_start(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    code, _, errors = await run(replace(programs, ffmpeg="/nowhere/ffmpeg"), tmp_path, "serve")
    assert code == 2
    assert errors == "ffmpeg is not at /nowhere/ffmpeg: install FFmpeg, or set FFMPEG_PATH\n"
