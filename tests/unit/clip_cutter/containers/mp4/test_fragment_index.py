"""Indexes of fragments: ``sidx``, and ``mfra`` with its ``tfra``."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_cutter.containers.model import UnsupportedMedia
from clip_cutter.containers.mp4.boxes import Box
from clip_cutter.containers.mp4.fragment_index import (
    FragmentIndex,
    read_mfro,
    read_random_access,
    read_segment_index,
)
from tests.unit.clip_cutter.fragmented_file import box, full_box


def sidx(*rows: tuple[int, int], version: int = 0) -> bytes:
    form = ">IIQQ" if version else ">4I"
    head = struct.pack(form, 1, 1000, 500, 20) + struct.pack(">HH", 0, len(rows))
    return full_box(b"sidx", head, *(struct.pack(">3I", *row, 0) for row in rows), version=version)[8:]


def tfra(*rows: tuple[int, int], version: int = 1, lengths: int = 0) -> bytes:
    numbers = bytes(sum((lengths >> shift & 3) + 1 for shift in (0, 2, 4)))
    form = ">QQ" if version else ">II"
    entries = b"".join(struct.pack(form, *row) + numbers for row in rows)
    return full_box(b"tfra", struct.pack(">3I", 1, lengths, len(rows)), entries, version=version)


def read(*tfras: bytes, end: int = 1000) -> dict[int, FragmentIndex]:
    data = box(b"mfra", *tfras)
    mfra = Box(b"mfra", 0, 8, len(data))
    return dict(read_random_access(lambda at, size: data[at : at + size], mfra, end))


@pytest.mark.parametrize("version", [0, 1])
def test_a_segment_index_adds_up_lengths_and_sizes(version: int) -> None:
    index = read_segment_index(sidx((100, 2000), (150, 3000), version=version), 1000)
    assert (index.track, index.timescale) == (1, 1000)
    assert list(index.times) == [500, 2500, 5500]
    assert list(index.offsets) == [1020, 1120, 1270]


def test_a_segment_index_of_others_is_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="several levels"):
        read_segment_index(sidx((1 << 31 | 100, 2000)), 1000)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("lengths", [0, 0b111001])
def test_random_access_lists_each_fragment_once(version: int, lengths: int) -> None:
    found = read(tfra((0, 100), (30, 100), (60, 400), version=version, lengths=lengths))
    assert list(found[1].times) == [0, 60, 60]
    assert list(found[1].offsets) == [100, 400, 1000]


@pytest.mark.parametrize("rows", [(), ((0, 400), (30, 100)), ((0, 1000),)])
def test_invalid_random_access_is_refused(rows: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(UnsupportedMedia):
        read(tfra(*rows))


def test_random_access_that_is_cut_off_is_refused() -> None:
    whole = tfra((0, 100), (30, 400))
    with pytest.raises(UnsupportedMedia):
        read(struct.pack(">I", len(whole) - 4) + whole[4:-4])


def test_the_size_of_random_access_stands_at_the_end() -> None:
    assert read_mfro(full_box(b"mfro", struct.pack(">I", 77))) == 77
    assert read_mfro(full_box(b"free", struct.pack(">I", 77))) is None
    assert read_mfro(b"") is None


@given(st.binary(max_size=80))
def test_any_bytes_are_an_index_or_refused(data: bytes) -> None:
    for attempt in (lambda: read_segment_index(data, 0), lambda: read(full_box(b"tfra", data))):
        try:
            attempt()
        except UnsupportedMedia:
            continue
