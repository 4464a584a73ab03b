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
import psutil
import pytest

from local_stack.processes.ports import LOOPBACK, Ports

PROGRAM = """
import sys
from clip_shared.bus.bus import Bus
from clip_shared.bus.settings import KafkaSettings
from clip_shared.http.operations import create_app, metrics_registry
from clip_shared.http.service import serve
from clip_shared.http.settings import ServiceSettings

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
import gc
import clip_shared.http.connections
from fastapi import Request
from clip_shared.http.api import create_api
from clip_shared.http.operations import create_app, metrics_registry
from clip_shared.http.service import serve
from clip_shared.http.settings import ApiSettings

clip_shared.http.connections.RECEIVE_SECONDS = 1.5

api = create_api("test-serve")

@api.get("/slow")
async def slow() -> str:
    await asyncio.sleep(1)
    return "done"

@api.get("/slower")
async def slower() -> str:
    await asyncio.sleep(2.5)
    return "done"

@api.get("/frozen")
async def frozen() -> int:
    return gc.get_freeze_count()

@api.post("/echo")
async def echo(request: Request) -> str:
    return (await request.body()).decode()

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
            head = service.operations.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert int(head.headers["content-length"]) > 0
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


def open_sockets(service: Running, count: int, text: bytes) -> list[socket.socket]:
    sockets = [socket.create_connection((LOOPBACK, service.api.base_url.port or 0)) for _ in range(count)]
    for each in sockets:
        each.sendall(text)
    return sockets


def is_closed(connection: socket.socket, within_seconds: float) -> bool:
    connection.settimeout(within_seconds)
    try:
        return connection.recv(1000) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


HALF_A_LINE = b"GET /slow HT"
HALF_A_HEADER = b"GET /slow HTTP/1.1\r\nHost: x\r\nAccept"
HALF_A_BODY = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf"
WHOLE = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
PIPELINED = WHOLE + HALF_A_LINE
PIPELINED_BODY = WHOLE + HALF_A_BODY
BODY_TO_BE_READ = HALF_A_BODY.replace(b"/slow", b"/echo")
EMPTY_LINE = b"\r\n"


@pytest.mark.parametrize("most", ["500", "100"])
def test_half_open_connections_are_closed_and_keep_nobody_out(tmp_path: Path, most: str) -> None:
    with running_api(tmp_path, HTTP_MAX_CONNECTIONS=most) as service:
        began = time.monotonic()
        sockets = open_sockets(service, 300, HALF_A_LINE)
        for _ in range(10):
            assert httpx.get(service.api.base_url.join("/nothing")).status_code == 404
        assert time.monotonic() - began < 2, "answered while the others still wait"
        connections = psutil.Process(service.process.pid).net_connections()
        assert sum(each.status == psutil.CONN_ESTABLISHED for each in connections) <= int(most) + 2
        assert all(is_closed(each, 4) for each in sockets)
        assert service.api.get("/slow").text == '"done"'
        for each in sockets:
            each.close()


def test_a_request_that_never_ends_is_cut_off(tmp_path: Path) -> None:
    with running_api(tmp_path) as service:
        texts = (
            *(b"", HALF_A_LINE, HALF_A_HEADER, HALF_A_BODY, BODY_TO_BE_READ, PIPELINED, PIPELINED_BODY),
            *(EMPTY_LINE, WHOLE + EMPTY_LINE),
        )
        dripping = {text: open_sockets(service, 1, text)[0] for text in texts}
        until = time.monotonic() + 5
        while dripping and time.monotonic() < until:
            time.sleep(0.2)
            for text, connection in list(dripping.items()):
                try:
                    connection.sendall(EMPTY_LINE if text.endswith(EMPTY_LINE) else b"x")
                except OSError:
                    dripping.pop(text).close()
        assert not dripping


def test_an_idle_connection_stays(tmp_path: Path) -> None:
    with running_api(tmp_path) as service:
        request = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
        (connection,) = open_sockets(service, 1, request)
        with connection:
            assert connection.recv(10_000).startswith(b"HTTP/1.1 404")
            assert not is_closed(connection, 2)
            connection.sendall(request)
            assert connection.recv(10_000).startswith(b"HTTP/1.1 404")


def test_what_is_worked_on_is_not_cut_off_by_what_comes_next(tmp_path: Path) -> None:
    with running_api(tmp_path) as service:
        slower = WHOLE.replace(b"/slow", b"/slower")
        for text in (slower + HALF_A_LINE, slower + HALF_A_BODY):
            (connection,) = open_sockets(service, 1, text)
            with connection:
                connection.settimeout(4)
                assert connection.recv(10_000).startswith(b"HTTP/1.1 200")


def test_requests_on_one_connection_are_answered_in_order(tmp_path: Path) -> None:
    with running_api(tmp_path) as service:
        (connection,) = open_sockets(service, 1, WHOLE + WHOLE.replace(b"/slow", b"/nothing") + WHOLE)
        connection.settimeout(4)
        found = b""
        while found.count(b"HTTP/1.1") < 3 or not found.endswith(b'"done"'):
            found += connection.recv(10_000)
        connection.close()
    assert [part[:3] for part in found.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200"]


@pytest.mark.parametrize("head", [b"GET /" + b"x" * 1000, b"GET / HTTP/1.1\r\nCookie: " + b"x" * 1000])
def test_a_head_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path, head: bytes) -> None:
    with running_api(tmp_path) as service:
        (connection,) = open_sockets(service, 1, head)
        with connection, pytest.raises(ConnectionError):  # noqa: PT012 - until it raises
            for sent in range(1000):  # noqa: B007 - how many it took
                connection.sendall(b"x" * 10_000)
                time.sleep(0.001)
    assert sent < 100


def test_an_offer_to_speak_another_protocol_is_passed_over(tmp_path: Path) -> None:
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"}
    with running_api(tmp_path) as service:
        for _ in range(3):
            answer = service.api.post("/echo", content=b"a body", headers=offer)
            assert answer.json() == "a body"
            assert service.api.get("/nothing", headers=offer).status_code == 404
            assert service.api.get("/nothing").status_code == 404
        connections = psutil.Process(service.process.pid).net_connections()
        assert sum(each.status == psutil.CONN_ESTABLISHED for each in connections) <= 1


def test_what_is_there_at_the_start_is_left_out_of_collections(tmp_path: Path) -> None:
    with running_api(tmp_path) as service:
        assert service.api.get("/frozen").json() > 50_000


def test_no_tunnel_is_opened(tmp_path: Path) -> None:
    with running_api(tmp_path) as service:
        (connection,) = open_sockets(service, 1, b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        with connection:
            assert connection.recv(10_000).startswith(b"HTTP/1.1 400")


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
