"""Finds where the clock of a stream jumps, and where its video ends, by reading a small part of the file.

A small file is read whole. Of a larger file, blocks at a few offsets are read concurrently. The time between
two blocks must fit the bytes between them. An interval in which time goes back, or which is far longer or
shorter than its bytes predict, is halved until the jump is found or both halves have the same bit rate.

A jump is missed if it is smaller than about a third of the time between two blocks (or smaller than 10 s),
and time does not go back between the blocks. ffmpeg reads a window across a missed jump if time goes back in
it; the seconds after the jump are those of the clock.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from clip_cutter.containers.model import ByteRange, TrackKind, UnsupportedMedia
from clip_cutter.containers.stream import SampleStart, Stream
from clip_cutter.containers.stream_clock import (
    MAX_GAP_SECONDS,
    MAX_INTERLEAVE_SECONDS,
    ClockJump,
    StreamClock,
)
from clip_cutter.containers.timeline import Timeline

# Reads several ranges of a file concurrently; returns their bytes in the same order.
ReadRanges = Callable[[Sequence[ByteRange]], Awaitable[Sequence[bytes]]]

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
WHOLE_FILE_BYTES = 4 * MEBIBYTE  # a file up to this size is read whole
HEAD_BYTES = 256 * KIBIBYTE
SEGMENT_HEAD_BYTES = 64 * KIBIBYTE
BLOCK_BYTES = 64 * KIBIBYTE
LARGE_BLOCK_BYTES = MEBIBYTE  # instead of a block in which no sample starts
JUMP_BYTES = 512 * KIBIBYTE  # read before and after a jump, to find its exact offset
MAX_JUMP_BYTES = 32 * MEBIBYTE
# Sizes of the tail: they are tried in order until video starts in it.
TAIL_BYTES = (256 * KIBIBYTE, MEBIBYTE, 4 * MEBIBYTE, 16 * MEBIBYTE)
SPACING_BYTES = 32 * MEBIBYTE  # between blocks, unless their number is out of bounds
MIN_BLOCKS, MAX_BLOCKS = 8, 24
HALVED_BLOCKS = 8  # at 1/2, 1/4, 1/8 … of the spacing: they find a restart soon after the start
MAX_READS = 200
MAX_SEGMENTS = 64
# The time in an interval may differ by these factors from the median of the file, and from the other half. A
# variable bit rate exceeds them without a jump: only the most doubtful intervals are read, up to a limit.
FILE_FACTOR, HALF_FACTOR = 1.6, 1.25
MAX_DOUBTED = 48


class SurveyPoint(NamedTuple):
    """An offset of the file, and its time in seconds of the VOD."""

    offset: int
    seconds: float


@dataclass(frozen=True)
class StreamSurvey:
    """The result of a survey.

    Args:
        timeline: converts the stream's times to times of the VOD.
        heads: the first bytes of each segment of the time line.
        points: known points in the order of the file; the first and the last point are its start and its end.
        seconds: end of the video, in seconds of the VOD; None if the video ends long before the file does.
    """

    timeline: Timeline
    heads: Sequence[bytes]
    points: Sequence[SurveyPoint]
    seconds: float | None

    def head(self, offset: int) -> bytes:
        """Return the first bytes of the segment that contains an offset of the file."""
        return self.heads[self.timeline.segments.index(self.timeline.segment(offset))]


class _Interval(NamedTuple):
    """The part of the file between two samples.

    Args:
        first, last: the two samples.
        ticks: the time between them by the clock.
        expected: the time between them by the number of bytes, in ticks.
        factor: by which ``ticks`` and ``expected`` may differ.
    """

    first: SampleStart
    last: SampleStart
    ticks: int
    expected: float
    factor: float

    @property
    def size(self) -> int:
        return self.last.offset - self.first.offset

    @property
    def bytes(self) -> ByteRange:
        return ByteRange(self.first.offset, self.last.offset)

    @property
    def middle(self) -> ByteRange:
        return ByteRange(start := self.first.offset + self.size // 2, start + BLOCK_BYTES)


@dataclass(frozen=True)
class _LoadedBlock:
    """A part of the file that was read, and the samples that start in it."""

    offset: int
    data: bytes
    samples: Sequence[SampleStart]

    def head(self, offset: int) -> bytes:
        """Return the bytes from an offset of the file on, up to the size of a segment's head."""
        return self.data[offset - self.offset :][:SEGMENT_HEAD_BYTES]


class StreamSurveyor:
    """Surveys one stream.

    Args:
        stream: the container, as recognized by its first bytes.
        read_ranges: reads ranges of the file.
        size: of the file, in bytes.
        head: the first bytes of the file; the whole file if it has up to ``WHOLE_FILE_BYTES``.
    """

    def __init__(self, stream: Stream, read_ranges: ReadRanges, size: int, head: bytes) -> None:
        self._stream = stream
        self._read_ranges = read_ranges
        self._size = size
        self._head = _LoadedBlock(0, head, stream.sample_starts(head, 0))
        self._clock = StreamClock(stream.timescale, stream.wrap)
        self._reads = 0

    async def survey(self) -> StreamSurvey:
        """Survey the stream.

        Raises:
            UnsupportedMedia: the stream has no video, or its times are in no order.
        """
        blocks = [self._head]
        if self._size > WHOLE_FILE_BYTES:
            *places, tail = await self._load(self._block_ranges())
            blocks += [*await self._grow(places), await self._grow_tail(tail)]
        if not blocks[0].samples or not blocks[-1].samples:
            raise UnsupportedMedia("stream: no sample starts in its first or last bytes")
        jumps = await self._find_jumps(blocks)
        return self._describe(blocks, dict(sorted(jumps.items())))

    def _block_ranges(self) -> list[ByteRange]:
        """Return the ranges of the blocks after the head; the last range is the tail."""
        count = min(max(self._size // SPACING_BYTES, MIN_BLOCKS), MAX_BLOCKS)
        spacing = self._size // (count + 1)
        offsets = [spacing >> step for step in range(HALVED_BLOCKS, 0, -1)]
        offsets += [spacing * place for place in range(1, count + 1)]
        return [
            *(ByteRange(each, each + BLOCK_BYTES) for each in offsets if each >= HEAD_BYTES),
            ByteRange(self._size - TAIL_BYTES[0], self._size),
        ]

    async def _load(self, wanted: Sequence[ByteRange]) -> list[_LoadedBlock]:
        self._reads += len(wanted)
        if self._reads > MAX_READS:
            raise UnsupportedMedia(f"stream: its clock is not understood after {MAX_READS} reads")
        clipped = [ByteRange(max(each.start, 0), min(each.end, self._size)) for each in wanted]
        contents = await self._read_ranges(clipped)
        return [
            _LoadedBlock(each.start, data, self._stream.sample_starts(data, each.start))
            for each, data in zip(clipped, contents, strict=True)
        ]

    async def _grow(self, places: Sequence[_LoadedBlock]) -> list[_LoadedBlock]:
        """Read larger blocks instead of those without samples; drop them if that does not help."""
        empty = [
            ByteRange(each.offset, each.offset + LARGE_BLOCK_BYTES) for each in places if not each.samples
        ]
        larger = await self._load(empty) if empty else []
        return sorted((each for each in (*places, *larger) if each.samples), key=lambda each: each.offset)

    async def _grow_tail(self, tail: _LoadedBlock) -> _LoadedBlock:
        """Read a larger tail until video starts in it."""
        for size in TAIL_BYTES[1:]:
            if len(_video(tail.samples)) > 1 or tail.offset == 0:
                break
            (tail,) = await self._load([ByteRange(self._size - size, self._size)])
        return tail

    async def _find_jumps(self, blocks: Sequence[_LoadedBlock]) -> dict[ClockJump, bytes]:
        """Return the clock's jumps, each with the first bytes after it."""
        if len(blocks) == 1:
            return self._jumps_in(blocks[0])
        ranges = list(_merged([*self._jump_ranges(blocks), *await self._suspect_ranges(blocks)]))
        if sum(each.size for each in ranges) > MAX_JUMP_BYTES:
            raise UnsupportedMedia(f"stream: more than {MAX_JUMP_BYTES} bytes around clock jumps")
        jumps: dict[ClockJump, bytes] = {}
        for each in ranges:
            (block,) = await self._load([each])
            jumps |= self._jumps_in(block)
        return jumps

    def _jumps_in(self, block: _LoadedBlock) -> dict[ClockJump, bytes]:
        return {jump: block.head(jump.offset) for jump in self._clock.jumps(block.samples)}

    def _jump_ranges(self, blocks: Sequence[_LoadedBlock]) -> list[ByteRange]:
        """Return the ranges of the blocks in which the clock jumps."""
        return [
            ByteRange(each.samples[0].offset, each.samples[-1].offset)
            for each in blocks
            if self._clock.jumps(each.samples)
        ]

    async def _suspect_ranges(self, blocks: Sequence[_LoadedBlock]) -> list[ByteRange]:
        """Return small ranges between the blocks in which the clock seems to jump."""
        between = [(before.samples[-1], after.samples[0]) for before, after in pairwise(blocks)]
        rates = [self._ticks_per_byte(first, last) for first, last in between]
        expected = median([rate for rate in rates if rate > 0] or [1.0])
        doubted = [self._interval(first, last, expected, FILE_FACTOR) for first, last in between]
        suspects: list[ByteRange] = []
        allowed = MAX_DOUBTED
        while doubted := self._most_doubtful([each for each in doubted if not self._fits(each)], allowed):
            allowed -= sum(each.ticks >= 0 for each in doubted)
            large = [each for each in doubted if each.size > JUMP_BYTES]
            suspects += [each.bytes for each in doubted if each.size <= JUMP_BYTES]
            middles = await self._load([each.middle for each in large])
            suspects += self._jump_ranges(middles)
            doubted = [
                half
                for interval, middle in zip(large, middles, strict=True)
                for half in self._halves(interval, middle)
            ]
        return suspects

    def _most_doubtful(self, intervals: Sequence[_Interval], allowed: int) -> list[_Interval]:
        """Return the intervals in which time goes back, and the ``allowed`` most doubtful other ones."""
        certain = [each for each in intervals if each.ticks < 0]
        doubtful = [each for each in intervals if each.ticks >= 0]
        return certain + sorted(doubtful, key=lambda each: -abs(each.ticks - each.expected))[:allowed]

    def _halves(self, interval: _Interval, middle: _LoadedBlock) -> list[_Interval]:
        """Split an interval at its middle block; both halves should have the bit rate of the whole."""
        samples = [sample for sample in middle.samples if sample.offset < interval.last.offset]
        if not samples:
            return []
        ticks_per_byte = max(interval.ticks, 0) / interval.size or interval.expected / interval.size
        return [
            self._interval(interval.first, samples[0], ticks_per_byte, HALF_FACTOR),
            self._interval(samples[-1], interval.last, ticks_per_byte, HALF_FACTOR),
        ]

    def _interval(
        self, first: SampleStart, last: SampleStart, ticks_per_byte: float, factor: float
    ) -> _Interval:
        ticks = self._clock.since(last.decoded, first.decoded)
        return _Interval(first, last, ticks, (last.offset - first.offset) * ticks_per_byte, factor)

    def _ticks_per_byte(self, first: SampleStart, last: SampleStart) -> float:
        return self._clock.since(last.decoded, first.decoded) / max(last.offset - first.offset, 1)

    def _fits(self, interval: _Interval) -> bool:
        """Return whether the time in an interval is about as long as its bytes predict."""
        if interval.ticks < -self._clock.timescale:
            return interval.size <= 0
        is_near = abs(interval.ticks - interval.expected) <= MAX_GAP_SECONDS * self._clock.timescale
        return (
            is_near
            or interval.expected / interval.factor <= interval.ticks <= interval.expected * interval.factor
        )

    def _describe(self, blocks: Sequence[_LoadedBlock], jumps: dict[ClockJump, bytes]) -> StreamSurvey:
        if len(jumps) >= MAX_SEGMENTS:
            raise UnsupportedMedia(
                f"stream: its clock jumps {len(jumps)} times, the limit is {MAX_SEGMENTS - 1}"
            )
        first, last = blocks[0], blocks[-1]
        start = self._clock.start(self._clock.runs(first.samples)[0])
        timeline = self._clock.timeline(start, list(jumps))
        starts = [each.samples[0] for each in blocks[1:]]
        ends = self._clock.runs(last.samples)[-1]
        points = [
            SurveyPoint(0, 0.0),
            *(
                SurveyPoint(sample.offset, timeline.seconds(sample.offset, sample.decoded))
                for sample in starts
            ),
            SurveyPoint(self._size, timeline.seconds(ends[0].offset, self._clock.end(ends))),
        ]
        if any(after.seconds < before.seconds - MAX_INTERLEAVE_SECONDS for before, after in pairwise(points)):
            raise UnsupportedMedia("stream: times go back between two blocks without a clock jump")
        if not any(_video(each.samples) for each in blocks):
            raise UnsupportedMedia("stream: no video in any block")
        return StreamSurvey(
            timeline, [first.data[:HEAD_BYTES], *jumps.values()], points, self._seconds(timeline, last)
        )

    def _seconds(self, timeline: Timeline, tail: _LoadedBlock) -> float | None:
        """Return the end of the last video, in seconds of the VOD; None if the tail has no video."""
        for run in reversed(self._clock.runs(tail.samples)):
            if video := _video(run):
                return timeline.seconds(video[0].offset, self._clock.end(video))
        return None


def _video(samples: Sequence[SampleStart]) -> list[SampleStart]:
    return [sample for sample in samples if sample.kind == TrackKind.VIDEO]


def _merged(places: Sequence[ByteRange]) -> Iterator[ByteRange]:
    """Yield the ranges extended by ``JUMP_BYTES`` at both ends; ranges that overlap are merged."""
    ranges = sorted((each.start - JUMP_BYTES, each.end + JUMP_BYTES) for each in places)
    while ranges:
        start, end = ranges.pop(0)
        while ranges and ranges[0][0] <= end:
            end = max(end, ranges.pop(0)[1])
        yield ByteRange(start, end)
