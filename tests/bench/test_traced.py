import asyncio
import functools
import json
import time
from pathlib import Path
from typing import Any

from clip_cutter import handlers
from tests.bench import traced


async def _inner() -> None:
    await asyncio.sleep(0.01)


_inner.__qualname__ = "inner"


class TracedHandlers:
    async def make_clip(self, step: Any) -> None:
        await step()
        await asyncio.gather(step(), step())


def test_a_job_is_noted_step_by_step_and_tabled(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    TracedHandlers.make_clip.__qualname__ = traced.ROOT
    handle = traced.timed(TracedHandlers.make_clip, trace)
    step = traced.timed(_inner, trace)
    asyncio.run(step())  # part of no job
    for _ in range(3):
        asyncio.run(handle(TracedHandlers(), step))
    jobs = [json.loads(line) for line in trace.read_text().splitlines()]
    assert [len(job["spans"]) for job in jobs] == [4, 4, 4]
    rows = traced.profile(trace).splitlines()[2:4]
    assert rows[0].startswith("| CutterHandlers.make_clip | 1 | 0.")
    assert rows[1].startswith("| · inner | 3 | 0.")


def test_work_in_a_thread_is_part_of_the_step(tmp_path: Path) -> None:
    to_thread = traced._timed_to_thread(asyncio.to_thread)

    async def job() -> None:
        with traced.whole_job(tmp_path / "trace"):
            await to_thread(functools.partial(time.sleep, 0.001))

    asyncio.run(job())
    paths = [span[0] for span in json.loads((tmp_path / "trace").read_text())["spans"]]
    assert paths == [[traced.ROOT, "in a thread: sleep"], [traced.ROOT]]


def test_the_root_of_a_job_is_the_handler_of_the_cutter() -> None:
    assert handlers.CutterHandlers.make_clip.__qualname__ == traced.ROOT
