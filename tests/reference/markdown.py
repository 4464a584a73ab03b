"""Markdown, as far as the reference pages need it."""

import re
from collections.abc import Iterable, Sequence

_ROLE = re.compile(r":\w+:`~?([^`]+)`")


def document(title: str, *parts: str) -> str:
    """Return a page with a note on its origin."""
    note = "<!-- Written by `make docs` from the code. Changes by hand are lost. -->"
    return "\n\n".join([f"# {title}", note, *(part.strip("\n") for part in parts if part)]) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. A pipe in a cell is escaped, and a line break becomes a space."""
    lines = [heads, ["---"] * len(heads), *([_cell(each) for each in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def code(text: object) -> str:
    """Return text in a code span; an empty text stays empty."""
    return f"`{text}`" if str(text) else ""


def codes(values: Iterable[object]) -> str:
    """Return several code spans, separated by commas."""
    return ", ".join(code(each) for each in values)


def fence(text: str, language: str = "") -> str:
    """Return a block of code."""
    return f"```{language}\n{text.strip()}\n```"


def prose(docstring: str | None) -> str:
    """Return the text of a docstring in Markdown, without its line breaks."""
    return _ROLE.sub(r"`\1`", (docstring or "").strip()).replace("``", "`")


def first_sentence(docstring: str | None) -> str:
    """Return the first paragraph of a docstring."""
    return " ".join(prose(docstring).split("\n\n")[0].split())
