"""``python -m tests.reference`` writes the pages that have changed; with ``--check`` it only compares."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tests.reference import commands, events, http, metrics, settings

FOLDER = Path("docs/reference")
PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands.page,
    "events.md": events.page,
    "http.md": http.page,
    "metrics.md": metrics.page,
    "settings.md": settings.page,
}


def main(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail when a page is out of date.")
    ] = False,
) -> None:
    """Write the reference pages, or check that they are up to date."""
    stale = [name for name, page in PAGES.items() if not _is_written(FOLDER / name, page())]
    if check and stale:
        typer.echo(f"out of date in {FOLDER}: {', '.join(stale)}; run: make docs", err=True)
        raise typer.Exit(1)
    for name in stale:
        (FOLDER / name).write_text(PAGES[name]())
        typer.echo(f"wrote {FOLDER / name}")


def _is_written(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    typer.run(main)
