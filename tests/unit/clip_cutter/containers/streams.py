"""A stream of any length, whose bytes are made when they are read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import IO

from clip_cutter.containers.model import ByteRange
from clip_cutter.ffmpeg.input import FfmpegInput
from clip_cutter.vods.source import CHUNK_BYTES
from tests.unit.clip_cutter.containers.mpegts.builders import Mux

SECOND_BYTES = len(Mux().second().data)
TICKS = 90_000


@lru_cache(maxsize=64)
def _second(start: int) -> bytes:
    return bytes(Mux().second(start).data)


@dataclass
class LongStream:
    """Seconds of MPEG-TS, as a source. ``clock``: the time stamp that each second begins with, in seconds."""

    seconds: int
    clock: Callable[[int], float] = float
    reads: list[ByteRange] = field(default_factory=list)
    rounds: int = 0

    @property
    def size_bytes(self) -> int:
        return self.seconds * SECOND_BYTES

    @property
    def identity(self) -> str:
        return f"long:{id(self)}"

    @property
    def input(self) -> FfmpegInput:
        raise NotImplementedError

    async def peek(self, wanted: ByteRange) -> bytes:
        (data,) = await self.peek_all([wanted])
        return data

    async def read(self, wanted: ByteRange, file: IO[bytes]) -> None:
        self.reads.append(wanted)
        for start in range(wanted.start, wanted.end, CHUNK_BYTES):
            file.write(self.bytes_of(ByteRange(start, min(start + CHUNK_BYTES, wanted.end))))

    async def peek_all(self, wanted: Sequence[ByteRange]) -> list[bytes]:
        """Read several ranges."""
        self.rounds += 1
        self.reads += wanted
        return [self.bytes_of(each) for each in wanted]

    def bytes_of(self, wanted: ByteRange) -> bytes:
        first, last = wanted.start // SECOND_BYTES, (wanted.end - 1) // SECOND_BYTES
        data = b"".join(
            _second(round(self.clock(number) * TICKS) % 2**33)
            for number in range(first, min(last + 1, self.seconds))
        )
        return data[wanted.start - first * SECOND_BYTES :][: wanted.size]
