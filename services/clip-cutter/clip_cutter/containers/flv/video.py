"""H.264 in FLV: collects pictures in decoding order."""

from collections.abc import Sequence
from pathlib import Path

from clip_cutter.containers.model import Format, Sample, Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.stream import check_sample_count, with_lengths

MILLISECONDS = 1000
DEFAULT_LENGTH = 40  # milliseconds, of a picture without neighbours
MAX_BACK = 1000  # milliseconds


class FlvVideoSamples:
    """Collects the pictures of a part of an FLV, from its first keyframe on; times are in ms of the VOD.

    Args:
        formats: the formats of the video; the list grows while pictures are added.
    """

    def __init__(self, formats: Sequence[Format]) -> None:
        self._formats = formats  # grows while pictures are added
        self._samples: list[Sample] = []
        self._shown = -MILLISECONDS

    @property
    def reached(self) -> float:
        """Return the latest presentation time, in seconds of the VOD; -1 without pictures."""
        return self._shown / MILLISECONDS

    def can_follow(self, place: int, *, is_keyframe: bool) -> bool:
        """Return whether a picture with a format can be decoded after the pictures so far."""
        return is_keyframe or (bool(self._samples) and self._samples[-1].format == place)

    def add(self, sample: Sample) -> None:
        """Add the next picture.

        Raises:
            UnsupportedMedia: decode times go back by more than a second, or the track has too many pictures.
        """
        if self._samples and sample.decoded <= self._samples[-1].decoded:
            sample = self._with_later_decode_time(sample)
        check_sample_count(self._samples)
        self._samples.append(sample)
        self._shown = max(self._shown, sample.shown)

    def track(self, media: Path) -> Track | None:
        """Return the track; None without pictures. ``media`` is the path of the output."""
        if not self._samples:
            return None
        times = sorted(sample.shown for sample in self._samples)
        last = times[-1] - times[-2] if len(times) > 1 else 0
        samples = with_lengths(self._samples, last or DEFAULT_LENGTH)
        return Track(TrackKind.VIDEO, MILLISECONDS, tuple(self._formats), samples, media)

    def _with_later_decode_time(self, sample: Sample) -> Sample:
        """Return a picture, which is decoded before its predecessor, with a later decode time.

        A publisher that reconnects begins with a keyframe: drop the pictures that are shown at the same time
            or
        later.
        """
        back = self._samples[-1].decoded - sample.decoded
        if back > MAX_BACK:
            raise UnsupportedMedia(f"FLV video: times run backwards by {back} ms, the limit is {MAX_BACK} ms")
        while sample.is_keyframe and self._samples and self._samples[-1].shown >= sample.shown:
            self._samples.pop()
        last = self._samples[-1].decoded if self._samples else sample.decoded - 1
        return sample._replace(decoded=max(sample.decoded, last + 1))
