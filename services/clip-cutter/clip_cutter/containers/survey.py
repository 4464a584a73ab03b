"""A look at a whole stream that reads little of it: where its clock jumps, and how far its video reaches.

A small file is read whole. Of a larger one, blocks at a few places are read side by side. Between two of them
time and bytes have to fit each other: an interval in which time runs back, or in which far more or far less
of it lies than usual, is halved until the jump is found or the halves are alike.

What cannot be seen: a jump between two places by less than about a third of the time between them (and by
less than 10 s in any case), unless time runs back from one to the other. A window across it is left to ffmpeg
if time runs back in it; and seconds behind the jump count as the clock says.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from clip_cutter.containers.model import ByteRange, TrackKind, UnsupportedMedia
from clip_cutter.containers.stream import SampleStart, Stream
from clip_cutter.containers.stream_clock import BESIDE_SECONDS, MAX_GAP_SECONDS, ClockJump, StreamClock
from clip_cutter.containers.timeline import Timeline

# Reads several places of a file side by side.
ReadRanges = Callable[[Sequence[ByteRange]], Awaitable[Sequence[bytes]]]

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
WHOLE_BYTES = 4 * MEBIBYTE  # a file up to this size is read whole
HEAD_BYTES = 256 * KIBIBYTE
SEGMENT_HEAD_BYTES = 64 * KIBIBYTE
BLOCK_BYTES = 64 * KIBIBYTE
LARGE_BYTES = MEBIBYTE  # where a block has nothing that begins in it
AROUND_BYTES = 512 * KIBIBYTE  # of a jump, which is read to say where exactly it is
MAX_AROUND_BYTES = 32 * MEBIBYTE
TAILS = (256 * KIBIBYTE, MEBIBYTE, 4 * MEBIBYTE, 16 * MEBIBYTE)  # until video is found at the end
APART_BYTES = 32 * MEBIBYTE  # between places, unless they would be too few or too many
MIN_PLACES, MAX_PLACES = 8, 24
FIRST_PLACES = 8  # each half as far from the start: behind a restart at any time, the next one runs back
MAX_READS = 200
MAX_SEGMENTS = 64
# By what factor the time in an interval may differ from what is usual in the file, and in its other half. It
# may well do so without a jump: only so many doubtful intervals are looked into, the most doubtful ones.
UNUSUAL, UNLIKE = 1.6, 1.25
MAX_DOUBTS = 48


class SurveyPoint(NamedTuple):
    """A place of the file, and the line's time there in seconds."""

    offset: int
    seconds: float


@dataclass(frozen=True)
class StreamSurvey:
    """What is known of a stream.

    Args:
        line: puts its times on the VOD's line.
        heads: the first bytes of each of the line's segments.
        points: places in order, the first and the last one at the ends of the file.
        seconds: how far its video reaches; None where it ends long before the file does.
    """

    line: Timeline
    heads: Sequence[bytes]
    points: Sequence[SurveyPoint]
    seconds: float | None

    def head(self, offset: int) -> bytes:
        """Return the first bytes of the segment in which an offset lies."""
        return self.heads[self.line.segments.index(self.line.segment(offset))]


class _Interval(NamedTuple):
    """What lies between two marks.

    ``ticks`` is how long it takes by the clock, ``usual`` by its bytes; they may differ by a ``factor``.
    """

    first: SampleStart
    last: SampleStart
    ticks: int
    usual: float
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
    """A part of the file that was read, and what begins in it."""

    offset: int
    data: bytes
    marks: Sequence[SampleStart]

    def head(self, offset: int) -> bytes:
        """Return the first bytes from an offset of the file on."""
        return self.data[offset - self.offset :][:SEGMENT_HEAD_BYTES]


class StreamSurveyor:
    """Looks at a stream of ``size`` bytes that begins with ``head``; up to ``WHOLE_BYTES`` are all there."""

    def __init__(self, stream: Stream, peeks: ReadRanges, size: int, head: bytes) -> None:
        self._stream = stream
        self._peeks = peeks
        self._size = size
        self._head = _LoadedBlock(0, head, stream.sample_starts(head, 0))
        self._clock = StreamClock(stream.timescale, stream.wrap)
        self._reads = 0

    async def survey(self) -> StreamSurvey:
        """Look.

        Raises:
            UnsupportedMedia: there is no video, or no order in the times.
        """
        regions = [self._head]
        if self._size > WHOLE_BYTES:
            *places, tail = await self._regions(self._places())
            regions += [*await self._enlarge(places), await self._enlarge_tail(tail)]
        if not regions[0].marks or not regions[-1].marks:
            raise UnsupportedMedia("a stream that does not begin or end with video or audio")
        jumps = await self._find_jumps(regions)
        return self._describe(regions, dict(sorted(jumps.items())))

    def _places(self) -> list[ByteRange]:
        """Return places behind the head, and the tail."""
        count = min(max(self._size // APART_BYTES, MIN_PLACES), MAX_PLACES)
        apart = self._size // (count + 1)
        offsets = [apart >> step for step in range(FIRST_PLACES, 0, -1)]
        offsets += [apart * place for place in range(1, count + 1)]
        return [
            *(ByteRange(each, each + BLOCK_BYTES) for each in offsets if each >= HEAD_BYTES),
            ByteRange(self._size - TAILS[0], self._size),
        ]

    async def _regions(self, wanted: Sequence[ByteRange]) -> list[_LoadedBlock]:
        self._reads += len(wanted)
        if self._reads > MAX_READS:
            raise UnsupportedMedia("a stream without order in its times")
        clipped = [ByteRange(max(each.start, 0), min(each.end, self._size)) for each in wanted]
        datas = await self._peeks(clipped)
        return [
            _LoadedBlock(each.start, data, self._stream.sample_starts(data, each.start))
            for each, data in zip(clipped, datas, strict=True)
        ]

    async def _enlarge(self, places: Sequence[_LoadedBlock]) -> list[_LoadedBlock]:
        """Read more where nothing begins; leave out places where that does not help."""
        empty = [ByteRange(each.offset, each.offset + LARGE_BYTES) for each in places if not each.marks]
        larger = await self._regions(empty) if empty else []
        return sorted((each for each in (*places, *larger) if each.marks), key=lambda each: each.offset)

    async def _enlarge_tail(self, tail: _LoadedBlock) -> _LoadedBlock:
        """Read more of the end until video begins in it."""
        for size in TAILS[1:]:
            if len(_video(tail.marks)) > 1 or tail.offset == 0:
                break
            (tail,) = await self._regions([ByteRange(self._size - size, self._size)])
        return tail

    async def _find_jumps(self, regions: Sequence[_LoadedBlock]) -> dict[ClockJump, bytes]:
        """Return the clock's jumps, each with the first bytes behind it."""
        if len(regions) == 1:
            return self._jumps_in(regions[0])
        around = list(_merged([*self._jumping(regions), *await self._suspects(regions)]))
        if sum(each.size for each in around) > MAX_AROUND_BYTES:
            raise UnsupportedMedia("a clock that jumps in too many places")
        jumps: dict[ClockJump, bytes] = {}
        for each in around:
            (region,) = await self._regions([each])
            jumps |= self._jumps_in(region)
        return jumps

    def _jumps_in(self, region: _LoadedBlock) -> dict[ClockJump, bytes]:
        return {jump: region.head(jump.offset) for jump in self._clock.jumps(region.marks)}

    def _jumping(self, regions: Sequence[_LoadedBlock]) -> list[ByteRange]:
        """Return where regions lie in which the clock jumps."""
        return [
            ByteRange(each.marks[0].offset, each.marks[-1].offset)
            for each in regions
            if self._clock.jumps(each.marks)
        ]

    async def _suspects(self, regions: Sequence[_LoadedBlock]) -> list[ByteRange]:
        """Return small places between regions in which the clock seems to jump."""
        between = [(one.marks[-1], two.marks[0]) for one, two in pairwise(regions)]
        paces = [self._pace(first, last) for first, last in between]
        usual = median([pace for pace in paces if pace > 0] or [1.0])
        open_ = [self._interval(first, last, usual, UNUSUAL) for first, last in between]
        suspects: list[ByteRange] = []
        doubts = MAX_DOUBTS
        while open_ := self._worst([each for each in open_ if not self._fits(each)], doubts):
            doubts -= sum(each.ticks >= 0 for each in open_)
            large = [each for each in open_ if each.size > AROUND_BYTES]
            suspects += [each.bytes for each in open_ if each.size <= AROUND_BYTES]
            middles = await self._regions([each.middle for each in large])
            suspects += self._jumping(middles)
            open_ = [
                half
                for interval, middle in zip(large, middles, strict=True)
                for half in self._halves(interval, middle)
            ]
        return suspects

    def _worst(self, intervals: Sequence[_Interval], doubts: int) -> list[_Interval]:
        """Return the intervals to look into: those in which time runs back, and the most doubtful ones."""
        certain = [each for each in intervals if each.ticks < 0]
        doubtful = [each for each in intervals if each.ticks >= 0]
        return certain + sorted(doubtful, key=lambda each: -abs(each.ticks - each.usual))[:doubts]

    def _halves(self, interval: _Interval, middle: _LoadedBlock) -> list[_Interval]:
        """Return what lies before and behind the middle of an interval; they should be like each other."""
        marks = [mark for mark in middle.marks if mark.offset < interval.last.offset]
        if not marks:
            return []
        pace = max(interval.ticks, 0) / interval.size or interval.usual / interval.size
        return [
            self._interval(interval.first, marks[0], pace, UNLIKE),
            self._interval(marks[-1], interval.last, pace, UNLIKE),
        ]

    def _interval(self, first: SampleStart, last: SampleStart, pace: float, factor: float) -> _Interval:
        ticks = self._clock.since(last.decoded, first.decoded)
        return _Interval(first, last, ticks, (last.offset - first.offset) * pace, factor)

    def _pace(self, first: SampleStart, last: SampleStart) -> float:
        return self._clock.since(last.decoded, first.decoded) / max(last.offset - first.offset, 1)

    def _fits(self, interval: _Interval) -> bool:
        """Whether about as much time as usual lies in an interval."""
        if interval.ticks < -self._clock.timescale:
            return interval.size <= 0
        is_near = abs(interval.ticks - interval.usual) <= MAX_GAP_SECONDS * self._clock.timescale
        return (
            is_near or interval.usual / interval.factor <= interval.ticks <= interval.usual * interval.factor
        )

    def _describe(self, regions: Sequence[_LoadedBlock], jumps: dict[ClockJump, bytes]) -> StreamSurvey:
        if len(jumps) >= MAX_SEGMENTS:
            raise UnsupportedMedia(f"a clock that jumps {len(jumps)} times")
        first, last = regions[0], regions[-1]
        start = self._clock.start(self._clock.runs(first.marks)[0])
        line = self._clock.line(start, list(jumps))
        begun = [each.marks[0] for each in regions[1:]]
        ends = self._clock.runs(last.marks)[-1]
        points = [
            SurveyPoint(0, 0.0),
            *(SurveyPoint(mark.offset, line.seconds(mark.offset, mark.decoded)) for mark in begun),
            SurveyPoint(self._size, line.seconds(ends[0].offset, self._clock.end(ends))),
        ]
        if any(two.seconds < one.seconds - BESIDE_SECONDS for one, two in pairwise(points)):
            raise UnsupportedMedia("a stream whose times run backwards")
        if not any(_video(each.marks) for each in regions):
            raise UnsupportedMedia("a stream without video")
        return StreamSurvey(
            line, [first.data[:HEAD_BYTES], *jumps.values()], points, self._seconds(line, last)
        )

    def _seconds(self, line: Timeline, tail: _LoadedBlock) -> float | None:
        """Return where the last video of the file ends; None where it lies far before the end."""
        for run in reversed(self._clock.runs(tail.marks)):
            if video := _video(run):
                return line.seconds(video[0].offset, self._clock.end(video))
        return None


def _video(marks: Sequence[SampleStart]) -> list[SampleStart]:
    return [mark for mark in marks if mark.kind == TrackKind.VIDEO]


def _merged(places: Sequence[ByteRange]) -> Iterator[ByteRange]:
    """Yield places with what lies around them, those that touch each other as one."""
    around = sorted((each.start - AROUND_BYTES, each.end + AROUND_BYTES) for each in places)
    while around:
        start, end = around.pop(0)
        while around and around[0][0] <= end:
            end = max(end, around.pop(0)[1])
        yield ByteRange(start, end)
