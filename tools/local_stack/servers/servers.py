"""The three servers that the services need, started and stopped as one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from local_stack.processes.process import Process, start_together, stop_together
from local_stack.processes.workspace import Workspace
from local_stack.servers.apache_kafka import ApacheKafka
from local_stack.servers.postgres import Postgres
from local_stack.servers.seaweedfs import REGION, SeaweedFS


@dataclass(frozen=True)
class Addresses:
    """Addresses and credentials of the servers: of this stack, of a test, or of containers."""

    kafka_bootstrap_servers: str
    database_url: str
    s3_endpoint_url: str
    s3_access_key: str
    s3_secret_key: str
    s3_region: str = REGION


class Servers:
    """Kafka broker, PostgreSQL and S3 on one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.kafka = ApacheKafka(workspace)
        self.postgres = Postgres(workspace)
        self.s3 = SeaweedFS(workspace)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def processes(self) -> tuple[Process, ...]:
        """Return the three servers, PostgreSQL last: the others start while it creates its cluster."""
        return self.s3, self.kafka, self.postgres

    @property
    def addresses(self) -> Addresses:
        """Return the addresses for clients."""
        return Addresses(
            kafka_bootstrap_servers=self.kafka.bootstrap_servers,
            database_url=self.postgres.url,
            s3_endpoint_url=self.s3.endpoint_url,
            s3_access_key=self.s3.access_key,
            s3_secret_key=self.s3.secret_key,
        )

    def start(self) -> None:
        """Start all three side by side. When one cannot start, stop the others.

        Raises:
            ProcessFailed: a server ended, or was not ready in time.
        """
        self._workspace.save()
        start_together(self.processes)

    def stop(self) -> None:
        """Stop all three. On a temporary workspace, kill those whose data is deleted anyway."""
        if self._workspace.temporary:
            self.s3.kill()
            self.kafka.kill()
        stop_together(self.processes)

    def kill(self) -> None:
        """Kill all three with SIGKILL."""
        for process in self.processes:
            process.kill()


@contextmanager
def temporary_servers() -> Iterator[Servers]:
    """Run servers on a temporary workspace, which is deleted at the end."""
    with Workspace() as workspace, Servers(workspace) as servers:
        yield servers
