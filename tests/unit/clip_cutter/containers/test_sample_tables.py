"""The tables of a track, read block by block, give the same values as the whole tables."""

from itertools import accumulate
from typing import NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_cutter.containers.model import UnsupportedMedia
from clip_cutter.containers.mp4 import sample_tables
from clip_cutter.containers.mp4.boxes import Box, child
from clip_cutter.containers.mp4.index import find_index
from clip_cutter.containers.mp4.sample_tables import SampleLocation, SampleTables
from tests.unit.clip_cutter.containers.mp4_file import TrackOf, full_box, movie_of, reader, table


class SampleEntryRun(NamedTuple):
    step: int
    shift: int


def tables_of(track: TrackOf, cut: int = 0) -> SampleTables:
    data = movie_of(track)
    read = reader(data)
    moov = find_index(read, len(data))
    stbl = child(read, moov, b"trak", b"mdia", b"minf", b"stbl")
    return SampleTables(read, stbl, len(data) - cut)


def first_chunk(track: TrackOf) -> int:
    return movie_of(track).index(b"mdat") + 4


@settings(max_examples=60, deadline=None)
@given(
    entries=st.lists(
        st.builds(SampleEntryRun, st.integers(0, 50), st.integers(0, 90)), min_size=1, max_size=60
    ),
    per_chunk=st.integers(1, 7),
    window=st.tuples(st.integers(0, 60), st.integers(1, 60)),
    early=st.integers(-40, 0),
)
def test_lookups_by_block_equal_the_whole_table(
    entries: list[SampleEntryRun], per_chunk: int, window: tuple[int, int], early: int
) -> None:
    count = len(entries)
    whole, rest = divmod(count, per_chunk)
    chunks = [per_chunk] * whole + ([rest] if rest else [])
    steps, shifts = [each.step for each in entries], [each.shift + early for each in entries]
    track = TrackOf(steps=steps, shifts=shifts, chunks=chunks, keyframes=range(1, count + 1, 4))
    with patch.object(sample_tables, "BLOCK_ROWS", 2), patch.object(sample_tables, "READ_ROWS", 4):
        tables = tables_of(track)
        first = min(window[0], count - 1)
        after = min(first + window[1], count)
        shown = list(accumulate(steps[:-1], initial=0))
        shown = [at + shift for at, shift in zip(shown, shifts, strict=True)]
        assert tables.shown(first, after) == shown[first:after]
        assert tables.durations(first, after) == steps[first:after]
        decoded = tables.decoded(0, count)
        assert tables.decoded(first, after) == decoded[first:after]
        assert all(time <= at for time, at in zip(decoded, shown, strict=True))
        start = first_chunk(track)
        assert tables.locations(first, after) == [
            SampleLocation(start + 10 * at, 10, 0) for at in range(first, after)
        ]
        assert tables.are_keyframes(first, after) == [at % 4 == 0 for at in range(first, after)]
        for ticks in (decoded[first], decoded[first] + 1, -100, 10_000):
            assert tables.first_after(ticks) == sum(time < ticks for time in decoded)


def test_chunks_may_differ_in_their_sample_entries() -> None:
    tables = tables_of(TrackOf(chunks=(3, 3, 4), entry_of=(1, 2, 1)))
    assert [location.entry for location in tables.locations(2, 8)] == [0, 1, 1, 1, 0, 0]


def test_the_rows_to_read_are_known_before() -> None:
    track = TrackOf(chunks=(3, 3, 4))
    data, asked = movie_of(track), list[tuple[int, int]]()
    read = reader(data)
    stbl = child(read, find_index(read, len(data)), b"trak", b"mdia", b"minf", b"stbl")

    def spy(offset: int, size: int) -> bytes:
        asked.append((offset, size))
        return read(offset, size)

    tables = SampleTables(spy, stbl, len(data))
    wanted = [tuple(extent) for extent in tables.row_extents(4, 8)]
    asked.clear()
    tables.locations(4, 8)
    assert set(wanted) <= set(asked)
    assert [size for _, size in wanted] == [8, 20]


def test_samples_beyond_the_end_of_the_file_are_left_out() -> None:
    data = movie_of(TrackOf())
    behind_media = len(data) - first_chunk(TrackOf()) - 100
    assert tables_of(TrackOf()).count == 10
    assert tables_of(TrackOf(), cut=behind_media + 1).count == 9
    assert tables_of(TrackOf(), cut=behind_media + 10).count == 9
    assert tables_of(TrackOf(), cut=behind_media + 11).count == 8
    assert tables_of(TrackOf(), cut=behind_media + 100).count == 0


@pytest.mark.parametrize(
    ("track", "why"),
    [
        (TrackOf(shifts=(1,) * 9), "do not agree"),
        (TrackOf(extra=[full_box(b"stps", bytes(4))]), "stps"),
        (TrackOf(extra=[table(b"stts", "II", [])]), "2 tables"),
        (TrackOf(extra=[full_box(b"sbgp", b"seig", bytes(4))]), "groups"),
        (TrackOf(steps=(2**31,) + (1,) * 9), "backwards"),
        (TrackOf(chunks=()), "without a chunk"),
    ],
)
def test_unsupported_tables_are_refused(track: TrackOf, why: str) -> None:
    with pytest.raises(UnsupportedMedia, match=why):
        tables_of(track)


def test_groups_for_the_start_of_decoding_are_ignored() -> None:
    roll = full_box(b"sgpd", b"roll", bytes(4))
    assert tables_of(TrackOf(extra=[roll, full_box(b"sbgp", b"roll", bytes(4))])).count == 10


def damaged(kind: bytes, at: int, value: int, track: TrackOf | None = None) -> SampleTables:
    """Read tables with another number at a place of one of them."""
    data = bytearray(movie_of(track or TrackOf(chunks=(3, 2, 5))))
    place = data.index(kind) + 4 + at
    data[place : place + 4] = value.to_bytes(4)
    read = reader(bytes(data))
    stbl = child(read, find_index(read, len(data)), b"trak", b"mdia", b"minf", b"stbl")
    return SampleTables(read, stbl, len(data))


@pytest.mark.parametrize(
    ("kind", "at", "value", "why"),
    [
        (b"stts", 4, 2**32 - 1, "cut off"),
        (b"stts", 8, 2**32 - 1, "agree"),
        (b"stsz", 8, 2**32 - 1, "cut off"),
        (b"stsc", 8, 2, "out of order"),
        (b"stco", 4, 2**32 - 1, "cut off"),
        (b"stsc", 8 + 12, 9, "out of order"),
        (b"stsc", 8 + 12, 2**32 - 1, "out of order"),
        (b"stsc", 8 + 24, 1, "out of order"),
        (b"stsc", 8 + 4, 0, "without a chunk"),
        (b"stsc", 8 + 28, 0, "without a chunk"),
    ],
)
def test_damage_is_named(kind: bytes, at: int, value: int, why: str) -> None:
    with pytest.raises(UnsupportedMedia, match=why):
        damaged(kind, at, value).locations(0, 10)


def test_a_chunk_of_too_many_samples_is_refused() -> None:
    with (
        patch.object(sample_tables, "MAX_IN_CHUNKS", 3),
        pytest.raises(UnsupportedMedia, match="chunks of 4"),
    ):
        tables_of(TrackOf()).locations(3, 4)


def test_an_empty_sample_table_is_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="stbl: no b'stts'"):
        SampleTables(reader(b""), Box(b"stbl", 0, 0, 0), 0)
