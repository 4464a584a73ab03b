"""The parent of workers: it starts them, again when they die, and answers for all of them."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from clip_cutter.workers import Workers, this_command

# A worker as its parent sees it: it answers on a socket. Files in a folder say what.
WORKER = """
import json, sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer

folder, socket = Path(sys.argv[1]), sys.argv[2]

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        answers = {
            "/metrics": "# HELP clips_events_total Events.\\n# TYPE clips_events_total counter\\n"
            'clips_events_total{topic="t"} 5.0\\n',
            "/healthz/live": {"status": "stuck", "reason": "a handler hangs"},
            "/healthz/ready": {"checks": {"kafka": {"reason": "it is out"}, "ffmpeg": {}}},
        }
        answer = answers[self.path]
        ill = (folder / Path(socket).name / self.path.rsplit("/")[-1]).exists()
        if self.path == "/healthz/ready" and not ill:
            answer = {"checks": {"kafka": {}}}
        self.send_response(503 if ill else 200)
        self.end_headers()
        self.wfile.write((answer if isinstance(answer, str) else json.dumps(answer)).encode())

    def address_string(self):
        return "parent"

    def log_message(self, *_):
        pass

with UnixStreamServer(socket, Handler) as server:
    server.serve_forever()
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_cutter.workers.FIRST_PAUSE_SECONDS", 0.05)


def command(folder: Path) -> list[str]:
    return [sys.executable, "-c", WORKER, str(folder)]


class Parent:
    def __init__(self, workers: Workers, http: httpx.AsyncClient) -> None:
        self.workers = workers
        self.http = http

    @property
    def children(self) -> list[psutil.Process]:
        return [each for each in psutil.Process().children() if WORKER in each.cmdline()]

    async def figures(self, name: str) -> dict[str, float]:
        text = (await self.http.get("/metrics")).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {each.labels["worker"]: each.value for each in samples if each.name == name}

    async def status(self, path: str) -> int:
        return (await self.http.get(path)).status_code


@asynccontextmanager
async def parent(folder: Path) -> AsyncIterator[Parent]:
    workers = Workers("clip-cutter", 2, command(folder), grace_seconds=1)
    transport = httpx.ASGITransport(workers.app)
    async with (
        workers.app.router.lifespan_context(workers.app),
        httpx.AsyncClient(transport=transport, base_url="http://parent") as http,
    ):
        found = Parent(workers, http)
        await until(lambda: ready(found))
        yield found


async def ready(found: Parent) -> bool:
    return await found.status("/healthz/ready") == httpx.codes.OK


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.02)


def names_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


async def test_it_answers_for_all(tmp_path: Path) -> None:
    async with parent(tmp_path) as found:
        assert await found.figures("clips_events_total") == {"1": 5, "2": 5}
        assert await found.figures("clips_worker_up") == {"1": 1, "2": 1}
        assert await found.status("/healthz/live") == 200
        (tmp_path / "2").mkdir()
        (tmp_path / "2" / "ready").touch()
        answer = await found.http.get("/healthz/ready")
        assert answer.status_code == 503
        assert answer.json()["checks"]["worker 1"] == {"status": "ready"}
        assert "kafka: it is out" in answer.json()["checks"]["worker 2"]["reason"]
        (tmp_path / "2" / "live").touch()
        answer = await found.http.get("/healthz/live")
        assert answer.status_code == 503
        assert answer.json()["reason"] == "worker 2: a handler hangs"


async def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    async with parent(tmp_path) as found:
        victim, other = found.children
        victim.send_signal(signal.SIGKILL)

        async def again() -> bool:
            return sum((await found.figures("clips_worker_restarts_total")).values()) == 1

        await until(again)
        assert await found.status("/healthz/live") == 200
        await until(lambda: ready(found))
        assert other.is_running()
        assert len(found.children) == 2


async def test_a_worker_that_hangs_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with parent(tmp_path) as found:
        victim, _ = found.children
        victim.suspend()
        monkeypatch.setattr("clip_cutter.workers.STARTUP_SECONDS", 0)
        assert await found.status("/healthz/live") == 503
        assert await found.status("/healthz/ready") == 503
        victim.resume()
        await until(lambda: ready(found))


async def test_they_all_end_with_it_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with parent(tmp_path) as found:
        children = found.children
        assert len(names_in(tmp_path)) == 1
    assert not any(each.is_running() for each in children)
    assert names_in(tmp_path) == []


async def test_one_that_does_not_end_in_order_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clip_cutter.workers.CLOSING_SECONDS", 0)
    async with parent(tmp_path) as found:
        children = found.children
        children[0].suspend()
    assert not any(each.is_running() for each in children)


@pytest.mark.parametrize(
    ("death", "exit_code", "starts"),
    [("sys.exit(7)", 7, 5), ("os.kill(os.getpid(), 9)", 1, 5), ("sys.exit(2)", 2, 1)],
)
async def test_the_container_ends_when_a_worker_keeps_dying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, death: str, exit_code: int, starts: int
) -> None:
    told: list[int] = []
    monkeypatch.setattr("clip_cutter.workers.signal.raise_signal", told.append)
    program = f"import os, sys; open(sys.argv[1], 'a').write('x'); {death}"
    workers = Workers(
        "clip-cutter", 1, [sys.executable, "-c", program, str(tmp_path / "starts")], grace_seconds=1
    )
    async with workers.app.router.lifespan_context(workers.app), asyncio.timeout(20):
        while not told:
            await asyncio.sleep(0.02)
    assert told == [signal.SIGTERM]
    assert workers.exit_code == exit_code
    assert (tmp_path / "starts").read_text() == "x" * starts


def test_a_worker_ends_when_its_parent_is_gone_and_leaves_nothing(tmp_path: Path) -> None:
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    (sockets / "1").touch()
    program = """
import pathlib, signal, sys, clip_cutter.workers
clip_cutter.workers.end_with_the_parent(pathlib.Path(sys.argv[1]))
print(flush=True)
signal.pause()
"""
    command = [sys.executable, "-c", program, str(sockets / "1")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(20) == -signal.SIGTERM
    assert not sockets.exists()


def test_a_worker_is_started_as_this_process_was() -> None:
    program = "from clip_cutter.workers import this_command; print(this_command())"
    shown = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", program, "serve"], capture_output=True, text=True, check=True
    ).stdout
    assert shown == f"{[sys.executable, '-X', 'utf8', '-c', program, 'serve']}\n"
    assert this_command()[0] == sys.executable
