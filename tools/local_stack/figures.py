"""The current values of the dashboards in ``deploy/grafana``, as text, for a machine without Grafana.

The queries are those of the panels; Prometheus answers them.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from local_stack.servers.monitoring import SCRAPE_SECONDS

_FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "grafana"
_NAMES = ("product", "operation")
# Grafana's $__rate_interval: four scrapes.
_RATE_INTERVAL = f"{4 * SCRAPE_SECONDS}s"
_MOST_SERIES = 6
_KIBIBYTE = 1024
_MINUTE, _HOUR, _DAY = 60, 3600, 86400

Writer = Callable[[float], str]


@dataclass(frozen=True)
class Figure:
    """The title of a panel, and its current values as text."""

    title: str
    now: str


def dashboards() -> dict[str, dict[str, Any]]:
    """Return Grafana's JSON of every dashboard, by file name without its suffix."""
    return {name: json.loads((_FOLDER / f"{name}.json").read_text()) for name in _NAMES}


def queries_of(panel: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a panel's queries: legend and PromQL."""
    for target in panel["targets"]:
        yield target["legendFormat"], target["expr"].replace("$__rate_interval", _RATE_INTERVAL)


def legend_of(pattern: str, labels: Mapping[str, str]) -> str:
    """Return the name of a series: ``{{label}}`` in the pattern becomes the label's value."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), pattern)


def writer_of(panel: Mapping[str, Any]) -> Writer:
    """Return the function that writes a panel's values."""
    defaults = panel["fieldConfig"]["defaults"]
    return write_whole if defaults.get("decimals") == 0 else _WRITERS[defaults["unit"]]


def read_figures(prometheus: str) -> dict[str, list[Figure]]:
    """Send every panel's queries to the Prometheus at a URL; return the figures by dashboard title.

    Raises:
        httpx.HTTPError: Prometheus does not answer, or refuses a query.
    """
    with httpx.Client(base_url=prometheus, trust_env=False, timeout=30) as client:
        return {
            board["title"]: [_figure(client, panel) for panel in board["panels"]]
            for board in dashboards().values()
        }


def _figure(client: httpx.Client, panel: Mapping[str, Any]) -> Figure:
    write = writer_of(panel)
    values = [f"{name} {write(value)}".strip() for name, value in _values(client, panel)]
    shown = values[:_MOST_SERIES] + (["…"] if len(values) > _MOST_SERIES else [])
    return Figure(panel["title"], "   ".join(shown) or "no data")


def _values(client: httpx.Client, panel: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield legend and value of each series of a panel; a panel of one number has an empty legend."""
    for pattern, query in queries_of(panel):
        answer = client.get("/api/v1/query", params={"query": query}).raise_for_status()
        for series in answer.json()["data"]["result"]:
            name = "" if panel["type"] == "stat" else legend_of(pattern, series["metric"])
            yield name, float(series["value"][1])


def write_count(value: float) -> str:
    """Write a number: 3, 0.25, 12.5; "-" for not-a-number."""
    return "-" if math.isnan(value) else f"{value:.2f}".rstrip("0").rstrip(".")


def write_whole(value: float) -> str:
    """Write a number, rounded to an integer."""
    return write_count(value if math.isnan(value) else round(value))


def write_seconds(value: float) -> str:
    """Write a duration: 12 ms, 3.5 s, 12 min, 3.5 h, 2 d."""
    for unit, size in (("d", _DAY), ("h", _HOUR), ("min", _MINUTE), ("s", 1)):
        if value >= size:
            return f"{write_count(round(value / size, 1))} {unit}"
    return f"{write_count(round(value * 1000, 1))} ms" if value else "0 s"


def write_bytes(value: float) -> str:
    """Write a size: 12 B, 3.5 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < _KIBIBYTE:
            return f"{write_count(round(value, 1))} {unit}"
        value /= _KIBIBYTE
    return f"{write_count(round(value, 1))} TiB"


_WRITERS: Mapping[str, Writer] = {
    "short": write_count,
    "s": write_seconds,
    "bytes": write_bytes,
    "ops": lambda value: f"{write_count(value)}/s",
    "percentunit": lambda value: f"{write_count(100 * value)} %",
}
"""By Grafana's name for the unit."""
