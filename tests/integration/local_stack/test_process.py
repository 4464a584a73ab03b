"""Supervised processes fail with their last log lines, and end when this process ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from local_stack.processes.process import Process, ProcessFailed
from local_stack.processes.workspace import Workspace

# A process with a child in a session of its own, as ffmpeg's is.
FAMILY = "sleep 60 & setsid sleep 61 & echo started; wait"


def process(tmp_path: Path, script: str, readiness_error: Callable[[], str | None] = lambda: None) -> Process:
    return Process(
        "example",
        ["/bin/sh", "-c", script],
        log=tmp_path / "example.log",
        environment={"PATH": os.environ["PATH"]},
        readiness_error=readiness_error,
        start_seconds=0.5,
        stop_seconds=0.5,
    )


def gone(pid: int, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_the_error_quotes_the_log_of_a_child_that_dies_during_its_start(tmp_path: Path) -> None:
    (tmp_path / "example.log").write_text("an earlier run\n")
    with pytest.raises(
        ProcessFailed, match=r"exit code 3 before it was ready\n(.|\n)*no such disk"
    ) as failure:
        process(tmp_path, "echo no such disk; exit 3", readiness_error=lambda: "never").start()
    assert "an earlier run" not in str(failure.value)


def test_a_child_that_is_not_ready_in_time_is_killed_and_the_error_has_the_reason(tmp_path: Path) -> None:
    late = process(tmp_path, "echo hello; sleep 60", readiness_error=lambda: "no bucket")
    with pytest.raises(ProcessFailed, match=r"within 0.5 s: no bucket(.|\n)*hello"):
        late.start()
    assert not late.running


def test_stop_kills_a_group_that_ignores_sigterm(tmp_path: Path) -> None:
    stubborn = process(tmp_path, "trap '' TERM; sleep 60 & wait; wait")
    stubborn.start()
    pids = [stubborn.pid or 0, *[child.pid for child in _children(stubborn, 1)]]
    stubborn.stop()
    assert all(gone(pid) for pid in pids)
    stubborn.stop()


def test_kill_and_start_again(tmp_path: Path) -> None:
    with process(tmp_path, "sleep 60") as example:
        first = example.pid
        example.kill()
        assert not example.running
        example.start()
        assert example.pid not in {None, first}


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    example = process(tmp_path, "sleep 60")
    thread = threading.Thread(target=example.start)
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert example.running
    example.kill()


def test_the_error_quotes_the_log_of_a_command_that_fails(tmp_path: Path) -> None:
    process(tmp_path, "true").run()
    with pytest.raises(ProcessFailed, match=r"exit code 1\n(.|\n)*because"):
        process(tmp_path, "echo because; exit 1").run()
    with pytest.raises(ProcessFailed, match="longer than"):
        process(tmp_path, "sleep 60").run()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_all_children_end_when_their_parent_is_killed(number: signal.Signals) -> None:
    code = f"""
import time
from local_stack.processes.process import Process
from local_stack.processes.workspace import Workspace
with Workspace() as workspace:
    family = Process("family", ["/bin/sh", "-c", {FAMILY!r}], log=workspace.state.log("family"),
                     environment=workspace.state.environment())
    family.start()
    while "started" not in family.tail():
        time.sleep(0.01)
    print(workspace.state.folder, flush=True)
    time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    folder = Path(parent.stdout.readline().strip())
    pids = [each.pid for each in psutil.Process(parent.pid).children(recursive=True)]
    assert len(pids) == 4  # the guardian, the shell and its two children
    parent.send_signal(number)
    parent.wait()
    assert all(gone(pid) for pid in pids)
    assert not folder.exists()


def test_a_workspace_ends_the_children_of_its_processes() -> None:
    with Workspace() as workspace:
        family = Process(
            "family",
            ["/bin/sh", "-c", FAMILY],
            log=workspace.state.log("family"),
            environment=workspace.state.environment(),
        )
        family.start()
        pids = [child.pid for child in _children(family, 2)]
        family.kill()
        assert any(psutil.pid_exists(pid) for pid in pids)
    assert all(gone(pid) for pid in pids)
    assert not workspace.state.folder.exists()


def _children(parent: Process, number: int) -> list[psutil.Process]:
    while True:
        children = psutil.Process(parent.pid).children(recursive=True)
        if len(children) >= number:
            return children
        time.sleep(0.01)
