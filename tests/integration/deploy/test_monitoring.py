"""Rules, configurations and dashboards, checked by the programs that read them."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from tests.support.monitoring import ALERT_TESTS, ALERTMANAGER, DASHBOARDS, PROMETHEUS, RULES

from clips_dashboards.__main__ import render

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not on PATH: apt-get install prometheus"
)
needs_amtool = pytest.mark.skipif(
    shutil.which("amtool") is None, reason="amtool is not on PATH: apt-get install prometheus-alertmanager"
)


def run(*command: str | Path) -> str:
    """Run a program that must succeed; return its output."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_rules_and_configuration_are_valid() -> None:
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *RULES)
    assert f"{len(RULES)} rule files found" in run("promtool", "check", "config", PROMETHEUS)


@needs_promtool
@pytest.mark.parametrize("file", ALERT_TESTS, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should(file: Path) -> None:
    assert "SUCCESS" in run("promtool", "test", "rules", file)


@needs_amtool
def test_the_route_is_valid() -> None:
    assert "SUCCESS" in run("amtool", "check-config", ALERTMANAGER)


@needs_amtool
@pytest.mark.parametrize(("severity", "receiver"), [("page", "pager"), ("ticket", "tickets")])
def test_alerts_find_their_receiver(severity: str, receiver: str) -> None:
    route = ("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}")
    assert run(*route, "alertname=ClipsNoProgress", f"severity={severity}").strip() == receiver


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_grafana_knows_every_field_of_a_dashboard(file: Path) -> None:
    # The models of the SDK drop unknown fields.
    written = json.loads(file.read_text())
    read = Dashboard.from_json(written)
    assert json.loads(JSONEncoder().encode(read)) == written


def test_dashboards_are_what_the_code_makes() -> None:
    assert {file.name: file.read_text() for file in DASHBOARDS} == render()
