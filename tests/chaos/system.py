"""Clips under fire: real servers, the four services as processes, and somebody who restarts what dies."""

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
from local_stack.stack import LocalStack, Service, ServicePorts, lacks_readiness
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
# Above what a service may take to end after SIGTERM.
END_SECONDS = 20.0
START_SECONDS = 60.0
# Below every event of ours.
SMALLEST_BYTES = 64
# Hours in production. Above what the faults of a round can keep a good highlight from its end.
GIVE_UP_SECONDS = 30

_CLONE_NEWNS = 0x00020000


def own_mounts() -> bool:
    """Let mounts of this process be seen by it and its children only, and vanish with them.

    To be called before there is a second thread.

    Returns:
        whether that could be done: it needs root.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.unshare(_CLONE_NEWNS) != 0:
        return False
    return subprocess.run(["mount", "--make-rprivate", "/"], check=False).returncode == 0


@dataclass
class Supervised:
    """A service's process, started again whenever it has ended, for as long as it is wanted."""

    process: Service
    wanted: bool = True
    frozen: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class SystemUnderTest:
    """The system, and the handles to hurt it.

    Args:
        session_seconds: of its consumers.
        seed: of what is left to chance.
        may_mount: whether the cutter can have a small disk of its own, mounted for it.
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
        """Everything runs for as long as this is entered; nothing is left afterwards."""
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
            await self.join("clip-cutter")  # one that dies leaves the other at work
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
            # Small, so that a purge has many edges.
            "EXPIRATION_BATCH_SIZE": "3",
            # Nearly all that nobody kept is due whenever a tick comes.
            "PURGE_LIMIT_PERCENT": "100",
            "FFMPEG_THREADS": "1",
        }

    @cached_property
    def s3(self) -> "S3Client":
        """The S3 server itself, without its troubles."""
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
        """Addresses and credentials."""
        return self.stack.environment

    def of(self, service: str) -> Supervised:
        """The service's first process."""
        return next(each for each in self.workers if each.process.name == service)

    # What faults are made of.

    def kill(self, worker: Supervised) -> None:
        """SIGKILL."""
        worker.process.kill()

    @asynccontextmanager
    async def frozen(self, worker: Supervised) -> AsyncIterator[None]:
        """SIGSTOP, and SIGCONT in the end."""
        worker.frozen = True
        self._signal(worker.process, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(worker.process, signal.SIGCONT)
            worker.frozen = False

    @asynccontextmanager
    async def frozen_server(self, server: Process) -> AsyncIterator[None]:
        """The same for a server."""
        self._signal(server, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(server, signal.SIGCONT)

    @asynccontextmanager
    async def refusing(self, topic: str) -> AsyncIterator[None]:
        """The broker takes no record of a topic, however small."""
        servers = self.environment["KAFKA_BOOTSTRAP_SERVERS"]
        before = await asyncio.to_thread(limit_records, servers, topic, SMALLEST_BYTES)
        try:
            yield
        finally:
            await asyncio.to_thread(limit_records, servers, topic, before)

    async def end(self, worker: Supervised) -> None:
        """SIGTERM, and wait for the end that it must come to by itself."""
        process, deadline = worker.process, time.monotonic() + END_SECONDS
        process.terminate()
        while process.running and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_SECONDS)
        if process.running:
            self.overruns.append(process.name)
        process.kill()

    async def join(self, service: str) -> Supervised:
        """One more worker of a service."""
        first = self.of(service).process
        ports = ServicePorts.claim(self.workspace, service, f"{service}-{len(self.workers)}")
        environment = {**self.workspace.state.environment(**self.environment), **self._more}
        worker = Supervised(Service(self.workspace, first.name, ports, environment, runner=RUNNER))
        await asyncio.to_thread(worker.process.launch)
        self.workers.append(worker)
        return worker

    async def until_ready(self, worker: Supervised) -> None:
        """Wait until a worker has been started (again), and is ready."""
        async with asyncio.timeout(START_SECONDS):
            while await asyncio.to_thread(lacks_readiness, worker.process.operations_url) is not None:
                await asyncio.sleep(LOOK_SECONDS)

    async def all_ready(self) -> bool:
        """Whether every worker is."""
        lacks = [asyncio.to_thread(lacks_readiness, each.process.operations_url) for each in self.workers]
        return not any(await asyncio.gather(*lacks))

    async def leave(self, worker: Supervised) -> None:
        """End one that joined."""
        worker.wanted = False
        async with worker.lock:
            await self.end(worker)
        self.workers.remove(worker)

    async def stop_database_at_once(self) -> None:
        """PostgreSQL's immediate shutdown: no goodbye, no checkpoint; it recovers from its log."""
        postgres = self.servers.postgres
        if postgres.pid is not None:
            os.kill(postgres.pid, signal.SIGQUIT)
        while postgres.running:
            await asyncio.sleep(0.05)

    async def start_again(self, server: Process) -> None:
        """Start a server that was stopped; once more, should what it left behind still be in its way."""
        try:
            await asyncio.to_thread(server.start)
        except ProcessFailed:
            await asyncio.to_thread(server.start)

    def arm(self, failpoint: str) -> Path:
        """Let the next process that comes by die there. The file is gone when it has."""
        file = self.armed / failpoint
        file.touch()
        return file

    def _signal(self, process: Process, number: signal.Signals) -> None:
        if process.pid is not None:
            os.kill(process.pid, number)

    # What an orchestrator does.

    async def _supervise(self) -> None:
        async with httpx.AsyncClient(timeout=1, trust_env=False) as http, asyncio.TaskGroup() as group:
            group.create_task(self._restart_what_died())
            group.create_task(self._probe(http))

    async def _restart_what_died(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for worker in list(self.workers):
                if worker.wanted and not worker.process.running and not worker.lock.locked():
                    async with worker.lock:
                        self.restarts[worker.process.name] += 1
                        await asyncio.to_thread(worker.process.launch)

    async def _probe(self, http: httpx.AsyncClient) -> None:
        """Liveness: who says that it is stuck, several times in a row, is ended and so started again."""
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
    """The cutter's disk: a small one, where it may be mounted."""
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
