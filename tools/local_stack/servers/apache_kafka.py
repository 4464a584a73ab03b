"""Apache Kafka as one KRaft node: broker and controller in one Java process."""

import json
from pathlib import Path

from local_stack.processes.ports import LOOPBACK, listener_error
from local_stack.processes.process import Process
from local_stack.processes.workspace import Workspace
from local_stack.servers.kafka_jars import bring_jars, find_java

# A quick start and a small heap: a dozen other processes run beside it.
_JVM = (
    *("-Xms64m", "-Xmx512m", "-XX:MaxDirectMemorySize=128m", "-XX:+ExitOnOutOfMemoryError"),
    *("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"),
    *("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"),
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
)
# Any id works: it distinguishes clusters, and only this machine reaches this cluster.
_CLUSTER_ID = "5L6g3nShT-eMCtK--X86sw"


class ApacheKafka(Process):
    """A one-node cluster on loopback ports. A SIGKILL loses nothing that it acknowledged.

    Raises:
        BrokerUnavailable: its jars are missing and cannot be fetched, or JAVA_HOME has no Java for it.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._ports = (workspace.ports.claim("kafka"), workspace.ports.claim("kafka-controller"))
        self._folder = workspace.state.folder / "apache-kafka"
        self._data = self._folder / "data"
        self._properties = self._folder / "server.properties"
        log, environment = workspace.state.log("kafka"), workspace.state.environment()
        java: list[str | Path] = [
            *(find_java(), *_JVM, f"-Djava.io.tmpdir={workspace.state.tmp}"),
            *("-cp", ":".join(map(str, bring_jars()))),
        ]
        format_storage = ("format", "--cluster-id", _CLUSTER_ID, "--config", self._properties)
        self._format = Process(
            "Kafka storage tool",
            [*java, "kafka.tools.StorageTool", *format_storage, "--ignore-formatted"],
            log=log,
            environment=environment,
        )
        super().__init__(
            "Kafka broker",
            [*java, "kafka.Kafka", self._properties],
            log=log,
            environment=environment,
            # The broker opens this port only when it takes requests.
            readiness_error=lambda: listener_error(self._ports[0]),
        )

    @property
    def bootstrap_servers(self) -> str:
        """Where clients find the broker."""
        return f"{LOOPBACK}:{self._ports[0]}"

    def prepare(self) -> None:
        """Write the configuration, and format a new data folder."""
        self._folder.mkdir(exist_ok=True)
        self._properties.write_text(_properties(self._data, *self._ports))
        if not (self._data / "meta.properties").exists():
            self._format.run()


def _properties(data: Path, port: int, controller_port: int) -> str:
    clients, controller = f"{LOOPBACK}:{port}", f"{LOOPBACK}:{controller_port}"
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{clients},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{clients}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": data,
        # As in production: topics are created by a command, never by a client's request.
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        # After a SIGKILL, the controller registers the broker again only when its old session has ended.
        "broker.session.timeout.ms": 3_000,
        "broker.heartbeat.interval.ms": 500,
        **_internal_topics(),
        # Small files: little to allocate, to recover and to write.
        "log.segment.bytes": 16 * 1024 * 1024,
        "log.index.size.max.bytes": 1024 * 1024,
        "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
        "num.network.threads": 2,
        "num.io.threads": 4,
    }
    # A properties file is ASCII, with the escapes that JSON has.
    return "".join(f"{name}={json.dumps(str(value))[1:-1]}\n" for name, value in settings.items())


def _internal_topics() -> dict[str, int]:
    """Return settings for Kafka's own topics, which have three replicas and fifty partitions by default."""
    topics = {
        "offsets.topic.": "offsets.topic.num.partitions",
        "transaction.state.log.": "transaction.state.log.num.partitions",
        "share.coordinator.state.topic.": "share.coordinator.state.topic.num.partitions",
    }
    replicated = {f"{prefix}replication.factor": 1 for prefix in topics}
    in_sync = {f"{prefix}min.isr": 1 for prefix in topics if prefix != "offsets.topic."}
    return {**replicated, **in_sync, **dict.fromkeys(topics.values(), 1)}
