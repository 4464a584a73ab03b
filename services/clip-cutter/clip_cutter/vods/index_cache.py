"""Cache the indexes of the latest VODs on the scratch disk.

The cache survives a restart, and is removed when a job lacks space. There is a sparse file for each VOD,
named by a hash of the VOD's identity. Its head is a list of the ranges that are in the file, each with a
checksum; behind the list, each byte has the offset that it has in the VOD. Processes that share the disk
share the files. Bytes that are written never change, and a removed file stays readable for processes that
have it open.
"""

import asyncio
import errno
import fcntl
import os
import struct
import threading
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import IO, TypeVar
from weakref import WeakSet

import structlog

from clip_cutter.containers.model import ByteRange, UnsupportedMedia
from clip_cutter.scratch import Job, Scratch
from clip_cutter.vods.ranges import PlacedRange, merge, read_ranges
from clip_cutter.vods.source import Source
from clip_shared.errors import ClipsError

log = structlog.get_logger()

MEBIBYTE = 1024 * 1024
FOLDER = "indexes"
MAGIC = b"clips-index-1\0\0\0"
RECORD = struct.Struct(">QQII")  # offset, size, checksum of the bytes, checksum of these three
LIST_BYTES = 64 * 1024
MAX_RECORDS = (LIST_BYTES - len(MAGIC)) // RECORD.size
CHUNK_BYTES = MEBIBYTE
BLOCK_BYTES = 512  # the unit of st_blocks
MAX_STEPS = 200  # attempts of one call of CachedIndex.complete

Result = TypeVar("Result")


class MissingBytes(ClipsError):
    """Bytes of a VOD that are not in the cache yet: they must be fetched, and the work tried again."""

    def __init__(self, offset: int, size: int) -> None:
        super().__init__(offset, size)
        self.offset, self.size = offset, size


class CachedIndex:
    """The cached bytes of one VOD's index. It is called as ``read(offset, size)``, from any thread."""

    def __init__(self, path: Path, size_bytes: int, on_grown: Callable[[], None]) -> None:
        self._path = path
        self._on_grown = on_grown
        self._size = size_bytes
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._there: list[ByteRange] = []

    def __call__(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes at ``offset``; fewer at the end of the VOD.

        Raises:
            MissingBytes: some of the bytes are not cached.
        """
        size = max(min(size, self._size - offset), 0)
        with self._lock:
            if size and (self._file is None or not self._has(offset, size)):
                raise MissingBytes(offset, size)
            data = os.pread(self._file.fileno(), size, LIST_BYTES + offset) if self._file and size else b""
        if len(data) != size:
            self.discard()
            raise MissingBytes(offset, size)
        return data

    def have(self, offset: int, size: int) -> None:
        """Check that some bytes are cached.

        Raises:
            MissingBytes: some of the bytes are not cached.
        """
        with self._lock:
            if not self._has(offset, size):
                raise MissingBytes(offset, size)

    def _has(self, offset: int, size: int) -> bool:
        at = bisect_right(self._there, offset, key=lambda each: each.start) - 1
        return at >= 0 and offset + size <= self._there[at].end

    def discard(self) -> None:
        """Remove the file. Its space is freed when no other process has it open."""
        with self._lock:
            self._path.unlink(missing_ok=True)
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._there = None, []

    async def complete(
        self,
        source: Source,
        job: Job,
        work: Callable[[], Result],
        around: Callable[["MissingBytes"], ByteRange],
    ) -> Result:
        """Call ``work`` until all bytes that it reads are cached, and return its result.

        Args:
            source: the VOD.
            job: the job that reserves disk space for the bytes.
            work: a function that reads through this object. It is called in a thread, several times if
            needed.
            around: returns the range to fetch for some missing bytes.

        Raises:
            UnsupportedMedia: ``work`` lacks bytes even at the 200th call.
            Skipped, TransientError: as :meth:`fetch`.
        """
        for _ in range(MAX_STEPS):
            try:
                return await asyncio.to_thread(work)
            except MissingBytes as missing:
                wanted = around(missing)
            await self.fetch(source, job, [wanted])
        raise UnsupportedMedia("an index that takes too many steps")

    async def fetch(self, source: Source, job: Job, wanted: Iterable[ByteRange]) -> None:
        """Read those of some ranges that are not cached yet, several requests at a time.

        Raises:
            Skipped: the VOD is no longer in storage, or the scratch disk is too small.
            TransientError: the storage or the scratch disk is unavailable.
        """
        wanted = list(wanted)
        if not (ranges := self._missing(wanted)):
            return
        await job.reserve(LIST_BYTES + sum(each.size for each in ranges))
        file = self._begin()
        ranges = self._missing(wanted)  # again: to free space, the cache may have been discarded
        placed = [PlacedRange(each, LIST_BYTES + each.start) for each in ranges]
        await read_ranges(source, placed, partial(self._same_file, file))
        await asyncio.to_thread(self._add, file, ranges)
        self._on_grown()

    def _missing(self, wanted: Iterable[ByteRange]) -> list[ByteRange]:
        """Return those parts of some ranges that are not cached."""
        asked = merge(ByteRange(each.start, min(each.end, self._size)) for each in wanted)
        with self._lock:
            return [part for each in asked for part in without(each, self._there)]

    def _begin(self) -> IO[bytes]:
        """Return the file to write to; create it if it is missing."""
        with self._lock:
            if self._file is None or not _is_at(self._file, self._path):
                self._close()
                self._path.parent.mkdir(mode=0o700, exist_ok=True)
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
                self._file = os.fdopen(descriptor, "r+b", buffering=0)
                os.pwrite(descriptor, MAGIC, 0)
            return self._file

    def _same_file(self, file: IO[bytes]) -> IO[bytes]:
        """Open the file again, with a position of its own."""
        opened = self._path.open("r+b", buffering=0)
        if not os.path.samestat(os.fstat(opened.fileno()), os.fstat(file.fileno())):
            opened.close()
            raise FileNotFoundError(errno.ENOENT, "another process removed an index", str(self._path))
        return opened

    def _add(self, file: IO[bytes], ranges: Iterable[ByteRange]) -> None:
        """Add ranges to the list of the file, for this process and for others."""
        records = [self._record(file, each) for each in ranges]
        with self._lock:
            if self._file is file:  # otherwise it was discarded meanwhile
                self._there = merge([*self._there, *ranges], gap=0)
                _append(file, records)

    def _record(self, file: IO[bytes], part: ByteRange) -> bytes:
        checksum = 0
        for start in range(part.start, part.end, CHUNK_BYTES):
            size = min(CHUNK_BYTES, part.end - start)
            with self._lock:
                if self._file is file:
                    checksum = zlib.crc32(os.pread(file.fileno(), size, LIST_BYTES + start), checksum)
        return _with_checksum(part, checksum)

    def load(self) -> None:
        """Use a file that is on the disk already. A damaged file is removed."""
        with self._lock, suppress(FileNotFoundError):
            file = self._path.open("r+b", buffering=0)
            try:
                self._there = merge(_read_list(file), gap=0)
            except ValueError as error:
                log.warning("removing a damaged index from scratch", file=self._path.name, why=str(error))
                file.close()
                self._path.unlink(missing_ok=True)
                return
            os.utime(file.fileno())
            self._file = file


class IndexCache:
    """The cached indexes on a scratch disk.

    Args:
        scratch: the disk. When a job lacks space on it, all indexes are removed.
        max_bytes: the most that all indexes together may take; those that were used last stay.
    """

    def __init__(self, scratch: Scratch, max_bytes: int = 256 * MEBIBYTE) -> None:
        self._folder = scratch.root / FOLDER
        self._max_bytes = max_bytes
        self._opened: WeakSet[CachedIndex] = WeakSet()
        scratch.on_shortage(self.discard)

    async def open(self, source: Source) -> CachedIndex:
        """Return the cached index of a VOD; empty if nothing of it is cached."""
        name = sha256(source.identity.encode()).hexdigest()
        index = CachedIndex(self._folder / name, source.size_bytes, self._trim)
        self._opened.add(index)
        await asyncio.to_thread(index.load)
        return index

    def discard(self) -> None:
        """Remove all indexes. Bytes that are still needed are read again."""
        for index in list(self._opened):
            index.discard()
        for path in self._files():
            path.unlink(missing_ok=True)

    def _trim(self) -> None:
        """Remove the least recently used indexes until the others take at most ``max_bytes``."""
        kept = 0
        for path in self._files():
            with suppress(FileNotFoundError):
                kept += path.stat().st_blocks * BLOCK_BYTES
                if kept > self._max_bytes:
                    path.unlink()

    def _files(self) -> list[Path]:
        """Return the files, the most recently used first."""
        found: list[tuple[float, Path]] = []
        for path in self._folder.glob("*"):
            with suppress(FileNotFoundError):
                found.append((path.stat().st_mtime, path))
        return [path for _, path in sorted(found, reverse=True)]


def without(whole: ByteRange, others: Iterable[ByteRange]) -> Iterator[ByteRange]:
    """Yield the parts of a range that lie in none of some other ranges; these are in order."""
    start = whole.start
    for part in others:
        if part.end <= start:
            continue
        if part.start >= whole.end:
            break
        if part.start > start:
            yield ByteRange(start, part.start)
        start = part.end
    if start < whole.end:
        yield ByteRange(start, whole.end)


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Tell whether a path still names a file that is open."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _with_checksum(part: ByteRange, checksum: int) -> bytes:
    fields = struct.pack(">QQI", part.start, part.size, checksum)
    return fields + struct.pack(">I", zlib.crc32(fields))


def _append(file: IO[bytes], records: Iterable[bytes]) -> None:
    """Append records to the list of a file; other processes do not see records that do not fit."""
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        listed = os.pread(file.fileno(), LIST_BYTES - len(MAGIC), len(MAGIC))
        at = next(
            (
                at
                for at in range(0, MAX_RECORDS * RECORD.size, RECORD.size)
                if not any(listed[at : at + RECORD.size])
            ),
            MAX_RECORDS * RECORD.size,
        )
        data = b"".join(records)[: MAX_RECORDS * RECORD.size - at]
        os.pwrite(file.fileno(), data, len(MAGIC) + at)
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _read_list(file: IO[bytes]) -> Iterator[ByteRange]:
    """Yield the ranges that are in a file.

    Raises:
        ValueError: the file is damaged, or of another version.
    """
    head = os.pread(file.fileno(), LIST_BYTES, 0)
    if not head.startswith(MAGIC):
        raise ValueError("the file is of another kind or version")
    for offset, size, checksum, own in RECORD.iter_unpack(head[len(MAGIC) :][: MAX_RECORDS * RECORD.size]):
        if not size:
            return
        part = ByteRange(offset, offset + size)
        if _with_checksum(part, checksum) != RECORD.pack(offset, size, checksum, own):
            raise ValueError("the list of ranges is damaged")
        if _checksum(file, part) != checksum:
            raise ValueError(f"the bytes {part.start} to {part.end} are damaged")
        yield part


def _checksum(file: IO[bytes], part: ByteRange) -> int:
    checksum = 0
    for start in range(part.start, part.end, CHUNK_BYTES):
        size = min(CHUNK_BYTES, part.end - start)
        checksum = zlib.crc32(os.pread(file.fileno(), size, LIST_BYTES + start), checksum)
    return checksum
