"""Every alert has a runbook, every runbook has an alert, and all runbooks have the same four parts."""

import re
from typing import Any

import pytest
import yaml
from tests.support.deployment import ROOT
from tests.support.pages import DOCS, blocks

RUNBOOKS = DOCS / "runbooks"
PAGES = sorted(each for each in RUNBOOKS.glob("*.md") if each.name != "README.md")
PARTS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]


def alerts() -> list[dict[str, Any]]:
    files = (ROOT / "deploy" / "prometheus" / "rules").glob("*.yml")
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_alerts_and_runbooks_are_the_same_list() -> None:
    assert {rule["alert"] for rule in alerts()} == {page.stem for page in PAGES}


def test_every_alert_links_to_its_runbook() -> None:
    for rule in alerts():
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"


def test_the_overview_names_every_runbook_and_how_urgent_it_is() -> None:
    overview = (RUNBOOKS / "README.md").read_text()
    rows = re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| ([\w, ]+) \|", overview, re.MULTILINE)
    severities: dict[str, set[str]] = {page.stem: set() for page in PAGES}
    for rule in alerts():
        severities[rule["alert"]].add(rule["labels"]["severity"])
    assert {name: set(urgency.split(", ")) for name, urgency in rows} == severities


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_runbook_has_its_four_parts(page: Any) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == PARTS
    diagnosis, _, mitigation = text.partition("## Diagnosis")[2].partition("## Mitigation")
    assert "```sh" in diagnosis or "```promql" in diagnosis
    assert mitigation.strip()
    assert all(each.strip() for each in blocks(page))
