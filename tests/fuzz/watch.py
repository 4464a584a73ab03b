"""What one input may take: time, memory, open files."""

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
    """An input took longer than it may. No reader may take it for one of its own exceptions."""


class Leak(AssertionError):
    """An input took more memory than it may, or left a file open."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer; end the process where a thread does not let itself be interrupted.

    Raises:
        Hang: it took longer.
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
        signal.setitimer(signal.ITIMER_REAL, rest)  # somebody else's


class ResourceWatch:
    """Looks after memory and open files, input by input."""

    def __init__(self, max_mebibytes: int) -> None:
        self._max = max_mebibytes * MEBIBYTE
        self._first = peak_bytes()
        self._open = open_files()

    def check(self) -> None:
        """Look what the last input did.

        Raises:
            Leak: memory has grown by more than it may since the start, or a file stayed open.
        """
        if (grown := peak_bytes() - self._first) > self._max:
            self._first += grown  # the next ones may go on
            raise Leak(f"memory has grown by {grown // MEBIBYTE} MiB")
        if open_files() > self._open:
            gc.collect()  # what a traceback refers to is closed late
        if (now := open_files()) > self._open:
            before, self._open = self._open, now
            raise Leak(f"{now} open files, and {before} before")


def peak_bytes() -> int:
    """Return the most memory that this process ever had; getrusage would tell its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def open_files() -> int:
    """Return how many files this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - of names only, and often
