"""Where the bytes of a VOD come from: a local file, or an object in source storage."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, Self

from clip_cutter.containers.model import ByteRange
from clip_cutter.ffmpeg.input import FfmpegInput

CHUNK_BYTES = 1024 * 1024


class Source(Protocol):
    """The bytes of a VOD. ``identity`` changes whenever the bytes change: caches use it as their key."""

    @property
    def identity(self) -> str:
        """A name for these bytes, different from that of any others."""
        ...

    @property
    def size_bytes(self) -> int:
        """The number of bytes."""
        ...

    @property
    def input(self) -> FfmpegInput:
        """The VOD as ffmpeg opens it."""
        ...

    async def peek(self, wanted: ByteRange) -> bytes:
        """Return the bytes of a small range. Raises as :meth:`read`."""
        ...

    async def read(self, wanted: ByteRange, file: IO[bytes]) -> None:
        """Write the bytes of a range to a file, at its position.

        Raises:
            Skipped: the VOD is no longer in storage.
            TransientError: source storage is unavailable.
        """
        ...


@dataclass(frozen=True)
class LocalFile:
    """A VOD that is a local file."""

    path: Path
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return a file as a VOD, with its size."""
        return cls(path, path.stat().st_size)

    @property
    def identity(self) -> str:
        """See :class:`Source`."""
        about = self.path.stat()
        return f"file:{self.path.absolute()}:{about.st_size}:{about.st_mtime_ns}"

    @property
    def input(self) -> FfmpegInput:
        """See :class:`Source`."""
        return FfmpegInput.of_file(self.path)

    async def peek(self, wanted: ByteRange) -> bytes:
        """See :class:`Source`."""
        return await asyncio.to_thread(self._pread, wanted.start, wanted.size)

    async def read(self, wanted: ByteRange, file: IO[bytes]) -> None:
        """See :class:`Source`."""
        for start in range(wanted.start, wanted.end, CHUNK_BYTES):
            file.write(await self.peek(ByteRange(start, min(start + CHUNK_BYTES, wanted.end))))

    def _pread(self, offset: int, size: int) -> bytes:
        with self.path.open("rb") as file:
            return os.pread(file.fileno(), size, offset)
