"""What every reader returns, whichever container a VOD has: tracks of samples on one time line.

Times are integers, in ticks of their track. :meth:`Track.seconds` converts them to seconds of the VOD. The
VOD's time line begins at 0 with the first sample that a player shows or plays, and has no gaps where the
container's clock jumps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

# Tolerance when two times are compared: FLV and many MP4 writers round to milliseconds.
ROUNDING_SECONDS = 0.001


class TrackKind(StrEnum):
    """The two kinds of track that a clip has."""

    VIDEO = "video"
    AUDIO = "audio"


class UnsupportedMedia(Exception):
    """A reader cannot read a file, or the wanted part of it; another reader or ffmpeg has to.

    The reader does not know the container or the codec, or the file is damaged. The message names the box,
    packet or tag, and what is wrong with it.
    """


@dataclass(frozen=True)
class ByteRange:
    """Bytes of an object, from offset ``start`` up to and without offset ``end``."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return self.end - self.start


@dataclass(frozen=True)
class Format:
    """How samples are coded: the configuration that a decoder needs.

    Args:
        codec: ffmpeg's name of the codec: ``h264``, ``aac``, …
        entry: MP4's sample entry for the codec (ISO/IEC 14496-12 §8.5.2.2), as a whole box.
        width, height: of video, in coded pixels; 0 for audio.
        rate, channels: of audio, samples per second and channels; 0 for video.
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
    """A coded picture, or a frame of audio.

    Args:
        decoded: decode time (DTS), in ticks of the track.
        shown: presentation time (PTS), in ticks of the track.
        length: duration in ticks; 0 for a sample that only the decoder needs and no player shows.
        offset, size: the bytes of the sample in ``Track.media``.
        is_keyframe: whether decoding can begin here: an IDR picture of H.264, or a sync sample of MP4.
        format: index into ``Track.formats``.
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
    """Evidence that samples are missing or broken, at a time in seconds of the VOD; ``why`` is for people."""

    seconds: float
    why: str


@dataclass(frozen=True)
class Track:
    """The samples of a video or audio track.

    Args:
        kind: video or audio.
        timescale: ticks per second.
        formats: how the samples are coded; several where the codec configuration changes.
        samples: in decoding order.
        media: the file that holds the bytes of the samples.
        origin: time of tick 0, in seconds of the VOD.
        damages: what is missing or broken, in order of time.
        display: of video, matrix and size from MP4's track header (ISO/IEC 14496-12 §8.3.2; the last 44 bytes
            of ``tkhd``), which may rotate the video; empty where the video is shown as it is coded.
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
        """Convert a time of this track to seconds of the VOD."""
        return self.origin + ticks / self.timescale

    def ticks(self, seconds: float) -> int:
        """Convert seconds of the VOD to the nearest tick of this track."""
        return round((seconds - self.origin) * self.timescale)


# The audio of a VOD that has audio, but none in the window.
EMPTY_AUDIO = Track(TrackKind.AUDIO, 1, (), (), Path())


@dataclass(frozen=True)
class Excerpt:
    """The samples of a VOD that a clip of a window needs, copied to this machine.

    Args:
        video: from the keyframe that the first frame of the window depends on, to the last frame before the
            window's end and the pictures that it refers to.
        audio: from a little before the window's start to a little after its end. None if the VOD has no
            audio; a track without samples if the VOD has audio, but none in the window.
        remark: a note on the VOD for the cut receipt.
        end: the end of the VOD in seconds, if the window reaches beyond it and the duration was not known.
    """

    video: Track | None
    audio: Track | None
    remark: str | None = None
    end: float | None = None
