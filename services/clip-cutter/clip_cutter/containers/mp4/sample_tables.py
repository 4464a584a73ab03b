"""The tables of a track in an MP4 index (``stbl``, ISO/IEC 14496-12 §8.5 to §8.7), read block by block.

They may have millions of rows: none of them is ever in memory as a whole. What is looked up costs the reading
of a block or two, because the sums up to each block are kept.
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

PIECE_ROWS = 32 * 1024  # are read at once
BLOCK_ROWS = 512  # are looked through
SIGNS = slice(
    3 if sys.byteorder == "little" else 0, None, 4
)  # of the bytes of an array, those with first bits
MAX_IN_CHUNKS = 1_000_000  # samples in the chunks of a window
REORDERED = 16  # pictures at most are decoded before one that is shown earlier (H.264 §A.3.1)
# Whatever else is in a sample table may change what its samples mean.
KNOWN_TABLES = frozenset(
    {b"stsd", b"stts", b"ctts", b"stss", b"stsc", b"stsz", b"stco", b"co64", b"sdtp", b"cslg"}
)
# Groupings that say how a decoder may begin, and nothing of what samples are.
GROUP_TABLES = frozenset({b"sgpd", b"sbgp"})
KNOWN_GROUPS = frozenset({b"roll", b"prol", b"rap ", b"sync", b"tele"})
# Tables that are read whole; of the others a window needs few rows.
SUMMED_TABLES = (b"stts", b"ctts", b"stss", b"stsc")


class Extent(NamedTuple):
    """Bytes of a file."""

    offset: int
    size: int


class IntegerTable:
    """A table of numbers in a file; ``form`` is the type code of an array."""

    def __init__(self, read: Read, start: int, count: int, form: str = "I") -> None:
        self._read, self._start, self._count, self._form = read, start, count, form
        self._size = array(form).itemsize

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: int) -> int:
        return self.between(at, at + 1)[0]

    def extent(self, first: int, after: int) -> Extent:
        """Return where some consecutive numbers lie."""
        return Extent(self._start + first * self._size, (after - first) * self._size)

    def between(self, first: int, after: int) -> "array[int]":
        """Return some consecutive numbers.

        Raises:
            UnsupportedMedia: the table has fewer, or is cut off.
        """
        words = array(self._form)
        words.frombytes(self.data(first, after))
        if sys.byteorder == "little":
            words.byteswap()
        return words

    def data(self, first: int, after: int) -> bytes:
        """Return some consecutive numbers as they are in the file. Raises as :meth:`between`."""
        if not 0 <= first <= after <= self._count:
            raise UnsupportedMedia(f"rows {first} to {after} of a table of {self._count}")
        data = self._read(*self.extent(first, after))
        if len(data) != (after - first) * self._size:
            raise UnsupportedMedia("a table that is cut off")
        return data


class TimeToSampleTable:
    """A table of runs (``stts``, ``ctts``): how many samples, and the value that each of them has.

    ``samples`` is the sum of all counts; ``least`` the smallest value, if any is negative. Where values are
    steps, ``total`` is that of all samples' steps.
    """

    def __init__(self, words: IntegerTable, *, are_steps: bool) -> None:
        self._words = words
        self._samples_before = [0]  # each block
        self._total_before = [0]
        self.least = 0
        for counts, values, has_negative in self._blocks():
            self._samples_before.append(self._samples_before[-1] + sum(counts))
            if are_steps:
                if has_negative:
                    raise UnsupportedMedia("times that run backwards")
                self._total_before.append(self._total_before[-1] + sum(map(mul, counts, values)))
            elif has_negative:
                self.least = min(self.least, *map(signed, values))
        self.samples, self.total = self._samples_before[-1], self._total_before[-1]

    def _blocks(self) -> Iterator[tuple["array[int]", "array[int]", bool]]:
        """Iterate over all blocks: counts, values, and whether a value is negative."""
        for at in range(0, len(self._words), 2 * PIECE_ROWS):
            after = min(at + 2 * PIECE_ROWS, len(self._words))
            words = self._words.between(at, after)
            counts, values = words[0::2], words[1::2]
            # The first byte of each value: looked at all at once, because a table may have millions.
            signs = self._words.data(at, after)[4::8]
            for block in range(0, len(counts), BLOCK_ROWS):
                rows = slice(block, block + BLOCK_ROWS)
                yield counts[rows], values[rows], not signs[rows].isascii()

    def _rows_from(self, block: int) -> Iterator[tuple[int, int]]:
        for at in range(block * 2 * BLOCK_ROWS, len(self._words), 2 * BLOCK_ROWS):
            words = self._words.between(at, min(at + 2 * BLOCK_ROWS, len(self._words)))
            yield from zip(words[0::2], words[1::2], strict=True)

    def values(self, first: int, after: int) -> list[int]:
        """Return the values of some consecutive samples; fewer where the table ends."""
        block = max(bisect_right(self._samples_before, first) - 1, 0)
        number, found = self._samples_before[block], list[int]()
        for count, value in self._rows_from(block):
            if number >= after:
                break
            found += repeat(value, min(number + count, after) - max(number, first))
            number += count
        return found

    def total_before(self, sample: int) -> int:
        """Return the sum of the values of all samples before one."""
        block = max(bisect_right(self._samples_before, sample) - 1, 0)
        number, total = self._samples_before[block], self._total_before[block]
        for count, value in self._rows_from(block):
            if number >= sample:
                break
            total += min(count, sample - number) * value
            number += count
        return total

    def reaching(self, total: int) -> int:
        """Return how many samples have a sum of values less than ``total`` before them."""
        block = max(bisect_left(self._total_before, total) - 1, 0)
        number, reached = self._samples_before[block], self._total_before[block]
        for count, value in self._rows_from(block):
            if reached + count * value >= total:
                return number + (-(-(total - reached) // value) if value else 0)
            number += count
            reached += count * value
        return number


class Chunk(NamedTuple):
    """A chunk: its number from 0, its first sample, its number of samples, and their sample entry."""

    number: int
    first: int
    samples: int
    entry: int


class SampleLocation(NamedTuple):
    """Where a sample lies; ``entry`` is the place of its sample entry in ``stsd``."""

    offset: int
    size: int
    entry: int


class SampleTables:
    """The tables of a track (``stbl``): when its samples are shown and where they lie.

    Times are ticks of the media. A sample is never shown before it is decoded: where the table says so
    (``ctts``, version 1), all are decoded that much earlier.

    Args:
        read: the file.
        tables: its box.
        file_size: samples beyond it are left out.

    Raises:
        UnsupportedMedia: it has other tables than those of §8.5 to §8.7, or they do not agree.
    """

    def __init__(self, read: Read, tables: Box, file_size: int) -> None:
        self._read = read
        self._boxes = children(read, tables)
        check_tables(read, self._boxes)
        self._steps = TimeToSampleTable(self._words(b"stts", 2), are_steps=True)
        self._shifts = (
            TimeToSampleTable(self._words(b"ctts", 2), are_steps=False) if b"ctts" in self._boxes else None
        )
        self._early = -self._shifts.least if self._shifts else 0
        self.keyframes = self._words(b"stss") if b"stss" in self._boxes else None
        self._same_size, self.listed, self._sizes = self._read_sizes()
        is_wide = b"co64" in self._boxes
        self._offsets = self._words(b"co64", form="Q") if is_wide else self._words(b"stco")
        self._chunks = SampleToChunkTable(self._words(b"stsc", 3), len(self._offsets))
        self._check_counts()
        self.count = self._count_within(file_size)

    def _check_counts(self) -> None:
        shifts = self.listed if self._shifts is None else self._shifts.samples
        if not self.listed == self._steps.samples == shifts:
            raise UnsupportedMedia("tables that do not agree")

    def _words(self, kind: bytes, columns: int = 1, form: str = "I") -> IntegerTable:
        """Return the numbers of a table: after version and flags the count of its rows, then the rows."""
        table = first_box(self._boxes, kind)
        (rows,) = struct.unpack(">I", self._read(table.start + 4, 4))
        if rows * columns * array(form).itemsize > table.end - table.start - 8:
            raise UnsupportedMedia(f"{kind!r} is cut off")
        return IntegerTable(self._read, table.start + 8, rows * columns, form)

    def _read_sizes(self) -> tuple[int, int, IntegerTable]:
        """Return the size that all samples have, or 0; how many they are; else the size of each."""
        sizes = first_box(self._boxes, b"stsz")
        same, count = struct.unpack(">II", self._read(sizes.start + 4, 8))
        each = 0 if same else count
        if sizes.start + 12 + 4 * each > sizes.end:
            raise UnsupportedMedia("'stsz' is cut off")
        return same, count, IntegerTable(self._read, sizes.start + 12, each)

    def _count_within(self, file_size: int) -> int:
        """Return how many samples lie in a file of that size, which may be cut off."""
        if not self.listed or self._last_chunk_end() <= file_size:
            return self.listed
        return bisect_right(range(self.listed), file_size, key=self._reach)

    def _last_chunk_end(self) -> int:
        """Return where the last chunk ends: the whole of ``stsc`` is not read for that."""
        if not self._offsets:
            raise UnsupportedMedia("samples without a chunk")
        samples = min(self._chunks.last_chunk(), self.listed, MAX_IN_CHUNKS)
        sizes = (
            self._same_size * samples
            if self._same_size
            else sum(self._sizes.between(self.listed - samples, self.listed))
        )
        return self._offsets[len(self._offsets) - 1] + sizes

    def _reach(self, sample: int) -> int:
        """Return where the bytes of a sample end."""
        (place,) = self.places(sample, sample + 1)
        return place.offset + place.size

    @property
    def end(self) -> int:
        """Return when the last sample ends."""
        last = self.count - 1
        return max(self.shown(max(last - REORDERED, 0), self.count)) + self._steps.values(last, self.count)[0]

    def ends(self, sample: int) -> int:
        """Return when a sample ends."""
        return self.shown(sample, sample + 1)[0] + self._steps.values(sample, sample + 1)[0]

    def last_before(self, ticks: int) -> int:
        """Return the last sample with a decoding time of at most that, else the first."""
        return max(self.first_after(ticks + 1) - 1, 0)

    def first_after(self, ticks: int) -> int:
        """Return the first sample with a decoding time of at least that, or the number after the last."""
        wanted = ticks + self._early
        return min(self._steps.reaching(wanted), self.count) if wanted > 0 else 0

    def steps(self, first: int, after: int) -> list[int]:
        """Return how long after each of some samples the next is decoded."""
        return self._steps.values(first, after)

    def decoded(self, first: int, after: int) -> list[int]:
        """Return when some samples are decoded."""
        steps = self._steps.values(first, after)
        return list(accumulate(steps[:-1], initial=self._steps.total_before(first) - self._early))

    def shown(self, first: int, after: int) -> list[int]:
        """Return when some samples are shown."""
        times = self.decoded(first, after)
        if self._shifts is None:
            return times
        shifts = self._shifts.values(first, after)
        return [time + signed(shift) + self._early for time, shift in zip(times, shifts, strict=True)]

    def keyframe_at_or_before(self, sample: int) -> int:
        """Return the place in ``keyframes`` of the last one up to a sample; -1: there is none."""
        return bisect_right(self.keyframes, sample + 1) - 1 if self.keyframes else -1

    def are_keyframes(self, first: int, after: int) -> Sequence[bool]:
        """Return which of some samples can be decoded alone."""
        if self.keyframes is None:
            return [True] * (after - first)
        from_, to = bisect_left(self.keyframes, first + 1), bisect_right(self.keyframes, after)
        found = [False] * (after - first)
        for number in self.keyframes.between(from_, to):
            if not first < number <= after:
                raise UnsupportedMedia("keyframes out of order")
            found[number - 1 - first] = True
        return found

    def row_extents(self, first: int, after: int) -> list[Extent]:
        """Return where the rows lie that say where some samples are: what :meth:`places` reads."""
        chunks = list(self._chunks.between(first, after))
        if not chunks:
            return []
        offsets = self._offsets.extent(chunks[0].number, chunks[-1].number + 1)
        if self._same_size:
            return [offsets]
        return [offsets, self._sizes.extent(chunks[0].first, after)]

    def places(self, first: int, after: int) -> list[SampleLocation]:
        """Return where some samples lie.

        Raises:
            UnsupportedMedia: their chunks have more than a million samples.
        """
        chunks = list(self._chunks.between(first, after))
        if not chunks or chunks[-1].first + chunks[-1].samples < after:
            raise UnsupportedMedia("samples without a chunk")
        start = chunks[0].first
        if after - start > MAX_IN_CHUNKS:
            raise UnsupportedMedia(f"chunks of {after - start} samples")
        sizes: Sequence[int] = (
            [self._same_size] * (after - start) if self._same_size else self._sizes.between(start, after)
        )
        bases = self._offsets.between(chunks[0].number, chunks[-1].number + 1)
        places: list[SampleLocation] = []
        for base, chunk in zip(bases, chunks, strict=True):
            inside = sizes[chunk.first - start : chunk.first - start + chunk.samples]
            offsets = accumulate(inside[:-1], initial=base)
            places += map(SampleLocation, offsets, inside, repeat(chunk.entry))
        return places[first - start : after - start]


class SampleToChunkTable:
    """``stsc``: how many samples each chunk has, and of which sample entry, in runs of chunks alike.

    The sums up to each block are made when they are needed: this is the largest table of audio.
    """

    def __init__(self, words: IntegerTable, chunks: int) -> None:
        self._words, self._chunks = words, chunks
        self._samples_before = [0]  # each block
        self._lock = threading.Lock()
        if words and words[0] != 1:
            raise UnsupportedMedia("chunks out of order")

    def last_chunk(self) -> int:
        """Return how many samples the last chunk has."""
        return self._words[len(self._words) - 2] if self._words and self._chunks else 0

    def _sum_up(self, sample: int) -> None:
        """Sum up the blocks before a sample."""
        with self._lock:  # windows of several jobs may be looked up at once
            while self._samples_before[-1] <= sample:
                at = 3 * BLOCK_ROWS * (len(self._samples_before) - 1)
                if at >= len(self._words):
                    break
                firsts, counts, _ = self._rows(at, PIECE_ROWS)
                steps = _differences(firsts)
                sums = [
                    sum(map(mul, steps[block : block + BLOCK_ROWS], counts[block : block + BLOCK_ROWS]))
                    for block in range(0, len(counts), BLOCK_ROWS)
                ]
                self._samples_before += accumulate(sums[1:], initial=self._samples_before[-1] + sums[0])

    def _rows(self, at: int, rows: int) -> tuple["array[int]", "array[int]", "array[int]"]:
        """Return each run's first chunk, and that after the last; its chunks' samples; its sample entry."""
        after = min(at + 3 * rows, len(self._words))
        words = self._words.between(at, after)
        firsts, counts, entries = words[0::3], words[1::3], words[2::3]
        firsts.append(self._words[after] if after < len(self._words) else self._chunks + 1)
        return firsts, counts, entries

    def between(self, first: int, after: int) -> Iterator[Chunk]:
        """Iterate over the chunks that hold some samples."""
        self._sum_up(first)
        block = max(bisect_right(self._samples_before, first) - 1, 0)
        number = self._samples_before[block]
        for at in range(block * 3 * BLOCK_ROWS, len(self._words), 3 * BLOCK_ROWS):
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
    """Return how much each number is above the one before it.

    A table may have millions: they are taken as the digits of one large number, and subtracted at once.

    Raises:
        UnsupportedMedia: one is below the one before it, or above 2**31.
    """
    below, above = (int.from_bytes(each.tobytes(), sys.byteorder) for each in (rising[:-1], rising[1:]))
    differences = max(above - below, 0).to_bytes(rising.itemsize * (len(rising) - 1), sys.byteorder)
    # Numbers that are too large have a first bit, and differences below 0: they borrow from the next digit.
    if above < below or not (rising.tobytes()[SIGNS].isascii() and differences[SIGNS].isascii()):
        raise UnsupportedMedia("chunks out of order")
    found = array("I")
    found.frombytes(differences)
    return found


def check_tables(read: Read, boxes: Mapping[bytes, Sequence[Box]]) -> None:
    """Refuse tables that may change what samples mean.

    Raises:
        UnsupportedMedia: there are such tables, or several of one kind.
    """
    for kind, found in boxes.items():
        if kind in GROUP_TABLES:
            if not {read(each.start + 4, 4) for each in found} <= KNOWN_GROUPS:
                raise UnsupportedMedia(f"groups of samples of an unknown kind ({kind!r})")
        elif len(found) > 1 or kind not in KNOWN_TABLES:
            raise UnsupportedMedia(f"{len(found)} tables {kind!r}")


def first_box(boxes: Mapping[bytes, Sequence[Box]], kind: bytes) -> Box:
    """Return the first box of a kind.

    Raises:
        UnsupportedMedia: there is none.
    """
    if kind not in boxes:
        raise UnsupportedMedia(f"no {kind!r}")
    return boxes[kind][0]


def signed(word: int) -> int:
    """Return what 32 bits mean as a signed number."""
    return word - 2**32 if word >= 2**31 else word
