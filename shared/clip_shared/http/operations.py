"""The operations port of a service: metrics and health."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
)
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Protocol

import structlog
from fastapi import FastAPI, Header, Query, Response
from fastapi.responses import JSONResponse
from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from starlette.types import ASGIApp

from clip_shared import tracing
from clip_shared.http.head import AnswerHead
from clip_shared.http.problems import install_problem_handlers

log = structlog.get_logger()

Check = Callable[[], Awaitable[str | None]]
"""Checks something that the service needs. None: it works; a text: what is degraded; an error: it fails."""

CheckAlive = Callable[[], Awaitable[None]]
"""Checks that the service makes progress. Raises RuntimeError: it is stuck."""

Lifespan = Callable[[], AbstractAsyncContextManager[None]]

CHECK_TIMEOUT_SECONDS = 3.0


class Connected(Protocol):
    """What the operations port needs of a service's bus (:class:`clip_shared.bus.bus.Bus`)."""

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Finish the work, and disconnect."""

    async def check_alive(self) -> None:
        """Raise RuntimeError if it makes no progress."""

    async def check_ready(self) -> str | None:
        """Return what is degraded, or None; raise if it cannot work."""


def metrics_registry() -> CollectorRegistry:
    """Return a new registry of metrics, with those of the process. Nothing is shared between tests."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def create_app(
    name: str,
    *,
    registry: CollectorRegistry,
    checks: Mapping[str, Check],
    bus: Connected | None = None,
    check_alive: CheckAlive | None = None,
    lifespan: Lifespan | None = None,
    api: ASGIApp | None = None,
) -> FastAPI:
    """Return the application of the operations port: metrics and health. Its lifespan is that of the service.

    Args:
        name: the service's name.
        registry: the metrics.
        checks: what readiness checks, by name; with a ``bus``, also ``kafka``.
        bus: starts after ``lifespan`` was entered, and stops before it is left.
        check_alive: what liveness checks; by default the bus.
        lifespan: entered at the start, left at the end.
        api: served on HTTP_PORT by :func:`clip_shared.http.service.serve`.
    """
    if check_alive is None and bus is not None:
        check_alive = bus.check_alive

    @asynccontextmanager
    async def run(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if lifespan is not None:
                await stack.enter_async_context(lifespan())
            if bus is not None:
                stack.push_async_callback(bus.stop)
                await bus.start()
            log.info("started")
            yield
            log.info("stopping")

    app = FastAPI(
        title=name,
        lifespan=run,
        openapi_url=None,
        redirect_slashes=False,
        telemetry=tracing.NOT_TRACED,
    )
    app.state.bus, app.state.api, app.state.stopping = bus, api, False
    app.state.metrics = registry
    install_problem_handlers(app)
    app.add_middleware(AnswerHead)
    _show_build(name, registry)
    _add_metrics(app, registry)
    _add_health(app, check_alive, {**checks, **({"kafka": bus.check_ready} if bus is not None else {})})
    return app


def _show_build(service: str, registry: CollectorRegistry) -> None:
    try:
        running = version(service)
    except PackageNotFoundError:
        running = "unknown"
    Gauge(
        "clips_build_info",
        "Always 1: the service and the version that this process runs are in the labels.",
        ["service", "version"],
        registry=registry,
    ).labels(service, running).set(1)


def _add_metrics(app: FastAPI, registry: CollectorRegistry) -> None:
    @app.get("/metrics", include_in_schema=False)
    def metrics(accept: Annotated[str, Header()] = "") -> Response:
        """Return every metric of this process. Runs in a thread, because some collectors are slow.

        A scraper that accepts OpenMetrics gets it, with exemplars.
        """
        encode, media_type = choose_encoder(accept)
        return Response(encode(registry), media_type=media_type)


def _add_health(app: FastAPI, check_alive: CheckAlive | None, checks: Mapping[str, Check]) -> None:
    @app.get("/healthz/live", include_in_schema=False)
    async def live() -> Response:
        """Return whether the service makes progress. 503: restart it."""
        try:
            if check_alive is not None and not app.state.stopping:
                await check_alive()
        except RuntimeError as error:
            return JSONResponse({"status": "stuck", "reason": str(error)}, status_code=503)
        return JSONResponse({"status": "alive"})

    @app.get("/healthz/ready", include_in_schema=False)
    async def ready(exclude: Annotated[Sequence[str], Query()] = ()) -> Response:
        """Return whether the service can work, with the result of every check. 503: send it no work.

        ``exclude`` names checks to leave out, such as one that fails for all replicas at the same time: to
        take all of them away does not help.
        """
        if app.state.stopping:
            return JSONResponse({"status": "stopping", "checks": {}}, status_code=503)
        asked = {name: check for name, check in checks.items() if name not in exclude}
        results = dict(zip(asked, await asyncio.gather(*map(_run_check, asked.values())), strict=True))
        states = {state for state, _ in results.values()}
        status = "failing" if "failing" in states else "degraded" if "degraded" in states else "ready"
        body = {
            "status": status,
            "checks": {
                each: {"status": state} | ({"reason": reason} if reason else {})
                for each, (state, reason) in results.items()
            },
        }
        return JSONResponse(body, status_code=503 if status == "failing" else 200)


async def _run_check(check: Check) -> tuple[str, str | None]:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            shortfall = await check()
    except TimeoutError:
        return "failing", f"no answer within {CHECK_TIMEOUT_SECONDS:.0f} s"
    except Exception as error:  # noqa: BLE001 - the result of the check
        return "failing", f"{type(error).__name__}: {error}"
    return ("degraded", shortfall) if shortfall else ("ready", None)
