"""A process kills itself at an armed failpoint, once, and nowhere else."""

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
        await asyncio.sleep(0.5)
        print("done", flush=True)

failpoints.FAILPOINTS = (
    failpoints.Failpoint("it", "here", "__main__:Service.work", after=%r, later_seconds=%r),
)
failpoints.install("it", Path(sys.argv[1]))
asyncio.run(Service().work())
"""


def run_victim(folder: Path, *, after: bool, later_seconds: float) -> tuple[int, str]:
    command = [sys.executable, "-c", VICTIM % (after, later_seconds), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("after", "later_seconds", "output"),
    [(True, 0.0, "work\ndone\n"), (False, 0.0, ""), (False, 0.2, "work\n")],
)
def test_an_armed_failpoint_kills_once(
    tmp_path: Path, after: bool, later_seconds: float, output: str
) -> None:
    (tmp_path / "it.here").touch()
    assert run_victim(tmp_path, after=after, later_seconds=later_seconds) == (-signal.SIGKILL, output)
    assert run_victim(tmp_path, after=after, later_seconds=later_seconds) == (0, "work\ndone\n")


@pytest.mark.parametrize("failpoint", FAILPOINTS, ids=lambda each: each.name)
def test_every_failpoint_is_in_a_service(failpoint: Failpoint) -> None:
    module, _, path = failpoint.function.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    assert callable(found)


def test_names_are_unique() -> None:
    assert len({each.name for each in FAILPOINTS}) == len(FAILPOINTS)


async def test_a_wrapped_function_behaves_as_before() -> None:
    passed: list[Any] = []

    async def double(number: int, *, plus: int = 0) -> int:
        passed.append("at work")
        return 2 * number + plus

    before = failpoints._with_hook(double, passed.append, after=False)
    after = failpoints._with_hook(double, passed.append, after=True)
    plain = failpoints._with_hook(max, lambda *_: passed.append("hook"), after=True)
    assert (await before(3, plus=1), await after(4), plain(1, 2)) == (7, 8, 2)
    assert passed == [3, "at work", "at work", 4, "hook"]
