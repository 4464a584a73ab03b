"""The whole of Clips on one machine: three servers, topics, schema, four services."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Self

from local_stack.processes.ffmpeg import find_tools
from local_stack.processes.ports import LOOPBACK, lacks_success
from local_stack.processes.process import Process, start_together, stop_together
from local_stack.processes.workspace import Workspace
from local_stack.servers.monitoring import Monitoring
from local_stack.servers.seaweedfs import BUCKETS
from local_stack.servers.servers import Addresses, Servers

SOURCE_PROFILE = "local"
SOURCE_BUCKET, CLIPS_BUCKET = BUCKETS
JWT_ISSUER, JWT_AUDIENCE = "clips-local", "clips"
SESSION_SECONDS = 6

_PACKAGES = {
    "clip-cutter": "clip_cutter",
    "clip-registry": "clip_registry",
    "clip-gateway": "clip_gateway",
    "janitor": "janitor",
}
SERVICE_VARIABLES = {
    "clip-gateway": "GATEWAY",
    "clip-registry": "REGISTRY",
    "clip-cutter": "CUTTER",
    "janitor": "JANITOR",
}
"""The variables of stack.env that say where a service is begin with this: ``_URL``, ``_OPERATIONS_URL``."""

_WITH_API = {"clip-registry", "clip-gateway"}
_GRACE_SECONDS = 5

Progress = Callable[[str, float], None]
"""Told what has been done, and how many seconds it took."""

ServiceSettings = Mapping[str, Mapping[str, str]]
"""More environment variables for services, by the name of the service."""


class ServicePorts(NamedTuple):
    """The ports of a service. One without an API has only that of its operations."""

    operations: int
    http: int | None

    @classmethod
    def claim(cls, workspace: Workspace, service: str, name: str) -> Self:
        """Hold free ports for a process of a service, under the name of that process."""
        http = workspace.ports.claim(name) if service in _WITH_API else None
        return cls(workspace.ports.claim(f"{name}-operations"), http)

    @property
    def operations_url(self) -> str:
        """Where metrics and health are."""
        return f"http://{LOOPBACK}:{self.operations}"

    @property
    def url(self) -> str:
        """Where the API is; without one, where the operations are."""
        return f"http://{LOOPBACK}:{self.http or self.operations}"

    @property
    def environment(self) -> dict[str, str]:
        """What tells the service."""
        http = {} if self.http is None else {"HTTP_PORT": str(self.http)}
        return {"OPERATIONS_PORT": str(self.operations), **http}


class Service(Process):
    """One of the four services, as a process of its own, ready when it says so."""

    def __init__(
        self,
        workspace: Workspace,
        name: str,
        ports: ServicePorts,
        environment: Mapping[str, str],
        *,
        runner: str | None = None,
    ) -> None:
        self.url, self.operations_url = ports.url, ports.operations_url
        super().__init__(
            name,
            [sys.executable, "-m", *([runner] if runner else []), _PACKAGES[name], "serve"],
            log=workspace.state.log(name),
            environment={**environment, **ports.environment},
            lacks=lambda: lacks_readiness(self.operations_url),
            stop_seconds=_GRACE_SECONDS + 5,
        )


class LocalStack:
    """The system on one workspace, as a context manager: ready when entered, stopped when left.

    Each service is a process that can be killed and started again: ``stack.cutter.kill()``.

    Args:
        workspace: where it lives; on a temporary one nothing is left of it.
        settings: more environment variables for services, by name: ``{"clip-registry": {"…": "…"}}``.
        addresses: servers that run already; None: servers of its own.
        monitored: whether Prometheus and Alertmanager run beside it.
        progress: told of each step of the start.
        runner: a module that runs the services' modules, in place of Python itself.

    Raises:
        MonitoringUnavailable: it should be monitored, and the programs are not on PATH.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        settings: ServiceSettings | None = None,
        addresses: Addresses | None = None,
        monitored: bool = False,
        progress: Progress = lambda _what, _seconds: None,
        runner: str | None = None,
    ) -> None:
        self._workspace = workspace
        self._progress = progress
        self.servers = Servers(workspace) if addresses is None else None
        found = self.servers.addresses if self.servers else addresses
        assert found is not None  # noqa: S101 - one of the two
        ports = {name: ServicePorts.claim(workspace, name, name) for name in _PACKAGES}
        self.environment = _environment(workspace, found, ports)
        more = settings or {}
        self.services = {
            name: Service(
                workspace,
                name,
                its_ports,
                {
                    **workspace.state.environment(**self.environment),
                    **_own_environment(name, self.environment),
                    **more.get(name, {}),
                },
                runner=runner,
            )
            for name, its_ports in ports.items()
        }
        self.monitoring = Monitoring(workspace, self.targets) if monitored else None
        if self.monitoring:
            self.environment |= self.monitoring.environment

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def cutter(self) -> Service:
        """The clip-cutter."""
        return self.services["clip-cutter"]

    @property
    def registry(self) -> Service:
        """The clip-registry."""
        return self.services["clip-registry"]

    @property
    def gateway(self) -> Service:
        """The clip-gateway."""
        return self.services["clip-gateway"]

    @property
    def janitor(self) -> Service:
        """The janitor."""
        return self.services["janitor"]

    @property
    def processes(self) -> tuple[Process, ...]:
        """Everything that runs: servers first."""
        return (
            *(self.servers.processes if self.servers else ()),
            *self.services.values(),
            *(self.monitoring.processes if self.monitoring else ()),
        )

    @property
    def targets(self) -> dict[str, str]:
        """Where each service shows its metrics, by its name."""
        return {name: service.operations_url for name, service in self.services.items()}

    def start(self) -> None:
        """Start everything, in order; nothing is left running when something cannot start.

        Raises:
            ProcessFailed: something died, or was not ready in time.
        """
        try:
            self._step("PostgreSQL, S3 and Apache Kafka run", self._start_servers)
            self._step("topics and database schema are there", self._prepare)
            self._step("all four services are ready", lambda: start_together(tuple(self.services.values())))
            if self.monitoring:
                self._step("Prometheus and Alertmanager run", self.monitoring.start)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything: the services before the servers, for they still finish what they do."""
        if self.monitoring:
            self.monitoring.stop()
        stop_together(tuple(self.services.values()))
        if self.servers:
            self.servers.stop()

    def _start_servers(self) -> None:
        self._workspace.save()
        if self.servers:
            self.servers.start()

    def _prepare(self) -> None:
        jobs = (
            self._command("topics", "clip_shared", "topics", "create", "--apply"),
            self._command("migrate", "clip_registry", "migrate"),
        )
        try:
            for job in jobs:
                job.launch()
            for job in jobs:
                job.wait_done()
        finally:
            for job in jobs:
                job.kill()

    def _command(self, name: str, *command: str) -> Process:
        return Process(
            name,
            [sys.executable, "-m", *command],
            log=self._workspace.state.log(name),
            environment=self._workspace.state.environment(**self.environment),
        )

    def _step(self, what: str, work: Callable[[], None]) -> None:
        started = time.monotonic()
        work()
        self._progress(what, time.monotonic() - started)


@contextmanager
def temporary_stack(
    *,
    settings: ServiceSettings | None = None,
    addresses: Addresses | None = None,
    monitored: bool = False,
    progress: Progress = lambda _what, _seconds: None,
) -> Iterator[LocalStack]:
    """A stack of one's own, of which nothing is left in the end. The arguments are LocalStack's."""
    with (
        Workspace() as workspace,
        LocalStack(
            workspace, settings=settings, addresses=addresses, monitored=monitored, progress=progress
        ) as stack,
    ):
        yield stack


def lacks_readiness(url: str) -> str | None:
    """None when the service with this operations URL is ready, else what it, or nobody, answers."""
    return lacks_success(f"{url}/healthz/ready")


def _environment(
    workspace: Workspace, addresses: Addresses, ports: Mapping[str, ServicePorts]
) -> dict[str, str]:
    tools = find_tools()
    return {
        "KAFKA_BOOTSTRAP_SERVERS": addresses.kafka_bootstrap_servers,
        # A killed service's successor waits for the end of this before it gets to work.
        "KAFKA_SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
        "DATABASE_URL": addresses.database_url,
        **_storage(addresses),
        **_urls(ports),
        # Whoever tries the stack out signs in with a name alone.
        "PUBLIC_URL": ports["clip-gateway"].url,
        "ENVIRONMENT": "development",
        "DEVELOPMENT_SIGN_IN": "true",
        "REGISTRY_TOKEN": workspace.secret("registry-token"),
        "REGISTRY_GATEWAY_TOKEN": workspace.secret("registry-token"),
        "REGISTRY_JANITOR_TOKEN": workspace.secret("registry-janitor-token"),
        # Whoever tries the stack out wants to see objects go.
        "RELEASE_DELAY_SECONDS": "0",
        "JWT_ALGORITHM": "HS256",
        "JWT_SECRET": workspace.secret("jwt"),
        "JWT_ISSUER": JWT_ISSUER,
        "JWT_AUDIENCE": JWT_AUDIENCE,
        "FFMPEG_PATH": tools.ffmpeg,
        "FFPROBE_PATH": tools.ffprobe,
        "SCRATCH_DIR": str(workspace.state.scratch),
        "HTTP_HOST": LOOPBACK,
        "SHUTDOWN_GRACE_SECONDS": str(_GRACE_SECONDS),
        "SHUTDOWN_DELAY_SECONDS": "0",
    }


def _urls(ports: Mapping[str, ServicePorts]) -> dict[str, str]:
    urls: dict[str, str] = {}
    for name, its_ports in ports.items():
        prefix = SERVICE_VARIABLES[name]
        urls |= {f"{prefix}_URL": its_ports.url, f"{prefix}_OPERATIONS_URL": its_ports.operations_url}
    return urls


def _own_environment(service: str, environment: Mapping[str, str]) -> dict[str, str]:
    """What a service is told in another way than the others, and than stack.env says."""
    return {"REGISTRY_TOKEN": environment["REGISTRY_JANITOR_TOKEN"]} if service == "janitor" else {}


def _storage(addresses: Addresses) -> dict[str, str]:
    source = {
        "endpoint": addresses.s3_endpoint_url,
        "region": addresses.s3_region,
        "access_key": addresses.s3_access_key,
        "secret_key": addresses.s3_secret_key,
        "buckets": [SOURCE_BUCKET],
    }
    return {
        "FREE_STORAGE_ENDPOINT": addresses.s3_endpoint_url,
        "FREE_STORAGE_PUBLIC_ENDPOINT": addresses.s3_endpoint_url,
        "FREE_STORAGE_REGION": addresses.s3_region,
        "FREE_STORAGE_BUCKET": CLIPS_BUCKET,
        "FREE_STORAGE_ACCESS_KEY": addresses.s3_access_key,
        "FREE_STORAGE_SECRET_KEY": addresses.s3_secret_key,
        "SOURCE_STORAGE_PROFILES": json.dumps({SOURCE_PROFILE: source}),
    }
