"""The Markdown pages of this repository, and what they name."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from tests.support.deployment import ROOT

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


class Page:
    """One page: its links, its headings, and its code."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text()

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @cached_property
    def prose(self) -> str:
        """All of it but the blocks of code."""
        return _FENCE.sub("", self.text)

    @property
    def spans(self) -> list[str]:
        """What stands between backticks in the prose."""
        return _SPAN.findall(self.prose)

    @property
    def shell(self) -> list[str]:
        """The blocks of shell commands."""
        return [text for language, text in _FENCE.findall(self.text) if language == "sh"]

    @property
    def links(self) -> list[tuple[Path, str]]:
        """Where links within the repository lead: to a file, and to a heading there (empty: to none)."""
        found = []
        for link in _LINK.findall(_SPAN.sub("", self.prose)):
            if "://" not in link and not link.startswith("mailto:"):
                file, _, heading = link.partition("#")
                found.append(((self.path.parent / file).resolve() if file else self.path, heading))
        return found

    @property
    def anchors(self) -> set[str]:
        """The names by which links find its headings, as GitHub makes them."""
        return {anchor_of(heading) for heading in _HEADING.findall(self.prose)}


def anchor_of(heading: str) -> str:
    """Lower case, without punctuation, with hyphens for spaces."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def every_page() -> Iterator[Page]:
    """Every page, but for those of caches and environments."""
    for folder in (ROOT, *(ROOT / name for name in ("docs", "deploy", "tests", "services", "shared"))):
        pattern = "*.md" if folder == ROOT else "**/*.md"
        yield from (Page(path) for path in sorted(folder.glob(pattern)) if ".venv" not in path.parts)


def living_pages() -> Iterator[Page]:
    """Every page that speaks of the present. Decisions and changes may name what is gone."""
    yield from (page for page in every_page() if not {"decisions", "CHANGELOG.md"} & set(page.path.parts))
