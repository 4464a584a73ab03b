"""What the cutter looks at in the bytes of samples, and what of a written clip it compares with them."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from clip_cutter.containers.model import Format, Sample, Track, TrackKind
from clip_cutter.cutter import _check_content, _inspect
from clip_cutter.domain.plan import BadClip

SIZE = 32


def track(path: Path, numbers: list[int], *, gap_behind: int = 100) -> Track:
    """Samples of so many bytes, each of which says its number; a gap lies behind one of them."""
    data, samples = b"", []
    for at, number in enumerate(numbers):
        samples.append(Sample(at, at, 1, len(data), SIZE, is_keyframe=at % 10 == 0))
        data += struct.pack(">II", 24 + 4, 5 << 24 | number).ljust(SIZE, b"\1")
        if at == gap_behind:
            data += b"between"
    path.write_bytes(data)
    return Track(TrackKind.VIDEO, 30, (Format("h264", b"avc1"),), samples, path)


def test_a_clip_with_the_samples_of_the_vod_passes(tmp_path: Path) -> None:
    numbers = list(range(40))
    _check_content([track(tmp_path / "clip", numbers, gap_behind=15)], [track(tmp_path / "vod", numbers)])


@pytest.mark.parametrize("at", [0, 15, 16, 20, 39])
def test_a_sample_that_is_another_one_is_seen(tmp_path: Path, at: int) -> None:
    numbers = list(range(40))
    wrong = [*numbers[:at], 99, *numbers[at + 1 :]]
    with pytest.raises(BadClip, match="differs from the VOD's"):
        _check_content([track(tmp_path / "clip", wrong, gap_behind=15)], [track(tmp_path / "vod", numbers)])


def test_an_offset_that_is_wrong_is_seen(tmp_path: Path) -> None:
    clip, vod = track(tmp_path / "clip", list(range(40))), track(tmp_path / "vod", list(range(40)))
    shifted = [
        each._replace(offset=each.offset + (SIZE if at >= 20 else 0)) for at, each in enumerate(clip.samples)
    ]
    with pytest.raises(BadClip, match="differs from the VOD's"):
        _check_content([replace(clip, samples=shifted)], [vod])


def test_h264_whose_configuration_nobody_can_read_is_damaged(tmp_path: Path) -> None:
    video, begins_with_idr = _inspect(track(tmp_path / "vod", [1, 2, 3]))
    assert not begins_with_idr
    assert [each.why for each in video.damages] == ["avc1: no avcC box in the sample entry"]
