"""What logs and traces say about the event that a handler works on."""

from contextlib import AbstractContextManager, ExitStack
from typing import Any

import structlog
from opentelemetry.trace import Span

from clip_shared import tracing
from clip_shared.contracts.events import Data, Event


def bound_to_logs(event: Event[Any]) -> AbstractContextManager[Any]:
    """Return a context in which each log line names the event."""
    fields = _names_of(event) | {"topic": event.data.TOPIC}
    if event.traceparent:
        fields["trace_id"] = event.traceparent.split("-")[1]
    return structlog.contextvars.bound_contextvars(**fields)


def in_current_span(event: Event[Data]) -> Event[Data]:
    """Name an event in the current span, and return the event with that span as its cause."""
    tracing.describe(**_names_of(event))
    return _caused_by(event, tracing.traceparent())


def in_own_span(event: Event[Data], spans: ExitStack) -> Event[Data]:
    """Give an event of a batch a span in its own trace, until ``spans`` are closed; return it likewise."""
    span: Span = tracing.share_of(event.data.TOPIC, event.traceparent, **_names_of(event))
    spans.callback(span.end)
    return _caused_by(event, tracing.traceparent(span))


def _caused_by(event: Event[Data], traceparent: str | None) -> Event[Data]:
    """Return the event as its handler sees it: events that follow from it name this span as their cause."""
    return event if traceparent is None else event.model_copy(update={"traceparent": traceparent})


def _names_of(event: Event[Any]) -> dict[str, str]:
    names = {"event_id": event.id}
    for name in ("clip_id", "stream_highlight_id"):
        if (value := getattr(event.data, name, None)) is not None:
            names[name] = str(value)
    return names
