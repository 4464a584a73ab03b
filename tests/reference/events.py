"""``docs/reference/events.md``: topics, envelope, every type of event, and dead letters."""

import json
from collections.abc import Mapping

from clip_shared.bus.envelope import to_record
from clip_shared.contracts.access import ACCESS
from clip_shared.contracts.events import EVENT_TYPES, EventData
from clip_shared.contracts.schemas import ENVELOPE_HEADERS, schema_of
from clip_shared.contracts.topics import DLQ_SUFFIX, TOPICS, Topic, types_of
from tests.reference.event_examples import EXAMPLES, highlight_event
from tests.reference.json_schema import fields_of
from tests.reference.markdown import code, codes, document, fence, prose, table

ABOUT = """\
CloudEvents 1.0 in Kafka's binary mode: attributes in headers, data as JSON. The same as JSON Schemas and an
AsyncAPI 3 document: [shared/schemas](../../shared/schemas). Programs that send and follow events:
[integrating](../integrating.md).

- **At least once.** An event can arrive more than once, with the same id.
- **In order per key.** Events with the same key are in one partition. Events of `clip-lifecycle` have a
  `version`: drop an event whose version is not higher than the last one of its clip.
- **A published type only gets new optional fields.** Ignore fields that you do not know. `make schemas`
  refuses any other change."""
ENVELOPE = """\
In an event that you send, only the data is required: values of missing headers are taken from the record
([why](../decisions/0024-identity-and-replays.md)). Events of Clips have all headers; `traceparent` only
when the event is part of a trace."""
LOG_APPEND = """\
The times on `highlight-detected`, `highlight-encodings` and `*.dlq` are the broker's (`LogAppendTime`). With
three replicas or more, a write needs two in sync. `clip-shared topics create` makes all topics
([commands](commands.md#clip-shared-topics-create))."""
DEAD_LETTERS = """\
A message that cannot be handled is sent to `<topic>.dlq` unchanged, with these headers added
([what is dead-lettered](../architecture.md#when-work-fails)). `clip-shared dlq` lists, shows, replays and
discards dead letters ([commands](commands.md#clip-shared-dlq-list))."""
NOTES: Mapping[str, str] = {
    "dlq_topic": "The topic of the message.",
    "dlq_partition": "The partition of the message in its topic.",
    "dlq_offset": "The offset of the message in its topic.",
    "dlq_timestamp_ms": "The timestamp of the message, in milliseconds since 1970.",
    "dlq_service": "The service that could not handle it.",
    "dlq_attempts": "Number of attempts of that service.",
    "dlq_error_type": "Class of the error.",
    "dlq_error": "Message of the error.",
    "dlq_truncated": "Only on a truncated value: the size of the whole value, in bytes.",
    "dlq_sha256": "Only on a truncated value: the SHA-256 of the whole value.",
    "dlq_left_out": "Only on a truncated message: the parts that were left out beside the value.",
}


def page() -> str:
    """Return the page."""
    return document(
        "Events",
        ABOUT,
        "## Envelope",
        table(("header", "meaning"), [(code(name), text) for name, text in ENVELOPE_HEADERS.items()]),
        ENVELOPE,
        "An example of a record:",
        fence(_whole_record()),
        "## Topics",
        table(
            ("topic", "types", "written by", "read by", "partitions", "retention", "carries"),
            [_topic_row(each) for each in TOPICS],
        ),
        LOG_APPEND,
        *(_type_section(each) for each in EVENT_TYPES),
        "## Dead letters",
        DEAD_LETTERS,
        table(("header", "meaning"), [(code(name), text) for name, text in NOTES.items()]),
    )


def _whole_record() -> str:
    record = to_record(highlight_event())
    lines = [f"topic: {record.topic}", f"key: {(record.key or b'').decode()}"]
    lines += [f"header {name}: {value.decode()}" for name, value in record.headers]
    return "\n".join([*lines, f"value: {record.value.decode()}"])


def _topic_row(topic: Topic) -> tuple[str, ...]:
    name = topic.name.removesuffix(DLQ_SUFFIX)
    is_dlq = name != topic.name
    writers = _users(name, "reads") if is_dlq else _users(name, "writes")
    return (
        code(topic.name),
        f"as {code(name)}" if is_dlq else codes(types_of(name)),
        ", ".join(writers) or "clip-shared",
        "clip-shared" if is_dlq else ", ".join(_users(name, "reads")) or "clip-shared",
        str(topic.partitions),
        f"{topic.retention_days} days",
        topic.description,
    )


def _users(topic: str, right: str) -> list[str]:
    return [each.user for each in ACCESS if topic in getattr(each, right)]


def _type_section(each: type[EventData]) -> str:
    schema = schema_of(each)
    fields = fields_of(schema, schema.get("$defs", {}))
    rows = [
        (code(field.path), field.type, "yes" if field.is_required else "", field.meaning) for field in fields
    ]
    key = EXAMPLES[each].key()
    example = json.loads(EXAMPLES[each].model_dump_json())
    return "\n\n".join(
        [
            f"## {each.TYPE}",
            f"{prose(each.__doc__)} On {code(each.TOPIC)}; key: {_key_field(each)}.",
            table(("field", "type", "required", "meaning"), rows),
            fence(json.dumps(example, indent=2, ensure_ascii=False), "json")
            if key is not None or example
            else "",
        ]
    )


def _key_field(each: type[EventData]) -> str:
    """Return the field that an event's key is taken from, by its example."""
    key = EXAMPLES[each].key()
    names = [name for name, value in EXAMPLES[each] if key is not None and str(value) == key]
    return code(names[0]) if names else "none"
