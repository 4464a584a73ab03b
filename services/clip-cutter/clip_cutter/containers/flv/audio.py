"""AAC in FLV: collects frames, and computes their exact times, which the file rounds to milliseconds."""

from collections.abc import Sequence
from math import lcm
from pathlib import Path

from clip_cutter.containers import aac
from clip_cutter.containers.aac import AacFrame
from clip_cutter.containers.model import Format, Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.stream import check_sample_count

FRAME = aac.FRAME_SAMPLES
# A frame that begins this far from the end of the frame before starts a new run: a frame is missing, or the
# clock was set. Smaller differences are rounding, or jitter of the publisher's clock.
MAX_DRIFT = FRAME * 9 // 10
MAX_BACK_SECONDS = 1.0
MAX_TIMESCALE = 2**31
MILLISECONDS = 1000
# If runs are shorter than this on average, the audio has another sample rate than its configuration.
MIN_CHECKED_FRAMES, MIN_MEAN_RUN_FRAMES = 64, 16


class FlvAudioSamples:
    """Collects the AAC frames of a part of an FLV, in order of time.

    Within a run, frames follow the first frame's time at the sample rate: times have no rounding errors.

    Args:
        formats: the formats of the audio; the list grows while frames are added.
    """

    def __init__(self, formats: Sequence[Format]) -> None:
        self._formats = formats  # grows while frames are added
        self._frames: list[AacFrame] = []
        self._runs = 0

    @property
    def reached(self) -> float:
        """Return the end of the last frame, in seconds of the VOD; -1 without frames."""
        return self._end(self._frames[-1]) if self._frames else -1.0

    def add(self, time: int, offset: int, size: int, place: int) -> None:
        """Add a frame.

        Args:
            time: presentation time, in milliseconds of the VOD.
            offset: of the frame in the output.
            size: in bytes.
            place: index of its format.

        Raises:
            UnsupportedMedia: times go back by more than a second, or the track has too many frames.
        """
        rate = self._formats[place].rate
        tick, last = round(time * rate / MILLISECONDS), self._frames[-1] if self._frames else None
        if last is not None and last.format == place and abs(tick - last.tick - FRAME) <= MAX_DRIFT:
            tick = last.tick + FRAME
        else:
            self._runs += 1
            self._drop_overlapping(tick / rate)
        check_sample_count(self._frames)
        self._frames.append(AacFrame(tick, offset, size, place))

    def track(self, media: Path) -> Track | None:
        """Return the track; None without frames. ``media`` is the path of the output.

        Raises:
            UnsupportedMedia: the times of the frames do not fit their sample rate.
        """
        if not self._frames:
            return None
        if len(self._frames) > MIN_CHECKED_FRAMES and self._runs * MIN_MEAN_RUN_FRAMES > len(self._frames):
            raise UnsupportedMedia(
                f"FLV audio: times do not fit the rate: {self._runs} runs in {len(self._frames)} frames"
            )
        timescale = lcm(*(each.rate for each in self._formats))
        if timescale > MAX_TIMESCALE:
            raise UnsupportedMedia(f"FLV audio: a timescale of {timescale} for all sample rates is too large")
        return Track(
            kind=TrackKind.AUDIO,
            timescale=timescale,
            formats=tuple(self._formats),
            samples=[each.sample(timescale // self._formats[each.format].rate) for each in self._frames],
            media=media,
        )

    def _drop_overlapping(self, seconds: float) -> None:
        """Drop frames that overlap with a new run: a publisher that reconnects sends them twice."""
        back = self.reached - seconds
        if self._frames and back > MAX_BACK_SECONDS:
            raise UnsupportedMedia(
                f"FLV audio: times run backwards by {back:.1f} s, the limit is {MAX_BACK_SECONDS} s"
            )
        half = FRAME / 2
        while self._frames and self._end(self._frames[-1], half) > seconds:
            self._frames.pop()

    def _end(self, frame: AacFrame, length: float = FRAME) -> float:
        return (frame.tick + length) / self._formats[frame.format].rate
