"""The scratch disk: a private folder for each job, removed when the job ends, and reserved space for it.

Each process (worker) has a folder of its own, and holds a lock on it while it runs. A folder that is not
locked was left by a process that crashed: the next process that starts removes it. Locks work between
containers that share a disk, where process ids mean nothing. Nothing else on the disk is removed at start.
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
    """A job's folder on the scratch disk. It waits at most ``max_wait_seconds`` for free space."""

    folder: Path
    max_wait_seconds: float
    scratch: "Scratch"

    async def reserve(self, size_bytes: int) -> None:
        """Wait until the disk has ``size_bytes`` free for this job, and reserve them.

        Raises:
            Skipped: the job would need more than the whole disk.
            TransientError: the space was not free within ``max_wait_seconds``.
        """
        await self.scratch.reserve(self, size_bytes)


class Scratch:
    """The folder of this process on the scratch disk, and the space that its jobs reserve."""

    def __init__(self, root: Path, metrics: CutterMetrics) -> None:
        self._root = root
        self._metrics = metrics
        self._folder: Path | None = None
        self._free_space: list[Callable[[], None]] = []
        self._reserved: dict[Path, int] = {}  # bytes, by each job's folder
        self._waiting_since: list[float] = []  # of the monotonic clock, for each job that waits for room

    @property
    def root(self) -> Path:
        """The folder that all processes with this scratch disk share."""
        return self._root

    def on_shortage(self, free_space: Callable[[], None]) -> None:
        """Call ``free_space`` when a job lacks space: it removes files that can be read again."""
        self._free_space.append(free_space)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Create this process's folder, and remove it at exit; before, remove those of crashed processes."""
        self._root.mkdir(parents=True, exist_ok=True)
        with _locked(self._root / LOCK):  # one process at a time looks for abandoned folders
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
        """Yield a job with a new folder (mode 0700), and remove the folder afterwards.

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
                f"A clip of this highlight needs {size_bytes // MEBIBYTE} MiB of disk space while it is cut,"
                " more than this platform has. A shorter highlight may fit.",
            )
        if self._free_bytes(job) < size_bytes:
            for free_space in self._free_space:
                free_space()
        deadline = time.monotonic() + job.max_wait_seconds
        with self._waiting():
            while (free := self._free_bytes(job)) < size_bytes:
                if time.monotonic() + LOOK_AGAIN_SECONDS > deadline:
                    raise TransientError(
                        f"the scratch disk has {free} bytes free, and the job needs {size_bytes}:"
                        " enlarge the disk, or run fewer processes on it"
                    )
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
        """Return the longest time that a job has been waiting for free space; 0 if no job waits."""
        now = time.monotonic()
        return max((now - since for since in tuple(self._waiting_since)), default=0.0)

    def _free_bytes(self, job: Job) -> int:
        """Return the free space of the disk that other jobs have not reserved."""
        free = self._free()
        others = [(size, folder) for folder, size in self._reserved.items() if folder != job.folder]
        return free - sum(max(size - _size(folder), 0) for size, folder in others)

    def _disk_bytes(self) -> int:
        """Return how much the disk could hold if it were empty."""
        usage = shutil.disk_usage(self._root)
        return usage.used + usage.free  # less than the total if a part is reserved for root

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
            continue  # its process is running
        log.warning("removing the scratch folder of a crashed process", folder=folder.name)
        _end_strays(folder)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _end_strays(folder: Path) -> None:
    """Kill programs that still use the folder: a process that was killed could not stop its ffmpeg."""
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
    """Lock a file until the returned descriptor is closed. Child processes do not inherit the descriptor.

    Raises:
        BlockingIOError: another process has the lock, and ``wait`` is False.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
