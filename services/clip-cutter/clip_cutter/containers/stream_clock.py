"""The clock of a stream: finds where it jumps, and makes the time line without the jumps."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from clip_cutter.containers.model import TrackKind
from clip_cutter.containers.stream import SampleStart
from clip_cutter.containers.timeline import Timeline, TimelineSegment

MAX_GAP_SECONDS = 10  # ffmpeg's own threshold
# A smaller step back is no jump but an overlap: where streams were joined, audio of the first may reach into
# the second.
BACK_SECONDS = {TrackKind.VIDEO: 0.05, TrackKind.AUDIO: 1.0}
MAX_INTERLEAVE_SECONDS = 5.0  # audio may be earlier by this than the video beside it in the file
# Where streams were joined, tracks may begin or end apart by this, and video still continues without a gap.
UNEVEN_SECONDS = 0.5
DURATION_SAMPLES = 16  # their median distance is taken for the length of the last picture


class StreamClock(NamedTuple):
    """A stream's clock: ticks per second, and the number of ticks after which it begins again with 0."""

    timescale: int
    wrap: int

    def since(self, ticks: int, start: int) -> int:
        """Return the ticks from ``start`` to ``ticks``, also across a wrap; negative if they go back."""
        return (ticks - start + self.wrap // 2) % self.wrap - self.wrap // 2

    def runs(self, samples: Sequence[SampleStart]) -> list[Sequence[SampleStart]]:
        """Split samples, which are in the order of the file, where the clock jumps between them."""
        runs, begin, latest = [], 0, _TrackProgress(self)
        for place, sample in enumerate(samples):
            if latest.is_jump(sample):
                runs.append(samples[begin:place])
                begin, latest = place, _TrackProgress(self)
            latest.take(sample)
        return [*runs, samples[begin:]] if samples else []

    def jumps(self, samples: Sequence[SampleStart]) -> list["ClockJump"]:
        """Return the clock jumps between samples, which are in the order of the file."""
        return [self._jump(before, after) for before, after in pairwise(self.runs(samples))]

    def start(self, run: Sequence[SampleStart]) -> int:
        """Return the clock's time, in ticks, at which the first track of a run without a jump begins."""
        first: dict[tuple[TrackKind, int], SampleStart] = {}
        for sample in run:
            first.setdefault((sample.kind, sample.track), sample)
        base = run[0].shown
        return base + min(self.since(sample.shown, base) for sample in first.values())

    def end(self, run: Sequence[SampleStart]) -> int:
        """Return the clock's time, in ticks, at which the last track of a run without a jump ends."""
        base = run[0].shown
        tracks: dict[tuple[TrackKind, int], list[SampleStart]] = {}
        for sample in run:
            tracks.setdefault((sample.kind, sample.track), []).append(sample)
        return base + max(
            max(self.since(sample.shown, base) for sample in samples) + self._median_length(samples)
            for samples in tracks.values()
        )

    def timeline(self, start: int, jumps: Sequence["ClockJump"]) -> Timeline:
        """Return the time line.

        Args:
            start: the clock's time, in ticks, that becomes 0.
            jumps: in the order of the file.
        """
        segments = [TimelineSegment(0, start, 0)]
        for jump in jumps:
            last = segments[-1]
            end = Timeline(self.timescale, self.wrap, [last]).ticks(jump.offset, jump.end)
            segments.append(TimelineSegment(jump.offset, jump.clock, end))
        return Timeline(self.timescale, self.wrap, segments)

    def _jump(self, before: Sequence[SampleStart], after: Sequence[SampleStart]) -> "ClockJump":
        """Return the jump between two runs.

        Video continues without a gap, unless audio ends much later or begins much earlier than video.
        """
        end, start = self.end(before), self.start(after)
        video = [[sample for sample in run if sample.kind == TrackKind.VIDEO] for run in (before, after)]
        if all(video):
            video_end, video_start = self.end(video[0]), self.start(video[1])
            uneven = max(self.since(end, video_end), self.since(video_start, start))
            if uneven < UNEVEN_SECONDS * self.timescale:
                end, start = video_end, video_start
        return ClockJump(after[0].offset, end, start)

    def _median_length(self, samples: Sequence[SampleStart]) -> int:
        """Return the median length of a track's last samples, in ticks; 0 if the track has one sample."""
        last = samples[-DURATION_SAMPLES:]
        steps = sorted(self.since(after.decoded, before.decoded) for before, after in pairwise(last))
        return steps[len(steps) // 2] if steps else 0


class ClockJump(NamedTuple):
    """A jump of the clock: samples before ``offset`` of the file end at ``end``, the next begin at ``clock``.

    Both times are the clock's, in ticks.
    """

    offset: int
    end: int
    clock: int


class _TrackProgress:
    """The latest times of the samples since the last jump, by kind of track."""

    def __init__(self, clock: StreamClock) -> None:
        self._clock = clock
        self._decoded: dict[TrackKind, int] = {}
        self._shown: int | None = None  # of video
        self._latest: int | None = None

    def is_jump(self, sample: SampleStart) -> bool:
        """Return whether the clock jumps before a sample."""
        if self._latest is None:
            return False
        if self._seconds_after(sample.decoded, self._latest) > MAX_GAP_SECONDS:
            return True
        if self._is_late_keyframe(sample):
            return True
        own = self._decoded.get(sample.kind)
        if own is not None:
            return self._seconds_after(sample.decoded, own) < -BACK_SECONDS[sample.kind]
        return self._seconds_after(sample.decoded, self._latest) < -MAX_INTERLEAVE_SECONDS

    def take(self, sample: SampleStart) -> None:
        """Update the latest times with a sample."""
        self._decoded[sample.kind] = self._later(self._decoded.get(sample.kind), sample.decoded)
        self._latest = self._later(self._latest, sample.decoded)
        if sample.kind == TrackKind.VIDEO:
            self._shown = self._later(self._shown, sample.shown)

    def _is_late_keyframe(self, sample: SampleStart) -> bool:
        """Return whether pictures before a keyframe are shown after it, which no encoder produces."""
        is_keyframe = sample.kind == TrackKind.VIDEO and sample.is_keyframe
        back = BACK_SECONDS[TrackKind.VIDEO]
        return (
            is_keyframe and self._shown is not None and self._seconds_after(sample.shown, self._shown) < -back
        )

    def _seconds_after(self, ticks: int, latest: int) -> float:
        return self._clock.since(ticks, latest) / self._clock.timescale

    def _later(self, known: int | None, ticks: int) -> int:
        return ticks if known is None or self._clock.since(ticks, known) > 0 else known
