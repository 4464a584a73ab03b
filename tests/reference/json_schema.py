"""JSON Schemas in words."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.reference.markdown import code, codes

Schema = Mapping[str, Any]
Definitions = Mapping[str, Schema]
_FORMATS = {"uuid": "UUID", "date-time": "time (RFC 3339)", "uri": "URL"}
_WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}


@dataclass(frozen=True)
class Field:
    """A field of a model, nested ones by their path."""

    path: str
    type: str
    is_required: bool
    meaning: str


def name_of(schema: Schema) -> str:
    """Return the name of the definition that a schema refers to, or an empty text."""
    reference: str = schema.get("$ref", "")
    return reference.rpartition("/")[2]


def type_of(schema: Schema, definitions: Definitions, link: Callable[[str], str] = code) -> str:
    """Return the type of a value in words. ``link`` formats the name of a model."""
    values = definitions.get(name_of(schema), schema).get("enum")
    if values:
        return codes(values)
    if name := name_of(schema):
        return link(name)
    if "anyOf" in schema:
        return " or ".join(type_of(each, definitions, link) for each in schema["anyOf"])
    for words, key in (("list of", "items"), ("map of", "additionalProperties")):
        if isinstance(schema.get(key), Mapping):
            return f"{words} {type_of(schema[key], definitions, link)}"
    return _simple(schema, schema.get("type", "anything"))


def _simple(schema: Schema, kind: str) -> str:
    word = _FORMATS.get(schema.get("format", ""), _WORDS.get(kind, kind))
    bounds = ", ".join(_bounds(schema))
    return f"{word} ({bounds})" if bounds else word


def _bounds(schema: Schema) -> Iterator[str]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        yield f"{low:g} to {high:g}"
    elif low is not None:
        yield f"{low:g} or more"
    if "exclusiveMinimum" in schema:
        yield f"more than {schema['exclusiveMinimum']:g}"
    if "pattern" in schema and schema["pattern"].isascii() and "\\x" not in schema["pattern"]:
        yield code(schema["pattern"])
    elif "maxLength" in schema:
        yield f"at most {schema['maxLength']} characters"


def fields_of(schema: Schema, definitions: Definitions, above: str = "") -> Iterator[Field]:
    """Yield every field of a model; the fields of a nested model follow its own field."""
    for name, field in schema.get("properties", {}).items():
        is_required = name in schema.get("required", ())
        yield Field(f"{above}{name}", type_of(field, definitions, _object), is_required, with_default(field))
        if (model := _model_of(field)) and "properties" in definitions[model]:
            yield from fields_of(definitions[model], definitions, f"{above}{name}.")


def _object(_name: str) -> str:
    return "object"


def with_default(field: Schema) -> str:
    """Return the meaning of a field, and its default if it has one."""
    text: str = field.get("description", "")
    default = field.get("default")
    return text if default in (None, []) else f"{text} Default: {code(str(default).lower())}."


def _model_of(field: Schema) -> str:
    return next(filter(None, (name_of(each) for each in [field, *field.get("anyOf", ())])), "")
