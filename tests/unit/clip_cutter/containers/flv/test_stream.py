"""Recognizing an FLV, and finding the samples that start at any place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_cutter.containers.flv.stream import FlvStream
from clip_cutter.containers.model import TrackKind, UnsupportedMedia
from clip_cutter.containers.stream import SampleStart
from tests.unit.clip_cutter.containers.flv.builders import (
    AAC_48,
    AVC_1,
    FILE_HEAD,
    HEAD,
    aac_header,
    avc_header,
    picture,
    script,
    sound,
    tag,
)


def test_h264_is_recognized_with_or_without_audio() -> None:
    FlvStream.read(HEAD + picture(0, key=True))
    FlvStream.read(FILE_HEAD + avc_header(AVC_1) + picture(0, key=True)[:20])


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"FLV",
        FILE_HEAD,
        HEAD,
        b"\x47" * 188,
        FILE_HEAD + aac_header(AAC_48) + sound(0),
        FILE_HEAD + picture(0, key=True),
        FILE_HEAD + avc_header(AVC_1[:-9]) + picture(0, key=True),
        HEAD + tag(8, 0, b"\x2fmp3") + picture(0, key=True),
        FILE_HEAD + tag(9, 0, b"\x90hvc1"),
    ],
)
def test_other_files_are_refused(head: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        FlvStream.read(head)


def test_samples_are_pictures_and_audio_frames() -> None:
    data = (
        script()
        + avc_header(AVC_1)
        + picture(1000, key=True, shift=80)
        + sound(1003)
        + picture(1040, shift=-40)
    )
    at = 500 + len(script() + avc_header(AVC_1))
    first, second, third = FlvStream().sample_starts(data, 500)
    assert first == SampleStart(at, TrackKind.VIDEO, 0, 1000, 1080, is_keyframe=True)
    assert second == SampleStart(at + len(picture(0)), TrackKind.AUDIO, 0, 1003, 1003, is_keyframe=True)
    assert third[1:] == (TrackKind.VIDEO, 0, 1040, 1000, False)


@given(st.binary(max_size=300), st.integers(0, 2**40))
def test_sample_starts_of_any_bytes(data: bytes, offset: int) -> None:
    for sample in FlvStream().sample_starts(data + picture(7) + sound(8) + data, offset):
        assert offset <= sample.offset
        assert 0 <= sample.decoded < FlvStream.wrap
        assert 0 <= sample.shown < FlvStream.wrap
