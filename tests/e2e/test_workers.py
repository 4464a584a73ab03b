"""Several workers in one container: one job each, one port for all, and an end in order."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from local_stack.ports import LOOPBACK, Ports
from local_stack.stack import LocalStack
from tests.e2e.platform import Platform, until

WORKERS = 2
GRACE_SECONDS = 2


class Cutter:
    """The cutter in place of the stack's, with workers of its own that re-encode: their jobs take a while."""

    def __init__(self, stack: LocalStack, port: int) -> None:
        self.http = httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", timeout=10)
        environment = {
            **stack.environment,
            "PATH": os.environ["PATH"],
            "OPERATIONS_PORT": str(port),
            "CUTTER_WORKERS": str(WORKERS),
            "CUT_MODE": "exact",
            "FFMPEG_THREADS": "1",
            "SHUTDOWN_GRACE_SECONDS": str(GRACE_SECONDS),
        }
        self.process = subprocess.Popen([sys.executable, "-m", "clip_cutter", "serve"], env=environment)

    @property
    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    async def until_ready(self) -> None:
        async def ready() -> bool | None:
            try:
                answer = await self.http.get("/healthz/ready")
            except httpx.TransportError:
                return None
            return True if answer.json()["status"] == "ready" else None

        await until(ready, "the cutter to be ready")

    async def figures(self, name: str) -> dict[str, float]:
        """One metric, by worker."""
        text = (await self.http.get("/metrics")).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {each.labels["worker"]: each.value for each in samples if each.name == name}


@pytest.fixture
def cutter(stack: LocalStack) -> Iterator[Cutter]:
    stack.cutter.stop()
    with Ports() as ports, ended(Cutter(stack, ports.claim("cutter"))) as cutter:
        yield cutter
    stack.cutter.start()


@contextmanager
def ended(cutter: Cutter) -> Iterator[Cutter]:
    try:
        yield cutter
    finally:
        cutter.process.terminate()
        cutter.process.wait(30)


def ffmpeg_at_work(platform: Platform) -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if f"{platform.scratch}/" in " ".join(process.info["cmdline"] or ())
    ]


async def test_jobs_at_once_are_abandoned_in_order_and_done_by_the_next(
    platform: Platform, stack: LocalStack, cutter: Cutter
) -> None:
    await cutter.until_ready()
    assert len(cutter.workers) == WORKERS
    clips = []

    async def all_at_work() -> bool | None:
        # One more at a time, until one is on a partition of each worker's.
        clips.append(await platform.detect(start_seconds=1, end_seconds=58))
        for _ in range(10):
            if len(ffmpeg_at_work(platform)) == WORKERS:
                return True
            await asyncio.sleep(0.1)
        return None

    await until(all_at_work, "both workers to be in the middle of a job")
    assert await cutter.figures("clips_jobs_in_progress") == {"1": 1, "2": 1}
    workers = cutter.workers
    began = time.monotonic()
    cutter.process.terminate()
    assert cutter.process.wait(30) == 0
    assert time.monotonic() - began < GRACE_SECONDS + 10
    assert not any(worker.is_running() for worker in workers)
    assert ffmpeg_at_work(platform) == []
    assert list(platform.scratch.glob("worker-*")) == []

    await asyncio.to_thread(stack.cutter.start)
    for clip_id in clips:
        await platform.available(clip_id)
