"""The index of an MP4 recording (``moov``, ISO/IEC 14496-12 §8): which bytes of it hold a window.

An index has an entry for each picture and each bit of sound: that of six hours has 30 MB. ffmpeg and ffprobe
each read all of it before anything else; a clip needs a thousandth. So it is fetched once for all highlights
of a VOD, and looked up here, block by block and never as a whole: memory stays flat.

Whatever is unusual about an index is left to ffmpeg, which has seen everything: see :class:`NotPlain`.
"""

import math
import os
import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise, repeat
from operator import lt, mul, sub
from typing import IO, Self

from clip_cutter.boxes import Box, Malformed, walk
from clip_cutter.domain.media import NotPlain

PICTURE, SOUND = b"vide", b"soun"
NOTHING = -1  # the media time of an edit that shows nothing: the track starts late
ROUNDING_SECONDS = 0.001
BLOCK_ROWS = 2048
MAX_SAMPLES = 500_000  # of a window
MAX_SAMPLE_BYTES = 32 * 1024 * 1024
MAX_SMALL_BOX = 64 * 1024
MAX_BOXES = 1000  # in another one
MAX_TICKS = 2**31  # a longer step from one sample to the next is a negative one
KEYFRAMES_TRIED = 3  # from the last one back: when a keyframe is shown is another table's business
REORDERED = 16  # so many pictures at most are decoded before one that is shown earlier (H.264 §A.3.1)
# Whatever else is in a sample table may change what its samples mean.
KNOWN_TABLES = frozenset(
    {b"stsd", b"stts", b"ctts", b"stss", b"stsc", b"stsz", b"stco", b"co64", b"sdtp", b"cslg"}
)
ROLL_TABLES = frozenset(
    {b"sgpd", b"sbgp"}
)  # of the grouping "roll" alone, which only says how sound fades in
SELF_CONTAINED = 1


@dataclass(frozen=True)
class Samples:
    """Consecutive samples of a track. ``times`` are when each is decoded, ``shown`` when it is shown.

    Both in ticks of the media, of which there are ``track.timescale`` a second.
    """

    track: "Track"
    times: Sequence[int]
    steps: Sequence[int]
    shown: Sequence[int]
    keyframes: Sequence[int] | None  # their places in this sequence; None: all are
    sizes: Sequence[int]
    offsets: Sequence[int]

    @property
    def start(self) -> float:
        """When the first one is shown, in seconds of the file's time line."""
        return self.track.seconds(min(self.shown))


class Index:
    """The index of an MP4, in an open file that holds its ``moov`` box, and maybe the rest of it."""

    def __init__(self, picture: "Track", sound: "Track | None") -> None:
        self._picture = picture
        self._sound = sound
        # ffmpeg, and so everybody, counts from where the first track begins.
        self._zero = min(track.starts_at for track in (picture, sound) if track)

    @classmethod
    def read(cls, file: IO[bytes]) -> Self:
        """Read an index. The file must stay open.

        Raises:
            NotPlain: see there.
        """
        try:
            return cls(*_read_tracks(_Reader(file)))
        except (Malformed, struct.error, IndexError, ZeroDivisionError, OverflowError) as error:
            raise NotPlain(f"a damaged index: {error}") from error

    @property
    def seconds(self) -> float:
        """How far the picture reaches, in seconds from the start of the VOD."""
        return self._picture.ends_at - self._zero

    def keyframe(self, seconds: float) -> tuple[bytes, bytes]:
        """The keyframe that the picture at a time hangs from, where the file has the media too.

        Returns:
            the description of its format (``stsd``), and the keyframe.

        Raises:
            NotPlain: see there.
        """
        try:
            return self._picture.description, self._picture.sample(
                self._picture.keyframe_before(seconds + self._zero)
            )
        except (struct.error, IndexError, ValueError) as error:
            raise NotPlain(f"a damaged index: {error}") from error

    def select(self, start: float, end: float) -> tuple[list[Samples], float]:
        """What a clip from ``start`` to ``end`` needs: from the keyframe before it, and its sound.

        Returns:
            the samples of the picture, and of the sound if there is any in the window; and where the file's
            time line has the start of the VOD.

        Raises:
            NotPlain: see there.
        """
        try:
            return self._select(start + self._zero, end + self._zero), self._zero
        except (struct.error, IndexError, ValueError) as error:
            raise NotPlain(f"a damaged index: {error}") from error

    def _select(self, start: float, end: float) -> list[Samples]:
        picture = self._picture.samples(self._picture.keyframe_before(start), self._picture.first_after(end))
        if picture is None:
            raise NotPlain("no picture in the window")
        if self._sound is None:
            return [picture]
        sound = self._sound.samples(self._sound.last_before(picture.start), self._sound.first_after(end))
        return [picture, sound] if sound else [picture]


class _Reader:
    """Reads at offsets of a file, from several threads if need be."""

    def __init__(self, file: IO[bytes]) -> None:
        self._descriptor = file.fileno()
        self.size = os.fstat(self._descriptor).st_size

    def __call__(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def children(self, parent: Box) -> dict[bytes, list[Box]]:
        """The boxes in a box, by kind."""
        found: dict[bytes, list[Box]] = {}
        for number, child in enumerate(walk(self, parent.start, parent.end)):
            if child.end > parent.end or number > MAX_BOXES:
                raise Malformed("a box that is too large, or of too many parts")
            found.setdefault(child.kind, []).append(child)
        return found

    def child(self, parent: Box, *path: bytes) -> Box:
        """The one box at the end of a path of kinds."""
        for kind in path:
            match self.children(parent).get(kind, []):
                case [parent]:
                    pass
                case found:
                    raise NotPlain(f"{len(found)} boxes {kind!r}")
        return parent

    def content(self, box: Box) -> bytes:
        """The content of a small box."""
        if box.end - box.start > MAX_SMALL_BOX:
            raise NotPlain(f"a box {box.kind!r} of {box.end - box.start} bytes")
        return self(box.start, box.end - box.start)

    def whole(self, box: Box) -> bytes:
        """A small box with its head."""
        self.content(box)
        return self(box.head, box.end - box.head)


def _read_tracks(read: _Reader) -> tuple["Track", "Track | None"]:
    """The only picture, and the only sound or none."""
    moov = next((found for found in walk(read, 0, read.size) if found.kind == b"moov"), None)
    if moov is None or moov.end > read.size:
        raise Malformed("it is cut off")
    parts = read.children(moov)
    if b"mvex" in parts:
        raise NotPlain("a fragmented file")
    movie_scale = _timescale(read.content(read.child(moov, b"mvhd")))
    tracks: dict[bytes, Track] = {}
    for trak in parts.get(b"trak", []):
        kind = read.content(read.child(trak, b"mdia", b"hdlr"))[8:12]
        if kind in (PICTURE, SOUND):
            if kind in tracks:
                raise NotPlain(f"several tracks {kind!r}")
            tracks[kind] = Track(read, trak, movie_scale)
    if PICTURE not in tracks:
        raise NotPlain("no picture")
    return tracks[PICTURE], tracks.get(SOUND)


def _timescale(header: bytes) -> int:
    """Ticks a second (``mvhd``, ``mdhd``): after version, flags and two dates."""
    return int(struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)[0])


class Track:
    """One track of an index. Times are ticks of its media, seconds those of the file's time line."""

    def __init__(self, read: _Reader, trak: Box, movie_scale: int) -> None:
        self._read = read
        media = read.child(trak, b"mdia")
        information = read.child(media, b"minf")
        tables = read.child(information, b"stbl")
        _check_reference(read, information)
        self.header = read.content(read.child(trak, b"tkhd"))
        self.media_header = read.content(read.child(media, b"mdhd"))
        self.handler = read.whole(read.child(media, b"hdlr"))
        self.is_picture = self.handler[16:20] == PICTURE
        self.description = read.whole(read.child(tables, b"stsd"))
        self.timescale = _timescale(self.media_header)
        if self.description[12:16] != b"\0\0\0\1":
            raise NotPlain("a track that changes its format")
        self._tables = _Tables(read, tables)
        self._zero, self._from, self._to = _read_edits(read, trak, self.timescale, movie_scale)

    def seconds(self, ticks: float) -> float:
        """A time of the media on the file's time line."""
        return ticks / self.timescale - self._zero

    def _ticks(self, seconds: float) -> int:
        return math.ceil((seconds + self._zero) * self.timescale)

    @cached_property
    def starts_at(self) -> float:
        """When its first sample is shown."""
        return max(self._from, self.seconds(min(self._tables.shown(0, REORDERED))))

    @cached_property
    def ends_at(self) -> float:
        """When its last sample ends."""
        return min(self._to, self.seconds(self._tables.end))

    def keyframe_before(self, seconds: float) -> int:
        """The number of the last sample that can be decoded alone and is shown by then, else of the first."""
        wanted = self._ticks(seconds + ROUNDING_SECONDS)
        keyframes = self._tables.keyframes
        latest = self._tables.last_before(wanted)
        if keyframes is None:
            return latest
        after = bisect_right(keyframes, latest + 1)
        numbers = [keyframes[at] - 1 for at in range(after - 1, max(after - 1 - KEYFRAMES_TRIED, -1), -1)]
        for number in numbers:
            if self._tables.shown(number, number + 1)[0] <= wanted:
                return number
        return numbers[-1] if numbers else 0

    def last_before(self, seconds: float) -> int:
        """The number of the last sample to be decoded by then, else of the first."""
        return self._tables.last_before(self._ticks(seconds))

    def first_after(self, seconds: float) -> int:
        """The number after the last sample that is decoded before then."""
        return self._tables.first_after(self._ticks(seconds))

    def sample(self, number: int) -> bytes:
        """The media of one sample.

        Raises:
            NotPlain: it is larger than any.
        """
        sizes, offsets = self._tables.places(number, number + 1)
        if sizes[0] > MAX_SAMPLE_BYTES:
            raise NotPlain(f"a sample of {sizes[0]} bytes")
        return self._read(offsets[0], sizes[0])

    def samples(self, first: int, after: int) -> Samples | None:
        """The samples from one number up to another; None: there are none."""
        if first >= after:
            return None
        if after - first > MAX_SAMPLES:
            raise NotPlain(f"{after - first} samples in the window")
        times, steps = self._tables.times(first, after)
        shown = self._tables.shown(first, after)
        if len(times) != len(shown) or min(shown) < times[0]:
            raise NotPlain("times that run backwards")
        sizes, offsets = self._tables.places(first, after)
        keyframes = self._tables.keyframes_between(first, after)
        return Samples(self, times, steps, shown, keyframes, sizes, offsets)


def _check_reference(read: _Reader, information: Box) -> None:
    """Its samples must be in the file itself, not in another one that it names."""
    reference = read.content(read.child(information, b"dinf", b"dref"))
    count, _, _, flags = struct.unpack_from(">II4sI", reference, 4)
    if count != 1 or flags != SELF_CONTAINED:
        raise NotPlain("media in another file")


def _read_edits(read: _Reader, trak: Box, timescale: int, movie_scale: int) -> tuple[float, float, float]:
    """What the edit list says (``elst``): all in seconds.

    Returns:
        the media time that stands at zero of the time line, and from when to when anything is shown.
    """
    if b"edts" not in read.children(trak):
        return 0.0, 0.0, math.inf
    edits = read.content(read.child(trak, b"edts", b"elst"))
    (count,) = struct.unpack_from(">I", edits, 4)
    form = struct.Struct(">Qqhh" if edits[0] == 1 else ">Iihh")
    rows = list(form.iter_unpack(edits[8 : 8 + count * form.size]))
    if len(rows) != count:
        raise Malformed("an edit list that is cut off")
    pause = 0
    if rows and rows[0][1] == NOTHING:
        pause = rows.pop(0)[0]
    if len(rows) != 1 or rows[0][1] < 0 or rows[0][2:] != (1, 0) or (pause and rows[0][1] > timescale):
        raise NotPlain("an edit list that does more than place the start and the end")
    duration, media_time = rows[0][:2]
    start = pause / movie_scale
    return media_time / timescale - start, start, start + duration / movie_scale if duration else math.inf


class _Words:
    """A table of numbers on disk (``form``: the type code of an array)."""

    def __init__(self, read: _Reader, start: int, count: int, form: str = "I") -> None:
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


class _Runs:
    """A table of runs (``stts``, ``ctts``): how many samples, and the value that each of them has.

    ``samples`` is the sum of all counts; where values are steps, ``total`` is that of all samples' steps.
    """

    def __init__(self, words: _Words, *, are_steps: bool) -> None:
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


class _Tables:
    """The tables of a track (``stbl``): when its samples are shown and where they lie."""

    def __init__(self, read: _Reader, tables: Box) -> None:
        self._read = read
        self._boxes = read.children(tables)
        self._check_kinds()
        self._steps = _Runs(self._words(b"stts", 2), are_steps=True)
        self._shifts = _Runs(self._words(b"ctts", 2), are_steps=False) if b"ctts" in self._boxes else None
        self.keyframes = self._words(b"stss") if b"stss" in self._boxes else None
        self._same_size, self.count, self._sizes = self._read_sizes()
        is_wide = b"co64" in self._boxes
        self._chunks = self._words(b"co64", form="Q") if is_wide else self._words(b"stco")
        self._chunk_runs = _ChunkRuns(self._words(b"stsc", 3), len(self._chunks))
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

    def _words(self, kind: bytes, columns: int = 1, form: str = "I") -> _Words:
        """The numbers of a table: after version and flags the count of its rows, then the rows."""
        table = self._box(kind)
        (rows,) = struct.unpack(">I", self._read(table.start + 4, 4))
        if rows * columns * array(form).itemsize > table.end - table.start - 8:
            raise NotPlain(f"{kind!r} is cut off")
        return _Words(self._read, table.start + 8, rows * columns, form)

    def _read_sizes(self) -> tuple[int, int, _Words]:
        """The size that all samples have, or 0; how many they are; else the size of each."""
        sizes = self._box(b"stsz")
        same, count = struct.unpack(">II", self._read(sizes.start + 4, 8))
        each = 0 if same else count
        if sizes.start + 12 + 4 * each > sizes.end:
            raise NotPlain("'stsz' is cut off")
        return same, count, _Words(self._read, sizes.start + 12, each)

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
        if after - start > MAX_SAMPLES:
            raise NotPlain("a chunk of too many samples")
        sizes = [self._same_size] * (after - start) if self._same_size else self._sizes.between(start, after)
        bases = self._chunks.between(chunks[0][0], chunks[-1][0] + 1)
        offsets: list[int] = []
        for base, (_, number, count) in zip(bases, chunks, strict=True):
            offsets += accumulate(sizes[number - start : number - start + count - 1], initial=base)
        return sizes[first - start :], offsets[first - start : after - start]


class _ChunkRuns:
    """``stsc``: how many samples each chunk has, in runs of chunks alike."""

    def __init__(self, words: _Words, chunks: int) -> None:
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
