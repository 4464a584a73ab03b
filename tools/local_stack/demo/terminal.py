"""What the commands say on the terminal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

_INDENT = " " * 11


class Step:
    """One step under way. ``says`` becomes its line when it is done."""

    def __init__(self, says: str) -> None:
        self.says = says
        self.details: list[str] = []

    def add(self, detail: str) -> None:
        """Say more, below the line."""
        self.details.append(detail)


class StepPrinter:
    """Steps one after the other, each with its time, and the one that failed with a cross."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self.failed: str | None = None

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started

    @contextmanager
    def step(self, doing: str) -> Iterator[Step]:
        """Show what is being done, then what was done."""
        step, started = Step(doing), time.monotonic()
        try:
            with self._console.status(f"{escape(doing)} …"):
                yield step
        except BaseException:
            self.failed = doing
            self._say("[red]✗[/]", doing, time.monotonic() - started)
            raise
        self._say("[green]✓[/]", step.says, time.monotonic() - started)
        for detail in step.details:
            self._console.print(f"{_INDENT}[dim]{escape(detail)}[/]", highlight=False, soft_wrap=True)

    def _say(self, mark: str, text: str, seconds: float) -> None:
        self._console.print(
            f"{mark} [cyan]{seconds:6.1f} s[/] {escape(text)}", highlight=False, soft_wrap=True
        )
