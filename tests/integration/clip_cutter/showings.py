"""Every window that is cut in both ways and played: of ``tests/cases``, and of the ordinary recordings."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.integration.clip_cutter.cases import CASES, FOLDER, ROWS, SKIPS
from tests.integration.clip_cutter.conftest import RECIPES
from tests.integration.clip_cutter.judge import Content
from tests.integration.clip_cutter.media import Seen

VodOf = Callable[[str], Seen]
START, SECONDS = 5.3, 3.0


class Showing(NamedTuple):
    """A window of a recording."""

    name: str
    start: float
    end: float

    def __str__(self) -> str:
        return f"{self.name}-{self.start:g}-{self.end:g}"


SHOWINGS = [*(Showing(*row) for row in ROWS), *(Showing(name, START, START + SECONDS) for name in RECIPES)]
PLAYED = [showing for showing in SHOWINGS if showing not in map(tuple, SKIPS)]


def path_of(showing: Showing, vod: VodOf) -> Path:
    """Where the recording lies."""
    return FOLDER / showing.name if showing.name in CASES else vod(showing.name).path


def content_of(showing: Showing, vod: VodOf) -> Content:
    """What the recording shows and says."""
    case = CASES.get(showing.name)
    return vod(showing.name).content if case is None else case.content
