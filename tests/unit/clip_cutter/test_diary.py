"""What is made of ffmpeg's messages: whose fault a failure is, and that no secret gets into any."""

import pytest

from clip_cutter.ffmpeg import MAX_OUTAGES, Diary, Programs, ToolFailed, ToolMissing
from clip_shared.errors import TransientError

URL = "http://storage.test:8333/vods/v.mp4?X-Amz-Credential=key&X-Amz-Signature=abc"

OUTAGES = [
    "[http @ 0x55] [warning] HTTP error 500 Internal Server Error",
    "[http @ 0x55] [warning] HTTP error 503 Service Unavailable",
    "[http @ 0x55] [warning] HTTP error 429 Too Many Requests",
    "[in#0 @ 0x55] [error] Error opening input: Server returned 5XX Server Error reply",
    "[tcp @ 0x7f] [error] Connection to tcp://storage.test:8333 failed: Connection refused",
    "[https @ 0x55] [error] Stream ends prematurely at 264847, should be 868543",
    "[http @ 0x55] [warning] Will reconnect at 264847 in 0 second(s), error=Connection reset by peer.",
    "[in#0/mov,mp4 @ 0x55] [error] Error during demuxing: Input/output error",
    "[in#0/mov,mp4 @ 0x55] [error] Error during demuxing: I/O error",
]
NO_OUTAGES = [
    "[http @ 0x55] [warning] HTTP error 404 Not Found",
    "[http @ 0x55] [warning] HTTP error 403 Forbidden",
    "[http @ 0x55] [verbose] request: a header",
    "[in#0/mov,mp4 @ 0x55] [error] Error during demuxing: Invalid data found when processing input",
    "[mov,mp4 @ 0x55] [error] moov atom not found",
    "    title           : [http @ 0x55] [error] Connection refused",
]


def after(*lines: str) -> Diary:
    diary = Diary(URL)
    for line in lines:
        diary.note(line)
    return diary


@pytest.mark.parametrize("line", OUTAGES)
def test_an_outage_is_known_by_its_words(line: str) -> None:
    assert isinstance(after(line).judge("anything"), TransientError)


@pytest.mark.parametrize("line", NO_OUTAGES)
def test_other_troubles_are_the_files(line: str) -> None:
    assert isinstance(after(line).judge("anything"), ToolFailed)


def test_a_source_that_breaks_off_again_and_again_is_given_up() -> None:
    with pytest.raises(TransientError):
        after(*OUTAGES[:1] * (MAX_OUTAGES + 1))


def test_a_full_disk_is_ours_and_a_lack_of_memory_the_files() -> None:
    assert isinstance(
        after("[out#0] [error] Error writing: No space left on device").judge(""), TransientError
    )
    assert "memory" in str(after("[x264] [error] Cannot allocate memory").judge(""))


@pytest.mark.parametrize("line", [f"[error] {URL}: Invalid", f"[error] cut off …{URL[30:]}x: Invalid"])
def test_no_secret_is_kept(line: str) -> None:
    diary = after(line)
    assert "X-Amz" not in diary.troubles[-1]
    assert "abc" not in repr(diary)


def test_bytes_of_the_input_are_counted() -> None:
    diary = after(
        "[AVIOContext @ 0x1] [verbose] Statistics: 100 bytes read, 1 seeks",  # the output, moved to its front
        "[AVIOContext @ 0x2] [verbose] Statistics: 265 bytes written, 2 seeks",
        "[AVIOContext @ 0x3] [verbose] Statistics: 23 bytes read, 0 seeks",
    )
    assert diary.pulled_bytes == 23


def test_a_missing_program_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolMissing, match="ffmpeg is not on PATH: install FFmpeg, or set FFMPEG_PATH"):
        Programs.find(None, None)
    with pytest.raises(ToolMissing, match="ffprobe is not at /nowhere"):
        Programs.find("/bin/sh", "/nowhere")
