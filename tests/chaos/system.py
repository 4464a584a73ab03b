"""The system under test: real servers, and four services whose processes are restarted when they end."""

import asyncio
import ctypes
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from clip_shared.storage import s3_client
from local_stack.processes.process import Process, ProcessFailed
from local_stack.processes.workspace import Workspace
from local_stack.servers.servers import Addresses, Servers
from local_stack.stack import LocalStack, Service, ServicePorts, readiness_error
from tests.chaos.failpoints import ARMED
from tests.chaos.s3_proxy import FaultyS3Proxy
from tests.support.foreign import limit_records

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RUNNER = "tests.chaos.failpoints"
ROOT = Path(__file__).parents[2]
RETENTION_SECONDS = 5.0
SCRATCH_MEBIBYTES = 96
LOOK_SECONDS = 0.2
LIVENESS_SECONDS, LIVENESS_FAILURES = 2.0, 3
# Longer than a service may take to end after SIGTERM.
END_SECONDS = 20.0
START_SECONDS = 60.0
# Smaller than every event of the services.
SMALLEST_BYTES = 64
# Hours in production. Longer than the faults of a round can delay a good highlight.
GIVE_UP_SECONDS = 30

_CLONE_NEWNS = 0x00020000


def own_mounts() -> bool:
    """Give this process a mount namespace: only it and its children see its mounts, which end with them.

    Call it before the second thread starts.

    Returns:
        False when this process is not allowed to do so; it needs root.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.unshare(_CLONE_NEWNS) != 0:
        return False
    return subprocess.run(["mount", "--make-rprivate", "/"], check=False).returncode == 0


@dataclass
class Supervised:
    """A process of a service that is restarted when it ends, until it leaves."""

    process: Service
    wanted: bool = True
    frozen: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class SystemUnderTest:
    """The system, and the functions that inject faults into it.

    Args:
        session_seconds: session timeout of the consumers.
        seed: seed of the random choices of the storage's proxy.
        may_mount: whether a small scratch disk can be mounted for the cutter.
    """

    def __init__(self, *, session_seconds: int, seed: int, may_mount: bool = False) -> None:
        self.session_seconds = session_seconds
        self._seed = seed
        self.scratch_is_bounded = may_mount
        self.workers: list[Supervised] = []
        self.restarts: Counter[str] = Counter()
        self.liveness_restarts: Counter[str] = Counter()
        self.overruns: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator["SystemUnderTest"]:
        """Run the system while this context is entered; remove it in the end."""
        with (
            Workspace() as workspace,
            _scratch_disk(workspace.state.scratch, mounted=self.scratch_is_bounded),
        ):
            self.workspace = workspace
            self.armed = workspace.state.folder / "armed"
            self.armed.mkdir()
            self.servers = Servers(workspace)
            addresses = self.servers.addresses
            self.proxy = FaultyS3Proxy(
                workspace.ports.claim("s3-proxy"), addresses.s3_endpoint_url, self._delete, seed=self._seed
            )
            try:
                await asyncio.to_thread(self.servers.start)
                async with self.proxy.running(), self._services(addresses):
                    yield self
            finally:
                await asyncio.to_thread(self.servers.stop)

    @asynccontextmanager
    async def _services(self, addresses: Addresses) -> AsyncIterator[None]:
        self.stack = LocalStack(
            self.workspace,
            addresses=replace(addresses, s3_endpoint_url=self.proxy.url),
            settings=dict.fromkeys(("clip-cutter", "clip-registry", "clip-gateway", "janitor"), self._more),
            runner=RUNNER,
        )
        try:
            await asyncio.to_thread(self.stack.start)
            self.workers = [Supervised(each) for each in self.stack.services.values()]
            await self.join("clip-cutter")  # when one worker dies, the other goes on
            watch = asyncio.create_task(self._supervise())
            try:
                yield
            finally:
                watch.cancel()
                with suppress(asyncio.CancelledError):
                    await watch
        finally:
            for worker in self.workers:
                self._signal(worker.process, signal.SIGCONT)
                await asyncio.to_thread(worker.process.stop)
            await asyncio.to_thread(self.stack.stop)

    @property
    def _more(self) -> dict[str, str]:
        return {
            "PYTHONPATH": str(ROOT),
            ARMED: str(self.armed),
            "KAFKA_SESSION_TIMEOUT_SECONDS": str(self.session_seconds),
            "CLIP_RETENTION_DAYS": str(RETENTION_SECONDS / 86_400),
            "DELETE_UNDO_SECONDS": str(RETENTION_SECONDS),
            "GIVE_UP_AFTER_SECONDS": str(GIVE_UP_SECONDS),
            # Small pages, so that a purge takes many of them.
            "EXPIRATION_BATCH_SIZE": "3",
            # Nearly all clips that are not kept are due at every tick.
            "PURGE_LIMIT_PERCENT": "100",
            "FFMPEG_THREADS": "1",
        }

    @cached_property
    def s3(self) -> "S3Client":
        """The S3 server itself, without the faults of the proxy."""
        addresses = self.servers.addresses
        return s3_client(
            endpoint=addresses.s3_endpoint_url,
            region=addresses.s3_region,
            access_key=addresses.s3_access_key,
            secret_key=addresses.s3_secret_key,
        )

    def _delete(self, bucket: str, key: str) -> None:
        self.s3.delete_object(Bucket=bucket, Key=key)

    @property
    def environment(self) -> dict[str, str]:
        """The addresses and credentials of the stack."""
        return self.stack.environment

    def of(self, service: str) -> Supervised:
        """Return the service's first process."""
        return next(each for each in self.workers if each.process.name == service)

    # The parts of faults.

    def kill(self, worker: Supervised) -> None:
        """Send SIGKILL to a worker."""
        worker.process.kill()

    @asynccontextmanager
    async def frozen(self, worker: Supervised) -> AsyncIterator[None]:
        """Send SIGSTOP to a worker, and SIGCONT in the end."""
        worker.frozen = True
        self._signal(worker.process, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(worker.process, signal.SIGCONT)
            worker.frozen = False

    @asynccontextmanager
    async def frozen_server(self, server: Process) -> AsyncIterator[None]:
        """Send SIGSTOP to a server, and SIGCONT in the end."""
        self._signal(server, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(server, signal.SIGCONT)

    @asynccontextmanager
    async def refusing(self, topic: str) -> AsyncIterator[None]:
        """Have the broker refuse all records of a topic."""
        servers = self.environment["KAFKA_BOOTSTRAP_SERVERS"]
        before = await asyncio.to_thread(limit_records, servers, topic, SMALLEST_BYTES)
        try:
            yield
        finally:
            await asyncio.to_thread(limit_records, servers, topic, before)

    async def end(self, worker: Supervised) -> None:
        """Send SIGTERM to a worker, and wait until it ends by itself."""
        process, deadline = worker.process, time.monotonic() + END_SECONDS
        process.terminate()
        while process.running and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_SECONDS)
        if process.running:
            self.overruns.append(process.name)
        process.kill()

    async def join(self, service: str) -> Supervised:
        """Start another worker of a service."""
        first = self.of(service).process
        ports = ServicePorts.claim(self.workspace, service, f"{service}-{len(self.workers)}")
        environment = {**self.workspace.state.environment(**self.environment), **self._more}
        worker = Supervised(Service(self.workspace, first.name, ports, environment, runner=RUNNER))
        await asyncio.to_thread(worker.process.launch)
        self.workers.append(worker)
        return worker

    async def until_ready(self, worker: Supervised) -> None:
        """Wait until a worker is started or restarted, and ready."""
        async with asyncio.timeout(START_SECONDS):
            while await asyncio.to_thread(readiness_error, worker.process.operations_url) is not None:
                await asyncio.sleep(LOOK_SECONDS)

    async def all_ready(self) -> bool:
        """Return whether every worker is ready."""
        errors = [asyncio.to_thread(readiness_error, each.process.operations_url) for each in self.workers]
        return not any(await asyncio.gather(*errors))

    async def leave(self, worker: Supervised) -> None:
        """End a worker that joined."""
        worker.wanted = False
        async with worker.lock:
            await self.end(worker)
        self.workers.remove(worker)

    async def stop_database_at_once(self) -> None:
        """Stop PostgreSQL with its immediate shutdown, without a checkpoint; it recovers from its log."""
        postgres = self.servers.postgres
        if postgres.pid is not None:
            os.kill(postgres.pid, signal.SIGQUIT)
        while postgres.running:
            await asyncio.sleep(0.05)

    async def start_again(self, server: Process) -> None:
        """Start a server that was stopped; try twice, because its old port or lock can still be in use."""
        try:
            await asyncio.to_thread(server.start)
        except ProcessFailed:
            await asyncio.to_thread(server.start)

    def arm(self, failpoint: str) -> Path:
        """Arm a failpoint for the next process that reaches it. That process removes the returned file."""
        file = self.armed / failpoint
        file.touch()
        return file

    def _signal(self, process: Process, number: signal.Signals) -> None:
        if process.pid is not None:
            os.kill(process.pid, number)

    # The work of an orchestrator.

    async def _supervise(self) -> None:
        async with httpx.AsyncClient(timeout=1, trust_env=False) as http, asyncio.TaskGroup() as group:
            group.create_task(self._restart_ended_workers())
            group.create_task(self._probe(http))

    async def _restart_ended_workers(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for worker in list(self.workers):
                if worker.wanted and not worker.process.running and not worker.lock.locked():
                    async with worker.lock:
                        self.restarts[worker.process.name] += 1
                        await asyncio.to_thread(worker.process.launch)

    async def _probe(self, http: httpx.AsyncClient) -> None:
        """Restart workers whose liveness check fails several times in a row."""
        failures: Counter[str] = Counter()
        while True:
            await asyncio.sleep(LIVENESS_SECONDS)
            for worker in list(self.workers):
                url = worker.process.operations_url
                failures[url] = failures[url] + 1 if await _is_stuck(http, worker) else 0
                if failures[url] >= LIVENESS_FAILURES and worker.wanted:
                    self.liveness_restarts[worker.process.name] += 1
                    async with worker.lock:
                        await self.end(worker)


async def _is_stuck(http: httpx.AsyncClient, worker: Supervised) -> bool:
    try:
        answer = await http.get(f"{worker.process.operations_url}/healthz/live")
    except httpx.TransportError:
        return False  # dead, starting or frozen
    return answer.status_code == httpx.codes.SERVICE_UNAVAILABLE


@contextmanager
def _scratch_disk(folder: Path, *, mounted: bool) -> Iterator[None]:
    """Provide the cutter's scratch disk: a small one where mounts are possible."""
    folder.mkdir(parents=True, exist_ok=True)
    if not mounted:
        yield
        return
    options = f"size={SCRATCH_MEBIBYTES}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)
