"""The demo's steps on the terminal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

_INDENT = " " * 11


class Step:
    """A running step. ``result`` is printed when the step is done."""

    def __init__(self, result: str) -> None:
        self.result = result
        self.details: list[str] = []

    def add(self, detail: str) -> None:
        """Print a detail below the step's line, when the step is done."""
        self.details.append(detail)


class StepPrinter:
    """Print steps with their seconds: ✓ for a step that is done, ✗ for a step that failed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self.failed: str | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the first step."""
        return time.monotonic() - self._started

    @contextmanager
    def step(self, activity: str) -> Iterator[Step]:
        """Show the activity while the step runs, and then its result."""
        step, started = Step(activity), time.monotonic()
        try:
            with self._console.status(f"{escape(activity)} …"):
                yield step
        except BaseException:
            self.failed = activity
            self._print("[red]✗[/]", activity, time.monotonic() - started)
            raise
        self._print("[green]✓[/]", step.result, time.monotonic() - started)
        for detail in step.details:
            self._console.print(f"{_INDENT}[dim]{escape(detail)}[/]", highlight=False, soft_wrap=True)

    def _print(self, mark: str, text: str, seconds: float) -> None:
        self._console.print(
            f"{mark} [cyan]{seconds:6.1f} s[/] {escape(text)}", highlight=False, soft_wrap=True
        )
