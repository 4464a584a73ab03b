"""Converts the clock of a stream, which jumps, restarts and wraps, to the VOD's time line, which does not.

The clock jumps where the time stamps of all tracks, in the order of the file, go back, or go forward by more
than 10 s while no track covers the gap. On the time line the samples after a jump begin where the samples
before the jump end.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

# Samples may be earlier than the first sample of their segment: interleaved audio, reordered pictures.
EARLY_SECONDS = 60


class TimelineSegment(NamedTuple):
    """A part of the file without a clock jump, from ``offset`` to the ``offset`` of the next segment.

    The clock's time ``clock`` is the time ``start`` on the time line; both are in ticks.
    """

    offset: int
    clock: int
    start: int


@dataclass(frozen=True)
class Timeline:
    """The time line of a file.

    Args:
        timescale: ticks per second of the clock and of the time line.
        wrap: number of ticks after which the clock begins again with 0.
        segments: in the order of the file; the first segment has ``offset`` 0 and ``start`` 0.
    """

    timescale: int
    wrap: int
    segments: Sequence[TimelineSegment]

    def ticks(self, offset: int, clock: int) -> int:
        """Convert the clock's time of a sample that starts at ``offset`` of the file; both are in ticks."""
        segment = self.segment(offset)
        early = EARLY_SECONDS * self.timescale
        return segment.start + (clock - segment.clock + early) % self.wrap - early

    def seconds(self, offset: int, clock: int) -> float:
        """Convert the clock's time, in ticks, of a sample at ``offset`` to seconds of the VOD."""
        return self.ticks(offset, clock) / self.timescale

    def segment(self, offset: int) -> TimelineSegment:
        """Return the segment that contains an offset of the file."""
        if len(self.segments) == 1:
            return self.segments[0]
        number = bisect_right(self.segments, offset, key=lambda segment: segment.offset) - 1
        return self.segments[max(number, 0)]
