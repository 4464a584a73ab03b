"""The tables of a track in an MP4 index (``stbl``, ISO/IEC 14496-12 §8.5 to §8.7), read block by block.

They may have millions of entries: none is ever in memory as a whole. What is looked up costs the reading of a
block or two, because the sums up to each block are kept.
"""

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise, repeat
from operator import lt, mul, sub

from clip_cutter.boxes import Box, BoxReader
from clip_cutter.domain.media import NotPlain

BLOCK_ROWS = 2048
MAX_IN_CHUNKS = 1_000_000  # samples in the chunks of a window
MAX_TICKS = 2**31  # a longer step from one sample to the next is a negative one
REORDERED = 16  # so many pictures at most are decoded before one that is shown earlier (H.264 §A.3.1)
# Whatever else is in a sample table may change what its samples mean.
KNOWN_TABLES = frozenset(
    {b"stsd", b"stts", b"ctts", b"stss", b"stsc", b"stsz", b"stco", b"co64", b"sdtp", b"cslg"}
)
# Of the grouping "roll" alone, which only says how sound fades in.
ROLL_TABLES = frozenset({b"sgpd", b"sbgp"})


class Words:
    """A table of numbers on disk (``form``: the type code of an array)."""

    def __init__(self, read: BoxReader, start: int, count: int, form: str = "I") -> None:
        self._read, self._start, self._count, self._form = read, start, count, form
        self._size = array(form).itemsize

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: int) -> int:
        return self.between(at, at + 1)[0]

    def between(self, first: int, after: int) -> "array[int]":
        """Some consecutive ones.

        Raises:
            IndexError: the table has fewer.
        """
        words = array(self._form)
        words.frombytes(self._read(self._start + first * self._size, (after - first) * self._size))
        if not 0 <= first <= after <= self._count or len(words) != after - first:
            raise IndexError(f"{first}:{after} of {self._count}")
        if sys.byteorder == "little":
            words.byteswap()
        return words


class Runs:
    """A table of runs (``stts``, ``ctts``): how many samples, and the value that each of them has.

    ``samples`` is the sum of all counts; where values are steps, ``total`` is that of all samples' steps.
    """

    def __init__(self, words: Words, *, are_steps: bool) -> None:
        self._words = words
        self._samples_before = [0]  # each block
        self._total_before = [0]
        for at in range(0, len(words), 2 * BLOCK_ROWS):
            counts, values = self._block(at)
            self._samples_before.append(self._samples_before[-1] + sum(counts))
            if are_steps:
                self._total_before.append(self._total_before[-1] + sum(map(mul, counts, values)))
                if max(values) >= MAX_TICKS:
                    raise NotPlain("times that run backwards")
        self.samples, self.total = self._samples_before[-1], self._total_before[-1]

    def _block(self, at: int) -> tuple["array[int]", "array[int]"]:
        words = self._words.between(at, min(at + 2 * BLOCK_ROWS, len(self._words)))
        return words[0::2], words[1::2]

    def _rows_from(self, block: int) -> Iterator[tuple[int, int]]:
        for at in range(block * 2 * BLOCK_ROWS, len(self._words), 2 * BLOCK_ROWS):
            yield from zip(*self._block(at), strict=True)

    def values(self, first: int, after: int) -> list[int]:
        """The values of those of some consecutive samples that there are."""
        block = max(bisect_right(self._samples_before, first) - 1, 0)
        number, found = self._samples_before[block], list[int]()
        for count, value in self._rows_from(block):
            if number >= after:
                break
            found += repeat(value, min(number + count, after) - max(number, first))
            number += count
        return found

    def total_before(self, sample: int) -> int:
        """The sum of the values of all samples before one."""
        block = max(bisect_right(self._samples_before, sample) - 1, 0)
        number, total = self._samples_before[block], self._total_before[block]
        for count, value in self._rows_from(block):
            if number >= sample:
                break
            total += min(count, sample - number) * value
            number += count
        return total

    def reaching(self, total: int) -> int:
        """How many samples have a sum of values less than ``total`` before them."""
        block = max(bisect_left(self._total_before, total) - 1, 0)
        number, reached = self._samples_before[block], self._total_before[block]
        for count, value in self._rows_from(block):
            if reached + count * value >= total:
                return number + (-(-(total - reached) // value) if value else 0)
            number += count
            reached += count * value
        return number


class SampleTables:
    """The tables of a track (``stbl``): when its samples are shown and where they lie."""

    def __init__(self, read: BoxReader, tables: Box) -> None:
        self._read = read
        self._boxes = read.children(tables)
        self._check_kinds()
        self._steps = Runs(self._words(b"stts", 2), are_steps=True)
        self._shifts = Runs(self._words(b"ctts", 2), are_steps=False) if b"ctts" in self._boxes else None
        self.keyframes = self._words(b"stss") if b"stss" in self._boxes else None
        self._same_size, self.count, self._sizes = self._read_sizes()
        is_wide = b"co64" in self._boxes
        self._chunks = self._words(b"co64", form="Q") if is_wide else self._words(b"stco")
        self._chunk_runs = ChunkRuns(self._words(b"stsc", 3), len(self._chunks))
        self._check_counts()

    def _check_kinds(self) -> None:
        for kind, found in self._boxes.items():
            grouping = {self._read(each.start + 4, 4) for each in found} if kind in ROLL_TABLES else set()
            if len(found) > 1 or not (kind in KNOWN_TABLES or grouping == {b"roll"}):
                raise NotPlain(f"{len(found)} tables {kind!r}")

    def _check_counts(self) -> None:
        shifts = self.count if self._shifts is None else self._shifts.samples
        if not 0 < self.count == self._steps.samples == shifts or self._chunk_runs.samples < self.count:
            raise NotPlain("tables that do not agree")

    def _box(self, kind: bytes) -> Box:
        if kind not in self._boxes:
            raise NotPlain(f"no {kind!r}")
        return self._boxes[kind][0]

    def _words(self, kind: bytes, columns: int = 1, form: str = "I") -> Words:
        """The numbers of a table: after version and flags the count of its rows, then the rows."""
        table = self._box(kind)
        (rows,) = struct.unpack(">I", self._read(table.start + 4, 4))
        if rows * columns * array(form).itemsize > table.end - table.start - 8:
            raise NotPlain(f"{kind!r} is cut off")
        return Words(self._read, table.start + 8, rows * columns, form)

    def _read_sizes(self) -> tuple[int, int, Words]:
        """The size that all samples have, or 0; how many they are; else the size of each."""
        sizes = self._box(b"stsz")
        same, count = struct.unpack(">II", self._read(sizes.start + 4, 8))
        each = 0 if same else count
        if sizes.start + 12 + 4 * each > sizes.end:
            raise NotPlain("'stsz' is cut off")
        return same, count, Words(self._read, sizes.start + 12, each)

    @property
    def end(self) -> int:
        """When the last sample ends."""
        last = self.count - 1
        return max(self.shown(max(last - REORDERED, 0), self.count)) + self._steps.values(last, self.count)[0]

    def last_before(self, ticks: int) -> int:
        """The last sample with a decoding time of at most so many ticks, else the first."""
        return max(self.first_after(ticks + 1) - 1, 0)

    def first_after(self, ticks: int) -> int:
        """The first sample with a decoding time of at least so many ticks, or the number after the last."""
        return min(self._steps.reaching(ticks), self.count) if ticks > 0 else 0

    def times(self, first: int, after: int) -> tuple[list[int], list[int]]:
        """The decoding times of those samples that there are, and the step from each to the next."""
        steps = self._steps.values(first, after)
        return list(accumulate(steps[:-1], initial=self._steps.total_before(first))), steps

    def shown(self, first: int, after: int) -> list[int]:
        """When those samples are shown that there are."""
        times, _ = self.times(first, after)
        if self._shifts is None:
            return times
        shifts = self._shifts.values(first, after)
        return [time + _signed(shift) for time, shift in zip(times, shifts, strict=True)]

    def keyframes_between(self, first: int, after: int) -> list[int] | None:
        """Which of some samples can be decoded alone, counted from the first of them."""
        if self.keyframes is None:
            return None
        from_, to = bisect_left(self.keyframes, first + 1), bisect_right(self.keyframes, after)
        return [number - 1 - first for number in self.keyframes.between(from_, to)]

    def places(self, first: int, after: int) -> tuple[Sequence[int], list[int]]:
        """The sizes of samples, and their offsets in the file."""
        chunks = list(self._chunk_runs.between(first, after))
        start = chunks[0][1]
        if after - start > MAX_IN_CHUNKS:
            raise NotPlain("a chunk of too many samples")
        sizes = [self._same_size] * (after - start) if self._same_size else self._sizes.between(start, after)
        bases = self._chunks.between(chunks[0][0], chunks[-1][0] + 1)
        offsets: list[int] = []
        for base, (_, number, count) in zip(bases, chunks, strict=True):
            offsets += accumulate(sizes[number - start : number - start + count - 1], initial=base)
        return sizes[first - start :], offsets[first - start : after - start]


class ChunkRuns:
    """``stsc``: how many samples each chunk has, in runs of chunks alike."""

    def __init__(self, words: Words, chunks: int) -> None:
        self._words, self._total_chunks = words, chunks
        self._samples_before = [0]  # each block
        for at in range(0, len(words), 3 * BLOCK_ROWS):
            firsts, counts = self._block(at)
            self._samples_before.append(
                self._samples_before[-1] + sum(map(mul, map(sub, firsts[1:], firsts), counts))
            )
        self.samples = self._samples_before[-1]

    def _block(self, at: int) -> tuple["array[int]", "array[int]"]:
        """The first chunk of each run, and of the one after the last; how many samples its chunks have."""
        after = min(at + 3 * BLOCK_ROWS, len(self._words))
        words = self._words.between(at, after)
        firsts, counts, formats = words[0::3], words[1::3], words[2::3]
        firsts.append(self._words[after] if after < len(self._words) else self._total_chunks + 1)
        if {*formats} != {1}:
            raise NotPlain("a track that changes its format")
        return firsts, counts

    def between(self, first: int, after: int) -> Iterator[tuple[int, int, int]]:
        """The chunks that hold some samples: number, first sample, how many samples."""
        block = max(bisect_right(self._samples_before, first) - 1, 0)
        number = self._samples_before[block]
        for at in range(block * 3 * BLOCK_ROWS, len(self._words), 3 * BLOCK_ROWS):
            firsts, counts = self._block(at)
            if not all(map(lt, firsts, firsts[1:])):
                raise NotPlain("chunks out of order")
            for (chunk, next_chunk), count in zip(pairwise(firsts), counts, strict=True):
                skipped = (
                    min(max((first - number) // count, 0), next_chunk - chunk)
                    if count
                    else next_chunk - chunk
                )
                number += skipped * count
                for each in range(chunk + skipped, next_chunk):
                    if number >= after:
                        return
                    yield each - 1, number, count
                    number += count


def _signed(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word
