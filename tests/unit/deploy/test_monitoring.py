"""Rules and dashboards are complete, and use existing names."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.monitoring import (
    ALERT_TESTS,
    DASHBOARDS,
    RULES,
    alerts,
    names_in,
    panels,
    rule_queries,
    rules,
)

SCREEN_ROWS = 27
"""Rows of Grafana's grid, 38 pixels high each, on a screen of 1080 pixels."""
COLUMNS = 24
ALERTS = alerts()
PANELS = [
    pytest.param(panel, id=f"{dashboard.stem}-{panel['title']}")
    for dashboard in DASHBOARDS
    for panel in panels(dashboard)
]


def test_alerts_say_all_that_somebody_needs_at_night() -> None:
    for alert in ALERTS:
        name = alert["alert"]
        assert alert["labels"]["severity"] in {"page", "ticket"}, name
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}, name
        assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"


def test_alerts_of_one_name_differ_in_severity() -> None:
    found = Counter((alert["alert"], alert["labels"]["severity"]) for alert in ALERTS)
    assert set(found.values()) == {1}


@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_every_alert_is_shown_to_fire_and_to_be_silent(severity: str) -> None:
    fires: set[str] = set()
    silent: set[str] = set()
    for check in _alert_checks():
        severities = {alert["exp_labels"]["severity"] for alert in check["exp_alerts"]}
        (fires if severity in severities else silent).add(check["alertname"])
    expected = {alert["alert"] for alert in ALERTS if alert["labels"]["severity"] == severity}
    assert (expected - fires, expected - silent) == (set(), set())


@pytest.mark.parametrize("file", ALERT_TESTS, ids=lambda file: file.stem)
def test_tests_of_alerts_evaluate_groups_in_the_order_of_the_files(file: Path) -> None:
    groups = [
        group["name"] for path in reversed(RULES) for group in yaml.safe_load(path.read_text())["groups"]
    ]
    assert RULES[-1].name == "recording.yml", "what is recorded comes first"
    assert yaml.safe_load(file.read_text())["group_eval_order"] == groups


def _alert_checks() -> list[dict[str, Any]]:
    cases = [case for file in ALERT_TESTS for case in yaml.safe_load(file.read_text())["tests"]]
    return [check for case in cases for check in case["alert_rule_test"]]


def test_recorded_names_that_are_asked_for_are_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = {name for query in rule_queries() for name in names_in(query.expression)}
    asked |= {
        name
        for dashboard in DASHBOARDS
        for panel in panels(dashboard)
        for target in panel["targets"]
        for name in names_in(target["expr"].replace("$__rate_interval", "1m"))
    }
    assert {name for name in asked if ":" in name} <= recorded


@pytest.mark.parametrize("panel", PANELS)
def test_panels_explain_themselves_and_lead_to_a_runbook(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    (link,) = panel["links"]
    assert link["url"] in {f"${{runbooks}}/{alert['alert']}.md" for alert in ALERTS}
    assert panel["targets"]
    assert panel["fieldConfig"]["defaults"]["unit"]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_fits_on_a_screen(dashboard: Path) -> None:
    taken: Counter[tuple[int, int]] = Counter()
    for panel in panels(dashboard):
        place = panel["gridPos"]
        taken.update(
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        )
    assert max(taken.values()) == 1, "no panel lies on another"
    assert max(x for x, _ in taken) == COLUMNS - 1
    assert max(y for _, y in taken) < SCREEN_ROWS
