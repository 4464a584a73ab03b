"""A service as a process: it says when it is up, stops in order, and says why it cannot start."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from local_stack.ports import LOOPBACK, Ports

PROGRAM = """
import sys
from clip_shared.bus import Bus
from clip_shared.service import create_app, metrics_registry, serve
from clip_shared.settings import KafkaSettings, ServiceSettings

class Settings(ServiceSettings, KafkaSettings):
    pass

def build(settings):
    registry = metrics_registry()
    bus = Bus(settings, service="test-serve", registry=registry)
    return create_app("test-serve", registry=registry, bus=bus, checks={})

serve("test-serve", Settings, build)
"""


def launch(folder: Path, source: str = PROGRAM, **environment: str) -> subprocess.Popen[str]:
    program = folder / "program.py"
    program.write_text(source)
    return subprocess.Popen(
        [sys.executable, str(program)],
        env={"PATH": "", "HTTP_HOST": LOOPBACK, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


API_PROGRAM = """
import asyncio
from clip_shared.service import create_api, create_app, metrics_registry, serve
from clip_shared.settings import ApiSettings

api = create_api("test-serve")

@api.get("/slow")
async def slow() -> str:
    await asyncio.sleep(1)
    return "done"

def build(_settings):
    return create_app("test-serve", registry=metrics_registry(), checks={}, api=api)

serve("test-serve", ApiSettings, build)
"""


@dataclass(frozen=True)
class Running:
    """A service with an API, and clients of its two ports."""

    process: subprocess.Popen[str]
    api: httpx.Client
    operations: httpx.Client


@contextmanager
def running_api(folder: Path, **environment: str) -> Iterator[Running]:
    with Ports() as ports:
        http, operations = ports.claim("http"), ports.claim("operations")
        program = {"HTTP_PORT": str(http), "OPERATIONS_PORT": str(operations)}
        process = launch(folder, API_PROGRAM, **program, **environment)
        transport = httpx.HTTPTransport(retries=8)
        try:
            with (
                httpx.Client(base_url=f"http://{LOOPBACK}:{http}", transport=transport) as api,
                httpx.Client(base_url=f"http://{LOOPBACK}:{operations}") as of_operations,
            ):
                api.get("/", timeout=10)
                yield Running(process, api, of_operations)
        finally:
            process.kill()
            process.communicate()


def test_metrics_and_health_are_on_the_operations_port_alone(tmp_path: Path) -> None:
    with running_api(tmp_path) as service:
        for path in ("/metrics", "/healthz/live", "/healthz/ready"):
            assert service.operations.get(path).status_code == 200
            assert service.api.get(path).status_code == 404
        for client in (service.api, service.operations):
            assert client.get("/openapi.json").status_code == 404


def test_the_api_goes_on_until_load_balancers_have_noticed(tmp_path: Path) -> None:
    with running_api(tmp_path, SHUTDOWN_DELAY_SECONDS="2") as service:
        service.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        while service.operations.get("/healthz/ready").status_code == 200:
            time.sleep(0.02)
        assert time.monotonic() - began < 1
        assert service.operations.get("/healthz/live").status_code == 200
        with httpx.Client(base_url=service.api.base_url) as new_connection:
            assert new_connection.get("/slow").text == '"done"'
        with ThreadPoolExecutor() as pool:
            time.sleep(max(0, 1.8 - (time.monotonic() - began)))
            last = pool.submit(service.api.get, "/slow")  # begins before the port closes, ends after
            assert last.result().text == '"done"'
        assert service.process.wait(10) == 0
        assert time.monotonic() - began >= 2


def lines_of(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_service_starts_answers_and_stops_in_order(
    tmp_path: Path, kafka_bootstrap_servers: str, stop: signal.Signals
) -> None:
    with Ports() as ports:
        port = ports.claim("http")
        process = launch(tmp_path, OPERATIONS_PORT=str(port), KAFKA_BOOTSTRAP_SERVERS=kafka_bootstrap_servers)
        try:
            transport = httpx.HTTPTransport(retries=8)
            with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", transport=transport) as client:
                assert client.get("/healthz/ready", timeout=10).json()["status"] == "ready"
                assert client.get("/healthz/live").json() == {"status": "alive"}
                assert "clips_events_total" in client.get("/metrics").text
        finally:
            process.send_signal(stop)
            output, _ = process.communicate(timeout=20)
    messages = [line["message"] for line in lines_of(output)]
    assert process.returncode == 0, output
    assert messages.index("started") < messages.index("stopping")


def test_without_a_bus_it_says_so_and_leaves(tmp_path: Path) -> None:
    with Ports() as ports:
        process = launch(
            tmp_path, OPERATIONS_PORT=str(ports.claim("http")), KAFKA_BOOTSTRAP_SERVERS=f"{LOOPBACK}:1"
        )
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 3
    reasons = [line["error"] for line in lines_of(output) if line["message"] == "could not start"]
    assert len(reasons) == 1
    assert f"cannot connect to Kafka at {LOOPBACK}:1" in str(reasons[0])


@pytest.mark.parametrize("taken", ["HTTP_PORT", "OPERATIONS_PORT"])
def test_with_a_port_that_is_taken_it_says_so_and_leaves(tmp_path: Path, taken: str) -> None:
    with Ports() as ports, socket.create_server((LOOPBACK, 0)) as listener:
        free = {name: str(ports.claim(name)) for name in ("HTTP_PORT", "OPERATIONS_PORT")}
        process = launch(tmp_path, API_PROGRAM, **{**free, taken: str(listener.getsockname()[1])})
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "Address already in use" in output
    assert "Traceback" not in output
