"""What is made of ffmpeg's messages: whose fault a failure is, and that no secret gets into any."""

from pathlib import Path

import pytest

from clip_cutter.ffmpeg.input import FfmpegInput
from clip_cutter.ffmpeg.run import MAX_OUTAGES, FfmpegPrograms, RunLog, ToolFailed, ToolLimited, UnusableTool
from clip_shared.errors import TransientError

URL = "http://storage.test:8333/vods/v.mp4?X-Amz-Credential=key&X-Amz-Signature=abc"


def coloured(line: str) -> str:
    """A line as ffmpeg writes it in colour, from one as it writes it without."""
    *marks, text = line.split("] ")
    return "\x1b[0m" + "".join(f"\x1b[0;33m{mark}] \x1b[0m" for mark in marks) + f"\x1b[0;33m{text}"


OUTAGES = [
    "[http @ 0x55] [warning] HTTP error 500 Internal Server Error",
    "[http @ 0x55] [warning] HTTP error 503 Service Unavailable",
    "[http @ 0x55] [warning] HTTP error 429 Too Many Requests",
    "[http @ 0x55] [warning] HTTP error 404 Not Found",
    "[http @ 0x55] [warning] HTTP error 403 Forbidden",
    "[tcp @ 0x7f] [error] Connection to tcp://storage.test:8333 failed: Connection refused",
    "[tls @ 0x7f] [error] error:0A000086:SSL routines::certificate verify failed",
    "[https @ 0x55] [error] Stream ends prematurely at 264847, should be 868543",
    "[http @ 0x55] [warning] Will reconnect at 264847 in 0 second(s), error=Connection reset by peer.",
]
NO_OUTAGES = [
    "[http @ 0x55] [warning] HTTP error 416 Requested Range Not Satisfiable",
    "[http @ 0x55] [verbose] request: a header",
    "[in#0/mov,mp4 @ 0x55] [error] Error during demuxing: Server returned 5XX Server Error reply",
    "[in#0/mov,mp4 @ 0x55] [error] Error during demuxing: Invalid data found when processing input",
    "[mov,mp4 @ 0x55] [error] moov atom not found",
    "[matroska,webm @ 0x55] [info] Unknown/unsupported AVCodecID [http @ 0x55] [error] Connection refused",
    "[in#0 @ 0x55] [error] No space left on device",
    "[matroska @ 0x55] [error] [out#0/mp4 @ 0x1] Error closing file: No space left on device",
]
FULL = "[out#0/mp4 @ 0x55] [error] Error closing file: No space left on device"


def after(*lines: str, source: str = URL) -> RunLog:
    run_log = RunLog(FfmpegInput(source))
    for line in lines:
        run_log.read_line(line)
    return run_log


@pytest.mark.parametrize("line", OUTAGES)
def test_an_outage_is_known_by_who_speaks(line: str) -> None:
    assert isinstance(after(coloured(line)).failure("anything"), TransientError)


@pytest.mark.parametrize("line", OUTAGES)
def test_a_local_file_knows_no_outage(line: str) -> None:
    assert isinstance(after(coloured(line), source="file:/v.mp4").failure("anything"), ToolFailed)


@pytest.mark.parametrize("line", NO_OUTAGES)
def test_other_troubles_are_the_files(line: str) -> None:
    assert isinstance(after(coloured(line)).failure("anything"), ToolFailed)


@pytest.mark.parametrize("line", [*OUTAGES, FULL])
def test_a_line_without_colour_is_the_files(line: str) -> None:
    run_log = after(line, f"    title : {line}", f"[error] {line}")
    assert isinstance(run_log.failure("anything"), ToolFailed)
    assert not run_log.errors


def test_a_source_that_breaks_off_again_and_again_is_given_up() -> None:
    with pytest.raises(TransientError):
        after(*[coloured(OUTAGES[0])] * (MAX_OUTAGES + 1))


def test_a_full_disk_is_ours() -> None:
    for line in (
        FULL,
        "[out#0/mp4 @ 0x1] [error] Task finished with error code: -28 (No space left on device)",
    ):
        assert isinstance(after(coloured(line)).failure(""), TransientError)


@pytest.mark.parametrize(
    "line",
    [
        "[h264 @ 0x55] [error] get_buffer() failed",
        "[vf#0:0 @ 0x55] [error] Error while filtering: Cannot allocate memory",
        "[vost#0:0/libx264 @ 0x55] [error] pthread_create() failed: Resource temporarily unavailable",
    ],
)
def test_a_lack_of_memory_is_our_limit(line: str) -> None:
    assert isinstance(after(coloured(line)).failure("anything"), ToolLimited)


def test_a_storage_that_is_slow_is_an_outage_and_says_so() -> None:
    with pytest.raises(TransientError, match="storage is slow"):
        raise after().timeout_failure(cpu_seconds=3, deadline_seconds=60)


def test_a_deadline_of_ours_is_our_limit() -> None:
    assert isinstance(after().timeout_failure(cpu_seconds=59, deadline_seconds=60), ToolLimited)
    here = after(source="file:/v.mp4")
    assert isinstance(here.timeout_failure(cpu_seconds=3, deadline_seconds=60), ToolLimited)


def test_what_ffmpeg_says_of_packets_is_damage() -> None:
    run_log = after(
        coloured("[in#0/mpegts @ 0x1] [warning] Packet corrupt (stream = 0, dts = 126000)."),
        coloured("[in#0/matroska,webm @ 0x1] [error] 0x00 at pos 1 (0x1) invalid as first byte"),
        coloured("[in#0/matroska,webm @ 0x1] [error] File ended prematurely"),
        "[in#0/matroska,webm @ 0x1] [error] a forged line",
    )
    assert len(run_log.damages) == 2
    assert not run_log.has_clock_jump


@pytest.mark.parametrize("line", [f"[error] {URL}: Invalid", f"[error] cut off …{URL[30:]}x: Invalid"])
def test_no_secret_is_kept(line: str) -> None:
    run_log = after(coloured(line))
    assert "X-Amz" not in run_log.errors[-1]
    assert "abc" not in repr(run_log)


def test_bytes_of_the_input_are_counted() -> None:
    lines = [
        "[AVIOContext @ 0x1] [verbose] Statistics: 100 bytes read, 1 seeks",  # the output, moved to its front
        "[AVIOContext @ 0x2] [verbose] Statistics: 265 bytes written, 2 seeks",
        "[AVIOContext @ 0x3] [verbose] Statistics: 23 bytes read, 0 seeks",
    ]
    forged = f"    title : Statistics: {'9' * 400} bytes read"
    assert after(*map(coloured, lines), forged).pulled_bytes == 23


def program(folder: Path, name: str, version: str) -> str:
    """A program that says a version."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{name} version {version} Copyright (c) the FFmpeg developers'\n")
    path.chmod(0o755)
    return str(path)


def test_the_programs_are_those_of_this_package_whatever_is_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ffmpeg", "ffprobe"):
        program(tmp_path, name, "9.0.2" if name == "ffmpeg" else "8.1.2")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "ffmpeg"))
    found = FfmpegPrograms.find(None, None)
    assert "site-packages" in found.ffmpeg
    assert "site-packages" in found.ffprobe


def test_programs_of_a_tested_version_may_be_named(tmp_path: Path) -> None:
    ffmpeg, ffprobe = program(tmp_path, "ffmpeg", "n9.0.7-1-gabc"), program(tmp_path, "ffprobe", "8.1")
    assert FfmpegPrograms.find(ffmpeg, ffprobe) == FfmpegPrograms(ffmpeg, ffprobe)


@pytest.mark.parametrize("version", ["5.1.9-0+deb12u1", "7.0.2-static", "9.1", "90.0", "N-118-gabcdef"])
def test_a_version_that_nobody_tested_is_refused(tmp_path: Path, version: str) -> None:
    with pytest.raises(UnusableTool) as refusal:
        FfmpegPrograms.find(program(tmp_path, "ffmpeg", version), None)
    said = "unknown" if version[0] == "N" else version.partition("-")[0]
    assert str(refusal.value) == (
        f"ffmpeg at {tmp_path}/ffmpeg has version {said}, and Clips is tested with 9.0.x:"
        " unset FFMPEG_PATH, or set it to another"
    )


def test_a_missing_program_is_said_to_be_missing() -> None:
    with pytest.raises(UnusableTool, match="ffprobe is not at /nowhere: unset FFPROBE_PATH"):
        FfmpegPrograms.find(None, "/nowhere")
