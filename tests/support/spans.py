"""The spans that the code under test records in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from clip_shared.trace_export import instrumented, provider_of
from clip_shared.tracing import recorded_by

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
# The traceparent header of a request or message that its sender traces.
CAUSE = f"00-{TRACE}-{SPAN}-01"


class TracedMessage:
    """The parts of a Kafka record that tracing reads."""

    partition, offset = 3, 17

    def __init__(self, topic: str, traceparent: bytes | None = None) -> None:
        self.topic = topic
        self.headers = [("X", None), ("TraceParent", traceparent)]


@dataclass(frozen=True)
class Spans:
    """The recorded spans, in the order of their end."""

    exporter: InMemorySpanExporter

    def all(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def names(self) -> list[str]:
        return [each.name for each in self.all()]

    def named(self, name: str) -> list[ReadableSpan]:
        return [each for each in self.all() if each.name == name]

    def one(self, name: str) -> ReadableSpan:
        [found] = self.named(name)
        return found


@contextmanager
def recorded(*, share: float = 1) -> Iterator[Spans]:
    """Record the spans of this process in memory, with its libraries instrumented."""
    spans = Spans(InMemorySpanExporter())
    provider = provider_of("test", share=share)
    provider.add_span_processor(SimpleSpanProcessor(spans.exporter))
    with recorded_by(provider), instrumented(provider):
        yield spans


def _context(span: ReadableSpan) -> SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context


def trace_of(span: ReadableSpan) -> str:
    """Return the id of the span's trace, in hexadecimal."""
    return f"{_context(span).trace_id:032x}"


def parent_of(span: ReadableSpan) -> str | None:
    """Return the id of the span's parent, in hexadecimal."""
    return f"{span.parent.span_id:016x}" if span.parent else None


def id_of(span: ReadableSpan) -> str:
    """Return the span's id, in hexadecimal."""
    return f"{_context(span).span_id:016x}"


def linked_by(span: ReadableSpan) -> set[str]:
    """Return the ids of the spans that the span links to."""
    return {f"{each.context.span_id:016x}" for each in span.links}
