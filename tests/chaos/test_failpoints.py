"""A process dies where it is told to, once, and nowhere else."""

import importlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import failpoints
from tests.chaos.failpoints import FAILPOINTS, Failpoint

VICTIM = """
import asyncio, sys
from pathlib import Path
from tests.chaos import failpoints

class Service:
    async def work(self):
        print("work", flush=True)

failpoints.FAILPOINTS = (failpoints.Failpoint("it", "here", "__main__:Service.work", after=%r),)
failpoints.install("it", Path(sys.argv[1]))
asyncio.run(Service().work())
"""


def run_victim(folder: Path, *, after: bool) -> tuple[int, str]:
    command = [sys.executable, "-c", VICTIM % after, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    return done.returncode, done.stdout


@pytest.mark.parametrize(("after", "output"), [(True, "work\n"), (False, "")])
def test_an_armed_failpoint_kills_once(tmp_path: Path, after: bool, output: str) -> None:
    (tmp_path / "it.here").touch()
    assert run_victim(tmp_path, after=after) == (-signal.SIGKILL, output)
    assert run_victim(tmp_path, after=after) == (0, "work\n")


@pytest.mark.parametrize("failpoint", FAILPOINTS, ids=lambda each: each.name)
def test_every_failpoint_is_in_a_service(failpoint: Failpoint) -> None:
    module, _, path = failpoint.function.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    assert callable(found)


def test_names_are_unique() -> None:
    assert len({each.name for each in FAILPOINTS}) == len(FAILPOINTS)


async def test_a_wrapped_function_stays_what_it_was() -> None:
    passed: list[Any] = []

    async def double(number: int, *, plus: int = 0) -> int:
        passed.append("at work")
        return 2 * number + plus

    before = failpoints._with_hook(double, passed.append, after=False)
    after = failpoints._with_hook(double, passed.append, after=True)
    plain = failpoints._with_hook(max, lambda *_: passed.append("hook"), after=True)
    assert (await before(3, plus=1), await after(4), plain(1, 2)) == (7, 8, 2)
    assert passed == [3, "at work", "at work", 4, "hook"]
