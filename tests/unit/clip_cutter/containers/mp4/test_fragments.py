"""Movie fragments: the meaning of each field, and which fragments are refused."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_cutter.containers.model import TrackKind, UnsupportedMedia
from clip_cutter.containers.mp4.boxes import Box, walk
from clip_cutter.containers.mp4.fragments import (
    Fragment,
    Header,
    find_moofs,
    read_fragment,
    read_header,
)
from tests.unit.clip_cutter.fragmented_file import AUDIO, VIDEO, box, fragment, full_box, header, seconds_of


def header_of(data: bytes) -> Header:
    def read(offset: int, size: int) -> bytes:
        return data[offset : offset + size]

    moov = next((each for each in walk(read, 0, len(data)) if each.kind == b"moov"), Box(b"moov", 0, 0, 0))
    return read_header(read, moov, len(data))


HEADER = header_of(header())


def fragment_of(data: bytes, offset: int = 0) -> Fragment:
    return read_fragment(data[: int.from_bytes(data[:4])], offset, HEADER)


def moof(*trafs: bytes) -> bytes:
    return box(b"moof", full_box(b"mfhd", struct.pack(">I", 7)), *trafs)


def traf(tfhd: bytes, *boxes: bytes, flags: int = 0x020000, track: int = VIDEO) -> bytes:
    return box(b"traf", full_box(b"tfhd", struct.pack(">I", track) + tfhd, flags=flags), *boxes)


def trun(flags: int, count: int, *words: int) -> bytes:
    return full_box(b"trun", struct.pack(f">I{len(words)}I", count, *words), flags=flags)


def test_a_header_says_what_the_tracks_are() -> None:
    assert [track.kind for track in HEADER.tracks] == [TrackKind.VIDEO, TrackKind.AUDIO]
    assert HEADER.video.timescale == 15360
    assert HEADER.video.formats[0].codec == "h264"
    assert (HEADER.video.formats[0].width, HEADER.video.formats[0].height) == (192, 108)
    assert HEADER.audio is not None
    assert (HEADER.audio.formats[0].codec, HEADER.audio.formats[0].rate) == ("aac", 48000)
    assert HEADER.defaults[VIDEO].duration == 512


def test_an_edit_shifts_a_track() -> None:
    video = header_of(header(media_times=(1536, 0))).video
    assert (video.origin, video.shows_from) == (-0.1, 0)


def test_a_header_without_video_or_without_fragments_is_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="no video"):
        header_of(header().replace(b"vide", b"meta"))
    with pytest.raises(UnsupportedMedia, match="has no fragments"):
        header_of(header().replace(b"mvex", b"free"))


def test_values_missing_in_a_run_are_the_defaults() -> None:
    traf = fragment_of(seconds_of(2), 1000).trafs[0]
    assert traf.decode_time == 60 * 512
    assert [sample.decoded for sample in traf.samples[:3]] == [30720, 31232, 31744]
    assert {sample.length for sample in traf.samples} == {512}
    assert [sample.is_keyframe for sample in traf.samples[:3]] == [True, False, False]
    assert traf.samples[1].offset == traf.samples[0].offset + 100


def test_defaults_of_a_fragment_override_the_header() -> None:
    flags = 0x020000 | 0x8 | 0x10 | 0x20
    tfhd = struct.pack(">III", 100, 40, 0x01010000)
    (found,) = fragment_of(moof(traf(tfhd, trun(0x1, 2, 500), flags=flags))).trafs
    assert [(each.length, each.size, each.is_keyframe) for each in found.samples] == [(100, 40, False)] * 2


def test_values_of_a_run_override_all_defaults() -> None:
    shift = 2**32 - 50
    run = trun(0xF01, 2, 500, 10, 30, 0x02000000, 60, 20, 40, 0x01010000, shift)
    (found,) = fragment_of(moof(traf(b"", run))).trafs
    first, second = found.samples
    assert (first.decoded, first.shown, first.length, first.size, first.offset) == (0, 60, 10, 30, 500)
    assert (second.decoded, second.shown, second.length, second.size, second.offset) == (10, -40, 20, 40, 530)
    assert (first.is_keyframe, second.is_keyframe) == (True, False)


@pytest.mark.parametrize(
    ("flags", "is_keyframe"), [(0, True), (0x02000000, True), (0x01000000, False), (0x00010000, False)]
)
def test_a_sample_that_depends_on_others_is_no_keyframe(flags: int, is_keyframe: bool) -> None:
    (found,) = fragment_of(moof(traf(b"", trun(0x605, 1, 500, 0, 30, flags)))).trafs
    assert found.samples[0].is_keyframe
    (found,) = fragment_of(moof(traf(b"", trun(0x601, 1, 500, 30, flags)))).trafs
    assert found.samples[0].is_keyframe is is_keyframe


def test_data_without_an_offset_follows_the_data_before() -> None:
    first = traf(struct.pack(">I", 10), trun(0x1, 2, 500), trun(0, 3), flags=0x10)
    second = traf(struct.pack(">I", 7), trun(0, 1), flags=0x10, track=AUDIO)
    third = traf(struct.pack(">I", 7), trun(0x1, 1, 5), flags=0x10, track=AUDIO)
    video, audio, more = fragment_of(moof(first, second, third), 2000).trafs
    assert [sample.offset for sample in video.samples] == [2500, 2510, 2520, 2530, 2540]
    assert [sample.offset for sample in audio.samples] == [2550]
    assert [sample.offset for sample in more.samples] == [2562]  # counts from the end of those before


def test_data_may_lie_before_the_fragment() -> None:
    (found,) = fragment_of(
        moof(traf(struct.pack(">I", 10), trun(0x1, 1, 2**32 - 600), flags=0x020010)), 1000
    ).trafs
    assert found.samples[0].offset == 400


def test_times_without_tfdt_count_from_0() -> None:
    (found,) = fragment_of(fragment(1, video=(30, 32), timed=False)).trafs
    assert found.decode_time is None
    assert [sample.decoded for sample in found.shifted(1000).samples] == [1000, 1512]


@pytest.mark.parametrize(
    "data",
    [
        moof(traf(b"", trun(0x201, 1000, 500))),  # fewer rows than it says
        moof(traf(b"", trun(0x1, 2**31, 500))),
        moof(traf(b"", trun(0x201, 1, 500, 2**31))),  # a sample of 2 GiB
        moof(traf(b"", trun(0x1, 1, 2**31))),  # before the file
        moof(traf(b"", trun(0x1, 1, 500), track=9)),
        moof(traf(struct.pack(">I", 2), trun(0x201, 1, 500, 9), flags=0x020002)),  # its second format
        moof(traf(b"")[:-4]),
        moof(box(b"traf", trun(0x1, 1, 500))),
        moof(traf(b"", full_box(b"tfdt", b"", version=1))),
        box(b"free"),
    ],
)
def test_invalid_fragments_are_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        fragment_of(data)


def test_other_tracks_are_skipped() -> None:
    subtitles = full_box(b"trex", struct.pack(">5I", 3, 1, 1, 1, 0))
    data = header().replace(b"mvex", b"mvex")
    at = data.index(b"mvex") - 4
    grown = data[:at] + box(b"mvex", data[at + 8 :], subtitles)
    moov = grown.index(b"moov") - 4
    known = header_of(grown[:moov] + struct.pack(">I", len(grown) - moov) + grown[moov + 4 :])
    both = moof(traf(b"", trun(0x201, 1, 500, 9), track=3), traf(b"", trun(0x201, 1, 500, 9)))
    assert [traf.track for traf in read_fragment(both, 0, known).trafs] == [VIDEO]


def test_fragments_are_found_by_their_head() -> None:
    one, two = seconds_of(0), seconds_of(1)
    assert list(find_moofs(b"moof" + one + b"\0\0\0\x18moof\0\0\0\x10free" + two)) == [4, 4 + len(one) + 16]
    assert list(find_moofs(one[4:])) == []


MOOF = seconds_of(3)[: int.from_bytes(seconds_of(3)[:4])]


@given(st.integers(0, len(MOOF) - 1), st.binary(min_size=1, max_size=6), st.integers(0, len(MOOF)))
@settings(max_examples=500, deadline=None)
def test_a_changed_fragment_is_read_or_refused(at: int, change: bytes, length: int) -> None:
    data = (MOOF[:at] + change + MOOF[at + len(change) :])[: max(length, 1)]
    try:
        found = read_fragment(data, 0, HEADER)
    except UnsupportedMedia:
        return
    assert all(traf.samples for traf in found.trafs)


START = header(media_times=(512, 1024))


@given(st.integers(0, len(START) - 1), st.binary(min_size=1, max_size=6), st.integers(0, len(START)))
@settings(max_examples=500, deadline=None)
def test_a_changed_header_is_read_or_refused(at: int, change: bytes, length: int) -> None:
    data = (START[:at] + change + START[at + len(change) :])[: max(length, 1)]
    try:
        assert header_of(data).video.timescale > 0
    except UnsupportedMedia:
        return
