"""What every service is made of: settings in, JSON logs out, health and metrics over HTTP, a clean stop.

Health and metrics are on the operations port. A service that has an API serves it on a port of its own.
"""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, TypeVar

import structlog
import uvicorn
import uvloop
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
from clip_shared.bus import Bus
from clip_shared.connections import KEEP_ALIVE_SECONDS, BoundedConnection
from clip_shared.errors import PermanentError, TransientError
from clip_shared.head import AnswerHead
from clip_shared.logs import configure_logs
from clip_shared.openapi import Responses
from clip_shared.problems import install_problem_handlers
from clip_shared.settings import ApiSettings, ServiceSettings, load_settings

log = structlog.get_logger()

Check = Callable[[], Awaitable[str | None]]
"""Can the service reach something it needs? None: yes. A text: it works, but less well. Raises: no."""

CheckAlive = Callable[[], Awaitable[None]]
"""Does it make progress? Raises RuntimeError: no."""

Lifespan = Callable[[], AbstractAsyncContextManager[None]]
Settings = TypeVar("Settings", bound=ServiceSettings)

CHECK_TIMEOUT_SECONDS = 3.0
# The exit status of a service that could not start.
NOT_STARTED = 3
# Prometheus and an orchestrator's probes need a handful.
OPERATIONS_CONNECTIONS = 100
# Python's own 700 are less than what two requests make.
COLLECT_AFTER_OBJECTS = 10_000


def metrics_registry() -> CollectorRegistry:
    """A registry of one's own (none at import, none shared between tests) with the process's figures."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def create_api(name: str, responses: Responses | None = None) -> FastAPI:
    """The application of an HTTP API, still without routes. Its errors are problems.

    ``responses`` are documented for every route: see :func:`clip_shared.openapi.errors`.

    It serves no description of itself. A slash too many is 404: behind a proxy that speaks TLS, a redirect
    would lead to plain HTTP.
    """
    app = FastAPI(
        title=name,
        openapi_url=None,
        redirect_slashes=False,
        responses=responses,
        telemetry=tracing.of_api(),
    )
    install_problem_handlers(app)
    app.add_middleware(AnswerHead)
    return app


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


def serve(name: str, settings_class: type[Settings], build: Callable[[Settings], FastAPI]) -> None:
    """Run a service until SIGTERM or SIGINT; then stop accepting, drain, and leave within the grace period.

    ``build`` makes the operations application: see :func:`create_app`. It is served on OPERATIONS_PORT.
    Exits with 2 when the settings cannot be used, and with 3 when the service could not start.
    """
    settings = load_settings(settings_class)
    configure_logs(name, settings.log_level)
    with _traced(name, settings), asyncio.Runner(loop_factory=_new_loop(settings)) as runner:
        runner.run(_run(_built(build, settings), settings))


def _traced(name: str, settings: ServiceSettings) -> AbstractContextManager[None]:
    """Trace what happens in the context, if somebody takes the traces."""
    endpoint = settings.otel_exporter_otlp_endpoint
    if endpoint is None:
        return nullcontext()
    from clip_shared.trace_export import exporting  # noqa: PLC0415 - it takes 0.3 s and 20 MB

    return exporting(name, str(endpoint), share=settings.otel_traces_sampler_arg)


def _new_loop(settings: ServiceSettings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """How the event loop is made: the faster one where requests come; programs are run by Python's own."""
    return uvloop.new_event_loop if isinstance(settings, ApiSettings) else None


def _built(build: Callable[[Settings], FastAPI], settings: Settings) -> FastAPI:
    """Build the application, or leave with exit code 2 and the reason on standard error."""
    try:
        return build(settings)
    except PermanentError as error:
        sys.stderr.write(f"The settings cannot be used:\n  {error}\n")
        sys.exit(2)


async def _run(app: FastAPI, settings: ServiceSettings) -> None:
    """Serve until told to stop. Metrics and health are served longest: they tell how the stop goes."""
    stop = _stop_signal()
    async with AsyncExitStack() as operations, _started(app):
        _leave_out_of_collections()
        port = settings.operations_port
        await operations.enter_async_context(_serving(app, settings, OPERATIONS_CONNECTIONS, port))
        if isinstance(settings, ApiSettings):
            await _serve_api(app, settings, stop)
        else:
            await stop.wait()
            app.state.stopping = True


def _leave_out_of_collections() -> None:
    """Have the garbage collector look at what comes from now on, and less often.

    What is there by now stays as long as the process: modules, classes and routes, 100,000 objects and more.
    Every full collection went through them for 0.1 s, in which nobody was answered.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS)


async def _serve_api(app: FastAPI, settings: ApiSettings, stop: asyncio.Event) -> None:
    """Serve the API until told to stop, and on until load balancers had the time to notice."""
    async with _serving(app.state.api, settings, settings.http_max_connections, settings.http_port):
        await stop.wait()
        app.state.stopping = True
        await asyncio.sleep(settings.shutdown_delay_seconds)


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


@asynccontextmanager
async def _started(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(app.router.lifespan_context(app))
        except Exception as error:
            expected = isinstance(error, TransientError)
            log.critical("could not start", error=str(error), exc_info=not expected)
            raise SystemExit(NOT_STARTED) from None
        yield


class _Server(uvicorn.Server):
    """One of two servers in a process, which leaves the signals to the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _serving(
    app: ASGIApp, settings: ServiceSettings, most_connections: int, port: int
) -> AsyncIterator[None]:
    config = uvicorn.Config(
        app,
        host=settings.http_host,
        http=BoundedConnection,
        limit_concurrency=most_connections,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        # Left alone, uvicorn believes X-Forwarded-For of whoever connects from this machine.
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, int(settings.shutdown_grace_seconds)),
        port=port,
    )
    server = _Server(config)
    # Here rather than in the task: what cannot listen leaves with its own exit status, and says why.
    running = asyncio.create_task(server.serve([config.bind_socket()]))
    try:
        while not server.started:  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        await running
