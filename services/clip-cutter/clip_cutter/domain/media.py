"""What ffprobe says about a media file."""

from dataclasses import dataclass
from fractions import Fraction

from clip_cutter.domain.policy import unreadable

UNKNOWN = "unknown"
MAX_PIXELS = 8192 * 4320


@dataclass(frozen=True)
class DisplayProperties:
    """How a player must show the decoded pixels, in ffmpeg's names; ``unknown`` if the file does not say.

    Args:
        color_range: ``tv`` (limited) or ``pc`` (full).
        matrix, transfer, primaries: as defined by ITU-T H.273; ``gbr`` is a matrix too.
        is_interlaced: whether a frame is two fields that were captured one after the other.
        pixel_aspect: width of a pixel divided by its height.
        is_turned: whether the container rotates the frames by 90 or 270 degrees.
    """

    color_range: str = UNKNOWN
    matrix: str = UNKNOWN
    transfer: str = UNKNOWN
    primaries: str = UNKNOWN
    is_interlaced: bool = False
    pixel_aspect: Fraction = Fraction(1)
    is_turned: bool = False


@dataclass(frozen=True)
class Video:
    """The video stream. ``start`` is a time stamp of the file, ``frame_seconds`` the usual frame length."""

    index: int
    codec: str
    pixel_format: str
    width: int
    height: int
    frame_seconds: float
    start: float
    seconds: float | None
    display: DisplayProperties = DisplayProperties()


@dataclass(frozen=True)
class Audio:
    """The audio stream. ``start`` is a time stamp of the file."""

    index: int
    codec: str
    start: float
    seconds: float | None


@dataclass(frozen=True)
class Media:
    """A media file. ``start`` is the first time stamp of its time line. None: the file does not say."""

    container: str
    start: float
    seconds: float | None
    bit_rate: int | None
    video: Video | None
    audio: Audio | None

    @property
    def is_vague(self) -> bool:
        """Whether the length, the video stream or its pixel format is missing; every VOD has all three."""
        return self.seconds is None or self.video is None or self.video.pixel_format == UNKNOWN


@dataclass(frozen=True)
class StreamSpan:
    """The times at which a stream starts and ends, in seconds from the start of the file; None: unknown."""

    start: float
    end: float | None


def span_of(stream: Video | Audio, media: Media) -> StreamSpan:
    """Return when a stream starts and ends in its file."""
    start = stream.start - media.start
    return StreamSpan(start, None if stream.seconds is None else start + stream.seconds)


def video_of(media: Media) -> Video:
    """Return the video stream of a file.

    Raises:
        Skipped: the file has no video, or its frames are empty or larger than ``MAX_PIXELS``.
    """
    video = media.video
    if video is None:
        raise unreadable("it has no video")
    if not 0 < video.width * video.height <= MAX_PIXELS:
        raise unreadable(f"its frames have {video.width} by {video.height} pixels")
    return video


def video_end(media: Media) -> float | None:
    """Return when the video ends, in seconds from the start of the file; None: unknown."""
    ends = [media.seconds, span_of(media.video, media).end if media.video else None]
    return min((end for end in ends if end is not None), default=None)
