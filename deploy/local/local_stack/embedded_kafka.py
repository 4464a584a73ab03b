"""A broker that speaks Kafka's protocol, from the ``noida-db`` wheel. For local use only.

It cannot resume an idempotent producer after a restart: set ``KAFKA_ENABLE_IDEMPOTENCE=false``. It writes its
records to disk about once a second: a SIGKILL loses those acknowledged since, a stop none. And a member of a
consumer group that died without a word keeps its place for ever: see :func:`dismiss_members`.
"""

import asyncio
import stat
from importlib.util import find_spec
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.group import LeaveGroupRequest

from local_stack.ports import LOOPBACK, lacks_listener
from local_stack.process import Process, ProcessFailed
from local_stack.site import Site


class EmbeddedKafka(Process):
    """A one-node broker on a loopback port."""

    enable_idempotence = False

    def __init__(self, site: Site) -> None:
        self._port = site.ports.claim("kafka")
        self._data = site.state.folder / "kafka"
        super().__init__(
            "Kafka broker",
            [
                *(_program(), "start", "--only", "kafka"),
                *("--kafka-port", str(self._port), "--host", LOOPBACK, "--data-dir", self._data),
            ],
            log=site.state.log("kafka"),
            environment=site.state.environment(),
            lacks=lambda: lacks_listener(self._port),
        )

    @property
    def bootstrap_servers(self) -> str:
        """Where clients find the broker."""
        return f"{LOOPBACK}:{self._port}"

    def prepare(self) -> None:
        """Make the data folder."""
        self._data.mkdir(exist_ok=True)


def dismiss_members(bootstrap_servers: str, client_id: str) -> None:
    """Take the members that dead consumers of ``client_id`` left behind out of their groups.

    Apache Kafka does this itself when a member's session times out; the embedded broker waits for it without
    end, and lets nobody else join.
    """
    asyncio.run(_dismiss_members(bootstrap_servers, client_id))


async def _dismiss_members(bootstrap_servers: str, client_id: str) -> None:
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await client.bootstrap()
    try:
        await admin.start()
        for group, *_ in await admin.list_consumer_groups():
            # One by one: its answer about several groups cannot be read.
            (response,) = await admin.describe_consumer_groups([group])
            for member in response.to_object()["groups"][0]["members"]:
                if member["client_id"] == client_id:
                    request = LeaveGroupRequest(group, member["member_id"])
                    await client.send(client.get_random_node(), request)
    finally:
        await admin.close()
        await client.close()


def _program() -> Path:
    package = find_spec("noida_db")
    if package is None or package.origin is None:
        raise ProcessFailed("the Kafka broker is not installed: the package noida-db is missing")
    # The binary itself: the wheel's Python command would stand between us and it.
    program = Path(package.origin).parent / "noida-db"
    if not program.stat().st_mode & stat.S_IXUSR:
        program.chmod(0o755)
    return program
