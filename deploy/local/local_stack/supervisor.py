"""A stack in the background: one detached process that runs it, and those who talk about it."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

import psutil

from local_stack.client import write_env
from local_stack.process import ProcessFailed
from local_stack.site import Site
from local_stack.stack import LocalStack
from local_stack.state import State, read_json, write_private

_WATCH_SECONDS = 1.0
_RESTART_SECONDS = 5.0
_POLL_SECONDS = 0.1
_STOP_SECONDS = 60
# Clocks that are set move the time of a process's start, as far as it can be told.
_CLOCK_SECONDS = 2


class NotStarted(Exception):
    """The stack could not be started. The message says why."""


@dataclass(frozen=True)
class Running:
    """The process that runs a stack in the background."""

    pid: int
    ready: bool


def find_running(state: State) -> Running | None:
    """Who runs the stack of this folder; None: nobody.

    A process id alone proves nothing, since it may be another's by now: the time of its start must match.
    """
    known = read_json(state.supervisor_file)
    if not known:
        return None
    try:
        process = psutil.Process(known["pid"])
        is_same = abs(process.create_time() - known["started"]) < _CLOCK_SECONDS
        alive = is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return Running(process.pid, state.env_file.exists()) if alive else None


def launch(state: State, progress: Callable[[str], None]) -> None:
    """Start the stack in the background, and return when it is ready.

    Raises:
        NotStarted: it is not, and nothing of it is left running.
    """
    state.create()
    # Opened twice: a shared one would have a shared position.
    with state.log("supervisor").open("a") as output, state.log("supervisor").open() as log:
        log.seek(0, os.SEEK_END)
        child = subprocess.Popen(  # noqa: S603 - this very package
            [sys.executable, "-m", "local_stack", "--state", str(state.folder), "supervise"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_ready(state, child, log, progress)
        except BaseException:
            child.terminate()
            child.wait(timeout=_STOP_SECONDS)
            raise


def _wait_ready(
    state: State, child: subprocess.Popen[bytes], log: IO[str], progress: Callable[[str], None]
) -> None:
    while not state.env_file.exists():
        if child.poll() is not None:
            raise NotStarted(log.read().strip() or f"it ended with exit code {child.returncode}")
        for line in log.readlines():
            progress(line.rstrip())
        time.sleep(_POLL_SECONDS)


def stop(state: State) -> bool:
    """Stop the stack of this folder, and whatever is left of it. False when nothing ran."""
    running = find_running(state)
    if running is not None:
        process = psutil.Process(running.pid)
        process.terminate()
        try:
            process.wait(timeout=_STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()
    # Of one that was killed, together with its guardian.
    state.sweep(remove=False)
    state.supervisor_file.unlink(missing_ok=True)
    return running is not None


def supervise(folder: Path) -> NoReturn:
    """Run the stack of a folder until a signal ends it; what dies meanwhile is started again.

    Raises:
        NotStarted: another process runs it, or it could not be started.
    """
    state = State(folder)
    state.create()
    with _claimed(state):
        # Of one that was killed, together with its guardian.
        state.sweep(remove=False)
        try:
            _run(folder)
        except ProcessFailed as error:
            raise NotStarted(str(error)) from error
        finally:
            state.supervisor_file.unlink(missing_ok=True)


def _claimed(state: State) -> IO[str]:
    """The lock of the folder, held until it is closed; it also says who holds it."""
    lock = (state.folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise NotStarted("it is being started or stopped by another process") from error
    me = psutil.Process()
    write_private(state.supervisor_file, json.dumps({"pid": me.pid, "started": me.create_time()}))
    return lock


def _run(folder: Path) -> NoReturn:
    with Site(folder) as site, LocalStack(site, progress=_tell_step) as stack:
        write_private(site.state.env_file, write_env(stack.environment))
        while True:
            time.sleep(_WATCH_SECONDS)
            for process in stack.processes:
                if not process.running:
                    _tell(f"{process.name} has died; starting it again")
                    try:
                        process.start()
                    except ProcessFailed as error:
                        _tell(str(error))
                        time.sleep(_RESTART_SECONDS)


def _tell_step(what: str, seconds: float) -> None:
    _tell(f"{what} ({seconds:.1f} s)")


def _tell(text: str) -> None:
    os.write(sys.stdout.fileno(), f"{text}\n".encode())
