"""The shell commands in the pages of docs/, for tests that run them."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> list[str]:
    """Return every block of shell commands of a page."""
    return _BLOCK.findall(page.read_text())


def named_block(page: Path, name: str) -> str:
    """Return the block of shell commands that follows ``<!-- run: name -->`` on a page."""
    _, mark, rest = page.read_text().partition(f"<!-- run: {name} -->")
    found = _BLOCK.search(rest)
    if not mark or found is None:
        raise LookupError(f"{page.name} has no commands named {name}")
    return found.group(1)
