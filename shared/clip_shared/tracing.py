"""Traces of OpenTelemetry: the way of a highlight, a request or a tick through all services.

Off unless :func:`recorded_by` is entered: then every function here does next to nothing.
:mod:`clip_shared.trace_export` has the part that records spans and sends them; this module needs no more than
OpenTelemetry's API.

Spans of HTTP, PostgreSQL and S3 are made by instrumented libraries. Those of the bus are made here: an event
carries the W3C trace context of the span that it was written in, and its handler makes a child of
that span.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from aiokafka import ConsumerRecord
from fastapi.telemetry import TelemetryConfig
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NoOpTracer,
    Span,
    SpanContext,
    SpanKind,
    Tracer,
    TracerProvider,
    format_span_id,
    format_trace_id,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Headers = Iterable[tuple[str, bytes | None]]

HEADER = "traceparent"
_W3C = TraceContextTextMapPropagator()


@dataclass
class _Recorder:
    provider: TracerProvider | None = None
    tracer: Tracer = NoOpTracer()  # noqa: RUF009 - it has no state


_recorder = _Recorder()


@contextmanager
def recorded_by(provider: TracerProvider) -> Iterator[None]:
    """Have ``provider`` make all spans of this process for as long as the context lasts."""
    _recorder.provider, _recorder.tracer = provider, provider.get_tracer("clips")
    try:
        yield
    finally:
        _recorder.provider, _recorder.tracer = None, NoOpTracer()


def is_on() -> bool:
    """Whether spans are recorded."""
    return _recorder.provider is not None


def of_api(*, exclude: str | None = None) -> TelemetryConfig:
    """Return what FastAPI's ``telemetry`` is for an API: a span for each request, and nothing else.

    Paths that begin with ``exclude`` get none.
    """
    return {
        **NOT_TRACED,
        "tracing": is_on(),
        "tracer_provider": _recorder.provider,
        "exclude": None if exclude is None else lambda scope: scope["path"].startswith(exclude),
    }


NOT_TRACED: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
"""FastAPI's ``telemetry`` of an application whose requests do no work for a user: metrics and health."""


@contextmanager
def span(name: str) -> Iterator[None]:
    """Measure a part of the work at hand. An exception is no error of the span: it may be an outcome."""
    with _recorder.tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False):
        yield


def describe(**attributes: str) -> None:
    """Say more of the work at hand: these are searched for."""
    get_current_span().set_attributes(attributes)


@contextmanager
def processing(records: Sequence[ConsumerRecord], group: str) -> Iterator[None]:
    """Trace the handling of a message, or of several together. An exception is an error of the span.

    The span of a message belongs to the trace of the message. The span of several begins a trace of its own,
    with links to theirs: see :func:`share_of`.
    """
    if not is_on():
        yield
        return
    causes = [_cause_of(each.headers) for each in records]
    is_batch = len(records) > 1
    links = [Link(each) for each in map(_span_context, causes) if each.is_valid] if is_batch else []
    with _recorder.tracer.start_as_current_span(
        f"process {records[0].topic}",
        Context() if is_batch else causes[0],
        SpanKind.CONSUMER,
        attributes={
            **_of_kafka("process", records[0].topic),
            "messaging.consumer.group.name": group,
            "messaging.destination.partition.id": str(records[0].partition),
            "messaging.kafka.offset": records[0].offset,
            "messaging.batch.message_count": len(records),
        },
        links=links,
    ):
        yield


def share_of(topic: str, traceparent: str | None, **attributes: str) -> Span:
    """Start the span of one message that is handled together with others, in the trace of that message.

    It is linked to the span of the batch. End it when the batch has been handled.
    """
    if not is_on():
        return INVALID_SPAN
    return _recorder.tracer.start_span(
        f"process {topic}",
        _context_of(traceparent),
        SpanKind.CONSUMER,
        attributes={**_of_kafka("process", topic), **attributes},
        links=[Link(get_current_span().get_span_context())],
    )


def sending(topic: str, headers: Headers) -> Span:
    """Start the span of handing a message to the bus. End it when the bus has answered.

    Its parent is the work at hand; where there is none, the work in which the message was written.
    """
    if not is_on():
        return INVALID_SPAN
    at_work = get_current_span().get_span_context().is_valid
    return _recorder.tracer.start_span(
        f"send {topic}",
        None if at_work else _cause_of(headers),
        SpanKind.PRODUCER,
        attributes=_of_kafka("send", topic),
    )


def traceparent(of: Span | None = None) -> str | None:
    """Return the W3C trace context of a span, or of the work at hand; None: it is not traced."""
    context = (of or get_current_span()).get_span_context()
    if not context.is_valid:
        return None
    ids = f"{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}"
    return f"00-{ids}-{context.trace_flags:02x}"


def ids() -> dict[str, str]:
    """Return ``trace_id`` and ``span_id`` of the work at hand; empty: it is not traced."""
    context = get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}


def exemplar() -> dict[str, str] | None:
    """Return the exemplar of an observation: the trace of the work at hand, if it is recorded."""
    context = get_current_span().get_span_context()
    is_recorded = context.is_valid and context.trace_flags.sampled
    return {"trace_id": format_trace_id(context.trace_id)} if is_recorded else None


def _cause_of(headers: Headers) -> Context:
    """Return the context that a message was written in; an empty one: it does not say."""
    for name, value in headers:
        if name.lower() == HEADER and value:
            return _context_of(value.decode(errors="replace"))
    return Context()


def _context_of(value: str | None) -> Context:
    return _W3C.extract({HEADER: value} if value else {}, Context())


def _span_context(context: Context) -> SpanContext:
    return get_current_span(context).get_span_context()


def _of_kafka(operation: str, topic: str) -> dict[str, str | int]:
    """Return OpenTelemetry's attributes for messaging."""
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
    }
