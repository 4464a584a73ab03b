"""The Markdown pages of this repository: their links, headings and code."""

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
    """A page of Markdown."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text()

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @cached_property
    def prose(self) -> str:
        """The text without its blocks of code."""
        return _FENCE.sub("", self.text)

    @property
    def spans(self) -> list[str]:
        """The texts between backticks in the prose."""
        return _SPAN.findall(self.prose)

    @property
    def shell(self) -> list[str]:
        """The blocks of shell commands."""
        return [text for language, text in _FENCE.findall(self.text) if language == "sh"]

    @property
    def links(self) -> list[tuple[Path, str]]:
        """The targets of links within the repository: a file, and a heading in it (or an empty text)."""
        found = []
        for link in _LINK.findall(_SPAN.sub("", self.prose)):
            if "://" not in link and not link.startswith("mailto:"):
                file, _, heading = link.partition("#")
                found.append(((self.path.parent / file).resolve() if file else self.path, heading))
        return found

    @property
    def anchors(self) -> set[str]:
        """The anchors of the page's headings, as GitHub makes them."""
        return {anchor_of(heading) for heading in _HEADING.findall(self.prose)}


def anchor_of(heading: str) -> str:
    """Return GitHub's anchor: lower case, without punctuation, with hyphens for spaces."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def every_page() -> Iterator[Page]:
    """Yield every page outside caches and Python environments."""
    for folder in (ROOT, *(ROOT / name for name in ("docs", "deploy", "tests", "services", "shared"))):
        pattern = "*.md" if folder == ROOT else "**/*.md"
        yield from (Page(path) for path in sorted(folder.glob(pattern)) if ".venv" not in path.parts)


def living_pages() -> Iterator[Page]:
    """Yield every page about the present state: decisions and the changelog may name removed things."""
    yield from (page for page in every_page() if not {"decisions", "CHANGELOG.md"} & set(page.path.parts))
