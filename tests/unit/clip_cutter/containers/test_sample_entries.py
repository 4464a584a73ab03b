"""Sample entries: their formats are read, their bytes are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_cutter.containers.model import Format, TrackKind, UnsupportedMedia
from clip_cutter.containers.mp4.boxes import Box
from clip_cutter.containers.mp4.sample_entries import is_cover_art, read_entries
from tests.unit.clip_cutter.containers.mp4_file import (
    AAC_CONFIG,
    AVC_RECORD,
    audio_entry,
    box,
    esds,
    full_box,
    reader,
    video_entry,
)


def read(kind: TrackKind, *entries: bytes, count: int | None = None) -> tuple[Format, ...]:
    number = len(entries) if count is None else count
    stsd = full_box(b"stsd", number.to_bytes(4), *entries)
    return read_entries(reader(stsd), Box(b"stsd", 0, 8, len(stsd)), kind)


VIDEO = {
    "h264": video_entry(b"avc1", 192, 108, box(b"avcC", AVC_RECORD)),
    "hevc": video_entry(b"hev1"),
    "av1": video_entry(b"av01"),
    "vp9": video_entry(b"vp09"),
    "mpeg4": video_entry(b"mp4v", 192, 108, esds(0x20)),
    "mpeg2video": video_entry(b"mp4v", 192, 108, esds(0x61)),
    "unknown": video_entry(b"wavy"),
}
AUDIO = {
    "aac": audio_entry(b"mp4a", 48_000, 2, esds(0x40, AAC_CONFIG)),
    "mp3": audio_entry(b"mp4a", 44_100, 2, esds(0x6B)),
    "opus": audio_entry(b"Opus"),
    "ac3": audio_entry(b"ac-3"),
    "eac3": audio_entry(b"ec-3"),
    "flac": audio_entry(b"fLaC"),
    "unknown": audio_entry(b"mp4a"),
}


@pytest.mark.parametrize("codec", VIDEO)
def test_video_has_a_codec_and_a_size(codec: str) -> None:
    (found,) = read(TrackKind.VIDEO, VIDEO[codec])
    size = (324, 182) if codec == "h264" else (192, 108)  # the parameter set knows better than the entry
    assert (found.codec, (found.width, found.height), found.is_web) == (codec, size, codec == "h264")
    assert found.entry == VIDEO[codec]


@pytest.mark.parametrize("codec", AUDIO)
def test_audio_has_a_codec_a_rate_and_channels(codec: str) -> None:
    (found,) = read(TrackKind.AUDIO, AUDIO[codec])
    rate = 44_100 if codec == "mp3" else 48_000
    assert (found.codec, found.rate, found.channels, found.is_web) == (codec, rate, 2, codec == "aac")
    assert found.entry == AUDIO[codec]


def test_h264_and_aac_without_a_configuration_are_not_trusted() -> None:
    (video,) = read(TrackKind.VIDEO, video_entry(b"avc3"))
    (audio,) = read(TrackKind.AUDIO, audio_entry(b"mp4a", 48_000, 2, esds(0x40)))
    assert (video.codec, video.is_web, video.width) == ("h264", False, 192)
    assert (audio.codec, audio.is_web, audio.rate) == ("aac", False, 48_000)


def test_quicktime_keeps_the_configuration_in_a_box_of_its_own() -> None:
    version_1 = audio_entry(b"mp4a", 48_000, 2, bytes(16), box(b"wave", esds(0x40, AAC_CONFIG), bytes(4)))
    entry = version_1[:16] + b"\0\1" + version_1[18:]
    assert read(TrackKind.AUDIO, entry)[0].is_web


def test_a_track_may_have_several_formats() -> None:
    large = video_entry(b"avc1", 1280, 720, box(b"avcC", AVC_RECORD))
    assert len(read(TrackKind.VIDEO, VIDEO["h264"], large)) == 2


def test_cover_art_is_no_video() -> None:
    pictures = (video_entry(b"jpeg"), video_entry(b"png "), video_entry(b"mp4v", 9, 9, esds(0x6C)))
    assert all(is_cover_art(read(TrackKind.VIDEO, each)[0]) for each in pictures)
    assert not is_cover_art(read(TrackKind.VIDEO, VIDEO["h264"])[0])


@pytest.mark.parametrize(
    "entries",
    [[], [video_entry()[:40]], [box(b"avc1")], [video_entry()] * 257, [video_entry(), b"\0\0\0\xff"]],
)
def test_damaged_sample_entries_are_refused(entries: list[bytes]) -> None:
    with pytest.raises(UnsupportedMedia):
        read(TrackKind.VIDEO, *entries)
    with pytest.raises(UnsupportedMedia):
        read(TrackKind.VIDEO, video_entry(), count=2)


@given(
    st.binary(max_size=120), st.sampled_from([b"mp4a", b"mp4v", b"avc1"]), st.sampled_from(list(TrackKind))
)
def test_any_sample_entry_is_a_format_or_refused(data: bytes, name: bytes, kind: TrackKind) -> None:
    try:
        (found,) = read(kind, box(name, data))
    except UnsupportedMedia:
        return
    assert found.entry == box(name, data)
