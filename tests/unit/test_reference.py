"""The reference pages show everything there is, and every row says what it means."""

import json
import re

import jsonschema
import pytest
from pydantic import AliasChoices

from clip_shared.bus.delivery.dead_letters import dead_letter_of
from clip_shared.contracts.events import EVENT_TYPES, EventData
from clip_shared.contracts.schemas import schema_of
from clip_shared.contracts.topics import TOPICS
from tests.reference.__main__ import FOLDER, PAGES
from tests.reference.commands import every_command
from tests.reference.event_examples import EXAMPLES
from tests.reference.events import NOTES
from tests.reference.settings import SERVICES
from tests.support.deployment import ROOT
from tests.support.records import consumed

MIB = 1024 * 1024


def text_of(name: str) -> str:
    return (ROOT / FOLDER / name).read_text()


@pytest.mark.parametrize("name", PAGES)
def test_every_row_says_what_it_means(name: str) -> None:
    rows = re.findall(r"^\| `.*$", text_of(name), re.MULTILINE)
    assert len(rows) > 5
    assert [row for row in rows if re.search(r"\|\s*\|$", row)] == []


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_of_a_service_is_shown(service: str) -> None:
    shown = set(re.findall(r"`([A-Z_]+)`", text_of("settings.md")))
    for name, field in SERVICES[service].model_fields.items():
        alias = field.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [name]
        assert {str(each).upper() for each in names} <= shown


def test_every_topic_type_and_command_is_shown() -> None:
    assert {each.name for each in TOPICS} <= set(
        re.findall(r"^\| `([^`]+)`", text_of("events.md"), re.MULTILINE)
    )
    headings = re.findall(r"^##+ (.+)$", text_of("events.md") + text_of("commands.md"), re.MULTILINE)
    assert {*every_command(), *(each.TYPE for each in EVENT_TYPES)} <= set(headings)


@pytest.mark.parametrize("service", ["clip-gateway", "clip-registry"])
def test_every_call_is_shown(service: str) -> None:
    paths = json.loads(text_of(f"openapi/{service}.json"))["paths"]
    calls = {f"`{method.upper()} {path}`" for path, methods in paths.items() for method in methods}
    assert {call for call in calls if call not in text_of("http.md")} == set()


@pytest.mark.parametrize("data_type", EVENT_TYPES, ids=lambda each: each.TYPE)
def test_every_event_has_an_example_that_its_schema_allows(data_type: type[EventData]) -> None:
    example = json.loads(EXAMPLES[data_type].model_dump_json())
    jsonschema.Draft202012Validator(schema_of(data_type)).validate(example)


def test_the_headers_of_dead_letters_are_those_of_the_code() -> None:
    whole = consumed("clip-created", key=b"k" * MIB, value=b"v" * 2 * MIB)
    headers = dead_letter_of(whole, ValueError("no"), "clip-registry", 1).headers
    assert {name for name, _ in headers} == set(NOTES)
