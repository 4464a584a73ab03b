"""The checked-in contracts are those of the code, and a breaking change is noticed."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from clip_shared.contracts import schemas
from clip_shared.contracts.events import EVENT_TYPES, HighlightDetected
from clip_shared.contracts.topics import TOPICS, types_of

PUBLISHED = Path(__file__).parents[4] / "shared" / "schemas"


def test_the_checked_in_documents_are_current() -> None:
    assert schemas.drifted(PUBLISHED) == []


def test_the_models_keep_their_published_promises() -> None:
    assert schemas.breaking_changes(PUBLISHED) == []


def test_every_event_type_has_a_topic() -> None:
    carried = {name for topic in TOPICS for name in types_of(topic.name)}
    assert carried == {each.TYPE for each in EVENT_TYPES}


def _drop_property(schema: dict[str, Any]) -> None:
    del schema["properties"]["title"]


def _add_required(schema: dict[str, Any]) -> None:
    schema["properties"]["colour"] = {"type": "string"}
    schema["required"].append("colour")


def _change_type(schema: dict[str, Any]) -> None:
    schema["properties"]["start_seconds"]["type"] = "string"


def _narrow(schema: dict[str, Any]) -> None:
    schema["properties"]["title"]["maxLength"] = 10


@pytest.mark.parametrize("change", [_drop_property, _add_required, _change_type, _narrow])
def test_a_breaking_change_is_noticed(change: Any) -> None:
    published = schemas.schema_of(HighlightDetected)
    changed = copy.deepcopy(published)
    change(changed)
    assert schemas.incompatibilities(published, changed)


def test_an_optional_addition_is_allowed() -> None:
    published = schemas.schema_of(HighlightDetected)
    changed = copy.deepcopy(published)
    changed["properties"]["colour"] = {"type": "string", "default": "blue"}
    changed["properties"]["title"]["description"] = "Other words."
    assert schemas.incompatibilities(published, changed) == []


def test_write_refuses_a_breaking_change(tmp_path: Path) -> None:
    schemas.write(tmp_path)
    path = tmp_path / "highlight.detected.v1.json"
    older = json.loads(path.read_text())
    older["properties"]["colour"] = {"type": "string"}
    path.write_text(json.dumps(older))
    assert any("colour is gone" in problem for problem in schemas.breaking_changes(tmp_path))
