"""What a real service process writes: every line on standard output is JSON, nothing is on standard error."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from clip_shared.bus.clients import publish_once
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import DailyTick, Event
from local_stack.processes.ports import LOOPBACK, Ports

SERVICE = """
import asyncio, threading, warnings
from clip_shared.bus.bus import Bus
from clip_shared.contracts.events import DailyTick
from clip_shared.bus.settings import KafkaSettings
from clip_shared.http.operations import create_app, metrics_registry
from clip_shared.http.service import serve
from clip_shared.http.settings import ServiceSettings

class Settings(ServiceSettings, KafkaSettings):
    pass

async def fail():
    raise LookupError("a task that nobody waits for")

def build(settings):
    registry = metrics_registry()
    bus = Bus(settings, service="test-logs", registry=registry)

    @bus.subscriber(DailyTick, deadline_seconds=5)
    async def handle(event):
        if event.source != "test-logs":
            return
        warnings.warn("an old way")
        threading.Thread(target=lambda: 1 / 0).start()
        asyncio.create_task(fail())
        raise ValueError("no such thing")

    return create_app("test-logs", registry=registry, bus=bus, checks={})

serve("test-logs", Settings, build)
"""

DYING = """
from clip_shared.logs import configure_logs
configure_logs("test-logs", "INFO")
raise LookupError("nobody catches this")
"""


def launch(folder: Path, program: str, **environment: str) -> subprocess.Popen[str]:
    (folder / "program.py").write_text(program)
    return subprocess.Popen(
        [sys.executable, "-X", "dev", str(folder / "program.py")],
        env={"PATH": "", "HTTP_HOST": LOOPBACK, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.usefixtures("topics")
def test_every_line_of_a_service_that_meets_trouble_is_json(
    tmp_path: Path, kafka_settings: KafkaSettings
) -> None:
    expected = {"started", "will be delivered again", "an exception was not caught", "py.warnings", "asyncio"}
    asyncio.run(publish_once(kafka_settings, Event.new(DailyTick(), source="test-logs")))
    with Ports() as ports:
        process = launch(
            tmp_path,
            SERVICE,
            OPERATIONS_PORT=str(ports.claim("operations")),
            KAFKA_BOOTSTRAP_SERVERS=kafka_settings.kafka_bootstrap_servers,
        )
        killer = threading.Timer(60, process.kill)
        killer.start()
        read = []
        assert process.stdout is not None
        for line in process.stdout:
            read.append(line)
            before, expected = expected, expected - set(_facts(json.loads(line)))
            if before and not expected:
                process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
        killer.cancel()
    assert expected == set()
    assert process.returncode == 0
    assert errors == ""
    assert all(json.loads(line)["service"] == "test-logs" for line in read)


def test_an_exception_that_ends_the_process_is_json(tmp_path: Path) -> None:
    output, errors = launch(tmp_path, DYING).communicate(timeout=20)
    assert errors == ""
    (line,) = map(json.loads, output.splitlines())
    assert line["level"] == "critical"
    assert "LookupError: nobody catches this" in line["exception"]


def _facts(line: dict[str, object]) -> Sequence[object]:
    return line.get("message"), line.get("logger")
