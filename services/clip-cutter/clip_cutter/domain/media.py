"""What a probe says of a file."""

from dataclasses import dataclass
from fractions import Fraction

from clip_cutter.domain.policy import unreadable

UNKNOWN = "unknown"
MAX_PIXELS = 8192 * 4320


@dataclass(frozen=True)
class DisplayProperties:
    """How decoded pixels are to be shown, in ffmpeg's names; ``unknown`` where the file does not say.

    Args:
        color_range: ``tv`` (limited) or ``pc`` (full).
        matrix, transfer, primaries: as ITU-T H.273 counts them; ``gbr`` is a matrix too.
        is_interlaced: whether a frame is two fields that were taken one after the other.
        pixel_aspect: width of a pixel divided by its height.
        is_turned: whether the container turns it by a quarter.
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
    """The picture. ``start`` is a time stamp of the file, ``frame_seconds`` the usual length of a frame."""

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
    """The sound. ``start`` is a time stamp of the file."""

    index: int
    codec: str
    start: float
    seconds: float | None


@dataclass(frozen=True)
class Media:
    """A file. ``start`` is the time stamp that its time line begins with; None: the file does not say."""

    container: str
    start: float
    seconds: float | None
    bit_rate: int | None
    video: Video | None
    audio: Audio | None

    @property
    def is_vague(self) -> bool:
        """Whether it lacks what every recording has."""
        return self.seconds is None or self.video is None or self.video.pixel_format == UNKNOWN


@dataclass(frozen=True)
class StreamSpan:
    """From when to when a stream reaches, in seconds from the start of the file; ``end`` None: unknown."""

    start: float
    end: float | None


def span_of(stream: Video | Audio, media: Media) -> StreamSpan:
    """Where in its file a stream lies."""
    start = stream.start - media.start
    return StreamSpan(start, None if stream.seconds is None else start + stream.seconds)


def video_of(media: Media) -> Video:
    """The picture to cut.

    Raises:
        Skipped: ``source_unreadable``: there is none, or none that anybody could have filmed.
    """
    video = media.video
    if video is None:
        raise unreadable("it has no picture")
    if not 0 < video.width * video.height <= MAX_PIXELS:
        raise unreadable(f"its picture claims to have {video.width} by {video.height} pixels")
    return video


def video_end(media: Media) -> float | None:
    """How far the picture reaches, in seconds from the start of the file."""
    ends = [media.seconds, span_of(media.video, media).end if media.video else None]
    return min((end for end in ends if end is not None), default=None)
