"""The clock of a fragmented MP4: finds where it jumps, by looking at few fragments.

The times of fragments (``tfdt``, ISO/IEC 14496-12 §8.8.12) count from the start of their writer. They jump
back or ahead where a writer restarts, or joins files; the VOD's time line has no gaps there.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

from clip_cutter.containers.model import UnsupportedMedia
from clip_cutter.containers.mp4.fragments import Fragment, Header

BACK_SECONDS = 0.5  # smaller steps back are rounding, or a part that was written twice
AHEAD_SECONDS = 10.0
SLACK_SECONDS = 5.0
SIZE_FACTOR = 4.0  # the smallest fragment may be larger by this than those between two points
SLOW_FACTOR = 3.0  # more seconds per byte than this are a still screen, or a missing hour
RATE_FACTOR = 2.0  # the bit rate of a long part of a file may be higher by this than the median


class FragmentPoint(NamedTuple):
    """A fragment that was read.

    Args:
        offset: of its ``moof`` box in the file.
        after: offset at which the next fragment may begin.
        sequence: its sequence_number (``mfhd``, §8.8.5).
        start, end: in seconds of the movie, by the fragment's own clock.
        tracks: number of tracks that have samples in it.
    """

    offset: int
    after: int
    sequence: int
    start: float
    end: float
    tracks: int

    @property
    def seconds(self) -> float:
        """Return the duration of the fragment."""
        return self.end - self.start


class FragmentJump(NamedTuple):
    """A clock jump: from the fragment at ``offset`` on, ``seconds`` more are added to the clock's times."""

    offset: int
    seconds: float


@dataclass(frozen=True)
class FragmentClock:
    """Converts seconds of the movie, as fragments count them, to seconds of the VOD.

    Args:
        zero: start of the VOD, in seconds of the movie.
        jumps: in the order of the file.
    """

    zero: float
    jumps: Sequence[FragmentJump] = ()

    def shift(self, offset: int) -> float:
        """Return the seconds to add to the movie's time for the fragment at an offset."""
        passed = bisect_right(self.jumps, offset, key=lambda jump: jump.offset)
        return sum(jump.seconds for jump in self.jumps[:passed]) - self.zero

    def has_jump(self, offset: int) -> bool:
        """Return whether the clock jumps at the fragment at an offset."""
        return any(jump.offset == offset for jump in self.jumps)

    def start(self, point: FragmentPoint) -> float:
        """Return the start of a fragment, in seconds of the VOD."""
        return point.start + self.shift(point.offset)

    def end(self, point: FragmentPoint) -> float:
        """Return the end of a fragment, in seconds of the VOD."""
        return point.end + self.shift(point.offset)


def fragment_point(fragment: Fragment, after: int, header: Header) -> FragmentPoint | None:
    """Return offset and times of a fragment; None if it has no samples of the header's tracks."""
    tracks = {track.number: track for track in header.tracks}
    if not fragment.trafs:
        return None
    return FragmentPoint(
        fragment.offset,
        after,
        fragment.sequence,
        min(tracks[traf.track].seconds(traf.start) for traf in fragment.trafs),
        max(tracks[traf.track].seconds(traf.end) for traf in fragment.trafs),
        len({traf.track for traf in fragment.trafs}),
    )


class FragmentFollower:
    """Follows the clock from fragment to fragment, in the order of the file.

    Args:
        header: the file's header.
        ticks: end of the last samples of each track before the first fragment, in its ticks, if known.
    """

    def __init__(self, header: Header, ticks: Mapping[int, int] | None = None) -> None:
        self._tracks = {track.number: track for track in header.tracks}
        self.ticks = dict(ticks or {})
        self._ends: dict[int, float] = {}  # of each track, in seconds of the movie

    def with_times(self, fragment: Fragment) -> Fragment:
        """Return the fragment with all decode times: samples without ``tfdt`` follow the fragment before.

        Raises:
            UnsupportedMedia: a track fragment without ``tfdt`` has no fragment before it.
        """
        trafs = []
        ticks = dict(self.ticks)
        for traf in fragment.trafs:
            if traf.decode_time is None:
                if traf.track not in ticks:
                    raise UnsupportedMedia(f"moof at {fragment.offset}: track {traf.track} has no tfdt")
                traf = traf.shifted(ticks[traf.track])  # noqa: PLW2901
            ticks[traf.track] = traf.end
            trafs.append(traf)
        return Fragment(fragment.offset, fragment.end, fragment.sequence, tuple(trafs))

    def follow(self, fragment: Fragment) -> float:
        """Take the next fragment; return the seconds that a clock jump there adds to its times, or 0."""
        jump = self._jump(fragment)
        if jump:
            self._ends.clear()
        for traf in fragment.trafs:
            self._ends[traf.track] = self._tracks[traf.track].seconds(traf.end)
            self.ticks[traf.track] = traf.end
        return jump

    def _jump(self, fragment: Fragment) -> float:
        if not self._ends or not fragment.trafs:
            return 0.0
        starts = [(traf.track, self._tracks[traf.track].seconds(traf.start)) for traf in fragment.trafs]
        reached, begins = max(self._ends.values()), min(start for _, start in starts)
        is_back = any(start < self._ends.get(track, start) - BACK_SECONDS for track, start in starts)
        is_ahead = begins > reached + AHEAD_SECONDS
        return reached - begins if is_back or is_ahead else 0.0


@dataclass(frozen=True)
class FragmentStatistics:
    """Durations and sizes of a file's fragments.

    Args:
        shortest, longest: durations, in seconds.
        smallest: size in bytes.
        rate: median seconds per byte.
    """

    shortest: float
    longest: float
    smallest: int
    rate: float

    @classmethod
    def of(cls, points: Sequence[FragmentPoint], tracks: int) -> Self:
        """Compute the statistics of some fragments, in order, of a file with ``tracks`` tracks."""
        seen = points[:-1] or points  # the last fragment may be short
        shared = tracks if any(point.tracks < tracks for point in seen) else 1
        lengths = [point.seconds for point in seen]
        rates = sorted(
            (high.start - low.start) / (high.offset - low.offset) for low, high in pairwise(points)
        )
        smallest = min(point.after - point.offset for point in seen)
        return cls(min(lengths) / shared, max(lengths), smallest, rates[len(rates) // 2] if rates else 0.0)

    def is_steady(self, low: FragmentPoint, high: FragmentPoint) -> bool:
        """Return whether the time between two fragments fits their sequence numbers and the bytes between."""
        if high.offset == low.after and low.tracks == high.tracks:
            return -BACK_SECONDS <= high.start - low.end <= AHEAD_SECONDS
        passed, size = high.start - low.start, high.offset - low.offset
        count = high.sequence - low.sequence
        slack = SLACK_SECONDS + 2 * self.longest
        if is_behind(low, high) or passed + slack < size * self.rate / RATE_FACTOR:
            return False
        if count * self.smallest > size * SIZE_FACTOR:
            return False
        # Some writers give all fragments the same sequence number.
        return not count or self.shortest * count - slack <= passed <= self.longest * count + slack

    def is_slow(self, low: FragmentPoint, high: FragmentPoint) -> bool:
        """Return whether the time between two fragments is far longer than the bytes between predict."""
        most = (high.offset - low.offset) * self.rate * SLOW_FACTOR
        return high.start - low.start > most + SLACK_SECONDS + 2 * self.longest


def is_behind(low: FragmentPoint, high: FragmentPoint) -> bool:
    """Return whether the clock certainly jumped back between two fragments."""
    return high.start < low.start - BACK_SECONDS or high.sequence < low.sequence
