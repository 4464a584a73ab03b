"""Traces: what is recorded, what is not, and where a trace is named."""

from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from prometheus_client import Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families
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

from clip_shared import tracing
from clip_shared.bus.envelope import to_record
from clip_shared.contracts.events import DailyTick, Event
from clip_shared.http.api import create_api
from clip_shared.http.operations import create_app, metrics_registry

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


@pytest.fixture
def spans() -> Iterator[Spans]:
    with recorded() as spans:
        yield spans


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def an_api() -> FastAPI:
    api = create_api("test")

    @api.get("/clips/{clip_id}")
    async def clip(clip_id: str) -> str:
        return tracing.traceparent() or f"{clip_id} is not traced"

    return api


def headers_of(event: Event[DailyTick]) -> dict[str, str]:
    return {name: value.decode() for name, value in to_record(event).headers}


async def test_a_request_is_a_span_of_its_callers_trace(spans: Spans) -> None:
    async with client_of(an_api()) as client:
        answer = await client.get("/clips/1", headers={"traceparent": CAUSE})
    span = spans.one("GET /clips/{clip_id}")
    assert (trace_of(span), parent_of(span)) == (TRACE, SPAN)
    assert answer.json() == f"00-{TRACE}-{id_of(span)}-01"
    assert spans.names() == [span.name]  # and not one for each step of FastAPI


async def test_nothing_is_recorded_unless_it_is_turned_on() -> None:
    async with client_of(an_api()) as client:
        answer = await client.get("/clips/1", headers={"traceparent": CAUSE})
    assert answer.json() == "1 is not traced"
    with tracing.span("work"):
        assert not get_current_span().get_span_context().is_valid
        assert tracing.exemplar() is None
    assert "traceparent" not in headers_of(Event.new(DailyTick(), source="test"))


async def test_what_is_turned_off_again_is_off(spans: Spans) -> None:
    with recorded() as inner, tracing.processing([TracedMessage("highlight-detected")], "group"):
        pass
    assert inner.names() == ["process highlight-detected"]
    assert spans.names() == []
    assert not tracing.is_on()


async def test_metrics_and_health_are_not_traced(spans: Spans) -> None:
    app = create_app("test", registry=metrics_registry(), checks={})
    async with client_of(app) as client:
        for path in ("/metrics", "/healthz/live", "/healthz/ready"):
            assert (await client.get(path, headers={"traceparent": CAUSE})).status_code == 200
    assert spans.names() == []


async def test_what_no_work_asked_for_is_not_recorded(spans: Spans) -> None:
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport()) as client:
        with tracing.span("a timer"), pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:1/")
        assert spans.names() == []
        with tracing.processing([TracedMessage("daily-tick")], "group"), pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:1/")
    assert spans.names() == ["GET", "process daily-tick"]
    assert spans.one("GET").kind is SpanKind.CLIENT


@pytest.mark.parametrize(("flags", "expected"), [("01", 1), ("00", 0)])
async def test_who_asks_decides_whether_its_trace_is_recorded(flags: str, expected: int) -> None:
    with recorded(share=0) as spans:
        async with client_of(an_api()) as client:
            await client.get("/clips/1")
            await client.get("/clips/1", headers={"traceparent": f"00-{TRACE}-{SPAN}-{flags}"})
    assert [trace_of(each) for each in spans.all()] == [TRACE] * expected


def test_a_message_is_handled_in_its_own_trace(spans: Spans) -> None:
    with tracing.processing([TracedMessage("highlight-detected", CAUSE.encode())], "clip-cutter.highlights"):
        with tracing.span("cut"):
            pass
        cause = headers_of(Event.new(DailyTick(), source="test"))["traceparent"]
    span = spans.one("process highlight-detected")
    assert (trace_of(span), parent_of(span), span.kind) == (TRACE, SPAN, SpanKind.CONSUMER)
    assert parent_of(spans.one("cut")) == id_of(span)
    assert cause == f"00-{TRACE}-{id_of(span)}-01"
    assert dict(span.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "highlight-detected",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 17,
        "messaging.consumer.group.name": "clip-cutter.highlights",
        "messaging.batch.message_count": 1,
    }


@pytest.mark.parametrize("header", [None, b"", b"nonsense", b"\xff\xfe", f"00-{'0' * 32}-{SPAN}-01".encode()])
def test_a_message_with_no_trace_or_a_broken_one_begins_one(spans: Spans, header: bytes | None) -> None:
    with tracing.processing([TracedMessage("highlight-detected", header)], "group"):
        pass
    span = spans.one("process highlight-detected")
    assert span.parent is None
    assert trace_of(span) != "0" * 32


def test_messages_that_are_handled_together_stay_in_their_traces(spans: Spans) -> None:
    messages = [TracedMessage("clip-created", CAUSE.encode()), TracedMessage("clip-created")]
    with tracing.processing(messages, "group"):
        shares = [
            tracing.share_of("clip-created", CAUSE, clip_id="1"),
            tracing.share_of("clip-created", None),
        ]
        for each in shares:
            each.end()
    first, second, batch = spans.named("process clip-created")
    assert (trace_of(first), parent_of(first)) == (TRACE, SPAN)
    assert (first.attributes or {})["clip_id"] == "1"
    assert len({trace_of(first), trace_of(second), trace_of(batch)}) == 3
    assert batch.parent is None
    assert linked_by(batch) == {SPAN}
    assert linked_by(first) == linked_by(second) == {id_of(batch)}


def test_a_failure_is_an_error_of_the_attempt_and_not_of_its_parts(spans: Spans) -> None:
    with (
        pytest.raises(ValueError, match="broken"),
        tracing.processing([TracedMessage("highlight-detected")], "group"),
        tracing.span("cut"),
    ):
        raise ValueError("broken")
    attempt, part = spans.one("process highlight-detected"), spans.one("cut")
    assert attempt.status.status_code is StatusCode.ERROR
    assert [each.name for each in attempt.events] == ["exception"]
    assert part.status.status_code is StatusCode.UNSET


def test_an_event_names_its_own_cause_before_the_work_at_hand(spans: Spans) -> None:
    with tracing.processing([TracedMessage("daily-tick")], "group"):
        event = Event.new(DailyTick(), source="test", traceparent=CAUSE)
        assert headers_of(event)["traceparent"] == CAUSE
    assert trace_of(spans.one("process daily-tick")) != TRACE


def test_what_is_sent_later_belongs_to_the_work_that_wrote_it(spans: Spans) -> None:
    tracing.sending("clip-lifecycle", [("traceparent", CAUSE.encode())]).end()
    span = spans.one("send clip-lifecycle")
    assert (trace_of(span), parent_of(span), span.kind) == (TRACE, SPAN, SpanKind.PRODUCER)


async def test_an_exemplar_names_the_trace_in_openmetrics(spans: Spans) -> None:
    registry = metrics_registry()
    seconds = Histogram("clips_work_seconds", "Seconds of work.", registry=registry)
    with tracing.processing([TracedMessage("daily-tick", CAUSE.encode())], "group"):
        seconds.observe(0.2, tracing.exemplar())
    seconds.observe(7, tracing.exemplar())
    async with client_of(create_app("test", registry=registry, checks={})) as client:
        plain = await client.get("/metrics")
        asked = await client.get("/metrics", headers=OPENMETRICS)
    assert plain.headers["content-type"].startswith("text/plain")
    assert TRACE not in plain.text
    assert asked.headers["content-type"].startswith("application/openmetrics-text")
    samples = [
        sample
        for family in text_string_to_metric_families(asked.text)  # type: ignore[no-untyped-call]
        if family.name == "clips_work_seconds"
        for sample in family.samples
        if sample.exemplar
    ]
    assert [each.exemplar.labels for each in samples if each.exemplar] == [{"trace_id": TRACE}]
    assert len(spans.all()) == 1
