"""Where the bytes of a VOD come from: a file of this machine, or an object in source storage."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, Self

from clip_cutter.containers.model import ByteRange
from clip_cutter.ffmpeg.input import FfmpegInput

CHUNK_BYTES = 1024 * 1024


class Source(Protocol):
    """A VOD's bytes. ``identity`` is the same for the same bytes only: knowledge of them is kept under it."""

    @property
    def identity(self) -> str:
        """Name these bytes among all others."""
        ...

    @property
    def size_bytes(self) -> int:
        """Return how many they are."""
        ...

    @property
    def input(self) -> FfmpegInput:
        """Return what ffmpeg opens."""
        ...

    async def peek(self, wanted: ByteRange) -> bytes:
        """Return a few bytes. Raises as :meth:`read`."""
        ...

    async def read(self, wanted: ByteRange, file: IO[bytes]) -> None:
        """Append bytes to a file.

        Raises:
            Skipped: the VOD has gone.
            TransientError: its storage is out.
        """
        ...


@dataclass(frozen=True)
class LocalFile:
    """A VOD that is a file of this machine."""

    path: Path
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Look at a file."""
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
