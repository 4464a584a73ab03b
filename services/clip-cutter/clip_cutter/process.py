"""A child process that cannot outlive its job, its deadline, or its share of the machine.

ffmpeg reads files that anybody may have made. Each run gets a session of its own, next to no environment,
limits that the kernel enforces, and is killed with all its descendants whatever ends the run: success,
failure, deadline, cancellation.
"""

import asyncio
import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_OUTPUT_BYTES = 4 * 1024 * 1024
MAX_LINE_BYTES = 4096
CHUNK_BYTES = 64 * 1024
CPU_GRACE_SECONDS = 5  # between the signal that a program may act on and the one that it may not
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True)
class Limits:
    """What one run may take. ``file_bytes`` bounds each file that it writes."""

    deadline_seconds: float
    cpu_seconds: int
    memory_bytes: int
    file_bytes: int


@dataclass(frozen=True)
class Result:
    """How a run ended. A negative code is the signal that ended it."""

    return_code: int
    output: bytes


class TooMuchOutput(Exception):
    """The process wrote more to its standard output than any honest run does."""


async def run(command: Sequence[str], limits: Limits, on_line: Callable[[str], None]) -> Result:
    """Run a command to its end; nothing of it is left when this returns or raises.

    Args:
        command: the program and its arguments.
        limits: enforced by the kernel, and the deadline from here.
        on_line: called with each line of its standard error (a long one is cut); may end the run by raising.

    Raises:
        TimeoutError: it did not end in time.
        TooMuchOutput: it would have filled the memory of this process.
        OSError: it could not be started.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"LC_ALL": "C"},
    )
    assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018 - asked for above
    try:
        _limit(process.pid, limits)
        async with asyncio.timeout(limits.deadline_seconds):
            output, _, return_code = await asyncio.gather(
                _read_all(process.stdout), _read_lines(process.stderr, on_line), process.wait()
            )
        return Result(return_code, output)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _limit(pid: int, limits: Limits) -> None:
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


async def _read_all(stream: asyncio.StreamReader) -> bytes:
    output = bytearray()
    while chunk := await stream.read(CHUNK_BYTES):
        output += chunk
        if len(output) > MAX_OUTPUT_BYTES:
            raise TooMuchOutput(f"more than {MAX_OUTPUT_BYTES} bytes on standard output")
    return bytes(output)


async def _read_lines(stream: asyncio.StreamReader, on_line: Callable[[str], None]) -> None:
    rest = b""
    while chunk := await stream.read(CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            on_line(line[:MAX_LINE_BYTES].decode(errors="replace"))
        rest = rest[:MAX_LINE_BYTES]
    if rest:
        on_line(rest.decode(errors="replace"))
