"""Draw the figures of the services' benchmarks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tests.bench.queries import LARGE, SMALL, QueryTiming
from tests.bench.run import MEBIBYTE

OURS, BARE, OTHER = "#2f6fe0", "#7a808c", "#e08a00"


def draw_registry(
    rounds: Sequence[tuple[Any, Any]],
    latencies: Mapping[str, Sequence[float]],
    queries: Sequence[QueryTiming],
    path: Path,
) -> None:
    """Draw rates by round, distributions of latencies, and the growth of each query."""
    figure = Figure(figsize=(13.5, 4.5), layout="constrained")
    rates, waiting, growth = (_panel(figure, number) for number in (1, 2, 3))
    numbers = range(1, len(rounds) + 1)
    for label, colour, found in (
        ("bare loop, into the store", BARE, [bare.stored for _, bare in rounds]),
        ("registry, into the store", OURS, [run.stored for run, _ in rounds]),
        ("registry, in and out", OTHER, [run.through for run, _ in rounds]),
    ):
        rates.plot(numbers, found, "o-", color=colour, label=label)
    rates.set(title="events per second and process", xlabel="round", ylim=(0, None))
    rates.set_xticks(list(numbers))
    for what, seconds in latencies.items():
        shares = [(place + 1) / len(seconds) for place in range(len(seconds))]
        waiting.plot([each * 1000 for each in sorted(seconds)], shares, label=what)
    waiting.set(title="until clip.available", xlabel="ms", ylabel="share of events", xscale="log")
    for place, query in enumerate(queries):
        for rows, colour in ((SMALL, BARE), (LARGE, OURS)):
            taken = [each * 1000 for each in query.seconds[rows]]
            offset = place + (0.2 if rows == LARGE else -0.2)
            growth.boxplot(
                taken, positions=[offset], widths=0.3, showfliers=False, medianprops={"color": colour}
            )
    growth.set(title="queries, 10 thousand and 1 million rows", ylabel="ms", yscale="log")
    growth.set_xticks(range(len(queries)), labels=[query.name for query in queries], rotation=20)
    rates.legend(fontsize="small")
    if latencies:  # empty when the run was interrupted before them
        waiting.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def draw_janitor(
    memory: Mapping[str, Sequence[tuple[float, int]]], progress: Sequence[tuple[float, int, int]], path: Path
) -> None:
    """Draw the rest of the clips and objects during the purge, and the memory of the processes."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    left, used = (_panel(figure, number, panels=2) for number in (1, 2))
    seconds = [moment for moment, _, _ in progress]
    left.plot(seconds, [rows for _, rows, _ in progress], color=OURS, label="clips not purged")
    left.plot(seconds, [objects for _, _, objects in progress], color=OTHER, label="objects not deleted")
    left.set(title="the purge", xlabel="seconds since the tick", ylim=(0, None))
    for (name, samples), colour in zip(memory.items(), (OURS, OTHER), strict=False):
        used.plot(
            [at for at, _ in samples], [size / MEBIBYTE for _, size in samples], color=colour, label=name
        )
    used.set(title="resident memory", xlabel="seconds since the tick", ylabel="MiB", ylim=(0, None))
    for axes in (left, used):
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def draw_gateway(
    rates: Mapping[str, Sequence[float]], latencies: Mapping[str, Sequence[float]], path: Path
) -> None:
    """Draw rates by round, and distributions of latencies at half load."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    by_round, waiting = (_panel(figure, number, panels=2) for number in (1, 2))
    colours = dict(zip(rates, (BARE, OURS, OTHER, "#3a9a5b", "#b0479c"), strict=True))
    for kind, found in rates.items():
        by_round.plot(range(1, len(found) + 1), found, "o-", color=colours[kind], label=kind)
    by_round.set(title="requests per second and process", xlabel="round", ylim=(0, None))
    for kind, seconds in latencies.items():
        shares = [(place + 1) / len(seconds) for place in range(len(seconds))]
        waiting.plot([each * 1000 for each in sorted(seconds)], shares, color=colours[kind], label=kind)
    waiting.set(title="at half of that rate", xlabel="ms", ylabel="share of requests", xscale="log")
    by_round.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def _panel(figure: Figure, number: int, *, panels: int = 3) -> Any:
    axes: Any = figure.add_subplot(1, panels, number)
    axes.grid(visible=True, alpha=0.3)
    return axes
