"""Read what ffmpeg printed about the frames that it saved for a poster: size, colours, contrast."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from clip_cutter.domain.media import UNKNOWN, DisplayProperties, Video
from clip_cutter.ffmpeg.filters import HD_WIDTH, SD_HEIGHT
from clip_cutter.ffmpeg.probe import DEFAULT_FRAME_SECONDS, read_aspect

# A frame is plain if its brightness and its colours differ by fewer levels (of 256) between the lowest and
# the highest tenth of its pixels.
PLAIN = 16
FEW = 4

_FRAME = re.compile(r"^frame:(\d+)", re.MULTILINE)
_LEVEL = re.compile(r"^lavfi\.signalstats\.([YUV])(LOW|HIGH)=(\d+(?:\.\d+)?)$", re.MULTILINE)
_SHAPE = re.compile(
    r"\bfmt:(?P<pixels>\w+) .*\bsar:(?P<aspect>\d+/\d+) s:(?P<width>\d+)x(?P<height>\d+) i:(?P<fields>\w)"
)
_COLOUR = re.compile(
    r"color_range:(?P<range>\S+) color_space:(?P<matrix>\S+)"
    r" color_primaries:(?P<primaries>\S+) color_trc:(?P<transfer>\S+)"
)


@dataclass(frozen=True)
class PosterFrames:
    """Which frames of a clip to save: those shown at ``times``, in seconds; the first frame if it is empty.

    ``are_keyframes``: whether the frames are keyframes, which take a tenth of the time of others. ``video``:
    the properties of an unusual video; None for a usual one (see
    :func:`clip_cutter.ffmpeg.filters.is_unusual`).
    """

    times: tuple[float, ...]
    are_keyframes: bool = True
    video: Video | None = None


@dataclass(frozen=True)
class SavedFrame:
    """A frame that ffmpeg saved: its file, and the contrast of its pixels, in levels of 256."""

    path: Path
    contrast: float

    @property
    def is_plain(self) -> bool:
        """Whether the frame has one colour, and is no good as a poster."""
        return self.contrast < PLAIN


def read_frames(answer: str, numbered: Path) -> list[SavedFrame]:
    """Read what the filters ``signalstats`` and ``metadata`` printed about frames saved as ``numbered``."""
    starts = [match.start() for match in _FRAME.finditer(answer)]
    blocks = [answer[start:end] for start, end in pairwise([*starts, len(answer)])]
    return [
        SavedFrame(numbered.with_name(numbered.name % number), _contrast(block))
        for number, block in enumerate(blocks, start=1)
    ]


def _contrast(block: str) -> float:
    levels = {plane + end: float(level) for plane, end, level in _LEVEL.findall(block)}
    return max(
        (levels.get(plane + "HIGH", 0.0) - levels.get(plane + "LOW", 0.0) for plane in "YUV"), default=0.0
    )


def read_video(lines: Sequence[str]) -> Video | None:
    """Read what the filter ``showinfo`` logged about the first frame; None if there was no frame."""
    shape = next(filter(None, map(_SHAPE.search, lines)), None)
    colour = next(filter(None, map(_COLOUR.search, lines)), None)
    if shape is None or colour is None:
        return None
    width, height = int(shape["width"]), int(shape["height"])
    is_untagged = colour["primaries"] == colour["transfer"] == UNKNOWN and colour["matrix"] == "bt709"
    is_small = width < HD_WIDTH and height <= SD_HEIGHT
    display = DisplayProperties(
        color_range=colour["range"],
        # If the video names nothing, this is the matrix that the decoder was told to assume: unknown.
        matrix=UNKNOWN if is_untagged and is_small else colour["matrix"],
        transfer=colour["transfer"],
        primaries=colour["primaries"],
        is_interlaced=shape["fields"] in "TB",
        pixel_aspect=read_aspect(shape["aspect"]),
    )
    return Video(0, UNKNOWN, shape["pixels"], width, height, DEFAULT_FRAME_SECONDS, 0.0, None, display)


def spread(times: Sequence[float]) -> list[float]:
    """Return up to ``FEW`` of some times, evenly spread."""
    different = sorted(set(times))
    step = max(len(different) / FEW, 1.0)
    return [different[int(number * step)] for number in range(min(len(different), FEW))]
