"""The clock of a fragmented file: where it jumps, and how few fragments tell that it does not.

Times of fragments (``tfdt``, ISO/IEC 14496-12 §8.8.12) count from wherever their writer began. One that
restarts, or joins recordings, makes them step back or ahead; the VOD's line runs on through that.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

from clip_cutter.containers.model import UnsupportedMedia
from clip_cutter.containers.mp4.fragments import Fragment, Header

BACK_SECONDS = 0.5  # what writers round, or write twice, is no step back
AHEAD_SECONDS = 10.0
SLACK_SECONDS = 5.0
SIZES_VARY = 4.0
SLOW_RATE = 3.0  # a still screen has small fragments; so has a file that lacks an hour
RATES_VARY = 2.0  # of long stretches of a file, above the usual one


class FragmentPoint(NamedTuple):
    """A fragment that was looked at: its ``moof`` is at ``offset``, the next one may begin at ``after``.

    ``start`` and ``end`` are seconds of the movie's line as the fragment counts them; ``tracks`` is the
    number of tracks that have samples in it.
    """

    offset: int
    after: int
    sequence: int
    start: float
    end: float
    tracks: int

    @property
    def seconds(self) -> float:
        """Return how long it lasts."""
        return self.end - self.start


class FragmentJump(NamedTuple):
    """From the fragment at ``offset`` on, the line is ``seconds`` further ahead of the clock than before."""

    offset: int
    seconds: float


@dataclass(frozen=True)
class FragmentClock:
    """The clock of a file with its jumps, in file order.

    ``zero`` is the movie's time, in seconds, at which the VOD's line begins.
    """

    zero: float
    jumps: Sequence[FragmentJump] = ()

    def shift(self, offset: int) -> float:
        """Return how far the line is ahead of the movie's time for the fragment at an offset, in seconds."""
        passed = bisect_right(self.jumps, offset, key=lambda jump: jump.offset)
        return sum(jump.seconds for jump in self.jumps[:passed]) - self.zero

    def has_jump(self, offset: int) -> bool:
        """Tell whether the clock jumps at the fragment at an offset."""
        return any(jump.offset == offset for jump in self.jumps)

    def start(self, point: FragmentPoint) -> float:
        """Return when a fragment begins on the VOD's line."""
        return point.start + self.shift(point.offset)

    def end(self, point: FragmentPoint) -> float:
        """Return when a fragment ends on the VOD's line."""
        return point.end + self.shift(point.offset)


def fragment_point(fragment: Fragment, after: int, header: Header) -> FragmentPoint | None:
    """Return when and where a fragment lies; None if it has no samples of the tracks."""
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
    """Follows the clock from one fragment to the next, in file order.

    Args:
        header: the file's header.
        ticks: where each track has come to, in its ticks, if that is known.
    """

    def __init__(self, header: Header, ticks: Mapping[int, int] | None = None) -> None:
        self._tracks = {track.number: track for track in header.tracks}
        self.ticks = dict(ticks or {})
        self._ends: dict[int, float] = {}  # of each track, in seconds of the movie's line

    def with_times(self, fragment: Fragment) -> Fragment:
        """Return the fragment with the times of parts that do not say theirs: they follow what was before.

        Raises:
            UnsupportedMedia: nothing was before.
        """
        trafs = []
        ticks = dict(self.ticks)
        for traf in fragment.trafs:
            if traf.decode_time is None:
                if traf.track not in ticks:
                    raise UnsupportedMedia("a fragment without a time")
                traf = traf.shifted(ticks[traf.track])  # noqa: PLW2901
            ticks[traf.track] = traf.end
            trafs.append(traf)
        return Fragment(fragment.offset, fragment.end, fragment.sequence, tuple(trafs))

    def follow(self, fragment: Fragment) -> float:
        """Go on to the next fragment; return the seconds that the line gets ahead of the clock there."""
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
    """How a file's fragments follow each other.

    ``shortest`` and ``longest`` are the seconds that fragments last, ``smallest`` is the least number of
    bytes that they have; ``rate`` is how many seconds a byte lasts.
    """

    shortest: float
    longest: float
    smallest: int
    rate: float

    @classmethod
    def of(cls, points: Sequence[FragmentPoint], tracks: int) -> Self:
        """Look at some fragments, in order, of a file with so many tracks."""
        seen = points[:-1] or points  # the last one may be a short one
        shared = tracks if any(point.tracks < tracks for point in seen) else 1
        lengths = [point.seconds for point in seen]
        rates = sorted(
            (high.start - low.start) / (high.offset - low.offset) for low, high in pairwise(points)
        )
        smallest = min(point.after - point.offset for point in seen)
        return cls(min(lengths) / shared, max(lengths), smallest, rates[len(rates) // 2] if rates else 0.0)

    def is_steady(self, low: FragmentPoint, high: FragmentPoint) -> bool:
        """Tell whether as much time as fragments lies between two of them, by their numbers and by bytes."""
        if high.offset == low.after and low.tracks == high.tracks:
            return -BACK_SECONDS <= high.start - low.end <= AHEAD_SECONDS
        passed, size = high.start - low.start, high.offset - low.offset
        count = high.sequence - low.sequence
        slack = SLACK_SECONDS + 2 * self.longest
        if is_behind(low, high) or passed + slack < size * self.rate / RATES_VARY:
            return False
        if count * self.smallest > size * SIZES_VARY:
            return False
        # Some writers give all fragments the same number.
        return not count or self.shortest * count - slack <= passed <= self.longest * count + slack

    def is_slow(self, low: FragmentPoint, high: FragmentPoint) -> bool:
        """Tell whether far more time lies between two fragments than their bytes usually take."""
        most = (high.offset - low.offset) * self.rate * SLOW_RATE
        return high.start - low.start > most + SLACK_SECONDS + 2 * self.longest


def is_behind(low: FragmentPoint, high: FragmentPoint) -> bool:
    """Tell whether the second of two fragments is certainly not of the same clock."""
    return high.start < low.start - BACK_SECONDS or high.sequence < low.sequence
