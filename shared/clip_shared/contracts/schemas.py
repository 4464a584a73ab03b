"""JSON Schemas and an AsyncAPI 3 document, generated from the models and the topics, checked in."""

import json
from pathlib import Path
from typing import Any

from clip_shared.contracts.events import EVENT_TYPES, EventData
from clip_shared.contracts.topics import TOPICS, Topic, types_of

ENVELOPE_HEADERS = {
    "ce_specversion": "CloudEvents version: 1.0.",
    "ce_id": "The event's id, unique for its source; without it, the record's place and time give the id.",
    "ce_type": "The event's type.",
    "ce_source": "The producer.",
    "ce_time": "When the event happened, RFC 3339.",
    "content-type": "application/json.",
    "traceparent": "W3C trace context of the cause.",
}


def render() -> dict[str, str]:
    """Return every generated document, by file name."""
    documents = {f"{each.TYPE}.json": schema_of(each) for each in EVENT_TYPES}
    documents["asyncapi.json"] = asyncapi()
    return {
        name: json.dumps(document, indent=2, sort_keys=True) + "\n" for name, document in documents.items()
    }


def schema_of(data_type: type[EventData]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the data of an event type."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{data_type.TYPE}.json",
        **data_type.model_json_schema(mode="validation"),
        "title": data_type.TYPE,
    }


def asyncapi() -> dict[str, Any]:
    """The whole bus as one AsyncAPI 3.0 document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Clips",
            "version": "1.0.0",
            "description": "The events of Clips: CloudEvents 1.0 in Kafka's binary mode, data as JSON.",
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in TOPICS if types_of(topic.name)},
        "components": {"messages": {each.TYPE: _message(each) for each in EVENT_TYPES}},
    }


def _channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.name,
        "description": topic.description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in types_of(topic.name)},
        "bindings": {
            "kafka": {
                "partitions": topic.partitions,
                "topicConfiguration": {"retention.ms": topic.retention_days * 24 * 60 * 60 * 1000},
            }
        },
    }


def _message(data_type: type[EventData]) -> dict[str, Any]:
    return {
        "name": data_type.TYPE,
        "summary": (data_type.__doc__ or "").strip(),
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": {
                name: {"type": "string", "description": text} for name, text in ENVELOPE_HEADERS.items()
            },
        },
        "payload": {"$ref": f"./{data_type.TYPE}.json"},
    }


def write(folder: Path) -> list[Path]:
    """Write every document into a folder and remove what is no longer generated. Returns what changed."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = render()
    changed = []
    for stale in [path for path in folder.glob("*.json") if path.name not in documents]:
        stale.unlink()
        changed.append(stale)
    for name, text in documents.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            changed.append(path)
    return changed


def incompatibilities(published: Any, generated: Any, place: str = "") -> list[str]:
    """What in a generated schema would break a reader or a writer of the published one.

    Allowed: new optional properties, new definitions, new words. Everything else needs a new version of
    the event's type.
    """
    if isinstance(published, dict) and isinstance(generated, dict):
        return [
            problem
            for name in sorted(
                (published.keys() | generated.keys()) - (set() if place.endswith(GROWING) else WORDS)
            )
            for problem in _compare_member(name, published, generated, place)
        ]
    same = (
        sorted(map(str, published)) == sorted(map(str, generated))
        if _are_lists(published, generated)
        else (published == generated)
    )
    return [] if same else [f"{place or 'schema'}: {published!r} became {generated!r}"]


WORDS = {"title", "description", "default", "$id", "$schema"}
GROWING = ("properties", "$defs")


def _are_lists(*values: object) -> bool:
    return all(isinstance(value, list) for value in values)


def _compare_member(name: str, published: dict[str, Any], generated: dict[str, Any], place: str) -> list[str]:
    here = f"{place}.{name}".lstrip(".")
    if name not in generated:
        return [f"{here} is gone"]
    if name not in published:
        return [] if place.endswith(GROWING) or name in GROWING else [f"{here} is new"]
    return incompatibilities(published[name], generated[name], here)


def breaking_changes(folder: Path) -> list[str]:
    """Changes of the models that would break the documents published in a folder."""
    return [
        f"{each.TYPE}: {problem}"
        for each in EVENT_TYPES
        if (path := folder / f"{each.TYPE}.json").exists()
        for problem in incompatibilities(json.loads(path.read_text()), schema_of(each))
    ]


def drifted(folder: Path) -> list[str]:
    """The names of documents in a folder that are not what the code would generate."""
    documents = render()
    found = {path.name: path.read_text() for path in folder.glob("*.json")}
    return sorted(name for name in documents.keys() | found.keys() if documents.get(name) != found.get(name))
