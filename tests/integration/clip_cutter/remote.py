"""A VOD behind a URL, for tests of what ffmpeg does there: only its first bytes are read here."""

import asyncio
import urllib.request
from dataclasses import dataclass
from typing import IO

from clip_cutter.containers.model import ByteRange
from clip_cutter.ffmpeg.input import FfmpegInput


@dataclass(frozen=True)
class RemoteFile:
    """A source that is reached by HTTP, without any of the care that source storage takes."""

    url: str
    size_bytes: int

    @property
    def identity(self) -> str:
        """Return a name for these bytes."""
        return self.url

    @property
    def input(self) -> FfmpegInput:
        """Return what ffmpeg opens."""
        return FfmpegInput(self.url)

    async def peek(self, wanted: ByteRange) -> bytes:
        """Return a few bytes."""
        return await asyncio.to_thread(self._get, wanted)

    async def read(self, wanted: ByteRange, file: IO[bytes]) -> None:
        """Append bytes to a file."""
        file.write(await self.peek(wanted))

    def _get(self, wanted: ByteRange) -> bytes:
        headers = {"Range": f"bytes={wanted.start}-{wanted.end - 1}"}
        request = urllib.request.Request(self.url, headers=headers)  # noqa: S310 - the test's own server
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            content: bytes = answer.read()
        return content
