"""The sample table of a track (``stbl``, ISO/IEC 14496-12 §8.5 to §8.7), read block by block.

Its tables may have millions of rows: no table is ever in memory as a whole. A lookup reads one or two blocks,
because the sums of the rows before each block are kept in memory.
"""

import struct
import sys
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise, repeat
from operator import mul
from typing import NamedTuple

from clip_cutter.containers.model import UnsupportedMedia
from clip_cutter.containers.mp4.boxes import Box, Read, children

READ_ROWS = 32 * 1024  # rows that one read returns
BLOCK_ROWS = 512  # rows between two sums
# The most significant bytes of an array of 32-bit integers.
SIGN_BYTES = slice(3 if sys.byteorder == "little" else 0, None, 4)
MAX_IN_CHUNKS = 1_000_000  # samples in the chunks of a window
MAX_REORDERED = 16  # pictures that are decoded before a picture that is shown earlier (H.264 §A.3.1)
# Other boxes in a sample table may change the meaning of the samples.
KNOWN_TABLES = frozenset(
    {b"stsd", b"stts", b"ctts", b"stss", b"stsc", b"stsz", b"stco", b"co64", b"sdtp", b"cslg"}
)
# Sample groups that tell where a decoder may start; they do not change the samples.
GROUP_TABLES = frozenset({b"sgpd", b"sbgp"})
KNOWN_GROUPS = frozenset({b"roll", b"prol", b"rap ", b"sync", b"tele"})
# Tables that are read whole, to sum them up; of the other tables a window needs few rows.
SUMMED_TABLES = (b"stts", b"ctts", b"stss", b"stsc")


class Extent(NamedTuple):
    """A part of a file: ``size`` bytes at ``offset``."""

    offset: int
    size: int


class IntegerTable:
    """A table of unsigned integers in a file.

    Args:
        read: reads the file.
        start: offset of the first number in the file.
        count: number of numbers in the table.
        form: type code of :mod:`array`: ``I`` for 32 bits, ``Q`` for 64 bits.
    """

    def __init__(self, read: Read, start: int, count: int, form: str = "I") -> None:
        self._read, self._start, self._count, self._form = read, start, count, form
        self._size = array(form).itemsize

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: int) -> int:
        return self.between(at, at + 1)[0]

    def extent(self, first: int, after: int) -> Extent:
        """Return where in the file the numbers from ``first`` up to ``after`` are."""
        return Extent(self._start + first * self._size, (after - first) * self._size)

    def between(self, first: int, after: int) -> "array[int]":
        """Return the numbers from position ``first`` up to and without position ``after``.

        Raises:
            UnsupportedMedia: the table has fewer numbers, or the file is truncated there.
        """
        numbers = array(self._form)
        numbers.frombytes(self.data(first, after))
        if sys.byteorder == "little":
            numbers.byteswap()
        return numbers

    def data(self, first: int, after: int) -> bytes:
        """Return the bytes of these numbers as they are in the file. Raises as :meth:`between`."""
        if not 0 <= first <= after <= self._count:
            raise UnsupportedMedia(f"sample table: rows {first} to {after} of a table of {self._count}")
        data = self._read(*self.extent(first, after))
        if len(data) != (after - first) * self._size:
            raise UnsupportedMedia(
                f"sample table: cut off: {len(data)} of {(after - first) * self._size} bytes"
            )
        return data


class TimeToSampleTable:
    """A run-length table (``stts`` §8.6.1.2, ``ctts`` §8.6.1.3): number of samples, and their common value.

    Args:
        table: the numbers of the table.
        are_durations: whether the values are durations (``stts``), which must not be negative and are summed
            up.

    Attributes:
        samples: number of samples in the table.
        least: the smallest value if that is negative, else 0.
        total: sum of the durations of all samples.
    """

    def __init__(self, table: IntegerTable, *, are_durations: bool) -> None:
        self._table = table
        self._samples_before = [0]  # of each block
        self._total_before = [0]
        self.least = 0
        for counts, values, has_negative in self._blocks():
            self._samples_before.append(self._samples_before[-1] + sum(counts))
            if are_durations:
                if has_negative:
                    raise UnsupportedMedia("stts: a duration is negative: times run backwards")
                self._total_before.append(self._total_before[-1] + sum(map(mul, counts, values)))
            elif has_negative:
                self.least = min(self.least, *map(signed, values))
        self.samples, self.total = self._samples_before[-1], self._total_before[-1]

    def _blocks(self) -> Iterator[tuple["array[int]", "array[int]", bool]]:
        """Iterate over all blocks; yield counts, values, and whether any value is negative."""
        for at in range(0, len(self._table), 2 * READ_ROWS):
            after = min(at + 2 * READ_ROWS, len(self._table))
            numbers = self._table.between(at, after)
            counts, values = numbers[0::2], numbers[1::2]
            # The first byte of each value: checked for all rows at once, because a table may have millions.
            signs = self._table.data(at, after)[4::8]
            for block in range(0, len(counts), BLOCK_ROWS):
                rows = slice(block, block + BLOCK_ROWS)
                yield counts[rows], values[rows], not signs[rows].isascii()

    def _rows_from(self, block: int) -> Iterator[tuple[int, int]]:
        for at in range(block * 2 * BLOCK_ROWS, len(self._table), 2 * BLOCK_ROWS):
            numbers = self._table.between(at, min(at + 2 * BLOCK_ROWS, len(self._table)))
            yield from zip(numbers[0::2], numbers[1::2], strict=True)

    def values(self, first: int, after: int) -> list[int]:
        """Return the values of samples ``first`` up to ``after``; fewer if the table ends before."""
        block = max(bisect_right(self._samples_before, first) - 1, 0)
        number, found = self._samples_before[block], list[int]()
        for count, value in self._rows_from(block):
            if number >= after:
                break
            found += repeat(value, min(number + count, after) - max(number, first))
            number += count
        return found

    def total_before(self, sample: int) -> int:
        """Return the sum of the values of all samples before a sample."""
        block = max(bisect_right(self._samples_before, sample) - 1, 0)
        number, total = self._samples_before[block], self._total_before[block]
        for count, value in self._rows_from(block):
            if number >= sample:
                break
            total += min(count, sample - number) * value
            number += count
        return total

    def reaching(self, total: int) -> int:
        """Return the number of samples before which the sum of the values is less than ``total``."""
        block = max(bisect_left(self._total_before, total) - 1, 0)
        number, reached = self._samples_before[block], self._total_before[block]
        for count, value in self._rows_from(block):
            if reached + count * value >= total:
                return number + (-(-(total - reached) // value) if value else 0)
            number += count
            reached += count * value
        return number


class Chunk(NamedTuple):
    """A chunk (§8.7.4).

    Args:
        number: of the chunk, from 0.
        first: number of its first sample, from 0.
        samples: number of its samples.
        entry: index of their sample entry in ``stsd``, from 0.
    """

    number: int
    first: int
    samples: int
    entry: int


class SampleLocation(NamedTuple):
    """Where a sample is in the file; ``entry`` is the index of its sample entry in ``stsd``, from 0."""

    offset: int
    size: int
    entry: int


class SampleTables:
    """The sample table of a track (``stbl``): times and locations of its samples.

    Samples are numbered from 0. Times are in ticks of the media. No sample is shown before it is decoded:
    where the table has negative offsets (``ctts``, version 1), all decode times become earlier by the largest
    of them.

    Args:
        read: reads the file.
        tables: the ``stbl`` box.
        file_size: in bytes; samples after the end of the file are left out.

    Attributes:
        listed: number of samples in the table.
        count: number of samples within the file.
        keyframes: numbers of the keyframes, from 1; None if every sample is a keyframe.

    Raises:
        UnsupportedMedia: the box has tables that §8.5 to §8.7 do not define, or its tables disagree.
    """

    def __init__(self, read: Read, tables: Box, file_size: int) -> None:
        self._read = read
        self._boxes = children(read, tables)
        check_tables(read, self._boxes)
        self._durations = TimeToSampleTable(self._table(b"stts", 2), are_durations=True)
        self._composition_offsets = (
            TimeToSampleTable(self._table(b"ctts", 2), are_durations=False)
            if b"ctts" in self._boxes
            else None
        )
        self._decoded_earlier = -self._composition_offsets.least if self._composition_offsets else 0
        self.keyframes = self._table(b"stss") if b"stss" in self._boxes else None
        self._same_size, self.listed, self._sizes = self._read_sizes()
        is_wide = b"co64" in self._boxes
        self._chunk_offsets = self._table(b"co64", form="Q") if is_wide else self._table(b"stco")
        self._chunks = SampleToChunkTable(self._table(b"stsc", 3), len(self._chunk_offsets))
        self._check_counts()
        self.count = self._count_within(file_size)

    def _check_counts(self) -> None:
        offsets = self.listed if self._composition_offsets is None else self._composition_offsets.samples
        if not self.listed == self._durations.samples == offsets:
            raise UnsupportedMedia(
                "stbl: tables do not agree on the number of samples:"
                f" stsz {self.listed}, stts {self._durations.samples}, ctts {offsets}"
            )

    def _table(self, kind: bytes, columns: int = 1, form: str = "I") -> IntegerTable:
        """Return the numbers of a table: after version and flags come the number of rows, and the rows."""
        table = first_box(self._boxes, kind)
        (rows,) = struct.unpack(">I", self._read(table.start + 4, 4))
        if rows * columns * array(form).itemsize > table.end - table.start - 8:
            raise UnsupportedMedia(
                f"{kind.decode()}: cut off: {rows} rows do not fit into {table.end - table.start} bytes"
            )
        return IntegerTable(self._read, table.start + 8, rows * columns, form)

    def _read_sizes(self) -> tuple[int, int, IntegerTable]:
        """Return the common size of all samples or 0, the number of samples, and the table of their sizes."""
        sizes = first_box(self._boxes, b"stsz")
        same, count = struct.unpack(">II", self._read(sizes.start + 4, 8))
        each = 0 if same else count
        if sizes.start + 12 + 4 * each > sizes.end:
            raise UnsupportedMedia(
                f"stsz: cut off: {each} sizes do not fit into {sizes.end - sizes.start} bytes"
            )
        return same, count, IntegerTable(self._read, sizes.start + 12, each)

    def _count_within(self, file_size: int) -> int:
        """Return the number of samples within a file of this size, which may be truncated."""
        if not self.listed or self._last_chunk_end() <= file_size:
            return self.listed
        return bisect_right(range(self.listed), file_size, key=self._end_offset)

    def _last_chunk_end(self) -> int:
        """Return the offset at which the last chunk ends, without reading all of ``stsc``."""
        if not self._chunk_offsets:
            raise UnsupportedMedia("stsc: samples without a chunk")
        samples = min(self._chunks.last_chunk(), self.listed, MAX_IN_CHUNKS)
        sizes = (
            self._same_size * samples
            if self._same_size
            else sum(self._sizes.between(self.listed - samples, self.listed))
        )
        return self._chunk_offsets[len(self._chunk_offsets) - 1] + sizes

    def _end_offset(self, sample: int) -> int:
        """Return the offset at which a sample ends."""
        (place,) = self.locations(sample, sample + 1)
        return place.offset + place.size

    @property
    def end(self) -> int:
        """Return the end of the sample that is shown last, in ticks."""
        last = self.count - 1
        return (
            max(self.shown(max(last - MAX_REORDERED, 0), self.count))
            + self._durations.values(last, self.count)[0]
        )

    def ends(self, sample: int) -> int:
        """Return the time at which a sample ends, in ticks."""
        return self.shown(sample, sample + 1)[0] + self._durations.values(sample, sample + 1)[0]

    def last_before(self, ticks: int) -> int:
        """Return the last sample with a decode time of at most ``ticks``; the first sample if none has."""
        return max(self.first_after(ticks + 1) - 1, 0)

    def first_after(self, ticks: int) -> int:
        """Return the first sample with a decode time of at least ``ticks``; ``count`` if none has."""
        wanted = ticks + self._decoded_earlier
        return min(self._durations.reaching(wanted), self.count) if wanted > 0 else 0

    def durations(self, first: int, after: int) -> list[int]:
        """Return the durations of samples ``first`` up to ``after``, in ticks (``stts``)."""
        return self._durations.values(first, after)

    def decoded(self, first: int, after: int) -> list[int]:
        """Return the decode times of samples ``first`` up to ``after``, in ticks."""
        durations = self._durations.values(first, after)
        return list(
            accumulate(durations[:-1], initial=self._durations.total_before(first) - self._decoded_earlier)
        )

    def shown(self, first: int, after: int) -> list[int]:
        """Return the presentation times of samples ``first`` up to ``after``, in ticks."""
        times = self.decoded(first, after)
        if self._composition_offsets is None:
            return times
        offsets = self._composition_offsets.values(first, after)
        return [
            time + signed(offset) + self._decoded_earlier for time, offset in zip(times, offsets, strict=True)
        ]

    def keyframe_at_or_before(self, sample: int) -> int:
        """Return the index in ``keyframes`` of the last keyframe up to a sample; -1 if none exists."""
        return bisect_right(self.keyframes, sample + 1) - 1 if self.keyframes else -1

    def are_keyframes(self, first: int, after: int) -> Sequence[bool]:
        """Return for each of samples ``first`` up to ``after`` whether it is a keyframe (``stss`` §8.6.2)."""
        if self.keyframes is None:
            return [True] * (after - first)
        from_, to = bisect_left(self.keyframes, first + 1), bisect_right(self.keyframes, after)
        found = [False] * (after - first)
        for number in self.keyframes.between(from_, to):
            if not first < number <= after:
                raise UnsupportedMedia(
                    f"stss: keyframe {number} out of order: {first + 1} to {after} are expected"
                )
            found[number - 1 - first] = True
        return found

    def row_extents(self, first: int, after: int) -> list[Extent]:
        """Return where in the file the rows are that :meth:`locations` reads for these samples."""
        chunks = list(self._chunks.between(first, after))
        if not chunks:
            return []
        offsets = self._chunk_offsets.extent(chunks[0].number, chunks[-1].number + 1)
        if self._same_size:
            return [offsets]
        return [offsets, self._sizes.extent(chunks[0].first, after)]

    def locations(self, first: int, after: int) -> list[SampleLocation]:
        """Return where samples ``first`` up to ``after`` are in the file.

        Raises:
            UnsupportedMedia: a sample is in no chunk, or the chunks have more than a million samples.
        """
        chunks = list(self._chunks.between(first, after))
        if not chunks or chunks[-1].first + chunks[-1].samples < after:
            raise UnsupportedMedia("stsc: samples without a chunk")
        start = chunks[0].first
        if after - start > MAX_IN_CHUNKS:
            raise UnsupportedMedia(f"stsc: chunks of {after - start} samples, the limit is {MAX_IN_CHUNKS}")
        sizes: Sequence[int] = (
            [self._same_size] * (after - start) if self._same_size else self._sizes.between(start, after)
        )
        bases = self._chunk_offsets.between(chunks[0].number, chunks[-1].number + 1)
        locations: list[SampleLocation] = []
        for base, chunk in zip(bases, chunks, strict=True):
            inside = sizes[chunk.first - start : chunk.first - start + chunk.samples]
            offsets = accumulate(inside[:-1], initial=base)
            locations += map(SampleLocation, offsets, inside, repeat(chunk.entry))
        return locations[first - start : after - start]


class SampleToChunkTable:
    """``stsc`` (§8.7.4): number of samples and sample entry of each chunk, as runs of equal chunks.

    The sums of the rows before each block are made when they are needed: this is the largest table of audio.
    """

    def __init__(self, table: IntegerTable, chunks: int) -> None:
        self._table, self._chunks = table, chunks
        self._samples_before = [0]  # of each block
        self._lock = threading.Lock()
        if table and table[0] != 1:
            raise UnsupportedMedia(f"stsc: chunks out of order: the first is {table[0]} instead of 1")

    def last_chunk(self) -> int:
        """Return the number of samples in the last chunk."""
        return self._table[len(self._table) - 2] if self._table and self._chunks else 0

    def _sum_up(self, sample: int) -> None:
        """Complete the sums of the blocks up to a sample."""
        with self._lock:  # windows of several jobs may be looked up at once
            while self._samples_before[-1] <= sample:
                at = 3 * BLOCK_ROWS * (len(self._samples_before) - 1)
                if at >= len(self._table):
                    break
                firsts, counts, _ = self._rows(at, READ_ROWS)
                chunks = _differences(firsts)
                sums = [
                    sum(map(mul, chunks[block : block + BLOCK_ROWS], counts[block : block + BLOCK_ROWS]))
                    for block in range(0, len(counts), BLOCK_ROWS)
                ]
                self._samples_before += accumulate(sums[1:], initial=self._samples_before[-1] + sums[0])

    def _rows(self, at: int, rows: int) -> tuple["array[int]", "array[int]", "array[int]"]:
        """Return the columns of some rows; ``first_chunk`` has one number more, that of the next row."""
        after = min(at + 3 * rows, len(self._table))
        numbers = self._table.between(at, after)
        firsts, counts, entries = numbers[0::3], numbers[1::3], numbers[2::3]
        firsts.append(self._table[after] if after < len(self._table) else self._chunks + 1)
        return firsts, counts, entries

    def between(self, first: int, after: int) -> Iterator[Chunk]:
        """Iterate over the chunks that hold samples ``first`` up to ``after``."""
        self._sum_up(first)
        block = max(bisect_right(self._samples_before, first) - 1, 0)
        number = self._samples_before[block]
        for at in range(block * 3 * BLOCK_ROWS, len(self._table), 3 * BLOCK_ROWS):
            firsts, counts, entries = self._rows(at, BLOCK_ROWS)
            _differences(firsts)
            for (chunk, next_chunk), count, entry in zip(pairwise(firsts), counts, entries, strict=True):
                chunks = next_chunk - chunk
                skipped = min(max((first - number) // count, 0), chunks) if count else chunks
                number += skipped * count
                for each in range(chunk + skipped, next_chunk):
                    if number >= after:
                        return
                    yield Chunk(each - 1, number, count, entry - 1)
                    number += count


def _differences(rising: "array[int]") -> "array[int]":
    """Return the difference between each number and the number before it.

    A table may have millions of rows: they are subtracted at once, as the digits of two large numbers.

    Raises:
        UnsupportedMedia: a number is smaller than the number before it, or larger than 2**31.
    """
    below, above = (int.from_bytes(each.tobytes(), sys.byteorder) for each in (rising[:-1], rising[1:]))
    differences = max(above - below, 0).to_bytes(rising.itemsize * (len(rising) - 1), sys.byteorder)
    # The sign bit is set in a number that is too large, and in a negative difference, which borrows.
    if above < below or not (rising.tobytes()[SIGN_BYTES].isascii() and differences[SIGN_BYTES].isascii()):
        raise UnsupportedMedia("stsc: chunks out of order: a first_chunk is smaller than the one before")
    found = array("I")
    found.frombytes(differences)
    return found


def check_tables(read: Read, boxes: Mapping[bytes, Sequence[Box]]) -> None:
    """Check that no table changes the meaning of the samples.

    Raises:
        UnsupportedMedia: a table or a sample group is of an unknown kind, or a table stands several times.
    """
    for kind, found in boxes.items():
        if kind in GROUP_TABLES:
            if not {read(each.start + 4, 4) for each in found} <= KNOWN_GROUPS:
                raise UnsupportedMedia(f"stbl: sample groups of an unknown kind ({kind!r})")
        elif len(found) > 1 or kind not in KNOWN_TABLES:
            raise UnsupportedMedia(f"stbl: {len(found)} tables {kind!r}, 1 of a known kind is supported")


def first_box(boxes: Mapping[bytes, Sequence[Box]], kind: bytes) -> Box:
    """Return the first box of a kind.

    Raises:
        UnsupportedMedia: no box of this kind exists.
    """
    if kind not in boxes:
        raise UnsupportedMedia(f"stbl: no {kind!r}")
    return boxes[kind][0]


def signed(number: int) -> int:
    """Convert 32 bits, read as an unsigned number, to the signed number that they stand for."""
    return number - 2**32 if number >= 2**31 else number
