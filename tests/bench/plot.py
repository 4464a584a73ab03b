"""Draw the figures of the cutter's benchmark."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from tests.bench.cases import LONG, SHORT, BenchmarkCase
from tests.bench.report import BARE, CUTTER, MOVIEPY, CaseFigures

COLOURS = {CUTTER: "#2f6fe0", BARE: "#7a808c", MOVIEPY: "#e08a00"}
NAMES = {CUTTER: "the cutter's whole job", BARE: "bare ffmpeg + upload", MOVIEPY: "MoviePy + upload"}
LENGTHS = (1, 10, 30, 60, 120)


def draw(results: Sequence[CaseFigures], path: Path) -> None:
    """Draw seconds by the clip's length, one panel for each mode and size; dashed: from the long VOD."""
    panels = sorted({(str(result.case.mode), result.case.picture) for result in results})
    figure = Figure(figsize=(4.5 * len(panels), 4.5), layout="constrained")
    for number, (mode, picture) in enumerate(panels, start=1):
        axes: Any = figure.add_subplot(1, len(panels), number)
        shown = [each for each in results if _belongs(each.case, mode, picture)]
        _draw_panel(axes, shown)
        axes.set(title=f"{mode}, {picture}", xlabel="clip (s)", xscale="log", yscale="log")
        axes.set_xticks(LENGTHS, labels=[str(length) for length in LENGTHS])
        for formatted in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            formatted(LogFormatter(minor_thresholds=(2, 0.4)))
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize="small")
    figure.axes[0].set_ylabel("seconds (median, and each run)")
    figure.savefig(path, dpi=110)


def _belongs(case: BenchmarkCase, mode: str, picture: str) -> bool:
    return (
        (str(case.mode), case.picture) == (mode, picture) and case.source in {SHORT, LONG} and not case.first
    )


def _draw_panel(axes: Any, results: Sequence[CaseFigures]) -> None:
    for contender, colour in COLOURS.items():
        for source in sorted({result.case.source for result in results}):
            found = [each for each in results if each.case.source == source and each.runs[contender]]
            if not found:
                continue
            lengths = [result.case.seconds for result in found]
            line = "--" if source == LONG else "-"
            label = f"{NAMES[contender]}, {source}"
            medians = [result.seconds(contender) for result in found]
            axes.plot(lengths, medians, line, marker="o", color=colour, label=label)
            for result in found:
                runs = result.runs[contender]
                seconds = [run.seconds for run in runs]
                axes.scatter([result.case.seconds] * len(runs), seconds, s=6, color=colour, alpha=0.5)
