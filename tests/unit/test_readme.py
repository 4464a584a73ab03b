"""What the README says of settings, topics and commands is what the code does."""

import importlib
import re
from pathlib import Path

import pytest

from clip_shared.events import EVENT_TYPES
from clip_shared.topics import TOPICS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("service", ["clip_cutter", "clip_registry", "clip_gateway", "janitor"])
def test_every_setting_stands_in_it_as_it_is(service: str) -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*) \|$", README, re.MULTILINE)
    for name, field in importlib.import_module(f"{service}.settings").Settings.model_fields.items():
        shown = [text for variable, text in rows if variable == name.upper()]
        assert shown, f"{name.upper()} is missing"
        if not name.startswith(
            "free_storage"
        ):  # described once; some services require what is optional there
            assert any(str(field.description) in text for text in shown), name
        if isinstance(field.default, int | float | str):
            assert any(f"`{str(field.default).lower()}`" in text.lower() for text in shown), name


def test_every_topic_and_event_type_stands_in_it() -> None:
    expected = {topic.name for topic in TOPICS if not topic.name.endswith(".dlq")}
    expected |= {each.TYPE for each in EVENT_TYPES}
    assert {name for name in expected if f"`{name}`" not in README} == set()


def test_every_command_of_it_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake (?:-s )?([a-z-]+)", README)) <= targets


def test_every_link_of_it_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
