"""Run a child process with limits, and leave nothing of it behind.

ffmpeg reads files that may be hostile. Each run has its own session, almost no environment variables, and
limits that the kernel enforces. When the run ends, by success, failure, deadline or cancellation, it is
killed with all its descendants.
"""

import asyncio
import contextlib
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import structlog

from clip_shared.errors import ClipsError

log = structlog.get_logger()

STANDARD_OUTPUT, STANDARD_ERROR = 1, 2
MAX_OUTPUT_BYTES = 4 * 1024 * 1024
MAX_LINE_BYTES = 4096
CPU_GRACE_SECONDS = 5  # from SIGXCPU, which a program may handle, to SIGKILL
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
# ffmpeg's own messages have colours, texts that come from a file have not: see clip_cutter.ffmpeg.run.
ADDED = {"LC_ALL": "C", "AV_LOG_FORCE_COLOR": "1"}
PR_SET_DUMPABLE = 4  # linux/prctl.h


@dataclass(frozen=True)
class ProcessLimits:
    """The limits of one run. ``file_bytes`` is the largest size of a file that it writes.

    A process with a higher ``niceness`` leaves the CPU to others.
    """

    deadline_seconds: float
    cpu_seconds: int
    memory_bytes: int
    file_bytes: int
    niceness: int = 0


@dataclass(frozen=True)
class ProcessResult:
    """How a run ended. A negative code is the number of a signal. ``limit``: which limit ended the run."""

    return_code: int
    output: bytes
    limit: str | None


class TookTooLong(ClipsError, TimeoutError):
    """The process did not end before its deadline. ``cpu_seconds``: the CPU time that it used until then."""

    def __init__(self, cpu_seconds: float) -> None:
        super().__init__(f"the process reached its deadline, after {cpu_seconds:.1f} s of CPU time")
        self.cpu_seconds = cpu_seconds


class TooMuchOutput(ClipsError):
    """The process wrote more than ``MAX_OUTPUT_BYTES`` to its standard output."""


async def run(
    command: Sequence[str], limits: ProcessLimits, on_line: Callable[[str], None], *, network: bool = True
) -> ProcessResult:
    """Run a command to its end. No process of it is left when this returns or raises.

    Args:
        command: the program and its arguments.
        limits: the limits of the run. The kernel enforces all but the deadline.
        on_line: called with each line of standard error, cut to 4096 bytes; may end the run by raising.
        network: False: the command runs without network, if the kernel allows that.

    Raises:
        TookTooLong: the run did not end before its deadline.
        TooMuchOutput: the run wrote more than 4 MiB to its standard output.
        OSError: the program could not be started.
    """
    loop = asyncio.get_running_loop()
    cpu_seconds = _cpu_seconds_of_children()
    transport, child = await loop.subprocess_exec(
        lambda: _Child(on_line, loop),
        *(() if network else without_network()),
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={name: os.environ[name] for name in PASSED_ON if name in os.environ} | ADDED,
    )
    pid = transport.get_pid()
    try:
        _limit(pid, limits)
        ended = [child.gone, child.failed]
        done, _ = await asyncio.wait(
            ended, timeout=limits.deadline_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            worked = _cpu_seconds_of(pid)
            _kill_group(pid)
            await child.gone
            raise TookTooLong(worked)
        if child.failed.done():
            await child.failed
        code, used = transport.get_returncode() or 0, _cpu_seconds_of_children() - cpu_seconds
        return ProcessResult(code, bytes(child.output), _limit_behind(code, used, limits))
    finally:
        _kill_group(pid)
        transport.close()
        await child.gone
        child.failed.cancel()


@cache
def without_network() -> tuple[str, ...]:
    """Return the start of a command that runs without network; empty if the kernel does not allow that.

    Root can use a network namespace directly; other users need a user namespace for it.
    """
    unshare = shutil.which("unshare")
    for options in (("--net",), ("--user", "--net")) if unshare else ():
        command = (str(unshare), *options, "--")
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:  # noqa: S603
            return command
    log.warning("ffmpeg keeps the network while it reads local files: this machine allows no namespaces")
    return ()


def hide_memory() -> None:
    """Keep other programs of the same user from reading the memory and the environment of this process."""
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("other programs of this user can read the secrets of this process")


def _cpu_seconds_of_children() -> float:
    """Return the CPU time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu_seconds_of(pid: int) -> float:
    """Return the CPU time of a running process. The time of all children would include the other lane's."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:  # another system, or it has just ended
        return 0.0
    user, kernel = stat.rpartition(")")[2].split()[11:13]  # proc_pid_stat(5): utime, stime
    return (int(user) + int(kernel)) / os.sysconf("SC_CLK_TCK")


def _limit_behind(code: int, cpu_seconds: float, limits: ProcessLimits) -> str | None:
    """Return the limit that ended a run; None: another cause. SIGKILL counts if the CPU time is used up."""
    if code == -signal.SIGXFSZ:
        return "the process wrote a file larger than MAX_CLIP_MEBIBYTES"
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and cpu_seconds >= limits.cpu_seconds):
        return f"the process used more than {limits.cpu_seconds} s of CPU time"
    return None


class _Child(asyncio.SubprocessProtocol):
    """Collect a process's output. ``gone``: it has ended; ``failed``: a line or the output was refused."""

    def __init__(self, on_line: Callable[[str], None], loop: asyncio.AbstractEventLoop) -> None:
        self.output = bytearray()
        self.gone: asyncio.Future[None] = loop.create_future()
        self.failed: asyncio.Future[None] = loop.create_future()
        self._on_line = on_line
        self._rest = b""
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if self.failed.done():
            return
        try:
            self._take_output(data) if fd == STANDARD_OUTPUT else self._take_lines(data)
        except Exception as error:  # noqa: BLE001 - any exception ends the run
            self.failed.set_exception(error)

    def _take_output(self, data: bytes) -> None:
        self.output += data
        if len(self.output) > MAX_OUTPUT_BYTES:
            raise TooMuchOutput(f"more than {MAX_OUTPUT_BYTES} bytes on standard output")

    def _take_lines(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_line(line[:MAX_LINE_BYTES].decode(errors="replace"))
        self._rest = rest[:MAX_LINE_BYTES]

    def process_exited(self) -> None:
        if self._transport is not None:
            _kill_group(self._transport.get_pid())  # its descendants may hold the pipes open

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base's signature
        if self._rest:
            self.pipe_data_received(STANDARD_ERROR, b"\n")
        self.gone.set_result(None)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _limit(pid: int, limits: ProcessLimits) -> None:
    """Set the limits of a process that has just started: ``preexec_fn`` is unsafe beside threads."""
    if sys.platform != "linux":
        return
    pairs = {
        resource.RLIMIT_CPU: (limits.cpu_seconds, limits.cpu_seconds + CPU_GRACE_SECONDS),
        resource.RLIMIT_AS: (limits.memory_bytes, limits.memory_bytes),
        resource.RLIMIT_FSIZE: (limits.file_bytes, limits.file_bytes),
        resource.RLIMIT_CORE: (0, 0),
    }
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        for kind, pair in pairs.items():
            resource.prlimit(pid, kind, pair)
        os.setpriority(os.PRIO_PGRP, pid, limits.niceness)  # the group: it includes each thread
