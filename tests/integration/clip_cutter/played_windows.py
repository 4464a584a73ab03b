"""Every window that is cut in both ways and played: of ``tests/cases``, and of the ordinary VODs."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.integration.clip_cutter.cases import CASES, FOLDER, ROWS, SKIPS
from tests.integration.clip_cutter.conftest import RECIPES
from tests.integration.clip_cutter.judge import VodContent
from tests.integration.clip_cutter.media import DecodedFile

VodOf = Callable[[str], DecodedFile]
START, SECONDS = 5.3, 3.0


class PlayedWindow(NamedTuple):
    """A window of a VOD."""

    name: str
    start: float
    end: float

    def __str__(self) -> str:
        return f"{self.name}-{self.start:g}-{self.end:g}"


PLAYED_WINDOWS = [
    *(PlayedWindow(*row) for row in ROWS),
    *(PlayedWindow(name, START, START + SECONDS) for name in RECIPES),
]
PLAYED = [window for window in PLAYED_WINDOWS if window not in map(tuple, SKIPS)]


def path_of(window: PlayedWindow, vod: VodOf) -> Path:
    """Where the VOD lies."""
    return FOLDER / window.name if window.name in CASES else vod(window.name).path


def content_of(window: PlayedWindow, vod: VodOf) -> VodContent:
    """What the VOD shows and says."""
    case = CASES.get(window.name)
    return vod(window.name).content if case is None else case.content
