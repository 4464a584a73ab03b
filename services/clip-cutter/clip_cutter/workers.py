"""Several workers in one container: processes like the only one otherwise, started again when they die.

Each worker is the whole service, with a consumer of its own and one job at a time. It serves HTTP on a Unix
socket; this process asks there, and answers for all of them on the one port: metrics with a label ``worker``,
health as the worst of theirs.
"""

import asyncio
import http.client
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from clip_shared.service import CHECK_TIMEOUT_SECONDS, create_app

log = structlog.get_logger()

# A worker that lived this long is a healthy one: what becomes of it later is a new beginning.
STEADY_SECONDS = 60.0
MAX_EARLY_DEATHS = 5
# The exit status of a service that its settings, or what is missing, keep from running.
UNUSABLE = 2
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
# Until then a worker may be busy with its start, and does not have to answer.
STARTUP_SECONDS = 30.0
# A worker closes its connections after its grace period.
CLOSING_SECONDS = 15.0


class NotAnswering(Exception):
    """A worker is not there, or does not answer."""


class WorkerMetrics:
    """What SREs see of the workers themselves."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.up = Gauge(
            "clips_worker_up", "1 while the worker's process runs.", ["worker"], registry=registry
        )
        self.restarts = Counter(
            "clips_worker_restarts",
            "Workers that died and were started again.",
            ["worker"],
            registry=registry,
        )


class Worker:
    """One worker process, and the socket that it answers on."""

    def __init__(self, name: str, socket_path: Path, command: Sequence[str], metrics: WorkerMetrics) -> None:
        self.name = name
        self._socket = socket_path
        self._command = (*command, str(socket_path))
        self._metrics = metrics
        self._process: asyncio.subprocess.Process | None = None
        self._started = 0.0
        self._deaths = 0  # in a row, each soon after the start
        metrics.up.labels(name).set(0)
        metrics.restarts.labels(name)

    @property
    def age_seconds(self) -> float:
        """How long its process has been running; 0 while there is none."""
        return time.monotonic() - self._started if self._process else 0.0

    async def keep_running(self) -> int:
        """Start it, again and again, until it dies too often: then its exit status, negative for a signal."""
        while True:
            code = await self._run()
            self._deaths = 1 if time.monotonic() - self._started > STEADY_SECONDS else self._deaths + 1
            if code == UNUSABLE or self._deaths >= MAX_EARLY_DEATHS:
                log.critical("a worker keeps dying", worker=self.name, exit_code=code, deaths=self._deaths)
                return code
            pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (self._deaths - 1))
            log.error("a worker died", worker=self.name, exit_code=code, restart_in_seconds=pause)
            await asyncio.sleep(pause)
            self._metrics.restarts.labels(self.name).inc()

    async def _run(self) -> int:
        self._socket.unlink(missing_ok=True)
        self._started = time.monotonic()
        # The pipe tells the worker when this process is gone.
        self._process = await asyncio.create_subprocess_exec(*self._command, stdin=asyncio.subprocess.PIPE)
        self._metrics.up.labels(self.name).set(1)
        try:
            return await self._process.wait()
        finally:
            if self._process.returncode is not None:
                self._process = None
                self._metrics.up.labels(self.name).set(0)

    async def stop(self, seconds: float) -> None:
        """End it in order; by force when that takes longer than ``seconds``."""
        process = self._process
        if process is None:
            return
        ended = asyncio.ensure_future(process.wait())
        with suppress(ProcessLookupError):
            process.terminate()
            _, late = await asyncio.wait([ended], timeout=seconds)
            if late:
                log.error("a worker did not end in time", worker=self.name, seconds=seconds)
                process.kill()
        await ended

    def get(self, path: str) -> tuple[int, str]:
        """Ask it over HTTP: the status and the body. Blocks for a few seconds at most.

        Raises:
            NotAnswering: it gave no answer.
        """
        connection = _UnixConnection(self._socket)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise NotAnswering(f"worker {self.name} does not answer: {error!r}") from error
        finally:
            connection.close()

    async def check_ready(self) -> str | None:
        """Its own readiness, in a sentence.

        Raises:
            NotAnswering: it is not there.
            RuntimeError: it is not ready.
        """
        status, body = await asyncio.to_thread(self.get, "/healthz/ready")
        checks: dict[str, Any] = json.loads(body)["checks"]
        reasons = [f"{name}: {check['reason']}" for name, check in checks.items() if "reason" in check]
        if status != HTTPStatus.OK:
            raise RuntimeError("; ".join(reasons))
        return "; ".join(reasons) or None

    async def check_alive(self) -> None:
        """Whether it makes progress; one that is being started again does.

        Raises:
            RuntimeError: it does not.
        """
        try:
            status, body = await asyncio.to_thread(self.get, "/healthz/live")
        except NotAnswering as error:
            if self.age_seconds > STARTUP_SECONDS:
                raise RuntimeError(str(error)) from error
        else:
            if status != HTTPStatus.OK:
                raise RuntimeError(f"worker {self.name}: {json.loads(body)['reason']}")


class Workers(Collector):
    """The workers of this container, started and stopped as one.

    Args:
        name: the service.
        count: how many.
        command: starts one; the path of its socket is added.
        grace_seconds: how long a worker may take to end in order.
    """

    def __init__(self, name: str, count: int, command: Sequence[str], *, grace_seconds: float) -> None:
        self.exit_code = 0
        self._grace_seconds = grace_seconds
        self._folder = tempfile.TemporaryDirectory(prefix=f"{name}-")  # nobody else may enter it
        registry = CollectorRegistry()
        metrics = WorkerMetrics(registry)
        names = [str(number) for number in range(1, count + 1)]
        self._workers = [Worker(each, Path(self._folder.name) / each, command, metrics) for each in names]
        registry.register(self)
        self.app: FastAPI = create_app(
            name,
            registry=registry,
            checks={f"worker {each.name}": each.check_ready for each in self._workers},
            check_alive=self._check_alive,
            lifespan=self._running,
        )

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._keep_running(worker)) for worker in self._workers]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await asyncio.gather(
                *(each.stop(self._grace_seconds + CLOSING_SECONDS) for each in self._workers)
            )
            self._folder.cleanup()

    async def _keep_running(self, worker: Worker) -> None:
        code = await worker.keep_running()
        # The orchestrator has to see it: this container does not come right by itself.
        self.exit_code = code if code > 0 else 1
        signal.raise_signal(signal.SIGTERM)

    async def _check_alive(self) -> None:
        await asyncio.gather(*(each.check_alive() for each in self._workers))

    def collect(self) -> Iterator[Metric]:
        """Every worker's figures, told apart by the label ``worker``."""
        families: dict[str, Metric] = {}
        for worker in self._workers:
            with suppress(NotAnswering):
                _, text = worker.get("/metrics")
                for found in text_string_to_metric_families(text):
                    family = families.setdefault(
                        found.name, Metric(found.name, found.documentation, found.type)
                    )
                    for sample in found.samples:
                        labels = {**sample.labels, "worker": worker.name}
                        family.add_sample(sample.name, labels, sample.value)
        yield from families.values()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=CHECK_TIMEOUT_SECONDS - 1)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def this_command() -> list[str]:
    """The command that started this process, however it was started."""
    return [sys.executable, *sys.orig_argv[1:]]


def end_with_the_parent(socket_path: Path) -> None:
    """Have this worker told to end when the process that started it is gone, even by SIGKILL.

    The workers then remove what the parent would have removed: their sockets, and the last one the folder.
    """

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)  # returns when the parent's end of the pipe is closed
        with suppress(OSError):
            socket_path.unlink(missing_ok=True)
            socket_path.parent.rmdir()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
