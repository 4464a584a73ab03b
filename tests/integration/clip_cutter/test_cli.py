"""The command line."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from clip_cutter.ffmpeg.run import FfmpegPrograms
from tests.integration.clip_cutter.media import DecodedFile

Vod = Callable[[str], DecodedFile]


async def run(programs: FfmpegPrograms, scratch: Path, *arguments: str) -> tuple[int, str, str]:
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
    vod: Vod, programs: FfmpegPrograms, tmp_path: Path
) -> None:
    source, output = vod("b-frames.ts"), tmp_path / "clip.mp4"
    window = ("--start", "5.3", "--end", "8.3", "--output", str(output))
    code, printed, errors = await run(programs, tmp_path / "scratch", "cut", str(source.path), *window)
    assert (code, errors) == (0, "")
    receipt = json.loads(printed)
    assert (receipt["mode"], receipt["requested_start_seconds"]) == ("copy", 5.3)
    assert DecodedFile(output).hashes == [frame.hash for frame in source.from_to(5.3, 8.3)]
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["lock"]


async def test_what_cannot_be_cut_is_said_in_a_sentence(programs: FfmpegPrograms, tmp_path: Path) -> None:
    text = tmp_path / "vod.mp4"
    text.write_text("not a video")
    window = ("--start", "0", "--end", "9", "--output", str(tmp_path / "clip.mp4"))
    code, printed, errors = await run(programs, tmp_path / "scratch", "cut", str(text), *window)
    assert (code, printed) == (1, "")
    assert "The VOD cannot be read as a video: the file is damaged" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "clip.mp4").exists()


UNUSABLE = {
    "/nowhere/ffmpeg": "ffmpeg is not at /nowhere/ffmpeg: unset FFMPEG_PATH",
    "5.1.9-0+deb12u1": "has version 5.1.9, and Clips is tested with 9.0.x: unset FFMPEG_PATH",
}


@pytest.mark.parametrize("command", ["serve", "cut"])
@pytest.mark.parametrize("ffmpeg", UNUSABLE)
async def test_without_an_ffmpeg_that_was_tested_nothing_starts(  # noqa: PLR0917
    programs: FfmpegPrograms,
    tmp_path: Path,
    vod: Vod,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    ffmpeg: str,
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    if ffmpeg[0] != "/":
        script = tmp_path / "ffmpeg"
        script.write_text(f"#!/bin/sh\necho 'ffmpeg version {ffmpeg} Copyright (c) 2000-2026'\n")
        script.chmod(0o755)
    path = ffmpeg if ffmpeg[0] == "/" else str(tmp_path / "ffmpeg")
    window = ("--start", "5.3", "--end", "8.3", "--output", str(tmp_path / "clip.mp4"))
    arguments = (str(vod("b-frames.ts").path), *window) if command == "cut" else ()
    code, printed, errors = await run(replace(programs, ffmpeg=path), tmp_path, command, *arguments)
    assert (code, printed) == (2, "")
    assert UNUSABLE[ffmpeg] in errors
    assert errors.count("\n") == 1
