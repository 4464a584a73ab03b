"""H.264 in FLV: pictures, in the order in which they are decoded."""

from collections.abc import Sequence
from pathlib import Path

from clip_cutter.containers.model import Format, Sample, Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.stream import check_sample_count, with_lengths

MILLISECONDS = 1000
USUAL_LENGTH = 40  # of a picture that has no neighbour, in milliseconds
MAX_BACK = 1000


class FlvVideoSamples:
    """Pictures of a stretch, from its first keyframe on. Times are milliseconds of the line."""

    def __init__(self, formats: Sequence[Format]) -> None:
        self._formats = formats  # grows while pictures are added
        self._samples: list[Sample] = []
        self._shown = -MILLISECONDS

    @property
    def reached(self) -> float:
        """Return when the last picture is shown, in seconds of the line; -1 if there is none."""
        return self._shown / MILLISECONDS

    def can_follow(self, place: int, *, is_keyframe: bool) -> bool:
        """Return whether a picture of a format can be decoded when it comes next."""
        return is_keyframe or (bool(self._samples) and self._samples[-1].format == place)

    def add(self, sample: Sample) -> None:
        """Take the next picture.

        Raises:
            UnsupportedMedia: times run backwards, or pictures are too many.
        """
        if self._samples and sample.decoded <= self._samples[-1].decoded:
            sample = self._append_late(sample)
        check_sample_count(self._samples)
        self._samples.append(sample)
        self._shown = max(self._shown, sample.shown)

    def track(self, media: Path) -> Track | None:
        """Return what was read; None if there was nothing."""
        if not self._samples:
            return None
        times = sorted(sample.shown for sample in self._samples)
        last = times[-1] - times[-2] if len(times) > 1 else 0
        samples = with_lengths(self._samples, last or USUAL_LENGTH)
        return Track(TrackKind.VIDEO, MILLISECONDS, tuple(self._formats), samples, media)

    def _append_late(self, sample: Sample) -> Sample:
        """Return a picture with a time behind those before it, whose decoding times reach beyond its own.

        A publisher who came back begins with a keyframe: what is shown at the same time gives way to it.
        """
        if self._samples[-1].decoded - sample.decoded > MAX_BACK:
            raise UnsupportedMedia("an FLV with video whose times run backwards")
        while sample.is_keyframe and self._samples and self._samples[-1].shown >= sample.shown:
            self._samples.pop()
        last = self._samples[-1].decoded if self._samples else sample.decoded - 1
        return sample._replace(decoded=max(sample.decoded, last + 1))
