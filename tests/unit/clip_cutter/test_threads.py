"""What is left of a job whose thread still works when it is cancelled: nothing."""

import asyncio
import time
from pathlib import Path
from threading import Event

import pytest
from prometheus_client import CollectorRegistry

from clip_cutter.metrics import CutterMetrics
from clip_cutter.scratch import Scratch
from clip_cutter.threads import in_thread


async def test_a_result_and_an_error_come_through() -> None:
    assert await in_thread(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)


async def test_a_cancelled_job_leaves_no_file_that_its_thread_still_wrote(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, CutterMetrics(CollectorRegistry()))
    started = Event()

    def write(folder: Path) -> None:
        # A process that removes the folder at that time finds it filled again.
        for number in range(5_000):
            (folder / str(number)).touch()
            if number == 500:
                started.set()

    async def work() -> None:
        with scratch.job(1) as job:
            await in_thread(write, job.folder)

    with scratch.opened():
        running = asyncio.create_task(work())
        await asyncio.to_thread(started.wait)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.sleep(0.5)
        assert left_in(tmp_path) == ["lock"]


def left_in(scratch: Path) -> list[str]:
    return [path.name for path in scratch.glob("worker-*/*")]


async def test_a_cancellation_hides_the_error_of_a_thread() -> None:
    def fail() -> None:
        time.sleep(0.1)
        raise OSError("the folder has gone")

    running = asyncio.create_task(in_thread(fail))
    await asyncio.sleep(0.02)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
