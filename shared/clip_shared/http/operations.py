"""The operations port of a service: metrics and health."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
)
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

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
from clip_shared.bus.bus import Bus
from clip_shared.http.head import AnswerHead
from clip_shared.http.problems import install_problem_handlers

log = structlog.get_logger()

Check = Callable[[], Awaitable[str | None]]
"""Can the service reach something it needs? None: yes. A text: it works, but less well. Raises: no."""

CheckAlive = Callable[[], Awaitable[None]]
"""Does it make progress? Raises RuntimeError: no."""

Lifespan = Callable[[], AbstractAsyncContextManager[None]]

CHECK_TIMEOUT_SECONDS = 3.0


def metrics_registry() -> CollectorRegistry:
    """A registry of one's own (none at import, none shared between tests) with the process's figures."""
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
    bus: Bus | None = None,
    check_alive: CheckAlive | None = None,
    lifespan: Lifespan | None = None,
    api: ASGIApp | None = None,
) -> FastAPI:
    """The application of the operations port: metrics and health. Its lifespan is that of the service.

    The bus starts after ``lifespan`` was entered and stops before it is left. It is what liveness looks at,
    unless ``check_alive`` is given. :func:`serve` serves ``api`` on HTTP_PORT.
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
        """Every figure of this process, for Prometheus. Runs in a thread: some collectors take a moment.

        In OpenMetrics, with exemplars, for whoever asks for that.
        """
        encode, media_type = choose_encoder(accept)
        return Response(encode(registry), media_type=media_type)


def _add_health(app: FastAPI, check_alive: CheckAlive | None, checks: Mapping[str, Check]) -> None:
    @app.get("/healthz/live", include_in_schema=False)
    async def live() -> Response:
        """Is it making progress? 503 means: restart me."""
        try:
            if check_alive is not None and not app.state.stopping:
                await check_alive()
        except RuntimeError as error:
            return JSONResponse({"status": "stuck", "reason": str(error)}, status_code=503)
        return JSONResponse({"status": "alive"})

    @app.get("/healthz/ready", include_in_schema=False)
    async def ready(exclude: Annotated[Sequence[str], Query()] = ()) -> Response:
        """Can it reach what it needs, and does it go on? 503 means: send me no work.

        Checks that ``exclude`` names are left out: where an outage takes every replica alike, taking all of
        them away helps nobody.
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
    except Exception as error:  # noqa: BLE001 - whatever a check raises is its result
        return "failing", f"{type(error).__name__}: {error}"
    return ("degraded", shortfall) if shortfall else ("ready", None)
