"""A broker that speaks Kafka's protocol, from the ``noida-db`` wheel. For local use only.

It cannot resume an idempotent producer after a restart: set ``KAFKA_ENABLE_IDEMPOTENCE=false``. And it
writes its records to disk about once a second: a SIGKILL loses those acknowledged since, a stop none.
"""

import stat
from importlib.util import find_spec
from pathlib import Path

from local_stack.ports import LOOPBACK, lacks_listener
from local_stack.process import Process, ProcessFailed
from local_stack.site import Site


class Kafka(Process):
    """A one-node broker on a loopback port."""

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


def _program() -> Path:
    package = find_spec("noida_db")
    if package is None or package.origin is None:
        raise ProcessFailed("the Kafka broker is not installed: the package noida-db is missing")
    # The binary itself: the wheel's Python command would stand between us and it.
    program = Path(package.origin).parent / "noida-db"
    if not program.stat().st_mode & stat.S_IXUSR:
        program.chmod(0o755)
    return program
