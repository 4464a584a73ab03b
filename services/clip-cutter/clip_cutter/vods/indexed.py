"""MP4 files with an index (``moov``): the samples of a window are read, and nothing else.

The index is read once for all highlights of a VOD. Of a large index, the part for the window is read: an
index has a row for each frame, and that of six hours has 30 MB.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path

from clip_cutter.containers.model import (
    EMPTY_AUDIO,
    ByteRange,
    Excerpt,
    Sample,
    Track,
    TrackKind,
    UnsupportedMedia,
)
from clip_cutter.containers.mp4.boxes import Box
from clip_cutter.containers.mp4.index import Movie, find_index, find_tracks, visit_tables
from clip_cutter.containers.mp4.sample_tables import Extent
from clip_cutter.domain.policy import Window, clock
from clip_cutter.scratch import Job
from clip_cutter.vods.index_cache import CachedIndex, IndexCache, MissingBytes
from clip_cutter.vods.ranges import PlacedRange, merge, read_ranges, together
from clip_cutter.vods.source import Source

MAX_INDEX_BYTES = 256 * 1024 * 1024
SMALL_INDEX_BYTES = 2 * 1024 * 1024  # is read at once
FIRST_BYTES = 4096  # of the file: its type, and where its index or its media ends
# What is read around the head of a box in a large index: the end of the box before it, which tells whether
# the file is cut off, and the small boxes after it.
BEFORE_BYTES, AFTER_BYTES = 4096, 128 * 1024
MAX_RANGES = 64


@dataclass(frozen=True)
class IndexedMp4:
    """An MP4 file whose index is cached, in part or as a whole."""

    index: CachedIndex
    movie: Movie

    @property
    def seconds(self) -> float:
        """See :class:`clip_cutter.vods.vod.Vod`."""
        return self.movie.seconds

    async def excerpt(self, source: Source, window: Window, job: Job) -> Excerpt:
        """See :class:`clip_cutter.vods.vod.Vod`."""
        complete = partial(self.index.complete, source, job, around=partial(_around, source.size_bytes))
        rows = await complete(partial(self.movie.row_extents, window.start, window.end))
        await self.index.fetch(source, job, _ranges(rows))
        tracks = await complete(partial(self.movie.select, window.start, window.end))
        tracks = await _read_samples(source, job, tracks)
        by_kind = {track.kind: track for track in tracks}
        silence = None if self.movie.span(TrackKind.AUDIO) is None else EMPTY_AUDIO
        return Excerpt(by_kind[TrackKind.VIDEO], by_kind.get(TrackKind.AUDIO, silence), self._remark())

    def _remark(self) -> str | None:
        if not self.movie.is_cut_off:
            return None
        return f"the VOD's file is cut off: its video ends at {clock(self.seconds)}"


async def open_indexed(source: Source, job: Job, cache: IndexCache) -> IndexedMp4:
    """Find and read the index of an MP4 file.

    Raises:
        UnsupportedMedia: the file is not an MP4 with an index, or must be read by ffmpeg.
        Skipped: the VOD is no longer in storage.
        TransientError: the storage or the scratch disk is unavailable.
    """
    index = await cache.open(source)
    complete = partial(index.complete, source, job, around=partial(_around, source.size_bytes))
    moov: Box = await complete(partial(find_index, index, source.size_bytes))
    if moov.size > MAX_INDEX_BYTES:
        raise UnsupportedMedia(f"an index of {moov.size} bytes")
    if moov.size <= SMALL_INDEX_BYTES:
        await index.fetch(source, job, [ByteRange(moov.head, moov.end)])
    else:
        await _read_in_part(index, source, job, moov)
    movie: Movie = await complete(partial(Movie.read, index, moov, source.size_bytes))
    return IndexedMp4(index, movie)


async def _read_in_part(index: CachedIndex, source: Source, job: Job, moov: Box) -> None:
    """Read the parts of a large index that every window needs. Raises as :func:`open_indexed`."""
    complete = partial(index.complete, source, job, around=partial(_around, source.size_bytes))
    traks: list[Box] = []

    async def find() -> None:
        traks.extend(await complete(partial(find_tracks, index, moov)))

    await together([find(), index.fetch(source, job, [ByteRange(moov.end - BEFORE_BYTES, moov.end)])])
    await together(complete(partial(visit_tables, index, trak, index.have)) for trak in traks)


def _around(size_bytes: int, missing: MissingBytes) -> ByteRange:
    """Return the range to read for some missing bytes; a small index at the end of a file is read at once."""
    end = missing.offset + missing.size
    if missing.offset == 0:
        return ByteRange(0, FIRST_BYTES)
    if size_bytes - missing.offset <= SMALL_INDEX_BYTES:
        return ByteRange(missing.offset, size_bytes)
    return ByteRange(max(missing.offset - BEFORE_BYTES, 0), end + AFTER_BYTES)


def _ranges(extents: Iterable[Extent]) -> list[ByteRange]:
    return [ByteRange(each.offset, each.offset + each.size) for each in extents]


async def _read_samples(source: Source, job: Job, tracks: Sequence[Track]) -> list[Track]:
    """Read samples into a file in the job's folder; return the tracks with their samples in that file.

    Raises:
        UnsupportedMedia: the samples lie in more than 64 ranges of the VOD.
        Skipped, TransientError: as :meth:`Source.read` and :meth:`Job.reserve`.
    """
    ranges = merge(
        ByteRange(sample.offset, sample.offset + sample.size) for track in tracks for sample in track.samples
    )
    if len(ranges) > MAX_RANGES:
        raise UnsupportedMedia(f"samples that are scattered over {len(ranges)} places; {MAX_RANGES} are read")
    positions = list(accumulate((each.size for each in ranges), initial=0))
    await job.reserve(positions[-1])
    path = job.folder / "samples"
    path.touch()
    await read_ranges(
        source, list(map(PlacedRange, ranges, positions)), lambda: path.open("r+b", buffering=0)
    )
    return await asyncio.to_thread(_placed, tracks, ranges, positions, path)


def _placed(
    tracks: Sequence[Track], ranges: Sequence[ByteRange], positions: Sequence[int], path: Path
) -> list[Track]:
    """Return tracks with the offsets of their samples in a file that holds some ranges of the VOD."""
    starts = [each.start for each in ranges]
    shifts = [position - start for position, start in zip(positions, starts, strict=False)]

    def place(sample: Sample) -> Sample:
        shift = shifts[bisect_right(starts, sample.offset) - 1]
        return sample._replace(offset=sample.offset + shift)

    return [replace(track, samples=list(map(place, track.samples)), media=path) for track in tracks]
