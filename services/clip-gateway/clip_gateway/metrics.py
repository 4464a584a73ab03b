"""Every metric that the gateway exports, besides those of the process."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clip_gateway.domain import Refusal, Rendition
from clip_shared import tracing
from clip_shared.contracts.registry_api import ClipAction


class GatewayMetrics:
    """What SREs see of the gateway."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._presigns = Counter(
            "clips_presigns",
            "Presigned URLs handed out, by what they show (view).",
            ["view"],
            registry=registry,
        )
        self._refusals = Counter(
            "clips_refusals", "Requests of users that were refused, by reason.", ["reason"], registry=registry
        )
        self._actions = Counter(
            "clips_owner_actions",
            "Changes that owners made to their clips, by action.",
            ["action"],
            registry=registry,
        )
        self._requests = Histogram(
            "clips_gateway_request_seconds",
            "Time from a request to the end of its answer, by method, route (its template) and status.",
            ["method", "route", "status"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self._signing = Histogram(
            "clips_presign_seconds",
            "Time to sign one presigned URL. Signing asks nobody: more than milliseconds is a lack of CPU.",
            buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
            registry=registry,
        )
        self._jwks_failures = Counter(
            "clips_jwks_failures",
            "Fetches of the sign-in service's public keys (JWKS) that failed.",
            registry=registry,
        )
        self._jwks_age = Gauge(
            "clips_jwks_age_seconds",
            "Time since the sign-in service's public keys (JWKS) were last fetched, or since the start when"
            " they never were; 0 with HS256, which needs no keys. Fetched every 5 minutes; after 24 hours"
            " nobody can sign in.",
            registry=registry,
        )
        # Present from the start, so that the first of a kind is seen as an increase.
        for view in Rendition:
            self._presigns.labels(view)
        for refusal in Refusal:
            self._refusals.labels(refusal)
        for action in ClipAction:
            self._actions.labels(action)

    def presigned(self, view: Rendition) -> None:
        """Count a URL that was handed out."""
        self._presigns.labels(view).inc()

    def refused(self, reason: Refusal) -> None:
        """Count a request that was refused."""
        self._refusals.labels(reason).inc()

    def signed(self, seconds: float) -> None:
        """Note how long a signature took."""
        self._signing.observe(seconds)

    def keys_not_fetched(self) -> None:
        """Count a fetch of the sign-in service's keys that failed."""
        self._jwks_failures.inc()

    def show_keys(self, age_seconds: Callable[[], float]) -> None:
        """Show from now on how old the sign-in service's keys are."""
        self._jwks_age.set_function(age_seconds)

    def acted(self, action: ClipAction, clips: int = 1) -> None:
        """Count what the registry did to a clip, or to several."""
        self._actions.labels(action).inc(clips)

    def answered(
        self, method: str, route: str, status: int, seconds: float, exemplar: dict[str, str] | None = None
    ) -> None:
        """Count an answer, and how long it took. ``exemplar``: its trace, if it has one."""
        self._requests.labels(method, route, status).observe(seconds, exemplar)


class RequestTimer:
    """ASGI middleware that times every request under its route's template, never its path."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and time it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status, exemplar = 500, None

        async def watch(message: Message) -> None:
            nonlocal status, exemplar
            if message["type"] == "http.response.start":
                # The span of the request is that of an application further in, and ends before we do.
                status, exemplar = message["status"], tracing.exemplar()
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path_format", "unmatched")
            seconds = time.perf_counter() - started
            self._metrics.answered(_known(scope["method"]), route, status, seconds, exemplar)


def _known(method: str) -> str:
    # A method is any word that a client makes up; a label must not be.
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"
