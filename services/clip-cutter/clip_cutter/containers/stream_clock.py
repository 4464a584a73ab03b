"""A stream's clock: where it jumps, and the line through its jumps."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from clip_cutter.containers.model import TrackKind
from clip_cutter.containers.stream import SampleStart
from clip_cutter.containers.timeline import Timeline, TimelineSegment

MAX_GAP_SECONDS = 10  # ffmpeg's own threshold
# A kind that steps back by less overlaps with itself: where recordings were joined, audio of the first may
# reach into the second. And so far may audio lie behind the video that it belongs to.
BACK_SECONDS = {TrackKind.VIDEO: 0.05, TrackKind.AUDIO: 1.0}
BESIDE_SECONDS = 5.0
UNEVEN_SECONDS = 0.5  # that tracks may begin or end apart, for video to go on without a gap
USUAL_STEPS = 16  # of which the median is how long a picture is shown


class StreamClock(NamedTuple):
    """A stream's clock: its ticks a second, and how many it counts before it begins again with 0."""

    timescale: int
    wrap: int

    def since(self, ticks: int, start: int) -> int:
        """Return how many ticks it takes from ``start`` to ``ticks``; below 0 where that lies before."""
        return (ticks - start + self.wrap // 2) % self.wrap - self.wrap // 2

    def runs(self, marks: Sequence[SampleStart]) -> list[Sequence[SampleStart]]:
        """Split marks that lie in a row in the file where the clock jumps between them."""
        runs, begin, latest = [], 0, _TrackProgress(self)
        for place, mark in enumerate(marks):
            if latest.is_jump(mark):
                runs.append(marks[begin:place])
                begin, latest = place, _TrackProgress(self)
            latest.take(mark)
        return [*runs, marks[begin:]] if marks else []

    def jumps(self, marks: Sequence[SampleStart]) -> list["ClockJump"]:
        """Return where the clock jumps between marks that lie in a row in the file."""
        return [self._jump(before, after) for before, after in pairwise(self.runs(marks))]

    def start(self, run: Sequence[SampleStart]) -> int:
        """Return when the first track begins, among marks through which the clock runs evenly."""
        first: dict[tuple[TrackKind, int], SampleStart] = {}
        for mark in run:
            first.setdefault((mark.kind, mark.track), mark)
        base = run[0].shown
        return base + min(self.since(mark.shown, base) for mark in first.values())

    def end(self, run: Sequence[SampleStart]) -> int:
        """Return when the last track ends, among marks through which the clock runs evenly."""
        base = run[0].shown
        tracks: dict[tuple[TrackKind, int], list[SampleStart]] = {}
        for mark in run:
            tracks.setdefault((mark.kind, mark.track), []).append(mark)
        return base + max(
            max(self.since(mark.shown, base) for mark in marks) + self._step(marks)
            for marks in tracks.values()
        )

    def line(self, start: int, jumps: Sequence["ClockJump"]) -> Timeline:
        """Draw the line from the clock's first time through its jumps, which are in the order of the file."""
        segments = [TimelineSegment(0, start, 0)]
        for jump in jumps:
            last = segments[-1]
            end = Timeline(self.timescale, self.wrap, [last]).ticks(jump.offset, jump.end)
            segments.append(TimelineSegment(jump.offset, jump.clock, end))
        return Timeline(self.timescale, self.wrap, segments)

    def _jump(self, before: Sequence[SampleStart], after: Sequence[SampleStart]) -> "ClockJump":
        """Return a jump between marks. Video goes on without a gap, unless audio reaches much farther."""
        end, start = self.end(before), self.start(after)
        video = [[mark for mark in run if mark.kind == TrackKind.VIDEO] for run in (before, after)]
        if all(video):
            video_end, video_start = self.end(video[0]), self.start(video[1])
            uneven = max(self.since(end, video_end), self.since(video_start, start))
            if uneven < UNEVEN_SECONDS * self.timescale:
                end, start = video_end, video_start
        return ClockJump(after[0].offset, end, start)

    def _step(self, marks: Sequence[SampleStart]) -> int:
        """Return how long one of a track's last marks usually lasts; 0 if there is just one."""
        last = marks[-USUAL_STEPS:]
        steps = sorted(self.since(after.decoded, before.decoded) for before, after in pairwise(last))
        return steps[len(steps) // 2] if steps else 0


class ClockJump(NamedTuple):
    """Where a clock jumps: to ``clock``, when what came before has reached until ``end``."""

    offset: int
    end: int
    clock: int


class _TrackProgress:
    """How far each kind of track has come."""

    def __init__(self, clock: StreamClock) -> None:
        self._clock = clock
        self._kinds: dict[TrackKind, int] = {}
        self._shown: int | None = None  # of video
        self._all: int | None = None

    def is_jump(self, mark: SampleStart) -> bool:
        """Whether the clock has jumped before a mark."""
        if self._all is None:
            return False
        if self._behind(mark.decoded, self._all) > MAX_GAP_SECONDS:
            return True
        if self._is_late_keyframe(mark):
            return True
        own = self._kinds.get(mark.kind)
        if own is not None:
            return self._behind(mark.decoded, own) < -BACK_SECONDS[mark.kind]
        return self._behind(mark.decoded, self._all) < -BESIDE_SECONDS

    def take(self, mark: SampleStart) -> None:
        """Note how far a mark's kind has come."""
        self._kinds[mark.kind] = self._later(self._kinds.get(mark.kind), mark.decoded)
        self._all = self._later(self._all, mark.decoded)
        if mark.kind == TrackKind.VIDEO:
            self._shown = self._later(self._shown, mark.shown)

    def _is_late_keyframe(self, mark: SampleStart) -> bool:
        """Whether pictures before a keyframe are shown after it, which no encoder allows."""
        is_keyframe = mark.kind == TrackKind.VIDEO and mark.is_keyframe
        back = BACK_SECONDS[TrackKind.VIDEO]
        return is_keyframe and self._shown is not None and self._behind(mark.shown, self._shown) < -back

    def _behind(self, ticks: int, latest: int) -> float:
        return self._clock.since(ticks, latest) / self._clock.timescale

    def _later(self, known: int | None, ticks: int) -> int:
        return ticks if known is None or self._clock.since(ticks, known) > 0 else known
