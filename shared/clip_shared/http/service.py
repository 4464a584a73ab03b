"""Run a service: read its settings, write JSON logs, serve health, metrics and its API, and stop cleanly.

Health and metrics are on the operations port. An API has its own port.
"""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from typing import TypeVar

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI
from starlette.types import ASGIApp

from clip_shared.errors import PermanentError, TransientError
from clip_shared.http.connections import KEEP_ALIVE_SECONDS, BoundedConnection
from clip_shared.http.settings import ApiSettings, ServiceSettings
from clip_shared.logs import configure_logs
from clip_shared.settings import load_settings

log = structlog.get_logger()


Settings = TypeVar("Settings", bound=ServiceSettings)

# The exit status of a service that could not start.
NOT_STARTED = 3
# Prometheus and the probes of an orchestrator need about five.
OPERATIONS_CONNECTIONS = 100
# Python's default is 700, fewer than two requests create.
COLLECT_AFTER_OBJECTS = 10_000


def serve(name: str, settings_class: type[Settings], build: Callable[[Settings], FastAPI]) -> None:
    """Run a service until SIGTERM or SIGINT. Then it finishes its work and ends within the grace period.

    ``build`` returns the application of OPERATIONS_PORT: see :func:`clip_shared.http.operations.create_app`.
    The exit status is 2 when the settings cannot be used, and 3 when the service cannot start.
    """
    settings = load_settings(settings_class)
    configure_logs(name, settings.log_level)
    with _traced(name, settings), asyncio.Runner(loop_factory=_new_loop(settings)) as runner:
        runner.run(_run(_built(build, settings), settings))


def _traced(name: str, settings: ServiceSettings) -> AbstractContextManager[None]:
    """Trace what happens in the context, if there is a collector."""
    endpoint = settings.otel_exporter_otlp_endpoint
    if endpoint is None:
        return nullcontext()
    from clip_shared.trace_export import exporting  # noqa: PLC0415 - it takes 0.3 s and 20 MB

    return exporting(name, str(endpoint), share=settings.otel_traces_sampler_arg)


def _new_loop(settings: ServiceSettings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop: uvloop for an API; Python's own where programs are run."""
    return uvloop.new_event_loop if isinstance(settings, ApiSettings) else None


def _built(build: Callable[[Settings], FastAPI], settings: Settings) -> FastAPI:
    """Build the application, or exit with status 2 and the reason on standard error."""
    try:
        return build(settings)
    except PermanentError as error:
        sys.stderr.write(f"The settings cannot be used:\n  {error}\n")
        sys.exit(2)


async def _run(app: FastAPI, settings: ServiceSettings) -> None:
    """Serve until told to stop. Metrics and health end last: they show how the stop proceeds."""
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
    """Let the garbage collector skip the objects that exist now, and run less often.

    They live as long as the process: modules, classes and routes, more than 100,000 objects. A full
    collection took 0.1 s to visit them, and no request was answered meanwhile.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS)


async def _serve_api(app: FastAPI, settings: ApiSettings, stop: asyncio.Event) -> None:
    """Serve the API until told to stop, and then until load balancers have noticed it."""
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
    """One of the two servers of a process. The process handles the signals."""

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
        # By default, uvicorn trusts X-Forwarded-For of every client on this machine.
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, int(settings.shutdown_grace_seconds)),
        port=port,
    )
    server = _Server(config)
    # Bound here, not in the task: when the port is taken, the process exits with uvicorn's status and reason.
    running = asyncio.create_task(server.serve([config.bind_socket()]))
    try:
        while not server.started:  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        await running
