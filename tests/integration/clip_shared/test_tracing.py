"""Traces across the bus, and out of a real process into a collector."""

import json
import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from clip_shared import trace_export, tracing
from clip_shared.bus.bus import Rejected
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import ClipSkipped, Event, HighlightDetected, SkipReason
from clip_shared.errors import PermanentError
from clip_shared.trace_export import exporting
from local_stack.processes.ports import LOOPBACK, Ports
from tests.integration.clip_shared.bus.buses import (
    dead_letters,
    highlight,
    new_bus,
    running,
    skip_to_end,
    until,
)
from tests.integration.clip_shared.http.test_serve import launch
from tests.support.collector import running_collector
from tests.support.spans import (
    CAUSE,
    SPAN,
    TRACE,
    Spans,
    TracedMessage,
    id_of,
    linked_by,
    parent_of,
    recorded,
    trace_of,
)

PROGRAM = """
import logging
from clip_shared.http.api import create_api
from clip_shared.http.operations import create_app, metrics_registry
from clip_shared.http.service import serve
from clip_shared.http.settings import ApiSettings

def build(_settings):
    api = create_api("test-tracing")

    @api.get("/work")
    async def work() -> None:
        logging.getLogger("a library").warning("at work")

    return create_app("test-tracing", registry=metrics_registry(), checks={}, api=api)

serve("test-tracing", ApiSettings, build)
"""


@pytest.fixture
def spans() -> Iterator[Spans]:
    with recorded() as spans:
        yield spans


@pytest.mark.usefixtures("topics")
async def test_a_trace_goes_on_through_handlers_and_what_they_publish(
    kafka_settings: KafkaSettings, spans: Spans
) -> None:
    first, second = new_bus(kafka_settings), new_bus(kafka_settings)
    trace = uuid.uuid4().hex
    handled: list[Event[ClipSkipped]] = []
    await skip_to_end(kafka_settings, first.service, HighlightDetected.TOPIC)
    await skip_to_end(kafka_settings, second.service, ClipSkipped.TOPIC)

    @first.subscriber(HighlightDetected, deadline_seconds=5)
    async def cut(event: Event[HighlightDetected]) -> None:
        if event.data.stream_highlight_id == trace:
            await first.publish(skipped(event))

    @second.subscriber(ClipSkipped, deadline_seconds=5)
    async def take(event: Event[ClipSkipped]) -> None:
        if event.data.stream_highlight_id == trace:
            handled.append(event)

    async with running(first), running(second):
        await first.publish(caused(trace))
        await until(lambda: bool(of_trace(spans, trace, "process clip-skipped")))

    [detected] = of_trace(spans, trace, "process highlight-detected")
    [sent] = of_trace(spans, trace, "send clip-skipped")
    [taken] = of_trace(spans, trace, "process clip-skipped")
    assert parent_of(detected) == SPAN
    assert parent_of(sent) == parent_of(taken) == id_of(detected)
    assert handled[0].traceparent == f"00-{trace}-{id_of(taken)}-01"
    assert (detected.attributes or {})["stream_highlight_id"] == trace
    assert (taken.attributes or {})["event_id"] == handled[0].id


@pytest.mark.usefixtures("topics")
async def test_each_attempt_is_a_span_and_the_dead_letter_is_in_the_trace(
    kafka_settings: KafkaSettings, spans: Spans
) -> None:
    bus, trace = new_bus(kafka_settings), uuid.uuid4().hex
    await skip_to_end(kafka_settings, bus.service, HighlightDetected.TOPIC)

    def attempts() -> list[ReadableSpan]:
        return of_trace(spans, trace, "process highlight-detected")

    @bus.subscriber(HighlightDetected, deadline_seconds=5)
    async def fail(event: Event[HighlightDetected]) -> None:
        if event.data.stream_highlight_id == trace:
            raise PermanentError("not allowed here") if attempts() else KeyError("surprise")

    async with running(bus):
        await bus.publish(caused(trace))
        await until(lambda: len(attempts()) == 2)

    assert [each.status.status_code for each in attempts()] == [StatusCode.ERROR] * 2
    assert {parent_of(each) for each in attempts()} == {SPAN}
    [letter] = of_trace(spans, trace, "send highlight-detected.dlq")
    assert parent_of(letter) == id_of(attempts()[1])
    [stored] = await dead_letters(kafka_settings, HighlightDetected.TOPIC, trace.encode())
    assert dict(stored.headers)["traceparent"] == cause_of(trace).encode()


@pytest.mark.usefixtures("topics")
async def test_events_of_a_batch_stay_in_their_traces(kafka_settings: KafkaSettings, spans: Spans) -> None:
    bus, key = new_bus(kafka_settings), uuid.uuid4().hex
    traces = [uuid.uuid4().hex, uuid.uuid4().hex]
    taken: list[Event[HighlightDetected]] = []
    await skip_to_end(kafka_settings, bus.service, HighlightDetected.TOPIC)
    # Under one key, and written before anybody listens: they are taken together.
    async with running(new_bus(kafka_settings)) as writer:
        for each in traces:
            await writer.publish(caused(each, key))

    @bus.batch_subscriber(HighlightDetected, deadline_seconds=5, max_records=10)
    async def take(events: list[Event[HighlightDetected]]) -> list[Rejected[HighlightDetected]]:
        taken.extend(each for each in events if each.data.stream_highlight_id == key)
        return []

    async with running(bus):
        await until(lambda: all(of_trace(spans, each, "process highlight-detected") for each in traces))

    shares = [of_trace(spans, each, "process highlight-detected")[0] for each in traces]
    assert [parent_of(each) for each in shares] == [SPAN, SPAN]
    of_shares = [f"00-{trace}-{id_of(share)}-01" for trace, share in zip(traces, shares, strict=True)]
    assert [each.traceparent for each in taken] == of_shares
    [of_batch] = linked_by(shares[0]) | linked_by(shares[1])
    await until(lambda: of_batch in map(id_of, spans.named("process highlight-detected")))
    [batch] = [each for each in spans.named("process highlight-detected") if id_of(each) == of_batch]
    assert {each.context.trace_id for each in batch.links} >= {int(each, 16) for each in traces}


def cause_of(trace: str) -> str:
    return f"00-{trace}-{SPAN}-01"


def caused(trace: str, key: str | None = None) -> Event[HighlightDetected]:
    return highlight("traced", key or trace).model_copy(update={"traceparent": cause_of(trace)})


def of_trace(spans: Spans, trace: str, name: str) -> list[ReadableSpan]:
    return [each for each in spans.named(name) if trace_of(each) == trace]


def skipped(event: Event[HighlightDetected]) -> Event[ClipSkipped]:
    data = ClipSkipped(
        stream_highlight_id=event.data.stream_highlight_id,
        twitch_account_id=event.data.twitch_account_id,
        source_vod_id=event.data.source_vod_id,
        kind=event.data.kind,
        highlight_event_id=event.id,
        highlight_detected_at=event.time,
        reason=SkipReason.TOO_SHORT,
        source_profile=event.data.source.profile,
        message="too short",
    )
    return Event.new(data, source="test", traceparent=event.traceparent)


def test_a_service_sends_what_it_has_before_it_ends_and_its_logs_name_the_trace(tmp_path: Path) -> None:
    with running_collector() as collector:
        lines = log_of_work(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
        [span] = collector.spans
    assert (span.service, span.name, span.kind) == ("test-tracing", "GET /work", "server")
    assert (span.trace, span.parent) == (TRACE, SPAN)
    [line] = [each for each in map(json.loads, lines) if each["message"] == "at work"]
    assert (line["trace_id"], line["span_id"]) == (TRACE, span.id)


def log_of_work(folder: Path, **environment: str) -> list[str]:
    """Ask a service for work, and stop it."""
    with Ports() as ports:
        http, operations = ports.claim("http"), ports.claim("operations")
        process = launch(
            folder,
            PROGRAM,
            HTTP_PORT=str(http),
            OPERATIONS_PORT=str(operations),
            SHUTDOWN_DELAY_SECONDS="0",
            **environment,
        )
        try:
            with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
                url = f"http://{LOOPBACK}:{http}/work"
                assert client.get(url, headers={"traceparent": CAUSE}, timeout=30).status_code == 200
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, output
    return list(output.splitlines())


def test_a_collector_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_export, "CLOSE_SECONDS", 0.1)
    before = set(threading.enumerate())
    with socket.create_server((LOOPBACK, 0)) as deaf:  # takes connections, and never answers
        endpoint = f"http://{LOOPBACK}:{deaf.getsockname()[1]}"
        with exporting("test", endpoint, share=1), tracing.processing([TracedMessage("daily-tick")], "group"):
            pass
        left = set(threading.enumerate()) - before
    # They are still trying, and in nobody's way: a process ends without waiting for such threads.
    assert left
    assert all(each.daemon for each in left)
