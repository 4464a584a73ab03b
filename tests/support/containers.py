"""The servers of the local stack as containers, for machines with a Docker engine."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from local_stack.processes.ports import Ports
from local_stack.servers.servers import Addresses
from tests.support.deployment import services

PASSWORD = "only-for-tests"  # noqa: S105 - of containers that live for one test run


@contextmanager
def container_servers() -> Iterator[Addresses]:
    """Run Apache Kafka, PostgreSQL and SeaweedFS in containers; remove them in the end."""
    ports = Ports()
    with ExitStack() as stack:
        stack.callback(ports.release)
        kafka_port = ports.claim("kafka-container")
        stack.enter_context(_kafka(kafka_port))
        postgres = stack.enter_context(_postgres())
        seaweedfs = stack.enter_context(_seaweedfs())
        yield Addresses(
            kafka_bootstrap_servers=f"127.0.0.1:{kafka_port}",
            database_url=(
                f"postgresql+asyncpg://clips:{PASSWORD}@{postgres.get_container_host_ip()}"
                f":{postgres.get_exposed_port(5432)}/clips"
            ),
            s3_endpoint_url=f"http://{seaweedfs.get_container_host_ip()}:{seaweedfs.get_exposed_port(8333)}",
            s3_access_key="clips",
            s3_secret_key=PASSWORD,
        )


def _image(service: str) -> str:
    """Return the image of a service in docker-compose.yml."""
    return str(services()[service]["image"])


def _kafka(port: int) -> DockerContainer:
    # The broker sends its address to clients, so its port on the host must be known before it starts.
    return (
        DockerContainer(_image("kafka"))
        .with_bind_ports(9092, port)
        .with_env("KAFKA_NODE_ID", "1")
        .with_env("KAFKA_PROCESS_ROLES", "broker,controller")
        .with_env("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093")
        .with_env("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER")
        .with_env("KAFKA_LISTENERS", "PLAINTEXT://:9092,CONTROLLER://:9093")
        .with_env("KAFKA_ADVERTISED_LISTENERS", f"PLAINTEXT://127.0.0.1:{port}")
        .with_env("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT")
        .with_env("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1")
        .with_env("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0")
        .with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
        .waiting_for(LogMessageWaitStrategy("Kafka Server started"))
    )


def _postgres() -> DockerContainer:
    return (
        DockerContainer(_image("postgres"))
        .with_exposed_ports(5432)
        .with_env("POSTGRES_USER", "clips")
        .with_env("POSTGRES_PASSWORD", PASSWORD)
        .with_env("POSTGRES_DB", "clips")
        .waiting_for(LogMessageWaitStrategy("PostgreSQL init process complete"))
    )


def _seaweedfs() -> DockerContainer:
    return (
        DockerContainer(_image("seaweedfs"))
        .with_exposed_ports(8333)
        .with_env("AWS_ACCESS_KEY_ID", "clips")
        .with_env("AWS_SECRET_ACCESS_KEY", PASSWORD)
        .with_command("server -s3 -dir=/data")
        .waiting_for(LogMessageWaitStrategy("Start Seaweed S3 API Server"))
    )
