"""Every metric that the gateway itself exports."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clip_gateway.domain import Refusal, Rendition
from clip_shared import tracing
from clip_shared.contracts.registry_api import ClipAction


class GatewayMetrics:
    """The metrics, with one method for each thing that is counted or measured."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._presigns = Counter(
            "clips_presigns",
            "Presigned URLs handed out, by rendition (`view`: watch, download, poster).",
            ["view"],
            registry=registry,
        )
        self._refusals = Counter(
            "clips_refusals",
            "Requests of users that a rule refused, by reason.",
            ["reason"],
            registry=registry,
        )
        self._actions = Counter(
            "clips_owner_actions",
            "Changes that owners made to their clips, by action.",
            ["action"],
            registry=registry,
        )
        self._requests = Histogram(
            "clips_gateway_request_seconds",
            "Duration of requests to the public port, by method, route template and status.",
            ["method", "route", "status"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self._signing = Histogram(
            "clips_presign_seconds",
            "Duration of signing one presigned URL. Signing needs only CPU: more than some milliseconds"
            " mean that CPU is short.",
            buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
            registry=registry,
        )
        self._jwks_failures = Counter(
            "clips_jwks_failures",
            "Failed fetches of the sign-in service's public keys (JWKS).",
            registry=registry,
        )
        self._jwks_age = Gauge(
            "clips_jwks_age_seconds",
            "Age of the sign-in service's public keys (JWKS): time since the last successful fetch, or since"
            " the start. They are fetched every 5 minutes; after 24 hours every sign-in fails. 0 with HS256,"
            " which needs no public keys.",
            registry=registry,
        )
        # Every label value exists from the start, so that rate() sees the first increase.
        for rendition in Rendition:
            self._presigns.labels(rendition)
        for refusal in Refusal:
            self._refusals.labels(refusal)
        for action in ClipAction:
            self._actions.labels(action)

    def presigned(self, rendition: Rendition) -> None:
        """Count a presigned URL that was handed out."""
        self._presigns.labels(rendition).inc()

    def refused(self, reason: Refusal) -> None:
        """Count a request that was refused."""
        self._refusals.labels(reason).inc()

    def signed(self, seconds: float) -> None:
        """Record how many seconds a signature took."""
        self._signing.observe(seconds)

    def keys_not_fetched(self) -> None:
        """Count a failed fetch of the sign-in service's keys."""
        self._jwks_failures.inc()

    def show_keys(self, age_seconds: Callable[[], float]) -> None:
        """Export the age of the sign-in service's keys, read at every scrape."""
        self._jwks_age.set_function(age_seconds)

    def acted(self, action: ClipAction, clips: int = 1) -> None:
        """Count an action that the registry applied to ``clips`` clips."""
        self._actions.labels(action).inc(clips)

    def answered(
        self, method: str, route: str, status: int, seconds: float, exemplar: dict[str, str] | None = None
    ) -> None:
        """Record an answer and its duration. ``exemplar`` names its trace; None: it has no trace."""
        self._requests.labels(method, route, status).observe(seconds, exemplar)


class RequestTimer:
    """ASGI middleware that records the duration of every request, by the template of its route."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and record its duration."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status, exemplar = 500, None

        async def watch(message: Message) -> None:
            nonlocal status, exemplar
            if message["type"] == "http.response.start":
                # The inner application ends the request's span before this middleware ends: read it now.
                status, exemplar = message["status"], tracing.exemplar()
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path_format", "unmatched")
            seconds = time.perf_counter() - started
            self._metrics.answered(_known(scope["method"]), route, status, seconds, exemplar)


def _known(method: str) -> str:
    # Clients can send any word as the method: as a label, every word would be a new time series.
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"
