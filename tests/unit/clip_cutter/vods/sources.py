"""A source whose bytes are in memory, and that notes what is read of it."""

import asyncio
from collections.abc import Callable
from typing import IO, Protocol

from clip_cutter.containers.model import ByteRange
from clip_cutter.ffmpeg.input import FfmpegInput


class SourceContent(Protocol):
    """Bytes, or what makes them up as they are asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, wanted: slice, /) -> bytes: ...


class MemorySource:
    """``asked`` has all ranges that were read; ``before`` is called for each of them first."""

    def __init__(self, content: SourceContent, identity: str = "memory") -> None:
        self.content, self.identity = content, identity
        self.size_bytes = len(content)
        self.input = FfmpegInput("")
        self.asked: list[ByteRange] = []
        self.before: Callable[[ByteRange], None] = lambda _: None
        self.at_once = self.most_at_once = 0

    @property
    def pulled(self) -> int:
        return sum(each.size for each in self.asked)

    async def peek(self, wanted: ByteRange) -> bytes:
        self.asked.append(wanted)
        return self.content[wanted.start : wanted.end]

    async def read(self, wanted: ByteRange, file: IO[bytes]) -> None:
        self.asked.append(wanted)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.before(wanted)
        file.write(self.content[wanted.start : wanted.end])
        self.at_once -= 1
