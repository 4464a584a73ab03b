"""A child process that cannot outlive its job, its deadline, or its share of the machine.

ffmpeg reads files that anybody may have made. Each run gets a session of its own, next to no environment,
limits that the kernel enforces, and is killed with all its descendants whatever ends the run: success,
failure, deadline, cancellation.
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
CPU_GRACE_SECONDS = 5  # between the signal that a program may act on and the one that it may not
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
# Colour tells ffmpeg's own messages from what a file says: see clip_cutter.ffmpeg.run.
ADDED = {"LC_ALL": "C", "AV_LOG_FORCE_COLOR": "1"}
PR_SET_DUMPABLE = 4  # linux/prctl.h


@dataclass(frozen=True)
class ProcessLimits:
    """What one run may take. ``file_bytes`` bounds each file that it writes.

    With a higher ``niceness`` it waits for others that want the CPU.
    """

    deadline_seconds: float
    cpu_seconds: int
    memory_bytes: int
    file_bytes: int
    niceness: int = 0


@dataclass(frozen=True)
class ProcessResult:
    """How a run ended. A negative code is the signal that ended it; ``limit``: which of its limits did."""

    return_code: int
    output: bytes
    limit: str | None


class TookTooLong(ClipsError, TimeoutError):
    """The process did not end before its deadline. ``cpu_seconds``: what it worked of that time."""

    def __init__(self, cpu_seconds: float) -> None:
        super().__init__(f"it did not end in time, and worked for {cpu_seconds:.1f} s")
        self.cpu_seconds = cpu_seconds


class TooMuchOutput(ClipsError):
    """The process wrote more to its standard output than any honest run does."""


async def run(
    command: Sequence[str], limits: ProcessLimits, on_line: Callable[[str], None], *, network: bool = True
) -> ProcessResult:
    """Run a command to its end; nothing of it is left when this returns or raises.

    Args:
        command: the program and its arguments.
        limits: enforced by the kernel, and the deadline from here.
        on_line: called with each line of its standard error (a long one is cut); may end the run by raising.
        network: False takes the network away from it, where the kernel allows that.

    Raises:
        TookTooLong: it did not end in time.
        TooMuchOutput: it would have filled the memory of this process.
        OSError: it could not be started.
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
    """The beginning of a command that runs without network: nothing where the kernel does not allow that.

    Root takes the network away itself; anybody else in a user namespace, without any right there.
    """
    unshare = shutil.which("unshare")
    for options in (("--net",), ("--user", "--net")) if unshare else ():
        command = (str(unshare), *options, "--")
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:  # noqa: S603
            return command
    log.warning("programs that read local files keep the network: this machine allows no namespaces")
    return ()


def hide_memory() -> None:
    """Keep programs of the same user from reading the memory and the environment of this process."""
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("other programs of this user can read the secrets of this process")


def _cpu_seconds_of_children() -> float:
    """What all children used that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu_seconds_of(pid: int) -> float:
    """What a process has used so far, with its threads: all children would count the other lane's as well."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:  # another system, or it has just ended
        return 0.0
    user, kernel = stat.rpartition(")")[2].split()[11:13]  # proc_pid_stat(5): utime, stime
    return (int(user) + int(kernel)) / os.sysconf("SC_CLK_TCK")


def _limit_behind(code: int, cpu_seconds: float, limits: ProcessLimits) -> str | None:
    """The limit that ended a run: the kernel kills what goes on after the signal, and so do others."""
    if code == -signal.SIGXFSZ:
        return "it would become too large"
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and cpu_seconds >= limits.cpu_seconds):
        return "it takes too long to process"
    return None


class _Child(asyncio.SubprocessProtocol):
    """Listens to a process. ``gone``: it ended and nothing more will come; ``failed``: a listener refused."""

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
        except Exception as error:  # noqa: BLE001 - whatever it is, the run ends with it
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
            _kill_group(self._transport.get_pid())  # descendants that hold its pipes open

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base's signature
        if self._rest:
            self.pipe_data_received(STANDARD_ERROR, b"\n")
        self.gone.set_result(None)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _limit(pid: int, limits: ProcessLimits) -> None:
    """Set the limits of a process that has just begun: a hook before exec is unsafe beside threads."""
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
        os.setpriority(os.PRIO_PGRP, pid, limits.niceness)  # its group, so that no thread is left out
