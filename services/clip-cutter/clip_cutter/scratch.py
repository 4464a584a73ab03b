"""The scratch disk: a private folder for each job, gone when the job ends, however it ends.

A worker's folders lie in one of its own, which it holds a lock on for as long as it lives. A folder whose
lock is free belongs to a worker that died: the next one to start removes it. (The locks hold between
containers that share a disk, where process ids mean nothing.)
"""

import asyncio
import errno
import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from clip_cutter.domain.policy import Skipped
from clip_cutter.metrics import CutterMetrics
from clip_shared.contracts.events import SkipReason
from clip_shared.errors import TransientError

log = structlog.get_logger()

MEBIBYTE = 1024 * 1024
LOCK = "lock"
WORKER = "worker-"
LOOK_AGAIN_SECONDS = 1.0
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Job:
    """A job's place on the scratch disk: a folder, and how long it waits for room, in seconds."""

    folder: Path
    max_wait_seconds: float
    scratch: "Scratch"

    async def reserve(self, size_bytes: int) -> None:
        """Wait until the disk has room for ``size_bytes`` more, and keep it from other jobs.

        Raises:
            Skipped: the whole disk is smaller than that and what this job has there.
            TransientError: there was no room for ``max_wait_seconds``.
        """
        await self.scratch.reserve(self, size_bytes)


class Scratch:
    """One worker's part of the scratch disk."""

    def __init__(self, root: Path, metrics: CutterMetrics) -> None:
        self._root = root
        self._metrics = metrics
        self._folder: Path | None = None
        self._free_space: list[Callable[[], None]] = []
        self._reserved: dict[Path, int] = {}  # bytes, by each job's folder
        self._waiting_since: list[float] = []  # of the monotonic clock, for each job that waits for room

    @property
    def root(self) -> Path:
        """Return the folder of the disk that all workers share."""
        return self._root

    def on_shortage(self, free_space: Callable[[], None]) -> None:
        """Call ``free_space`` when a job needs room: it removes what can be had again."""
        self._free_space.append(free_space)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Claim a folder, after removing what dead workers left; remove it in the end."""
        self._root.mkdir(parents=True, exist_ok=True)
        with _locked(self._root / LOCK):  # one worker at a time looks around
            _remove_abandoned(self._root)
            folder = Path(tempfile.mkdtemp(prefix=WORKER, dir=self._root))
            mine = _lock(folder / LOCK)
        self._folder = folder
        self._metrics.show_disk(
            free_bytes=self._free,
            size_bytes=self._disk_bytes,
            longest_wait_seconds=self.longest_wait_seconds,
        )
        try:
            yield
        finally:
            self._folder = None
            shutil.rmtree(folder, ignore_errors=True)
            os.close(mine)

    @contextmanager
    def job(self, max_wait_seconds: float) -> Iterator[Job]:
        """A place for one job: a folder (mode 0700) that is gone afterwards.

        Raises:
            TransientError: the disk was full when the job wrote to it.
        """
        with tempfile.TemporaryDirectory(prefix="job-", dir=self._mine, ignore_cleanup_errors=True) as name:
            folder = Path(name)
            self._reserved[folder] = 0
            try:
                yield Job(folder, max_wait_seconds, self)
            except OSError as error:
                if error.errno in FULL:
                    raise TransientError("the scratch disk is full") from error
                raise
            finally:
                del self._reserved[folder]

    async def reserve(self, job: Job, size_bytes: int) -> None:
        """See :meth:`Job.reserve`."""
        if size_bytes + _size(job.folder) > self._disk_bytes():
            raise Skipped(
                SkipReason.SOURCE_UNREADABLE,
                f"A clip of this part of the VOD needs {size_bytes // MEBIBYTE} MiB of work space:"
                " more than this platform has.",
            )
        if self._free_bytes(job) < size_bytes:
            for free_space in self._free_space:
                free_space()
        deadline = time.monotonic() + job.max_wait_seconds
        with self._waiting():
            while (free := self._free_bytes(job)) < size_bytes:
                if time.monotonic() + LOOK_AGAIN_SECONDS > deadline:
                    raise TransientError(f"scratch has {free} bytes free, and a clip needs {size_bytes}")
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
        self._reserved[job.folder] += size_bytes

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        since = time.monotonic()
        self._waiting_since.append(since)
        try:
            with self._metrics.waiting_for_disk():
                yield
        finally:
            self._waiting_since.remove(since)

    def longest_wait_seconds(self) -> float:
        """Return for how long the job that has waited longest has been waiting for room; 0: none waits."""
        now = time.monotonic()
        return max((now - since for since in tuple(self._waiting_since)), default=0.0)

    def _free_bytes(self, job: Job) -> int:
        """Return what of the disk a job can have: neither used, nor reserved by others."""
        free = self._free()
        others = [(size, folder) for folder, size in self._reserved.items() if folder != job.folder]
        return free - sum(max(size - _size(folder), 0) for size, folder in others)

    def _disk_bytes(self) -> int:
        """What the disk holds when it is empty."""
        usage = shutil.disk_usage(self._root)
        return usage.used + usage.free  # less than the total where a part is root's alone

    def _free(self) -> int:
        return shutil.disk_usage(self._root).free

    @property
    def _mine(self) -> Path:
        if self._folder is None:
            raise RuntimeError("the scratch disk is not opened")
        return self._folder


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _remove_abandoned(root: Path) -> None:
    for folder in root.glob(WORKER + "*"):
        try:
            lock = _lock(folder / LOCK, wait=False)
        except BlockingIOError:
            continue  # its worker lives
        log.warning("removing what a dead worker left on scratch", folder=folder.name)
        _end_strays(folder)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _end_strays(folder: Path) -> None:
    """Kill what still writes into the folder: a worker that was killed could not stop its ffmpeg."""
    needle = os.fsencode(folder) + b"/"
    for arguments in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if needle in arguments.read_bytes():
                os.kill(int(arguments.parent.name), signal.SIGKILL)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = _lock(path)
    try:
        yield
    finally:
        os.close(lock)


def _lock(path: Path, *, wait: bool = True) -> int:
    """Lock a file for as long as the returned descriptor is open (no child inherits it).

    Raises:
        BlockingIOError: somebody else has the lock, and ``wait`` is false.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
