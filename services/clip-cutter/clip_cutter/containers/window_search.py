"""Where in a stream a window lies: looked for by the times of a few places, and then back to a keyframe."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from clip_cutter.containers.model import ROUNDING_SECONDS, ByteRange, TrackKind, UnsupportedMedia
from clip_cutter.containers.stream import SampleStart, Stream
from clip_cutter.containers.survey import ReadRanges, StreamSurvey, SurveyPoint

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
# Audio begins so long before the window; and it lies beside the video that it belongs to, but not exactly.
AUDIO_BEFORE_SECONDS = 0.5
BESIDE_SECONDS = 3.0
# What is read at once around the start: a keyframe is usually nearer than that.
LEAD_SECONDS, BEHIND_SECONDS = 2.5, 0.3
MIN_LEAD_BYTES, MAX_LEAD_BYTES = 128 * KIBIBYTE, 4 * MEBIBYTE
MIN_BEHIND_BYTES, MAX_BEHIND_BYTES = 64 * KIBIBYTE, MEBIBYTE
OVERLAP_BYTES = 256 * KIBIBYTE  # what begins in one block may be recognized only with the next one
SET_UP_BYTES = 128 * KIBIBYTE
MAX_HELD_BYTES = 8 * MEBIBYTE
MAX_BACK_BYTES = 64 * MEBIBYTE
MAX_LOOKS = 40
INTERPOLATIONS = 12  # then it is halved: a bit rate may vary as it likes


@dataclass(frozen=True)
class ReadStart:
    """Where reading begins.

    Args:
        offset: in the file; something begins there.
        before: what lies right before it, for set-up.
        data: what lies from the offset on, as far as it is held in memory.
        bytes_per_second: the bit rate around ``offset``, in bytes.
    """

    offset: int
    before: bytes
    data: bytes
    bytes_per_second: float


@dataclass(frozen=True)
class _LoadedRange:
    """A part of the file around a window's start.

    Args:
        offset, end: where it lies.
        first: its first bytes.
        data: its last bytes, all of them while they are few.
        marks: what begins in it.
    """

    offset: int
    end: int
    first: bytes
    data: bytes
    marks: Sequence[SampleStart]

    @property
    def held(self) -> int:
        """Return where in the file ``data`` begins."""
        return self.end - len(self.data)


class WindowSearch:
    """Looks for windows in a stream of ``size`` bytes."""

    def __init__(self, stream: Stream, survey: StreamSurvey, peeks: ReadRanges, size: int) -> None:
        self._stream = stream
        self._line = survey.line
        self._points = survey.points
        self._peeks = peeks
        self._size = size

    async def find(self, start: float) -> ReadStart:
        """Return where to begin to read a window that starts at ``start``, in seconds of the line.

        That is the keyframe on which the picture on screen at that time depends, or audio before it.

        Raises:
            UnsupportedMedia: there is no keyframe near, or no order in the times.
        """
        stretch = await self._around(start)
        while (offset := self._begin(stretch, start)) is None:
            stretch = await self._farther(stretch)
        if offset - stretch.held >= min(SET_UP_BYTES, offset):
            before = stretch.data[: offset - stretch.held][-SET_UP_BYTES:]
        else:
            before = await self._peek(ByteRange(max(offset - SET_UP_BYTES, 0), offset))
        data = stretch.data[offset - stretch.held :] if offset >= stretch.held else b""
        low, high = self._bracket(start)
        return ReadStart(offset, before, data, _pace(low, high))

    async def _around(self, start: float) -> _LoadedRange:
        """Return a stretch in which a time lies, or the nearest one."""
        low, high = self._bracket(start)
        for look in range(MAX_LOOKS):
            guess = _guess(low, high, start, halve=look >= INTERPOLATIONS)
            stretch = await self._read(guess, _pace(low, high))
            if not stretch.marks:
                raise UnsupportedMedia("a stretch of the stream in which nothing begins")
            times = [self._line.seconds(mark.offset, mark.decoded) for mark in stretch.marks]
            if max(times) < start and stretch.end < self._size:
                low = SurveyPoint(stretch.end, max(times))
            elif times[0] > start and stretch.offset > 0:
                high = SurveyPoint(stretch.offset, times[0])
            else:
                return stretch
            if low.offset >= high.offset:
                return stretch
        raise UnsupportedMedia("a stream without order in its times")

    def _bracket(self, seconds: float) -> tuple[SurveyPoint, SurveyPoint]:
        """Return the known places around a time."""
        place = bisect_right(self._points, seconds, key=lambda each: each.seconds)
        place = min(max(place, 1), len(self._points) - 1)
        return self._points[place - 1], self._points[place]

    async def _read(self, guess: int, pace: float) -> _LoadedRange:
        """Read around an offset; more of it if nothing begins there."""
        lead = int(min(max(pace * LEAD_SECONDS, MIN_LEAD_BYTES), MAX_LEAD_BYTES))
        behind = int(min(max(pace * BEHIND_SECONDS, MIN_BEHIND_BYTES), MAX_BEHIND_BYTES))
        for more in (0, MAX_LEAD_BYTES):
            wanted = ByteRange(max(guess - lead, 0), min(guess + behind + more, self._size))
            data = await self._peek(wanted)
            marks = self._stream.sample_starts(data, wanted.start)
            if marks:
                break
        return _LoadedRange(wanted.start, wanted.end, data[:OVERLAP_BYTES], data, marks)

    async def _farther(self, stretch: _LoadedRange) -> _LoadedRange:
        """Read what lies before a stretch."""
        size = stretch.end - stretch.offset
        if size > MAX_BACK_BYTES:
            raise UnsupportedMedia("no keyframe near the start")
        start = max(stretch.offset - min(size, MAX_LEAD_BYTES), 0)
        data = await self._peek(ByteRange(start, stretch.offset))
        marks = {mark.offset: mark for mark in self._stream.sample_starts(data + stretch.first, start)}
        marks |= {mark.offset: mark for mark in stretch.marks}
        is_held = stretch.held == stretch.offset and len(data) + len(stretch.data) <= MAX_HELD_BYTES
        return _LoadedRange(
            start,
            stretch.end,
            (data + stretch.first)[:OVERLAP_BYTES],
            data + stretch.data if is_held else stretch.data,
            [marks[offset] for offset in sorted(marks)],
        )

    def _begin(self, stretch: _LoadedRange, start: float) -> int | None:
        """Return where to begin; None where that lies before the stretch."""
        keyframes, before, behind = [], [], []
        for mark in stretch.marks:
            time = self._line.seconds(mark.offset, mark.shown)
            if mark.kind == TrackKind.VIDEO and mark.is_keyframe and time <= start + ROUNDING_SECONDS:
                keyframes.append(mark.offset)
            elif mark.kind == TrackKind.AUDIO and time > start - AUDIO_BEFORE_SECONDS:
                behind.append(mark.offset)
            elif mark.kind == TrackKind.AUDIO and time > start - BESIDE_SECONDS:
                before.append(mark.offset)
        first = stretch.marks[0]
        is_early = self._line.seconds(first.offset, first.decoded) <= start - BESIDE_SECONDS
        if stretch.offset > 0 and not (keyframes and (before or is_early)):
            return None
        return min([*keyframes[-1:], *(before[-1:] or behind[:1])]) if keyframes else 0

    async def _peek(self, wanted: ByteRange) -> bytes:
        (data,) = await self._peeks([wanted])
        return data


def _pace(low: SurveyPoint, high: SurveyPoint) -> float:
    """Return the bytes a second between two places."""
    return (high.offset - low.offset) / max(high.seconds - low.seconds, 0.001)


def _guess(low: SurveyPoint, high: SurveyPoint, seconds: float, *, halve: bool) -> int:
    share = 0.5
    if not halve and high.seconds > low.seconds:
        share = min(max((seconds - low.seconds) / (high.seconds - low.seconds), 0.0), 1.0)
    return low.offset + int((high.offset - low.offset) * share)
