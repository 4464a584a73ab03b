"""Time the steps of the cutter's jobs, with wrappers from outside.

A service is run by ``python -m tests.bench.traced clip_cutter serve``, which times every coroutine of the
package, what it hands to threads, every program that it runs and every request to S3, and then does what
``python -m clip_cutter serve`` does. Each job adds a line of JSON to the file that ``BENCH_TRACE`` names.
"""

import asyncio
import functools
import importlib
import inspect
import json
import os
import pkgutil
import resource
import runpy
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

from botocore.client import BaseClient

FILE = "BENCH_TRACE"
ROOT = "CutterHandlers.make_clip"
SHORTEST_SECONDS = 0.0005  # shorter steps are left out
ALSO = ("clip_shared.bus.bus",)  # modules whose coroutines are timed too


@dataclass(frozen=True)
class TracedStep:
    """A step of a job: the path of its name, and its seconds from the start of the job."""

    path: tuple[str, ...]
    start: float
    seconds: float


@dataclass
class _Job:
    started: float = field(default_factory=time.perf_counter)
    spans: list[TracedStep] = field(default_factory=list)


_job: ContextVar[_Job | None] = ContextVar("_job", default=None)
_path: ContextVar[tuple[str, ...]] = ContextVar("_path", default=())


@contextmanager
def step(name: str) -> Iterator[None]:
    """Time the body of this context, when it is part of a job."""
    job = _job.get()
    if job is None:
        yield
        return
    inner = _path.set((*_path.get(), name))
    started = time.perf_counter()
    try:
        yield
    finally:
        now = time.perf_counter()
        job.spans.append(TracedStep(_path.get(), started - job.started, now - started))
        _path.reset(inner)


@contextmanager
def whole_job(file: Path) -> Iterator[None]:
    """Time a job and all its steps, and append them to a file."""
    job, cpu = _Job(), _cpu_seconds()
    outer = _job.set(job)
    try:
        with step(ROOT):
            yield
    finally:
        _job.reset(outer)
        own, programs = (after - before for after, before in zip(_cpu_seconds(), cpu, strict=True))
        spans = [[list(span.path), span.start, span.seconds] for span in job.spans]
        with file.open("a") as lines:
            lines.write(json.dumps({"cpu": own, "cpu_of_programs": programs, "spans": spans}) + "\n")


def _cpu_seconds() -> tuple[float, float]:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return used[0].ru_utime + used[0].ru_stime, used[1].ru_utime + used[1].ru_stime


def install(package: str, file: Path) -> None:
    """Wrap every coroutine of a package with a timer."""
    modules = [*_modules_of(package), *map(importlib.import_module, ALSO)]
    wrapped = {original: timed(original, file) for original in _coroutines_of(modules)}
    for owner in [*modules, *_classes_of(modules)]:
        for name, value in list(vars(owner).items()):
            if inspect.isfunction(value) and value in wrapped:
                setattr(owner, name, wrapped[value])
    asyncio.to_thread = _timed_to_thread(asyncio.to_thread)
    client: Any = BaseClient
    client._make_api_call = _timed_request(client._make_api_call)


def _modules_of(package: str) -> list[ModuleType]:
    path = importlib.import_module(package).__path__
    names = [each.name for each in pkgutil.walk_packages(path, f"{package}.")]
    return [importlib.import_module(name) for name in names if not name.endswith("__main__")]


def _classes_of(modules: Sequence[ModuleType]) -> list[type]:
    names = {module.__name__ for module in modules}
    found = (value for module in modules for value in vars(module).values())
    return [each for each in found if inspect.isclass(each) and each.__module__ in names]


def _coroutines_of(modules: Sequence[ModuleType]) -> set[Callable[..., Any]]:
    names = {module.__name__ for module in modules}
    owners: list[Any] = [*modules, *_classes_of(modules)]
    found = (value for owner in owners for value in vars(owner).values())
    return {each for each in found if inspect.iscoroutinefunction(each) and each.__module__ in names}


def timed(function: Callable[..., Any], file: Path) -> Callable[..., Any]:
    """Return a coroutine function that calls another one and times it."""
    if function.__qualname__ == ROOT:

        @functools.wraps(function)
        async def handle(*arguments: Any, **named: Any) -> Any:
            with whole_job(file):
                return await function(*arguments, **named)

        return handle

    @functools.wraps(function)
    async def call(*arguments: Any, **named: Any) -> Any:
        with step(_name(function, arguments)):
            return await function(*arguments, **named)

    return call


def _name(function: Callable[..., Any], arguments: Sequence[Any]) -> str:
    """Return the name of a function, or of the program that it runs."""
    if arguments and isinstance(arguments[0], list | tuple) and function.__name__ == "run":
        program, *_, output, _ = map(Path, arguments[0])
        return f"{program.name.split('-')[0]}: {output.name}"
    return function.__qualname__


def _timed_to_thread(original: Callable[..., Any]) -> Callable[..., Any]:
    async def to_thread(function: Any, /, *arguments: Any, **named: Any) -> Any:
        inner = function
        while isinstance(inner, functools.partial):
            inner = inner.func
        with step(f"in a thread: {getattr(inner, '__qualname__', repr(inner))}"):
            return await original(function, *arguments, **named)

    return to_thread


def _timed_request(original: Callable[..., Any]) -> Callable[..., Any]:
    def request(client: Any, operation: str, parameters: Any) -> Any:
        with step(f"S3: {operation}"):
            return original(client, operation, parameters)

    return request


def forget(file: Path) -> None:
    """Forget the jobs so far."""
    file.unlink()


def profile(file: Path) -> str:
    """Return a table of the steps of jobs: medians over the jobs of a file."""
    jobs = [json.loads(line) for line in file.read_text().splitlines()]
    steps: dict[tuple[str, ...], list[tuple[float, float, int]]] = {}
    for job in jobs:
        found: dict[tuple[str, ...], list[tuple[float, float]]] = {}
        for path, start, seconds in job["spans"]:
            found.setdefault(tuple(path), []).append((start, seconds))
        for path, spans in found.items():
            row = (min(start for start, _ in spans), sum(seconds for _, seconds in spans), len(spans))
            steps.setdefault(path, []).append(row)
    rows = [(path, [median(values) for values in zip(*rows, strict=True)]) for path, rows in steps.items()]
    rows = [row for row in rows if row[1][1] >= SHORTEST_SECONDS]
    lines = ["| step | times | from (ms) | for (ms) |", "| --- | --: | --: | --: |"]
    for path, (start, seconds, times) in sorted(rows, key=lambda row: (row[1][0], len(row[0]))):
        name = "· " * (len(path) - 1) + path[-1]
        lines.append(f"| {name} | {times:.0f} | {start * 1000:.1f} | {seconds * 1000:.1f} |")
    own, programs = (median(job[name] for job in jobs) * 1000 for name in ("cpu", "cpu_of_programs"))
    lines.append(f"\nCPU: {own:.0f} ms of the worker, {programs:.0f} ms of its programs; {len(jobs)} jobs.")
    return "\n".join(lines)


def main() -> None:
    """Run the service that the arguments name, with timers."""
    package = sys.argv[1]
    install(package, Path(os.environ[FILE]))
    sys.argv = sys.argv[1:]
    runpy.run_module(package, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
