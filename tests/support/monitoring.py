"""The rules of Prometheus, their tests, and the dashboards of Grafana."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser
import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus/prometheus.yml"
ALERTMANAGER = ROOT / "deploy/alertmanager/alertmanager.yml"
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
ALERT_TESTS = sorted((ROOT / "tests/alerts").glob("*.yml"))
DASHBOARDS = [ROOT / f"deploy/grafana/{name}.json" for name in ("product", "operation")]

# Values of Grafana's $__rate_interval: at least four scrapes.
RATE_INTERVAL = "$__rate_interval"
COMPARISONS = {">", "<", ">=", "<=", "==", "!="}
SETS = {"and", "or", "unless"}


class PromQuery(NamedTuple):
    """A PromQL expression, and its place: a rule or a panel."""

    where: str
    expression: str


def rules() -> list[dict[str, Any]]:
    """Return every rule of every file, recording rules and alerts."""
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Return every alerting rule. Two rules of different severity can have the same name."""
    return [rule for rule in rules() if "alert" in rule]


def panels(dashboard: Path) -> list[dict[str, Any]]:
    """Return the panels of a dashboard."""
    found: list[dict[str, Any]] = json.loads(dashboard.read_text())["panels"]
    return found


def panel_queries(rate_interval: str) -> Iterator[PromQuery]:
    """Yield every query of every panel, as Grafana sends it to Prometheus with this rate interval."""
    for dashboard in DASHBOARDS:
        for panel in panels(dashboard):
            for target in panel["targets"]:
                expression = target["expr"].replace(RATE_INTERVAL, rate_interval)
                yield PromQuery(f"{dashboard.stem}: {panel['title']}", expression)


def rule_queries() -> Iterator[PromQuery]:
    """Yield every rule's expression."""
    for rule in rules():
        yield PromQuery(rule.get("alert") or rule["record"], rule["expr"])


def measured(expression: str) -> Iterator[str]:
    """Yield the parts of an expression that always have a value: both sides of its comparisons.

    An alert that does not fire has no value. The series that it compares must exist all the same: otherwise
    it does not fire because it reads series that do not exist.
    """
    yield from _measured(promql_parser.parse(expression))


def _measured(node: promql_parser.Expr) -> Iterator[str]:
    if isinstance(node, promql_parser.ParenExpr):
        yield from _measured(node.expr)
    elif isinstance(node, promql_parser.BinaryExpr) and str(node.op) in COMPARISONS | SETS:
        yield from _measured(node.lhs)
        yield from _measured(node.rhs)
    elif not isinstance(node, promql_parser.NumberLiteral):
        yield str(node)


def names_in(expression: str) -> set[str]:
    """Return the names of the metrics in an expression."""
    return set(_names(promql_parser.parse(expression)))


def _names(node: object) -> Iterator[str]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name or ""
        return
    for attribute in ("expr", "lhs", "rhs", "vs", "vector_selector"):
        if (inner := getattr(node, attribute, None)) is not None:
            yield from _names(inner)
    for argument in getattr(node, "args", ()):
        yield from _names(argument)
