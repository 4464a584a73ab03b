"""Clips on one machine: three servers, the topics, the database schema, and the four services."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Self

from local_stack.processes.ffmpeg import find_tools
from local_stack.processes.ports import LOOPBACK, http_error
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
"""The prefix of each service's variables in stack.env: ``<prefix>_URL``, ``<prefix>_OPERATIONS_URL``."""

_WITH_API = {"clip-registry", "clip-gateway"}
_GRACE_SECONDS = 5

Progress = Callable[[str, float], None]
"""Called after each step of the start with its name and its seconds."""

ServiceSettings = Mapping[str, Mapping[str, str]]
"""Additional environment variables by the name of the service."""


class ServicePorts(NamedTuple):
    """The ports of a service: its operations port, and its API's port (None: the service has no API)."""

    operations: int
    http: int | None

    @classmethod
    def claim(cls, workspace: Workspace, service: str, name: str) -> Self:
        """Claim free ports for a process of a service, under the name of that process."""
        http = workspace.ports.claim(name) if service in _WITH_API else None
        return cls(workspace.ports.claim(f"{name}-operations"), http)

    @property
    def operations_url(self) -> str:
        """The address of the service's metrics and health checks."""
        return f"http://{LOOPBACK}:{self.operations}"

    @property
    def url(self) -> str:
        """The address of the service's API; for a service without an API, ``operations_url``."""
        return f"http://{LOOPBACK}:{self.http or self.operations}"

    @property
    def environment(self) -> dict[str, str]:
        """The service's settings for these ports."""
        http = {} if self.http is None else {"HTTP_PORT": str(self.http)}
        return {"OPERATIONS_PORT": str(self.operations), **http}


class Service(Process):
    """A process of one of the four services; ready when its readiness check answers 200."""

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
            readiness_error=lambda: readiness_error(self.operations_url),
            stop_seconds=_GRACE_SECONDS + 5,
        )


class LocalStack:
    """The whole system as a context manager: ready when entered, stopped when left.

    Each service is a process that can be killed and started again: ``stack.cutter.kill()``.

    Args:
        workspace: the folder and the ports of the stack; a temporary one is removed in the end.
        settings: additional environment variables by service: ``{"clip-registry": {"…": "…"}}``.
        addresses: servers that are running already; None: the stack starts servers itself.
        monitored: whether to run Prometheus and Alertmanager too.
        progress: called after each step of the start.
        runner: a module that runs the services' modules (``python -m runner service serve``).

    Raises:
        MonitoringUnavailable: ``monitored``, and Prometheus or Alertmanager is not on PATH.
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
        assert found is not None  # noqa: S101 - either the servers' addresses or the given ones
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
        """The process of the clip-cutter."""
        return self.services["clip-cutter"]

    @property
    def registry(self) -> Service:
        """The process of the clip-registry."""
        return self.services["clip-registry"]

    @property
    def gateway(self) -> Service:
        """The process of the clip-gateway."""
        return self.services["clip-gateway"]

    @property
    def janitor(self) -> Service:
        """The process of the janitor."""
        return self.services["janitor"]

    @property
    def processes(self) -> tuple[Process, ...]:
        """All processes of the stack, the servers first."""
        return (
            *(self.servers.processes if self.servers else ()),
            *self.services.values(),
            *(self.monitoring.processes if self.monitoring else ()),
        )

    @property
    def targets(self) -> dict[str, str]:
        """The addresses of the services' metrics, by the name of the service."""
        return {name: service.operations_url for name, service in self.services.items()}

    def start(self) -> None:
        """Start all processes, in order; when a process cannot start, stop all of them.

        Raises:
            ProcessFailed: a process died, or was not ready in time.
        """
        try:
            self._step("PostgreSQL, S3 and Apache Kafka are running", self._start_servers)
            self._step("the topics and the database schema are created", self._prepare)
            self._step("the four services are ready", lambda: start_together(tuple(self.services.values())))
            if self.monitoring:
                self._step("Prometheus and Alertmanager are running", self.monitoring.start)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all processes; the services before the servers, which they need to finish their work."""
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

    def _step(self, name: str, work: Callable[[], None]) -> None:
        started = time.monotonic()
        work()
        self._progress(name, time.monotonic() - started)


@contextmanager
def temporary_stack(
    *,
    settings: ServiceSettings | None = None,
    addresses: Addresses | None = None,
    monitored: bool = False,
    progress: Progress = lambda _what, _seconds: None,
) -> Iterator[LocalStack]:
    """Run a stack in a temporary folder that is removed in the end. The arguments are LocalStack's."""
    with (
        Workspace() as workspace,
        LocalStack(
            workspace, settings=settings, addresses=addresses, monitored=monitored, progress=progress
        ) as stack,
    ):
        yield stack


def readiness_error(url: str) -> str | None:
    """Return None when the service with this operations URL is ready, else its answer or the error."""
    return http_error(f"{url}/healthz/ready")


def _environment(
    workspace: Workspace, addresses: Addresses, ports: Mapping[str, ServicePorts]
) -> dict[str, str]:
    tools = find_tools()
    return {
        "KAFKA_BOOTSTRAP_SERVERS": addresses.kafka_bootstrap_servers,
        # The successor of a killed service gets its partitions when this time is over.
        "KAFKA_SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
        "DATABASE_URL": addresses.database_url,
        **_storage(addresses),
        **_urls(ports),
        # On the local stack, the name of an account is enough to sign in.
        "PUBLIC_URL": ports["clip-gateway"].url,
        "ENVIRONMENT": "development",
        "DEVELOPMENT_SIGN_IN": "true",
        "REGISTRY_TOKEN": workspace.secret("registry-token"),
        "REGISTRY_GATEWAY_TOKEN": workspace.secret("registry-token"),
        "REGISTRY_JANITOR_TOKEN": workspace.secret("registry-janitor-token"),
        # On the local stack, released objects are deleted at once, so that the deletion can be seen.
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
    """Return the variables of a service that differ from those of stack.env."""
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
