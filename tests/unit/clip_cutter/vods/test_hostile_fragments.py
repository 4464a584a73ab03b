"""Fragmented MP4s that claim much with few bytes: each is left to ffmpeg before it costs much."""

import struct
import time

import pytest

from clip_cutter.containers.model import TrackKind, UnsupportedMedia
from clip_cutter.containers.mp4.boxes import walk
from clip_cutter.containers.mp4.fragment_samples import FragmentSamples
from clip_cutter.containers.mp4.fragments import Header, read_fragment, read_header
from clip_cutter.containers.mp4.sample_entries import read_entries
from clip_cutter.vods.fragment_opening import open_file
from tests.unit.clip_cutter.fragmented_file import VIDEO, Memory, box, fragment, full_box, header, seconds_of

MANY_REQUESTS = 400


def known() -> Header:
    data = header()
    moov = next(
        each for each in walk(lambda at, size: data[at : at + size], 0, len(data)) if each.kind == b"moov"
    )
    return read_header(lambda at, size: data[at : at + size], moov, len(data))


def bomb(trafs: int, count: int) -> bytes:
    """A fragment of so many parts, each a run of so many samples that take no byte of the table."""
    part = box(
        b"traf",
        full_box(b"tfhd", struct.pack(">II", VIDEO, 1), flags=0x10),
        full_box(b"trun", struct.pack(">Ii", count, 1 << 20), flags=0x1),
    )
    return box(b"moof", full_box(b"mfhd", bytes(4)), *[part] * trafs)


def test_the_samples_of_a_fragment_are_bounded_whatever_its_tracks() -> None:
    data = bomb(10, 50_000)
    with pytest.raises(UnsupportedMedia, match="more than 200000 samples"):
        read_fragment(data, 0, known())


def test_the_samples_around_a_window_are_bounded() -> None:
    found = FragmentSamples(known(), 0.0, 1 << 40)
    one = read_fragment(bomb(1, 150_000), 0, known())
    other = read_fragment(bomb(1, 150_000), 0, known())
    found.add(one, 0.0)
    with pytest.raises(UnsupportedMedia, match="around the window"):
        found.add(other, 1e6)


async def test_boxes_without_end_between_fragments_are_not_walked_through() -> None:
    source = Memory(header() + seconds_of(0) + box(b"free") * 500_000 + seconds_of(1))
    await open_file(source)  # the end is looked for from the end
    assert source.requests < MANY_REQUESTS


async def test_places_that_only_look_like_fragments_are_tried_a_few_times() -> None:
    fake = struct.pack(">I", 300_000) + b"moof\0\0\0\x10mfhd" + bytes(8)
    source = Memory(header() + seconds_of(0) + box(b"mdat", fake * 20_000))
    with pytest.raises(UnsupportedMedia, match="only look like a fragment"):
        await open_file(source)
    assert source.requests < MANY_REQUESTS


async def test_a_long_end_without_video_is_not_followed_again_and_again() -> None:
    audio = b"".join(fragment(at + 2, audio=(47 + at, 48 + at), size=8) for at in range(3_000))
    source = Memory(header() + seconds_of(0) + audio)
    with pytest.raises(UnsupportedMedia):
        await open_file(source)
    assert source.requests < MANY_REQUESTS


async def test_a_header_of_many_boxes_is_read_in_no_time() -> None:
    source = Memory(header(extra=box(b"udta", bytes(14 << 20)) + box(b"free") * 900) + seconds_of(0, 3))
    began = time.process_time()
    await open_file(source)
    assert time.process_time() - began < 1


def test_sample_entries_without_end_are_not_counted() -> None:
    data = full_box(b"stsd", struct.pack(">I", 1), box(b"avc1") * 100_000)
    reads = 0

    def read(at: int, size: int) -> bytes:
        nonlocal reads
        reads += 1
        return data[at : at + size]

    with pytest.raises(UnsupportedMedia, match="sample entries of 1"):
        read_entries(read, next(walk(read, 0, len(data))), TrackKind.VIDEO)
    assert reads < 1000
