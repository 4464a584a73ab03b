"""Read byte ranges of a VOD into a file, several at a time."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import IO, NamedTuple

from clip_cutter.containers.model import ByteRange
from clip_cutter.vods.source import Source
from clip_shared.errors import TransientError

SIDE_BY_SIDE = 4
MIN_RANGE_BYTES = 2 * 1024 * 1024
MAX_RANGE_BYTES = 4 * 1024 * 1024
MAX_GAP_BYTES = 64 * 1024  # a gap up to this size is read too: that is cheaper than another request


class PlacedRange(NamedTuple):
    """A byte range of a VOD, and its position in the file that it is written to."""

    wanted: ByteRange
    position: int


def merge(ranges: Iterable[ByteRange], gap: int = MAX_GAP_BYTES) -> list[ByteRange]:
    """Return ranges in order; ranges that are at most ``gap`` bytes apart become one range."""
    merged: list[ByteRange] = []
    for each in sorted(ranges, key=lambda each: each.start):
        if merged and each.start <= merged[-1].end + gap:
            merged[-1] = ByteRange(merged[-1].start, max(merged[-1].end, each.end))
        else:
            merged.append(each)
    return merged


async def read_ranges(
    source: Source, placed: Sequence[PlacedRange], open_file: Callable[[], IO[bytes]]
) -> None:
    """Read ranges of a VOD into a file: 2 to 4 MiB with a request, four requests at a time.

    Args:
        source: the VOD.
        placed: the ranges, and their positions in the file.
        open_file: opens the file for writing, unbuffered. It is called once for each concurrent request.

    Raises:
        Skipped: the VOD is no longer in storage.
        TransientError: source storage is unavailable, or the scratch disk is full.
    """
    split = list(_split(placed))
    waiting = iter(split)

    async def work(file: IO[bytes]) -> None:
        for wanted, position in waiting:
            file.seek(position)
            await source.read(wanted, file)

    try:
        with ExitStack() as files:
            opened = [files.enter_context(open_file()) for _ in split[:SIDE_BY_SIDE]]
            await together(work(file) for file in opened)
    except OSError as error:
        raise TransientError(f"the scratch disk cannot be written to: {error.strerror}") from error


async def together(work: Iterable[Coroutine[None, None, None]]) -> None:
    """Run coroutines concurrently. The first failure cancels the others, and is raised without a group."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures


def _split(placed: Sequence[PlacedRange]) -> Iterator[PlacedRange]:
    total = sum(each.wanted.size for each in placed)
    size = min(max(-(-total // SIDE_BY_SIDE), MIN_RANGE_BYTES), MAX_RANGE_BYTES)
    for wanted, position in placed:
        for start in range(wanted.start, wanted.end, size):
            yield PlacedRange(
                ByteRange(start, min(start + size, wanted.end)), position + start - wanted.start
            )
