"""What a file says of itself stands in ffmpeg's log, and decides nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from clip_cutter.domain.policy import Skipped
from clip_shared.contracts.events import SkipReason
from tests.integration.clip_cutter.conftest import Cutting
from tests.integration.clip_cutter.media import DecodedFile, remux
from tests.integration.clip_cutter.web import FaultyWebServer, running_web

Vod = Callable[[str], DecodedFile]
OUTAGE = "[tcp @ 0x1] [error] "  # the shortest line that only the network writes
TAGS = {
    "an answer": "Server returned 5XX Server Error reply\n" * 10,
    "a line of the network": f"x\n{OUTAGE}Connection refused\r{OUTAGE}x\n" * 10,
    "in colour": "x\n\x1b[0;39m[tcp @ 0x1] \x1b[0m\x1b[1;31m[error] \x1b[0m\x1b[1;31mrefused\n" * 10,
    "a failed read": "[in#0 @ 0x1] [error] Error during demuxing: Input/output error\n" * 10,
    "a full disk": "[out#0/mp4 @ 0x1] [error] Error closing file: No space left on device\n",
    "no memory": "[error] Cannot allocate memory\n",
    "statistics": f"[AVIOContext @ 0x1] [verbose] Statistics: {'9' * 400} bytes read, 0 seeks\n",
}


@pytest.fixture(scope="module")
def web() -> Iterator[FaultyWebServer]:
    with running_web() as web:
        yield web


def tagged(source: Path, target: Path, tag: str) -> bytes:
    """The VOD with a tag of the file and of each of its streams."""
    everywhere = [
        word for option in ("", ":s:v", ":s:a") for word in (f"-metadata{option}", f"comment={tag}")
    ]
    return remux(source, target, *everywhere, "-metadata", f"title={tag}").read_bytes()


@pytest.mark.parametrize("file", ["vod.mkv", "vod.flv"])
@pytest.mark.parametrize("name", TAGS)
async def test_no_tag_is_taken_for_an_outage(  # noqa: PLR0917
    vod: Vod,
    cut_by_ffmpeg: Cutting,
    web: FaultyWebServer,
    tmp_path: Path,
    metrics_registry: CollectorRegistry,
    name: str,
    file: str,
) -> None:
    content = tagged(vod("b-frames.mp4").path, tmp_path / file, TAGS[name])
    web.serve(f"/{file}", content)
    clip = await cut_by_ffmpeg(web.vod(f"/{file}"), 5.3, 8.3)
    expected = [frame.hash for frame in vod("b-frames.mp4").from_to(5.3, 8.3)]
    assert DecodedFile(clip.video).hashes == expected
    pulled = metrics_registry.get_sample_value("clips_pulled_bytes_total")
    assert pulled is not None
    assert 0 < pulled < 5 * len(content)


@pytest.mark.parametrize("place", ["here", "afar"])
@pytest.mark.parametrize("name", TAGS)
async def test_a_damaged_window_is_the_files_fault_whatever_its_tags_say(  # noqa: PLR0917
    vod: Vod, cut: Cutting, web: FaultyWebServer, tmp_path: Path, name: str, place: str
) -> None:
    content = tagged(vod("b-frames.mp4").path, tmp_path / "vod.mkv", TAGS[name])
    half = len(content) // 2
    damaged = content[:half] + bytes(len(content) - half)
    (tmp_path / "damaged.mkv").write_bytes(damaged)
    web.serve("/damaged.mkv", damaged)
    with pytest.raises(Skipped) as skip:
        await cut(tmp_path / "damaged.mkv" if place == "here" else web.vod("/damaged.mkv"), 8.0, 11.0)
    assert skip.value.reason is SkipReason.SOURCE_UNREADABLE


def with_codec(content: bytes, name: str, codec: str) -> bytes:
    """An MKV whose sound has another codec id, in the place of its name and of what comes between."""
    start = content.index(b"\x53\x6e", content.index(name.encode()) - 8)
    end = content.index(b"A_AAC", start) + len("A_AAC")
    size = end - start - 3  # an id of 1 byte, a length of 2
    text = codec.encode().ljust(size, b"x")
    assert len(text) == size
    return content[:start] + b"\x86" + (0x4000 | size).to_bytes(2, "big") + text + content[end:]


async def test_not_even_a_whole_line_can_be_forged(
    vod: Vod, cut: Cutting, web: FaultyWebServer, tmp_path: Path
) -> None:
    """ffmpeg quotes a codec that it does not know, with its newlines."""
    name = "n" * 300
    content = remux(
        vod("b-frames.mp4").path, tmp_path / "v.mkv", "-metadata:s:a", f"title={name}"
    ).read_bytes()
    evil = with_codec(content, name, f"A\n{OUTAGE}Connection refused\n" * 7)
    web.serve("/forged.mkv", evil)
    clip = await cut(web.vod("/forged.mkv"), 5.3, 8.3)
    assert DecodedFile(clip.video).hashes == [frame.hash for frame in vod("b-frames.mp4").from_to(5.3, 8.3)]
