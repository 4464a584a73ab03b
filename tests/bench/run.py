"""Helpers of the benchmarks: the description of a run, its figures, and its targets."""

import asyncio
import json
import shlex
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import typer

from local_stack.stack import Service
from tests.bench.usage import machine

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "docs" / "benchmarks"
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest value of a figure."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """Return the spread of values, or None without values."""
        found = sorted(values)
        return cls(median(found), found[0], found[-1]) if found else None


@dataclass(frozen=True)
class Bound:
    """A target for a figure; ``at_least``: a lower bound, else an upper one. Without a figure: not measured.

    ``before``: the figure of an earlier version, where there is one to compare with.
    """

    what: str
    bound: float
    found: float | None
    at_least: bool = False
    before: float | None = None

    @property
    def outcome(self) -> str:
        """Whether the target is met."""
        if self.found is None:
            return "not measured"
        holds = self.found >= self.bound if self.at_least else self.found <= self.bound
        return "met" if holds else "**missed**"

    def cells(self) -> tuple[str, str, str, str]:
        """Return the row of the table: target, figure before, figure now, outcome."""
        sign = "≥" if self.at_least else "≤"
        before, found = ("" if each is None else f"{each:.2f}" for each in (self.before, self.found))
        return f"{self.what} {sign} {self.bound:g}", before, found, self.outcome


@dataclass
class About:
    """The command, date and machine of a run."""

    benchmark: str
    date: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d}")
    machine: Mapping[str, Any] = field(default_factory=machine)
    started: float = field(default_factory=time.monotonic)

    @property
    def command(self) -> str:
        """The command that repeats the run."""
        arguments = shlex.join(sys.argv[1:])
        return f"make bench-{self.benchmark}" + (f' ARGS="{arguments}"' if arguments else "")

    @property
    def minutes(self) -> float:
        """The minutes since the start."""
        return round((time.monotonic() - self.started) / 60, 1)

    def sentence(self) -> str:
        """Return the first line of the figures."""
        where = self.machine
        return (
            f"`{self.command}`, {self.date}, {self.minutes} minutes, on {where['cores']} cores"
            f" ({where['cpu']}) with {where['memory_gib']} GiB of memory, load"
            f" {where['load_at_start']} before it began."
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the description for the JSON."""
        return {
            "command": self.command,
            "date": self.date,
            "minutes": self.minutes,
            "machine": self.machine,
        }


def publish(about: About, figures: str, results: Mapping[str, Any]) -> None:
    """Write the figures into the documentation, and all results to a JSON file beside it."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**about.as_dict(), **results}, indent=1)
    (FIGURES / f"{about.benchmark}.json").write_text(text + "\n")
    replace_figures(PAGE, figures, name=about.benchmark)


def replace_figures(page: Path, figures: str, *, name: str) -> None:
    """Replace the figures between a page's marks with the name.

    Raises:
        ValueError: the page has no such marks.
    """
    text = page.read_text()
    opening, closing = (f"<!-- {name}: {edge} -->" for edge in ("begin", "end"))
    before, begin, rest = text.partition(opening)
    _, end, after = rest.partition(closing)
    if not begin or not end:
        raise ValueError(f"{page.name} has no place for {name}")
    page.write_text(f"{before}{opening}\n\n{figures}\n\n{closing}{after}")


def table(*rows: Sequence[str], texts: int = 1) -> str:
    """Return a Markdown table: the first row is its head; columns after the first ``texts`` are numbers."""
    header, *body = rows
    ruler = ["---"] * texts + ["--:"] * (len(header) - texts)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ruler, *body))


def targets_table(targets: Sequence[Bound]) -> str:
    """Return the table of targets, with the figures before and now."""
    rows = [("target", "before", "measured", ""), *(target.cells() for target in targets)]
    if all(target.before is None for target in targets):
        return table(*((what, found, outcome) for what, _, found, outcome in rows))
    return table(*rows)


def shown(spread: Spread | None, digits: int = 0, unit: str = "") -> str:
    """Return a median with the least and the greatest value."""
    if spread is None:
        return ""
    median, least, most = (f"{value:,.{digits}f}" for value in (spread.median, spread.least, spread.most))
    return f"{median}{unit} ({least}, {most})"


def mebibytes(size: float) -> str:
    """Return a size in MiB."""
    return f"{size / MEBIBYTE:.0f} MiB"


def say(text: str) -> None:
    """Print a line of progress."""
    typer.echo(text, err=True)


@asynccontextmanager
async def running(service: Service, *, ready: bool = True) -> AsyncIterator[int]:
    """Run a service, and wait until it is ready unless ``ready`` is False; yield its process id."""
    try:
        await asyncio.to_thread(service.start if ready else service.launch)
        assert service.pid is not None
        yield service.pid
    finally:
        await asyncio.to_thread(service.stop)
