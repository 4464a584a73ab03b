"""A collector of traces: it receives OTLP over HTTP, and notes the service of each span."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message

from local_stack.processes.ports import LOOPBACK


@dataclass(frozen=True)
class ReceivedSpan:
    """A span that a service sent. Ids in hexadecimal; the root of a trace has an empty ``parent``."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: bool
    began: int
    ended: int


@dataclass
class Collector:
    """The collector's address, and the spans that it received."""

    url: str
    spans: list[ReceivedSpan] = field(default_factory=list)

    def trace(self, trace_id: str) -> list[ReceivedSpan]:
        """Return the received spans of a trace, in the order of their start."""
        return sorted(
            (each for each in list(self.spans) if each.trace == trace_id), key=lambda each: each.began
        )

    def tree(self, trace_id: str) -> str:
        """Return the received spans of a trace as an indented text."""
        spans = self.trace(trace_id)
        known = {each.id for each in spans}
        roots = [each for each in spans if each.parent not in known]
        return "\n".join(line for root in roots for line in _lines(root, spans, spans[0].began, 0))


def _lines(span: ReceivedSpan, spans: list[ReceivedSpan], began: int, depth: int) -> Iterator[str]:
    at, took = ((span.began - began) / 1e6, (span.ended - span.began) / 1e6)
    yield f"{at:8.1f} ms {took:8.1f} ms  {span.service:14}{'  ' * depth}{span.name}{' FAILED' * span.failed}"
    for child in spans:
        if child.parent == span.id:
            yield from _lines(child, spans, began, depth + 1)


@contextmanager
def running_collector() -> Iterator[Collector]:
    """Run a collector on a free port of this machine."""

    class CollectorHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            is_traces = self.path == "/v1/traces"
            if is_traces:
                collector.spans += _read(ExportTraceServiceRequest.FromString(body))
            self.send_response(200 if is_traces else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write no log."""

    with ThreadingHTTPServer((LOOPBACK, 0), CollectorHandler) as server:
        collector = Collector(f"http://{LOOPBACK}:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _read(request: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for resource in request.resource_spans:
        service = _attributes(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _span(service, span)


def _span(service: str, span: Message) -> ReceivedSpan:
    return ReceivedSpan(
        service=service,
        name=span.name,
        kind=Message.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        attributes=_attributes(span.attributes),
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in pairs}
