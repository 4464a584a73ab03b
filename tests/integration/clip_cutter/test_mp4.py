"""Edit lists are set in place: nothing but times changes, and nothing that is no clip is touched."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from clip_cutter.mp4 import MalformedClip, Movie
from tests.integration.clip_cutter.conftest import Cutting
from tests.integration.clip_cutter.media import Seen

Vod = Callable[[str], Seen]


@pytest.fixture
async def clip(vod: Vod, cut: Cutting) -> Path:
    return (await cut(vod("b-frames.mp4").path, 5.3, 8.3)).video


def test_what_is_shown_can_be_set_again_and_again(clip: Path) -> None:
    before, size = Seen(clip).hashes, clip.stat().st_size
    Movie.open(clip).show(0.5, 2.5)
    assert Seen(clip).hashes == before[15:75]
    Movie.open(clip).show(-0.5, 1.0)
    assert Seen(clip).hashes == before[:45]
    assert clip.stat().st_size == size


def test_a_track_is_not_moved_back_further_than_it_reaches(clip: Path) -> None:
    movie = Movie.open(clip)
    picture = movie.track("video")
    assert picture is not None
    assert min(picture.times) == picture.earliest_start < 0
    content = clip.read_bytes()
    with pytest.raises(MalformedClip):
        movie.show(picture.earliest_start - 0.1, 3.0)
    assert clip.read_bytes() == content


def test_the_times_of_frames_are_those_of_the_file(clip: Path) -> None:
    picture = Movie.open(clip).track("video")
    assert picture is not None
    shown = sorted(time for time in picture.times if time >= -1e-6)
    assert shown[:90] == pytest.approx([frame.time for frame in Seen(clip).frames], abs=1e-4)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 7, b"\0" * 100, b"hello world, " * 9, b"\0\0\0\x10moov\0\0\0\x08mvhd"]
)
def test_what_is_no_clip_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(MalformedClip):
        Movie.open(path)


def test_a_damaged_header_is_refused_or_read(clip: Path) -> None:
    content = clip.read_bytes()
    header = content.index(b"moov")
    chance = random.Random(11)  # noqa: S311 - a test's chance
    for _ in range(300):
        at = header + chance.randrange(4, 700)
        clip.write_bytes(content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :])
        try:
            Movie.open(clip).track("video")
        except MalformedClip:
            continue
