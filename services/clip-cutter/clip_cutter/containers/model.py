"""What a VOD consists of, whatever container it lies in: tracks of samples on one time line.

Times are integers, in ticks of their track; :meth:`Track.seconds` puts them on the VOD's line, which begins
at 0 with the first sample that a viewer of the file sees or hears, and runs through every jump of its clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

# Tolerance when two times are compared: FLV and many MP4 writers round to milliseconds.
ROUNDING_SECONDS = 0.001


class TrackKind(StrEnum):
    """The kinds of track that a clip may have."""

    VIDEO = "video"
    AUDIO = "audio"


class UnsupportedMedia(Exception):
    """A file, or a stretch of it, that our readers leave to ffmpeg. ``str()`` of it says what it has."""


@dataclass(frozen=True)
class ByteRange:
    """Bytes of an object, from ``start`` up to ``end``."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Return how many they are."""
        return self.end - self.start


@dataclass(frozen=True)
class Format:
    """How the samples of a stretch of a track are coded: what a decoder is set up with.

    Args:
        codec: ffmpeg's name of it: ``h264``, ``aac``, …
        entry: the sample entry of MP4 that describes it (ISO/IEC 14496-12 §8.5.2.2), as a whole box.
        width, height: of video, in coded pixels; 0 for audio.
        rate, channels: of audio: samples a second; 0 for video.
        is_web: whether every browser plays it: H.264 with 8 bits and 4:2:0, or AAC-LC/HE-AAC.
    """

    codec: str
    entry: bytes
    width: int = 0
    height: int = 0
    rate: int = 0
    channels: int = 0
    is_web: bool = False


class Sample(NamedTuple):
    """A coded picture, or a stretch of audio. ``offset`` and ``size`` say where it lies in ``Track.media``.

    ``decoded`` and ``shown`` are times in ticks; it is shown (heard) for ``length`` ticks; for 0,
    it is there for the decoder alone. ``is_keyframe``:
    decoding can begin with it (in H.264 an IDR picture, or a picture that its container calls a sync sample).
    ``format`` is a place in ``Track.formats``.
    """

    decoded: int
    shown: int
    length: int
    offset: int
    size: int
    is_keyframe: bool
    format: int = 0


@dataclass(frozen=True)
class Damage:
    """A sign that samples are missing or broken: when, in seconds of the VOD, and what it is."""

    seconds: float
    why: str


@dataclass(frozen=True)
class Track:
    """Samples of one kind, in decoding order.

    Args:
        kind: video or audio.
        timescale: ticks a second.
        formats: how they are coded; more than one where that changes on the way.
        samples: in decoding order.
        media: the file in which they lie.
        origin: where tick 0 lies on the VOD's line, in seconds.
        damages: signs that something is missing, in order.
        display: of video, the matrix and the size of MP4's track header (ISO/IEC 14496-12 §8.3.2; the last 44
            bytes of ``tkhd``), which may turn it; empty where it is shown as it is coded.
    """

    kind: TrackKind
    timescale: int
    formats: tuple[Format, ...]
    samples: Sequence[Sample]
    media: Path
    origin: float = 0.0
    damages: tuple[Damage, ...] = ()
    display: bytes = b""

    def seconds(self, ticks: float) -> float:
        """Return where a time of this track lies on the VOD's line."""
        return self.origin + ticks / self.timescale

    def ticks(self, seconds: float) -> int:
        """Return the nearest tick to a time on the VOD's line."""
        return round((seconds - self.origin) * self.timescale)


# Audio of which nothing lies in a window.
EMPTY_AUDIO = Track(TrackKind.AUDIO, 1, (), (), Path())


@dataclass(frozen=True)
class Excerpt:
    """What a window needs of a VOD, on this machine.

    Video runs from the keyframe that the picture at the window's start hangs from to the last picture before
    its end (and what that one refers to); audio from a little before the start to a little after the end.
    ``audio`` is None where the VOD has no audio, and has no samples where none of it lies in the window.
    ``remark``: what the receipt has to say of the VOD, if anything. ``end``: where the VOD ends on its line,
    if nobody knew that before and the window reaches beyond it.
    """

    video: Track | None
    audio: Track | None
    remark: str | None = None
    end: float | None = None
