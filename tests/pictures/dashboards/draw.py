"""Draw a dashboard: its grid, and in each panel Prometheus' answers to the panel's queries."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from local_stack.figures import legend_of, queries_of, writer_of

# The size of the image, and Grafana's grid.
WIDTH, COLUMNS, ROW, HEAD, DPI = 1920, 24, 38, 46, 100
GAP = 8
STEP_SECONDS = 5
PAPER, CARD, EDGE, INK, PALE = "#f4f5f7", "#ffffff", "#e0e3e8", "#24292e", "#6b7280"
PALETTE = (
    *("#3274d9", "#e08a00", "#37872d", "#c4162a", "#8f3bb8", "#0aa5a5", "#b877d9", "#806eb7"),
    *("#6d1f62", "#70dbed", "#f2cc0c", "#8ab8ff"),
)
STATES = {"green": "#37872d", "orange": "#e08a00", "red": "#c4162a"}
MOST_LEGENDS = 9

Panel = Mapping[str, Any]


class Series(NamedTuple):
    """A named line: minutes since the start, and values."""

    name: str
    minutes: list[float]
    values: list[float]


class PanelArea(NamedTuple):
    """The area of a panel, in shares of the image from its lower left corner."""

    x: float
    y: float
    width: float
    height: float


def draw(board: Mapping[str, Any], prometheus: str, start: float, end: float, path: Path) -> None:
    """Draw every panel for a time range (seconds since 1970), as PNG."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    height = HEAD + rows * ROW + GAP
    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor=PAPER)
    figure.text(GAP / WIDTH + 0.004, 1 - 30 / height, board["title"], fontsize=15, weight="bold", color=INK)
    with httpx.Client(base_url=prometheus, trust_env=False, timeout=60) as client:
        for panel in board["panels"]:
            place = _place(panel["gridPos"], height)
            _card(figure, place, panel["title"], height)
            _KINDS[panel["type"]](figure, place, panel, list(_series(client, panel, start, end)))
    for axes in figure.axes:
        if axes.axison:
            axes.set_xlim(0, (end - start) / 60)
    figure.savefig(path)


def _place(grid: Mapping[str, int], height: float) -> PanelArea:
    column = (WIDTH - GAP) / COLUMNS
    left, top = GAP + grid["x"] * column, HEAD + grid["y"] * ROW
    width, tall = grid["w"] * column - GAP, grid["h"] * ROW - GAP
    return PanelArea(left / WIDTH, 1 - (top + tall) / height, width / WIDTH, tall / height)


def _card(figure: Figure, place: PanelArea, title: str, height: float) -> None:
    box = FancyBboxPatch(
        (place.x, place.y),
        place.width,
        place.height,
        boxstyle="square,pad=0",
        facecolor=CARD,
        edgecolor=EDGE,
        transform=figure.transFigure,
        zorder=-1,  # below the axes
    )
    figure.add_artist(box)
    top = place.y + place.height - 17 / height
    figure.text(place.x + 8 / WIDTH, top, title, fontsize=8.5, weight="bold", color=INK)


def _series(client: httpx.Client, panel: Panel, start: float, end: float) -> Iterator[Series]:
    span = {"start": start, "end": end, "step": STEP_SECONDS}
    for pattern, query in queries_of(panel):
        answer = client.get("/api/v1/query_range", params={"query": query, **span}).raise_for_status()
        for series in answer.json()["data"]["result"]:
            minutes = [(moment - start) / 60 for moment, _ in series["values"]]
            values = [float(value) for _, value in series["values"]]
            yield Series(legend_of(pattern, series["metric"]), minutes, values)


def _lines(figure: Figure, place: PanelArea, panel: Panel, found: list[Series]) -> None:
    axes = _axes(figure, place, panel)
    stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    ground: dict[float, float] = {}
    for number, series in enumerate(found):
        colour = PALETTE[number % len(PALETTE)]
        low = [ground.get(moment, 0.0) if stacked else 0.0 for moment in series.minutes]
        high = [bottom + value for bottom, value in zip(low, series.values, strict=True)]
        axes.plot(series.minutes, high, color=colour, linewidth=1.2, label=series.name)
        axes.fill_between(
            series.minutes, low, high, color=colour, alpha=0.35 if stacked else 0.07, linewidth=0
        )
        ground |= dict(zip(series.minutes, high, strict=True))
    axes.set_ylim(bottom=0)
    if found:
        handles, labels = axes.get_legend_handles_labels()
        shown = slice(0, MOST_LEGENDS)
        axes.legend(
            handles[shown],
            labels[shown],
            loc="upper left",
            bbox_to_anchor=(0, -18 / (axes.get_position().height * figure.get_figheight() * DPI)),
            ncols=3 if place.width < 0.3 else 6,
            fontsize=6.5,
            frameon=False,
            handlelength=1,
            columnspacing=1,
            borderaxespad=0,
            labelcolor=PALE,
        )
    else:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color=PALE)


def _axes(figure: Figure, place: PanelArea, panel: Panel) -> Axes:
    left, right = 58 / WIDTH, 16 / WIDTH
    height = figure.get_figheight() * DPI
    below, above = 66 / height, 28 / height
    axes = figure.add_axes(
        (place.x + left, place.y + below, place.width - left - right, place.height - below - above)
    )
    write = writer_of(panel)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} min"))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    axes.tick_params(labelsize=6.5, colors=PALE, length=0)
    axes.grid(color=EDGE, linewidth=0.6)
    axes.margins(x=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return axes


def _number(figure: Figure, place: PanelArea, panel: Panel, found: list[Series]) -> None:
    value = found[0].values[-1] if found else None
    text, colour = ("no data", PALE) if value is None else (writer_of(panel)(value), _state(panel, value))
    middle = (place.x + place.width / 2, place.y + 0.36 * place.height)
    figure.text(*middle, text, fontsize=21, color=colour, ha="center", va="center", weight="bold")


def _state(panel: Panel, value: float) -> str:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return STATES[reached[-1]]


def _bars(figure: Figure, place: PanelArea, panel: Panel, found: list[Series]) -> None:
    write = writer_of(panel)
    axes = figure.add_axes(
        (place.x + 26 / WIDTH, place.y + 0.06 * place.height, place.width - 60 / WIDTH, 0.78 * place.height)
    )
    axes.axis("off")
    most = max((series.values[-1] for series in found), default=0) or 1
    for row, series in enumerate(sorted(found, key=lambda each: each.name)):
        axes.barh(-row, most, color="#f0f2f5", height=0.7)
        axes.barh(-row, series.values[-1], color=PALETTE[0], height=0.7)
        axes.text(-0.02 * most, -row, series.name, ha="right", va="center", fontsize=7, color=PALE)
        axes.text(1.01 * most, -row, write(series.values[-1]), va="center", fontsize=7.5, color=INK)


_KINDS = {"timeseries": _lines, "stat": _number, "bargauge": _bars}
