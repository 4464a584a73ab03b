"""Record spans and send them to a collector. Imported only where tracing is on: it loads the SDK."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import entry_points
from socket import gethostname
from threading import Thread

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import (
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from clip_shared.tracing import recorded_by

# The libraries that are instrumented where a service has them, by the names of their entry points. A service
# depends on the instrumentations of its own.
INSTRUMENTED = frozenset({"aiohttp-client", "asyncpg", "botocore", "httpx"})
# Left alone, they name attributes of HTTP and databases as before the conventions were stable.
ATTRIBUTES = ("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
# A collector that is away must not hold up the end of a service.
CLOSE_SECONDS = 3.0


@contextmanager
def exporting(service: str, endpoint: str, *, share: float) -> Iterator[None]:
    """Send spans to a collector for as long as the context lasts, and what is left of them at its end.

    Args:
        service: its name in the traces.
        endpoint: the base URL of a collector that speaks OTLP over HTTP.
        share: how much of what begins here is recorded, from 0 to 1. Callers decide about their own.
    """
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider = provider_of(service, share=share)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        with recorded_by(provider), instrumented(provider):
            yield
    finally:
        closing = Thread(target=provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def provider_of(service: str, *, share: float = 1) -> TracerProvider:
    """Return what makes the spans of a service. It sends them nowhere."""
    resource = Resource.create(
        {"service.namespace": "clips", "service.name": service, "host.name": gethostname()}
    )
    return TracerProvider(ParentBased(WorkOnly(share)), resource, shutdown_on_exit=False)


@contextmanager
def instrumented(provider: TracerProvider) -> Iterator[None]:
    """Have the libraries that are installed make spans for as long as the context lasts."""
    os.environ.setdefault(*ATTRIBUTES)
    with ExitStack() as stack:
        for each in entry_points(group="opentelemetry_instrumentor"):
            if each.name in INSTRUMENTED:
                instrumentor = each.load()()
                instrumentor.instrument(tracer_provider=provider, meter_provider=NoOpMeterProvider())
                stack.callback(instrumentor.uninstrument)
        yield


class WorkOnly(Sampler):
    """Records a share of the requests and messages that come in, and nothing that no work asked for.

    Timers and polling ask the servers all day long, and each of their questions would be a trace.
    """

    def __init__(self, share: float) -> None:
        self._of_work = TraceIdRatioBased(share)

    def should_sample(  # noqa: PLR0917 - the signature of its base
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide about a span without a parent."""
        if kind not in {SpanKind.SERVER, SpanKind.CONSUMER}:
            return SamplingResult(Decision.DROP)
        return self._of_work.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        """Say what it does, for people."""
        return f"WorkOnly{{{self._of_work.get_description()}}}"
