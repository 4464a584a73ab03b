"""What is read from the answers of ffprobe and ffmpeg."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_cutter.domain.media import Audio, Media, Video
from clip_cutter.ffmpeg.probe import DEFAULT_FRAME_SECONDS, InvalidProbeOutput, read_media

VIDEO: dict[str, Any] = {
    "index": 0,
    "codec_type": "video",
    "codec_name": "h264",
    "pix_fmt": "yuv420p",
    "width": 1280,
    "height": 720,
    "avg_frame_rate": "30000/1001",
    "start_time": "1.466667",
    "duration": "60.0",
    "disposition": {"default": 1, "attached_pic": 0},
}
AUDIO: dict[str, Any] = {"index": 1, "codec_type": "audio", "codec_name": "aac", "start_time": "1.445"}
FORMAT = {"format_name": "mpegts", "start_time": "1.445", "duration": "60.02", "bit_rate": "4000000"}


def read(*streams: dict[str, Any], about: dict[str, Any] | None = None) -> Media:
    return read_media(json.dumps({"format": about or FORMAT, "streams": streams}).encode())


def test_a_vod_is_read() -> None:
    assert read(VIDEO, AUDIO) == Media(
        container="mpegts",
        start=1.445,
        seconds=60.02,
        bit_rate=4_000_000,
        video=Video(0, "h264", "yuv420p", 1280, 720, 1001 / 30000, 1.466667, 60.0),
        audio=Audio(1, "aac", 1.445, None),
    )


def test_what_is_not_said_is_unknown() -> None:
    media = read({"index": 3, "codec_type": "video"}, about={"format_name": "matroska,webm"})
    assert (media.container, media.start, media.seconds, media.bit_rate) == ("matroska", 0.0, None, None)
    assert media.video is not None
    assert media.video.frame_seconds == DEFAULT_FRAME_SECONDS
    assert media.audio is None


def test_cover_art_is_not_the_video() -> None:
    assert read({**VIDEO, "disposition": {"attached_pic": 1}}, AUDIO).video is None


def test_the_default_sound_counts() -> None:
    second = {**AUDIO, "index": 2, "disposition": {"default": 1}}
    assert read(VIDEO, AUDIO, second).audio == Audio(2, "aac", 1.445, None)
    assert read(VIDEO, AUDIO, {**AUDIO, "index": 2}).audio == Audio(1, "aac", 1.445, None)


@pytest.mark.parametrize("rate", ["0/0", "1/0", "90000/1", "1/100", "x", ""])
def test_an_unusual_frame_rate_is_not_believed(rate: str) -> None:
    media = read({**VIDEO, "avg_frame_rate": rate, "r_frame_rate": "60/1"})
    assert media.video is not None
    assert media.video.frame_seconds == pytest.approx(1 / 60)


@pytest.mark.parametrize("number", ["nan", "inf", "N/A", "-inf", ""])
def test_numbers_that_are_none_are_unknown(number: str) -> None:
    assert read(VIDEO, about={**FORMAT, "duration": number, "bit_rate": number}).seconds is None


def test_a_size_without_measure_is_unintelligible() -> None:
    with pytest.raises(InvalidProbeOutput):
        read({**VIDEO, "width": float("inf")})


@pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b"null", b'{"format": {}}', b'{"format": 1}', b"\xff"])
def test_nonsense_is_unintelligible(answer: bytes) -> None:
    with pytest.raises(InvalidProbeOutput):
        read_media(answer)


@settings(max_examples=30)
@given(
    st.recursive(
        st.none() | st.text() | st.integers() | st.floats(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_no_answer_is_a_surprise(answer: Any) -> None:
    for streams in (answer, [answer], [{**VIDEO, "width": answer}]):
        try:
            read_media(json.dumps({"format": FORMAT, "streams": streams}).encode())
        except InvalidProbeOutput:
            continue
