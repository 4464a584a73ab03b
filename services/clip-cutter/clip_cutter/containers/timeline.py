"""The VOD's time line: one line through all jumps, restarts and wraps of a stream's clock.

A jump is where the clock of all tracks, in the order of the file, steps back, or goes forward by more than
10 s with no track covering the gap. What follows is appended where what came before has ended.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

# That a time may lie before its segment's first one: what is interleaved with it, and what it refers to.
EARLY_SECONDS = 60


class TimelineSegment(NamedTuple):
    """A part of the file through which the clock runs evenly, up to the next segment's ``offset``.

    In it the clock's time ``clock`` is the line's time ``start``, both in ticks.
    """

    offset: int
    clock: int
    start: int


@dataclass(frozen=True)
class Timeline:
    """The segments of a file, in order; the first one begins at offset 0, with ``start`` 0."""

    timescale: int
    wrap: int
    segments: Sequence[TimelineSegment]

    def ticks(self, offset: int, clock: int) -> int:
        """Return the time on the line of what begins at ``offset`` of the file with the time ``clock``."""
        segment = self.segment(offset)
        early = EARLY_SECONDS * self.timescale
        return segment.start + (clock - segment.clock + early) % self.wrap - early

    def seconds(self, offset: int, clock: int) -> float:
        """Return the same in seconds."""
        return self.ticks(offset, clock) / self.timescale

    def segment(self, offset: int) -> TimelineSegment:
        """Return the segment in which an offset of the file lies."""
        if len(self.segments) == 1:
            return self.segments[0]
        return self.segments[max(bisect_right(self.segments, offset, key=lambda each: each.offset) - 1, 0)]
