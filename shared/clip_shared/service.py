"""What every service is made of: settings in, JSON logs out, health and metrics over HTTP, a clean stop."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import structlog
import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from clip_shared.bus import Bus
from clip_shared.errors import TransientError
from clip_shared.logs import configure_logs
from clip_shared.problems import install_problem_handlers
from clip_shared.settings import ServiceSettings, load_settings

log = structlog.get_logger()

Check = Callable[[], Awaitable[str | None]]
"""Can the service reach something it needs? None: yes. A text: it works, but less well. Raises: no."""

CheckAlive = Callable[[], Awaitable[None]]
"""Does it make progress? Raises RuntimeError: no."""

Lifespan = Callable[[], AbstractAsyncContextManager[None]]
Settings = TypeVar("Settings", bound=ServiceSettings)

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
) -> FastAPI:
    """The HTTP application of a service: metrics, health, and errors as problems.

    The bus starts after ``lifespan`` was entered and stops before it is left. It is what liveness looks at,
    unless ``check_alive`` is given.
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
                await _start(bus)
            log.info("started")
            yield
            log.info("stopping")

    app = FastAPI(title=name, lifespan=run, docs_url=None, redoc_url=None)
    app.state.bus = bus
    install_problem_handlers(app)
    _add_metrics(app, registry)
    _add_health(app, check_alive, {**checks, **({"kafka": bus.check_ready} if bus is not None else {})})
    return app


async def _start(bus: Bus) -> None:
    try:
        await bus.start()
    except TransientError as error:
        log.critical("could not start", error=str(error))
        raise


def _add_metrics(app: FastAPI, registry: CollectorRegistry) -> None:
    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        """Every figure of this process, for Prometheus. Runs in a thread: some collectors take a moment."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _add_health(app: FastAPI, check_alive: CheckAlive | None, checks: Mapping[str, Check]) -> None:
    @app.get("/healthz/live", include_in_schema=False)
    async def live() -> Response:
        """Is it making progress? 503 means: restart me."""
        try:
            if check_alive is not None:
                await check_alive()
        except RuntimeError as error:
            return JSONResponse({"status": "stuck", "reason": str(error)}, status_code=503)
        return JSONResponse({"status": "alive"})

    @app.get("/healthz/ready", include_in_schema=False)
    async def ready() -> Response:
        """Can it reach what it needs? 503 means: send me no work."""
        results = dict(zip(checks, await asyncio.gather(*map(_run_check, checks.values())), strict=True))
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


def serve(
    name: str,
    settings_class: type[Settings],
    build: Callable[[Settings], FastAPI],
    *,
    socket: Path | None = None,
) -> None:
    """Run a service until SIGTERM or SIGINT; then stop accepting, drain, and leave within the grace period.

    It serves HTTP on the settings' port, or on a Unix ``socket``. Exits with 2 when the settings cannot be
    used, and with 3 when the service could not start.
    """
    settings = load_settings(settings_class)
    configure_logs(name, settings.log_level)
    server = uvicorn.Server(
        uvicorn.Config(
            build(settings),
            host=settings.http_host,
            port=settings.http_port,
            uds=None if socket is None else str(socket),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, int(settings.shutdown_grace_seconds)),
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn stops in order, then raises the signal again for this handler: leave with 0, not by signal.
        signal.signal(number, lambda *_: None)
    server.run()
