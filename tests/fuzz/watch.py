"""Limits for an input: time, memory, open files."""

import faulthandler
import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

MEBIBYTE = 1024 * 1024
GRACE_SECONDS = 30.0
STDERR = 2


class Hang(BaseException):
    """An input took too long. A BaseException: no reader may catch it as one of its own errors."""


class Leak(AssertionError):
    """An input took too much memory, or left a file open."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Interrupt the block after some seconds; end the process if a thread cannot be interrupted.

    Raises:
        Hang: the block took longer.
    """
    faulthandler.dump_traceback_later(seconds + GRACE_SECONDS, exit=True, file=STDERR)

    def interrupt(_: int, frame: FrameType | None) -> None:
        raise Hang(f"still busy after {seconds} s, in {frame}")

    before = signal.signal(signal.SIGALRM, interrupt)
    rest, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, rest)  # the timer of a caller


class ResourceWatch:
    """Checks memory and open files after each input."""

    def __init__(self, max_mebibytes: int) -> None:
        self._max = max_mebibytes * MEBIBYTE
        self._first = peak_bytes()
        self._open = open_files()

    def check(self) -> None:
        """Check memory and open files.

        Raises:
            Leak: memory has grown by more than the limit since the start, or a file is still open.
        """
        if (grown := peak_bytes() - self._first) > self._max:
            self._first += grown  # the next inputs are measured from here
            raise Leak(f"memory has grown by {grown // MEBIBYTE} MiB")
        if open_files() > self._open:
            gc.collect()  # files that a traceback refers to are closed late
        if (now := open_files()) > self._open:
            before, self._open = self._open, now
            raise Leak(f"{now} open files, and {before} before")


def peak_bytes() -> int:
    """Return the peak memory of this process; getrusage would include that of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def open_files() -> int:
    """Return the number of open files of this process."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - of names only, and often
