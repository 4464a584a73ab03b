"""A service as a process: it says when it is up, stops in order, and says why it cannot start."""

import json
import signal
import subprocess
import sys
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


def launch(folder: Path, **environment: str) -> subprocess.Popen[str]:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    return subprocess.Popen(
        [sys.executable, str(program)],
        env={"PATH": "", "HTTP_HOST": LOOPBACK, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def lines_of(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_service_starts_answers_and_stops_in_order(
    tmp_path: Path, kafka_bootstrap_servers: str, stop: signal.Signals
) -> None:
    with Ports() as ports:
        port = ports.claim("http")
        process = launch(tmp_path, HTTP_PORT=str(port), KAFKA_BOOTSTRAP_SERVERS=kafka_bootstrap_servers)
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
            tmp_path, HTTP_PORT=str(ports.claim("http")), KAFKA_BOOTSTRAP_SERVERS=f"{LOOPBACK}:1"
        )
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 3
    reasons = [line["error"] for line in lines_of(output) if line["message"] == "could not start"]
    assert len(reasons) == 1
    assert f"cannot connect to Kafka at {LOOPBACK}:1" in str(reasons[0])
