"""Every metric that the gateway exports, besides those of the process."""

import time

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clip_gateway.domain import Refusal, View
from clip_shared.registry_api import ClipAction


class Metrics:
    """What SREs see of the gateway."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._presigns = Counter(
            "clips_presigns", "Presigned URLs handed out, by what they show.", ["view"], registry=registry
        )
        self._refusals = Counter(
            "clips_refusals", "Requests refused, by reason.", ["reason"], registry=registry
        )
        self._actions = Counter(
            "clips_owner_actions", "What owners did to their clips.", ["action"], registry=registry
        )
        self._requests = Histogram(
            "clips_gateway_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["method", "route", "status"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        # Present from the start, so that the first of a kind is seen as an increase.
        for view in View:
            self._presigns.labels(view)
        for refusal in Refusal:
            self._refusals.labels(refusal)
        for action in ClipAction:
            self._actions.labels(action)

    def presigned(self, view: View) -> None:
        """Count a URL that was handed out."""
        self._presigns.labels(view).inc()

    def refused(self, reason: Refusal) -> None:
        """Count a request that was refused."""
        self._refusals.labels(reason).inc()

    def acted(self, action: ClipAction, clips: int = 1) -> None:
        """Count what the registry did to a clip, or to several."""
        self._actions.labels(action).inc(clips)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer, and how long it took."""
        self._requests.labels(method, route, status).observe(seconds)


class RequestTimer:
    """ASGI middleware that times every request under its route's template, never its path."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and time it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path_format", "unmatched")
            self._metrics.answered(_known(scope["method"]), route, status, time.perf_counter() - started)


def _known(method: str) -> str:
    # A method is any word that a client makes up; a label must not be.
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"
