"""AAC in FLV: the times of frames, which the file rounds to milliseconds."""

from collections.abc import Sequence
from math import lcm
from pathlib import Path

from clip_cutter.containers import aac
from clip_cutter.containers.aac import AacFrame
from clip_cutter.containers.model import Format, Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.stream import check_sample_count

FRAME = aac.FRAME_SAMPLES
# A time that is so far from where the frame before ended begins a new run: a frame is missing, or the clock
# was set. Less than that is rounding, or a publisher's clock that trembles.
MAX_DRIFT = FRAME * 9 // 10
MAX_BACK_SECONDS = 1.0
MAX_TIMESCALE = 2**31
MILLISECONDS = 1000
# Where new runs begin all the time, the audio has another rate than the one that is known.
FEW_FRAMES, USUAL_RUN = 64, 16


class FlvAudioSamples:
    """Frames of a stretch, in order of time.

    Within a run the first one's time counts, and the rate: a copy has clean steps.
    """

    def __init__(self, formats: Sequence[Format]) -> None:
        self._formats = formats  # grows while frames are added
        self._frames: list[AacFrame] = []
        self._runs = 0

    @property
    def reached(self) -> float:
        """Return when the last frame ends, in seconds of the line; before the start if there is none."""
        return self._end(self._frames[-1]) if self._frames else -1.0

    def add(self, time: int, offset: int, size: int, place: int) -> None:
        """Take a frame that is heard at a time in milliseconds of the line.

        Raises:
            UnsupportedMedia: times run backwards, or frames are too many.
        """
        rate = self._formats[place].rate
        tick, last = round(time * rate / MILLISECONDS), self._frames[-1] if self._frames else None
        if last is not None and last.format == place and abs(tick - last.tick - FRAME) <= MAX_DRIFT:
            tick = last.tick + FRAME
        else:
            self._runs += 1
            self._give_way(tick / rate)
        check_sample_count(self._frames)
        self._frames.append(AacFrame(tick, offset, size, place))

    def track(self, media: Path) -> Track | None:
        """Return what was read; None if there was nothing.

        Raises:
            UnsupportedMedia: the frames' times do not go with their rate.
        """
        if not self._frames:
            return None
        if len(self._frames) > FEW_FRAMES and self._runs * USUAL_RUN > len(self._frames):
            raise UnsupportedMedia("an FLV with audio whose times do not go with its rate")
        timescale = lcm(*(each.rate for each in self._formats))
        if timescale > MAX_TIMESCALE:
            raise UnsupportedMedia("an FLV with audio of odd rates")
        return Track(
            kind=TrackKind.AUDIO,
            timescale=timescale,
            formats=tuple(self._formats),
            samples=[each.sample(timescale // self._formats[each.format].rate) for each in self._frames],
            media=media,
        )

    def _give_way(self, seconds: float) -> None:
        """Drop frames that a new run takes the place of: what a publisher sends who came back."""
        back = self.reached - seconds
        if self._frames and back > MAX_BACK_SECONDS:
            raise UnsupportedMedia(f"an FLV with audio whose times run backwards by {back:.1f} s")
        half = FRAME / 2
        while self._frames and self._end(self._frames[-1], half) > seconds:
            self._frames.pop()

    def _end(self, frame: AacFrame, length: float = FRAME) -> float:
        return (frame.tick + length) / self._formats[frame.format].rate
