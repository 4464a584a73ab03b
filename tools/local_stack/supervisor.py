"""Run a stack in a detached background process; start, find and stop that process."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

import psutil

from local_stack.client import write_env
from local_stack.processes.ports import NoFreePort
from local_stack.processes.process import ProcessFailed
from local_stack.processes.state import State, write_private
from local_stack.processes.workspace import Workspace
from local_stack.stack import LocalStack

_WATCH_SECONDS = 1.0
_RESTART_SECONDS = 5.0
_POLL_SECONDS = 0.1
_STOP_SECONDS = 60
# Prefix of the log lines that report a finished step.
_DONE = "done: "


class NotStarted(Exception):
    """The stack could not be started. The message has the reason."""


@dataclass(frozen=True)
class RunningStack:
    """The process that runs a stack in the background."""

    pid: int
    ready: bool
    monitored: bool


def find_running(state: State) -> RunningStack | None:
    """Return the process that runs the stack of this folder, or None.

    The kernel's list of processes is searched: the process id in a file may belong to another process by now.
    """
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = process.cmdline()
            for monitored in (False, True):
                arguments = _arguments(state, monitored=monitored)
                is_supervisor = command[-len(arguments) :] == arguments
                if is_supervisor and process.status() != psutil.STATUS_ZOMBIE:
                    return RunningStack(process.pid, state.env_file.exists(), monitored)
    return None


def _arguments(state: State, *, monitored: bool) -> list[str]:
    flags = ["--monitored"] if monitored else []
    return ["-m", "local_stack", "--state", str(state.folder), "supervise", *flags]


def launch(state: State, progress: Callable[[str], None], *, monitored: bool = False) -> None:
    """Start the stack in the background, and return when it is ready.

    Raises:
        NotStarted: a process of the stack failed; all its processes are stopped.
    """
    state.create()
    # A file of a stack that was killed together with its guardian: it would pass for a sign of readiness.
    state.env_file.unlink(missing_ok=True)
    # Opened twice: with one open file, writer and reader would share a position.
    with state.log("supervisor").open("a") as output, state.log("supervisor").open() as log:
        log.seek(0, os.SEEK_END)
        child = subprocess.Popen(  # noqa: S603 - this very package
            [sys.executable, *_arguments(state, monitored=monitored)],
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
    other_lines: list[str] = []
    while True:
        # Checked before the log is read, so that its last lines are not missed.
        is_ready, has_ended = state.env_file.exists(), child.poll() is not None
        for line in log.read().splitlines():
            if line.startswith(_DONE):
                progress(line.removeprefix(_DONE))
            else:
                other_lines.append(line)
        if has_ended:
            raise NotStarted(
                "\n".join(other_lines) or f"the supervisor ended with exit code {child.returncode}"
            )
        if is_ready:
            return
        time.sleep(_POLL_SECONDS)


def stop(state: State) -> bool:
    """Stop the stack of this folder and all its processes. Return whether it was running."""
    running = find_running(state)
    if running is not None:
        process = psutil.Process(running.pid)
        process.terminate()
        try:
            process.wait(timeout=_STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()
    # Processes of a stack that was killed together with its guardian.
    state.sweep(remove=False)
    return running is not None


def supervise(folder: Path, *, monitored: bool = False) -> NoReturn:
    """Run the stack of a folder until a signal ends it; restart its processes that die.

    Raises:
        NotStarted: another process runs the stack, or a process of the stack failed to start.
    """
    state = State(folder)
    state.create()
    with _claimed(state):
        # Processes of a stack that was killed together with its guardian.
        state.sweep(remove=False)
        try:
            _run(folder, monitored=monitored)
        except (ProcessFailed, NoFreePort, OSError) as error:
            raise NotStarted(str(error)) from error


def _claimed(state: State) -> IO[str]:
    """Take the folder's lock, held until the file is closed: of two stacks that start at once, one fails."""
    lock = (state.folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise NotStarted("another process already runs this stack") from error
    return lock


def _run(folder: Path, *, monitored: bool) -> NoReturn:
    with (
        Workspace(folder) as workspace,
        LocalStack(workspace, monitored=monitored, progress=_write_step) as stack,
    ):
        write_private(workspace.state.env_file, write_env(stack.environment))
        while True:
            time.sleep(_WATCH_SECONDS)
            for process in stack.processes:
                if not process.running:
                    _write(f"{process.name} has died; restarting it")
                    try:
                        process.start()
                    except ProcessFailed as error:
                        _write(str(error))
                        time.sleep(_RESTART_SECONDS)


def _write_step(step: str, seconds: float) -> None:
    _write(f"{_DONE}{step} ({seconds:.1f} s)")


def _write(text: str) -> None:
    os.write(sys.stdout.fileno(), f"{text}\n".encode())
