"""Child processes that end when this process ends.

A child runs in a session of its own (so that a signal reaches all of it, and Ctrl-C in the terminal none of
it), writes to a log file, and is told by the kernel when its parent dies, even by SIGKILL.
"""

import ctypes
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

from local_stack.processes.privileges import become

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.03
_TAIL_LINES = 15

_LIBC = ctypes.CDLL(None, use_errno=True)
# The kernel sends PR_SET_PDEATHSIG when the *thread* that forked ends. Callers' threads come and go,
# so one thread that lives until the interpreter exits forks every child.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


class ProcessFailed(Exception):
    """A child died, or was not ready in time. The message ends with the tail of its log."""


class Process:
    """One supervised child: ``start``, ``stop``, ``kill``, and ``start`` again.

    Args:
        name: for messages.
        command: the program and its arguments.
        log: the file that its output is appended to.
        environment: the whole environment; no variable is inherited.
        readiness_error: returns why the process is not ready, or None when it is; polled during start.
        user: the user to run it as (None: this process's).
        stop_signal: the signal for an orderly end.
        parent_exit_signal: the signal that the kernel sends it when this process dies.
        start_seconds, stop_seconds: time limits for start and stop.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str],
        readiness_error: Callable[[], str | None] = lambda: None,
        user: pwd.struct_passwd | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        parent_exit_signal: signal.Signals = signal.SIGKILL,
        start_seconds: float = 60,
        stop_seconds: float = 15,
    ) -> None:
        self.name = name
        self.log = log
        self._command = [str(part) for part in command]
        self._environment = dict(environment)
        self._readiness_error = readiness_error
        self._user = user
        self._stop_signal = stop_signal
        self._parent_exit_signal = parent_exit_signal
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The process id while it runs, else None."""
        return self._child.pid if self._child and self._child.poll() is None else None

    @property
    def running(self) -> bool:
        """Whether the process is there (it may not be ready yet)."""
        return self.pid is not None

    def start(self) -> None:
        """Launch, and return when it is ready.

        Raises:
            ProcessFailed: it died, or was not ready in time (then it has been killed).
        """
        self.launch()
        self.wait_ready()

    def prepare(self) -> None:
        """Prepare a launch; called before each one. For subclasses."""

    def launch(self) -> None:
        """Launch without waiting for readiness, so that several processes can start side by side."""
        if self.running:
            return
        self.prepare()
        self._spawn()

    def wait_ready(self) -> None:
        """Return when the launched process is ready.

        Raises:
            ProcessFailed: it died, or was not ready in time (then it has been killed).
        """
        deadline = time.monotonic() + self._start_seconds
        while True:
            # Asked first: when the child is dead, an answer on its port comes from another process.
            if not self.running:
                raise self._failure(f"{self.name} ended with {self._outcome()} before it was ready")
            error = self._readiness_error()
            if error is None:
                return
            if time.monotonic() > deadline:
                self.kill()
                raise self._failure(f"{self.name} was not ready within {self._start_seconds:g} s: {error}")
            time.sleep(_POLL_SECONDS)

    def run(self) -> None:
        """Run a command that ends by itself.

        Raises:
            ProcessFailed: it failed, or took longer than ``start_seconds`` (then it has been killed).
        """
        try:
            self.launch()
            self.wait_done()
        finally:
            self.kill()

    def wait_done(self) -> None:
        """Return when the launched command has ended with exit code 0; raises as :meth:`run` does."""
        if not self._ended_within(self._start_seconds):
            self.kill()
            raise self._failure(f"{self.name} took longer than {self._start_seconds:g} s")
        if self._child is not None and self._child.returncode != 0:
            raise self._failure(f"{self.name} ended with {self._outcome()}")

    def terminate(self) -> None:
        """Send the stop signal, and return at once."""
        self._signal(self._stop_signal)

    def stop(self) -> None:
        """Stop the process: with the stop signal, and after ``stop_seconds`` with SIGKILL."""
        self.terminate()
        self._ended_within(self._stop_seconds)
        self.kill()

    def kill(self) -> None:
        """Kill the process and its process group with SIGKILL."""
        self._signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait()
            # The kernel may soon give its id to another process.
            self._child = None

    def tail(self) -> str:
        """Return the last lines of its log since its launch."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return b"\n".join(log.read().splitlines()[-_TAIL_LINES:]).decode(errors="replace")

    def _spawn(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            spawned = _SPAWNER.submit(self._popen, log)
            try:
                spawned.result()
            except BaseException:
                # Interrupted here, this object would not know the child and could not stop it.
                wait([spawned])
                raise

    def _popen(self, log: IO[bytes]) -> None:
        self._child = subprocess.Popen(  # noqa: S603 - the command is this package's own
            self._command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_between_fork_and_exec(self._user, self._parent_exit_signal),  # noqa: PLW1509 - see there
        )

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            # The group may outlive its first process, so it is signalled even when that one is gone.
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)

    def _ended_within(self, seconds: float) -> bool:
        if self._child is None:
            return True
        try:
            self._child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _outcome(self) -> str:
        code = self._child.poll() if self._child else None
        if code is not None and code < 0:
            return signal.Signals(-code).name
        return f"exit code {code}"

    def _failure(self, what: str) -> ProcessFailed:
        tail = self.tail()
        return ProcessFailed(
            f"{what}\nThe end of {self.log}:\n{tail}" if tail else f"{what}\nIt wrote no log."
        )


def start_together(processes: Sequence[Process]) -> None:
    """Start processes side by side; when one fails, or on an interrupt, stop all of them."""
    try:
        for process in processes:
            process.launch()
        for process in processes:
            process.wait_ready()
    except BaseException:
        stop_together(processes)
        raise


def stop_together(processes: Sequence[Process]) -> None:
    """Stop processes side by side; kill those that take too long."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.stop()


def _between_fork_and_exec(
    user: pwd.struct_passwd | None, parent_exit_signal: signal.Signals
) -> Callable[[], None]:
    """Return what the child runs between fork and exec.

    Locks of other threads stay locked in a forked child, so it makes system calls only.
    """
    parent = os.getpid()

    def prepare() -> None:
        if user is not None:
            become(user)
        if sys.platform == "linux":
            # After the change of user, which clears it.
            _LIBC.prctl(_PR_SET_PDEATHSIG, parent_exit_signal, 0, 0, 0)
        if os.getppid() != parent:  # it died before the signal was set
            os._exit(1)

    return prepare
