"""The ffmpeg filters that make decoded video and audio playable in every browser.

Video becomes BT.709 (Rec. ITU-R BT.709) with limited range, 4:2:0, progressive, with square pixels. A poster
has the matrix of BT.601 with full range, as JFIF prescribes. Audio becomes continuous 48 kHz stereo.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from clip_cutter.domain.media import UNKNOWN, DisplayProperties, Video

WEB_PIXELS = "yuv420p"
SAMPLE_RATE = 48_000
# Shorter gaps in audio are not filled: FLV and Matroska round time stamps to milliseconds.
HOLE_SECONDS = 0.005

HD_WIDTH, SD_HEIGHT = 1280, 576  # BT.601 is used up to the size of PAL, the largest of SD
FULL_HD_WIDTH, FULL_HD_HEIGHT = 1920, 1080
POSTER_WIDTH = 1280

# Matrices that swscale knows. For other values the matrix follows from the size of the video.
MATRICES = frozenset({"bt709", "fcc", "bt470bg", "smpte170m", "smpte240m", "bt2020nc", "bt2020c", "gbr"})
HDR = frozenset({"smpte2084", "arib-std-b67"})  # PQ and HLG
WIDE_PRIMARIES, WIDE_MATRICES = "bt2020", frozenset({"bt2020nc", "bt2020c", "bt709"})
WHITE = 100  # the luminance that becomes white before tone mapping, in cd/m2
CURVE = "mobius"  # keeps what is darker than white, and compresses what is brighter
TAGS = {"color_primaries": "bt709", "color_trc": "bt709", "colorspace": "bt709", "range": "tv"}
EXACTLY = "bicubic+accurate_rnd+full_chroma_int"


@dataclass(frozen=True)
class _OutputColors:
    matrix: str
    color_range: str
    pixels: str


WEB = _OutputColors("bt709", "tv", WEB_PIXELS)
JPEG = _OutputColors("bt470bg", "pc", "yuvj420p")


@dataclass(frozen=True)
class FrameSize:
    """The size of a frame, in pixels."""

    width: int
    height: int


def shown_size(video: Video) -> FrameSize:
    """Return the size of a frame with square pixels; width and height are even, as 4:2:0 needs them.

    Pixels are stretched to squares; if that would exceed full HD, they are shrunk.
    """
    aspect = video.display.pixel_aspect
    wide, high = int(video.width * aspect), int(video.height / aspect)
    is_wider = aspect > 1 and wide <= max(video.width, FULL_HD_WIDTH)
    is_narrower = aspect < 1 and high > max(video.height, FULL_HD_HEIGHT)
    size = FrameSize(wide, video.height) if is_wider or is_narrower else FrameSize(video.width, high)
    return _even(_turned(size, video.display))


def poster_size(video: Video) -> FrameSize:
    """Return the size of a poster with square pixels, at most ``POSTER_WIDTH`` wide."""
    size = shown_size(video)
    return _fit(size, FrameSize(min(size.width, POSTER_WIDTH), size.height))


def _turned(size: FrameSize, display: DisplayProperties) -> FrameSize:
    return FrameSize(size.height, size.width) if display.is_turned else size


def _even(size: FrameSize) -> FrameSize:
    return FrameSize(max(size.width // 2 * 2, 2), max(size.height // 2 * 2, 2))


def _fit(inner: FrameSize, outer: FrameSize) -> FrameSize:
    """Return the largest size within ``outer`` that has the aspect ratio of ``inner``."""
    scale = min(Fraction(outer.width, inner.width), Fraction(outer.height, inner.height))
    return _even(FrameSize(round(inner.width * scale), round(inner.height * scale)))


def for_web(stream: Any, video: Video, size: FrameSize) -> Any:
    """Return frames for the web, of size ``size``, with black bars if their aspect ratio differs from it."""
    fitted = _fit(shown_size(video), size)
    if video.display.is_interlaced:
        stream = stream.filter("bwdif", mode="send_frame", deint="interlaced")
    stream, video = _standard(stream, video)
    if fitted != _turned(FrameSize(video.width, video.height), video.display) or not _is_ready(video):
        stream = _scale(stream, fitted.width, fitted.height, video.display, WEB)
    if fitted != size:
        stream = stream.filter("pad", size.width, size.height, "(ow-iw)/2", "(oh-ih)/2")
    return stream.filter("setsar", 1).filter("setparams", **TAGS)


def for_poster(stream: Any, video: Video) -> Any:
    """Return frames for JPEG. Of an interlaced frame one field is used: its neighbours are not decoded."""
    if video.display.is_interlaced:
        stream = stream.filter("field", type="top")
    size = poster_size(video)
    stream, video = _standard(stream, video)
    return _scale(stream, size.width, size.height, video.display, JPEG)


def for_usual_poster(stream: Any) -> Any:
    """Return frames for JPEG of a video whose properties are not known yet; see :func:`is_unusual`."""
    width = f"min({POSTER_WIDTH},trunc(iw*max(sar,1)/2)*2)"
    return _scale(stream, width, "max(trunc(ow/dar/2)*2,2)", DisplayProperties(), JPEG)


def is_unusual(video: Video) -> bool:
    """Tell whether :func:`for_usual_poster` gives wrong colours or a wrong shape for a video."""
    display = video.display
    is_guessed_wrong = display.matrix not in MATRICES and matrix_of(video) != "bt709"
    return (
        display.is_interlaced
        or display.transfer in HDR
        or display.primaries == WIDE_PRIMARIES
        or is_guessed_wrong
    )


def matrix_of(video: Video) -> str:
    """Return the matrix of a video; if the video names no known matrix, the one that players assume."""
    if video.display.matrix in MATRICES:
        return video.display.matrix
    if video.pixel_format.startswith(("gbr", "rgb", "bgr", "argb", "abgr")):
        return "gbr"
    return "bt709" if video.width >= HD_WIDTH or video.height > SD_HEIGHT else "smpte170m"


def _standard(stream: Any, video: Video) -> tuple[Any, Video]:
    """Convert high dynamic range and wide colours to BT.709; return the frames and their new properties."""
    display = replace(video.display, matrix=matrix_of(video))
    if display.transfer not in HDR and display.primaries != WIDE_PRIMARIES:
        return stream, replace(video, display=display)
    said = {
        "matrixin": display.matrix if display.matrix in WIDE_MATRICES else "bt2020nc",
        "primariesin": display.primaries if display.primaries == "bt709" else WIDE_PRIMARIES,
        "transferin": display.transfer if display.transfer in HDR else "bt709",
        "rangein": "full" if display.color_range == "pc" else "limited",
    }
    stream = stream.filter("zscale", transfer="linear", npl=WHITE, **said)
    stream = stream.filter("format", "gbrpf32le").filter("zscale", primaries="bt709")
    if display.transfer in HDR:
        stream = stream.filter("tonemap", CURVE, desat=0)
    stream = stream.filter("zscale", transfer="bt709", matrix="bt709", range="limited")
    stream = stream.filter("format", WEB_PIXELS)
    display = replace(display, matrix="bt709", color_range="tv", transfer="bt709", primaries="bt709")
    return stream, replace(video, pixel_format=WEB_PIXELS, display=display)


def _is_ready(video: Video) -> bool:
    """Tell whether the pixels of a video need no conversion for the web."""
    display = video.display
    return video.pixel_format == WEB_PIXELS and display.matrix == "bt709" and display.color_range != "pc"


def _scale(
    stream: Any, width: object, height: object, display: DisplayProperties, target: "_OutputColors"
) -> Any:
    said: Mapping[str, str] = (
        {} if display.matrix in {UNKNOWN, "gbr"} else {"in_color_matrix": display.matrix}
    )
    to = {"out_color_matrix": target.matrix, "out_range": target.color_range}
    stream = stream.filter("scale", width, height, **said, **to, flags=EXACTLY)
    # Convert here: otherwise a later filter converts the colours with its own defaults.
    return stream.filter("format", target.pixels).filter("setsar", 1)


def continuous(stream: Any) -> Any:
    """Return audio that begins at 0, with silence in its gaps."""
    return stream.filter(
        "aresample",
        SAMPLE_RATE,
        out_chlayout="stereo",
        **{"async": 1},
        min_hard_comp=HOLE_SECONDS,
        first_pts=0,
    )
