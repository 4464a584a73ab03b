"""Boxes: valid ones are found, invalid ones are refused."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_cutter.containers.model import UnsupportedMedia
from clip_cutter.containers.mp4.boxes import Box, child, children, content, walk
from tests.unit.clip_cutter.containers.mp4_file import box, reader


def test_boxes_are_found_one_after_the_other() -> None:
    data = box(b"ftyp", b"isom") + box(b"free") + box(b"mdat", bytes(100))
    found = list(walk(reader(data), 0, len(data)))
    assert [each.kind for each in found] == [b"ftyp", b"free", b"mdat"]
    assert found[2] == Box(b"mdat", head=20, start=28, end=128)


def test_a_size_may_take_64_bits_or_reach_to_the_end() -> None:
    wide = struct.pack(">I4sQ", 1, b"mdat", 20) + bytes(4)
    open_ended = struct.pack(">I4s", 0, b"mdat") + bytes(7)
    assert list(walk(reader(wide + open_ended), 0, 35)) == [
        Box(b"mdat", 0, 16, 20),
        Box(b"mdat", 20, 28, 35),
    ]


def test_the_last_box_of_a_file_may_reach_beyond_its_end() -> None:
    data = struct.pack(">I4s", 2**31, b"mdat")
    assert next(walk(reader(data), 0, len(data))).end == 2**31


@pytest.mark.parametrize(
    "data", [struct.pack(">I4s", 7, b"moov"), b"\0\0\0", struct.pack(">I4sQ", 1, b"moov", 9)]
)
def test_an_invalid_box_head_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        list(walk(reader(data), 0, len(data)))


def test_a_box_must_not_end_after_its_parent() -> None:
    data = box(b"moov", struct.pack(">I4s", 9, b"trak"))
    with pytest.raises(UnsupportedMedia, match="too large"):
        children(reader(data), Box(b"moov", 0, 8, 16))


def test_the_number_of_boxes_is_limited() -> None:
    data = box(b"moov", box(b"free") * 1001)
    with pytest.raises(UnsupportedMedia, match="too many"):
        children(reader(data), Box(b"moov", 0, 8, len(data)))


def test_a_child_must_be_unique_in_its_parent() -> None:
    data = box(b"moov", box(b"trak"), box(b"trak"), box(b"mvhd", b"1234"))
    moov = Box(b"moov", 0, 8, len(data))
    assert content(reader(data), child(reader(data), moov, b"mvhd")) == b"1234"
    for kind in (b"trak", b"mdia"):
        with pytest.raises(UnsupportedMedia, match=kind.decode()):
            child(reader(data), moov, kind)


def test_content_refuses_large_and_truncated_boxes() -> None:
    with pytest.raises(UnsupportedMedia, match="100000 bytes"):
        content(reader(b""), Box(b"stsd", 0, 8, 100_008))
    with pytest.raises(UnsupportedMedia, match="cut off"):
        content(reader(bytes(10)), Box(b"stsd", 0, 8, 11))


@given(st.binary(max_size=200))
def test_walking_ends_for_any_bytes(data: bytes) -> None:
    try:
        found = list(walk(reader(data), 0, len(data)))
    except UnsupportedMedia:
        return
    assert len(found) <= len(data) / 8
