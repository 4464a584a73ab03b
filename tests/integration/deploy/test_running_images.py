"""The images: built, and run with the options of docker-compose.yml, on the local stack's servers.

``TEST_IMAGES`` names the engine, docker or podman; without, these tests are skipped.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url
from tests.integration.deploy.engine import ENGINE, build_options, engine
from tests.support.deployment import OWN, environment_of, final_stage, services

from local_stack.processes.ports import Ports
from local_stack.servers.servers import Addresses

CONTAINERS = services()
START_SECONDS = 90
STOP_SECONDS = 60

pytestmark = [
    pytest.mark.skipif(not ENGINE, reason="TEST_IMAGES names no engine"),
    # Building takes minutes.
    pytest.mark.timeout(1800),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> None:
    options = build_options(tmp_path_factory.mktemp("base"))
    for name in OWN:
        build = CONTAINERS[name]["build"]
        engine(
            *("build", *options),
            *("--build-arg", f"SERVICE={build['args']['SERVICE']}", "--file", build["dockerfile"]),
            *("--tag", CONTAINERS[name]["image"], build["context"]),
        )


def options_of(service: dict[str, Any]) -> list[str]:
    """Return the options of a container in the file, as options of the engine."""
    limits = service["deploy"]["resources"]["limits"]
    return [
        *("--read-only", "--network=host"),
        *(["--init"] if service["init"] else []),
        *(f"--cap-drop={name}" for name in service["cap_drop"]),
        *(f"--security-opt={option.removesuffix(':true')}" for option in service["security_opt"]),
        *(f"--memory={limits['memory']}", f"--pids-limit={limits['pids']}", f"--cpus={limits['cpus']}"),
        *(f"--tmpfs={mount}" for mount in service["tmpfs"]),
    ]


@contextmanager
def running(name: str, environment: dict[str, str]) -> Iterator[str]:
    """Run a container of a service; yield its id, and remove it in the end."""
    variables = [f"--env={key}={value}" for key, value in environment.items()]
    service = CONTAINERS[name]
    container = engine("run", "--detach", *options_of(service), *variables, service["image"]).stdout.strip()
    try:
        yield container
    finally:
        engine("rm", "--force", container)


def wait_until_healthy(name: str, container: str, port: str) -> None:
    """Run the health check until it succeeds."""
    asked = environment_of(CONTAINERS[name])["OPERATIONS_PORT"]
    _, *command = CONTAINERS[name]["healthcheck"]["test"]
    command = [word.replace(f":{asked}/", f":{port}/") for word in command]
    deadline = time.monotonic() + START_SECONDS
    while (answer := engine("exec", container, *command, check=False)).returncode != 0:
        if time.monotonic() > deadline:
            logs = engine("logs", "--tail=30", container)
            raise AssertionError(f"{answer.stderr[-500:]}\n{logs.stdout}{logs.stderr}")
        time.sleep(0.5)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[str]:
    """The URL of an empty database."""
    server = make_url(database_url)
    name = f"images_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(
        server.set(drivername="postgresql").render_as_string(hide_password=False)
    )
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
        yield server.set(database=name).render_as_string(hide_password=False)
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await connection.close()


@pytest.mark.usefixtures("images", "s3")
async def test_every_service_starts_twice_and_ends_in_order(
    addresses: Addresses, kafka_bootstrap_servers: str, database: str
) -> None:
    here = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap_servers,
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "DATABASE_URL": database,
        "FREE_STORAGE_ENDPOINT": addresses.s3_endpoint_url,
        "FREE_STORAGE_ACCESS_KEY": addresses.s3_access_key,
        "FREE_STORAGE_SECRET_KEY": addresses.s3_secret_key,
    }
    await asyncio.to_thread(run_all, here)


def run_all(here: dict[str, str]) -> None:
    with Ports() as ports, ExitStack() as stack:
        registry = ports.claim("clip-registry")
        engine(
            *("run", "--rm", "--network=host", f"--env=DATABASE_URL={here['DATABASE_URL']}"),
            *(CONTAINERS["migrate"]["image"], *CONTAINERS["migrate"]["command"]),
        )
        started = {}
        for name in ("clip-registry", "clip-gateway", "janitor", "clip-cutter"):
            environment = environment_of(CONTAINERS[name])
            mine = {key: value for key, value in here.items() if key in environment} | {
                "HTTP_PORT": str(registry if name == "clip-registry" else ports.claim(name)),
                "OPERATIONS_PORT": str(ports.claim(f"{name}-operations")),
            }
            if "REGISTRY_URL" in environment:
                mine["REGISTRY_URL"] = f"http://127.0.0.1:{registry}"
            container = stack.enter_context(running(name, environment | mine))
            started[name] = (container, mine["OPERATIONS_PORT"])
            wait_until_healthy(name, *started[name])
            assert_locked_in(container)
        for name, (container, port) in reversed(started.items()):
            assert stopped(container) == 0, name
            # Files of the first start do not disturb the second.
            engine("start", container)
            wait_until_healthy(name, container, port)
            assert stopped(container) == 0, name


def stopped(container: str) -> int:
    """Stop a container in order, and return its exit code."""
    engine("stop", f"--time={STOP_SECONDS}", container)
    return int(engine("inspect", "--format={{.State.ExitCode}}", container).stdout)


def assert_locked_in(container: str) -> None:
    """No process is root, and only the folders in memory are writable."""
    assert (
        engine("exec", container, "id", "-u").stdout.strip() == final_stage().only("USER").partition(":")[0]
    )
    refused = engine("exec", container, "touch", "/app/new", check=False)
    assert refused.returncode != 0
    assert "Read-only file system" in refused.stderr
    engine("exec", container, "touch", "/tmp/new")  # noqa: S108 - in the container
    status = engine("exec", container, "cat", "/proc/1/status").stdout
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
