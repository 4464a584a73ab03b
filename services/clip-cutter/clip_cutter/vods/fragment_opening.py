"""Open a fragmented MP4: find its header, its index and its end, and where its clock jumps."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from clip_cutter.containers.model import TrackKind, UnsupportedMedia
from clip_cutter.containers.mp4.boxes import Box, walk
from clip_cutter.containers.mp4.fragment_clock import (
    BACK_SECONDS,
    FragmentClock,
    FragmentFollower,
    FragmentJump,
    FragmentPoint,
    FragmentStatistics,
    fragment_point,
    is_behind,
)
from clip_cutter.containers.mp4.fragment_index import (
    MFRO_BYTES,
    FragmentIndex,
    read_mfro,
    read_random_access,
    read_segment_index,
)
from clip_cutter.containers.mp4.fragments import Fragment, Header, TrackFragment
from clip_cutter.vods.fragment_reader import FRAGMENT, HEADER, MEBIBYTE, FragmentReader, FragmentWalk
from clip_cutter.vods.source import Source

HEAD_BYTES = 256 * 1024  # the header, and often the first fragments
MAX_HEADS = 16  # boxes before the header, and between the header and the first fragment
FIRST_KINDS = frozenset({b"ftyp", b"styp"})
MAX_INDEX_BYTES = MEBIBYTE  # 80,000 fragments; a larger index is not read
MAX_POINTS = 2048  # fragments whose time and place are kept
FIRST_FRAGMENTS = 12  # within which every track must begin
LAST_FRAGMENTS = 512  # behind the last fragment that an index lists
MAX_STARTS = 16  # fragments from which the file is followed to its end, until video is found
FEW_FRAGMENTS = 8
BACK_BYTES, MAX_BACK_BYTES = 4 * MEBIBYTE, 64 * MEBIBYTE
EVEN_LOOKS, LOOKS_AT_ONCE, MAX_LOOKS = 16, 8, 400
MAX_SLOW_LOOKS = 100  # after so many looks, an unusual bit rate alone is no reason for another
LARGE_BYTES = 16 * MEBIBYTE  # with larger fragments a file has few of them: all are read
MAX_WALKED = 4096
HINT_SECONDS = 5.0  # the error that is allowed in the times of an index
NEVER = float("-inf")


@dataclass(frozen=True)
class FragmentedFile:
    """What is known of a fragmented MP4.

    Args:
        header: the content of its ``moov``.
        head: a fragment of the samples that the header lists; None: it lists no samples.
        points: the fragments whose time and place are known, in file order; the first fragment is among them.
        clock: its time line.
        seconds: when its video ends, on that line.
        is_broken: whether the file ends within a fragment.
        bases: the decode time of each track, in ticks, by the offset of a fragment; for files without
        ``tfdt``.
    """

    header: Header
    head: Fragment | None
    points: Sequence[FragmentPoint]
    clock: FragmentClock
    seconds: float
    is_broken: bool
    bases: Mapping[int, Mapping[int, int]]


@dataclass(frozen=True)
class _FirstFragments:
    """The first fragments. ``zero``: when the first track begins, on the movie's time line, in seconds.

    ``is_timed``: whether the fragments name their decode times.
    """

    points: list[FragmentPoint]
    zero: float
    is_timed: bool


@dataclass(frozen=True)
class _LastFragments:
    """The last fragments. ``ends``: when their video ends, on the movie's time line, in seconds.

    ``is_broken``: whether the file ends within a fragment.
    """

    points: list[FragmentPoint]
    ends: float
    is_broken: bool


async def open_file(source: Source) -> FragmentedFile:
    """Open a fragmented MP4.

    Raises:
        UnsupportedMedia: the file is not a fragmented MP4, or must be read by ffmpeg.
        Skipped: the VOD is no longer in storage.
        TransientError: source storage is unavailable.
    """
    reader = FragmentReader(source)
    moov = await _find_header(reader)
    return await _FragmentedFileOpener(source, await reader.header(moov), moov).open()


async def _find_header(reader: FragmentReader) -> Box:
    await reader.read(0, 1, ahead=HEAD_BYTES)
    offset = 0
    for _ in range(MAX_HEADS):
        box = await reader.box(offset)
        if box is None or box.end > reader.size or (offset == 0 and box.kind not in FIRST_KINDS):
            break
        if box.kind == HEADER:
            return box
        if box.kind == FRAGMENT:
            break
        offset = box.end
    raise UnsupportedMedia("the file is not an MP4 with a header before its fragments")


class _FragmentedFileOpener:
    """Opens a file whose header is known."""

    def __init__(self, source: Source, header: Header, moov: Box) -> None:
        self._source, self._header, self._after = source, header, moov.end
        self._tracks = {track.number: track for track in header.tracks}
        self._reader = FragmentReader(source, header)
        self._end = source.size_bytes  # of the fragments
        self._jumps: dict[int, float] = {}  # by the offset of the first fragment behind them
        self._looks = 0
        self._head = _listed_fragment(header, moov)

    async def open(self) -> FragmentedFile:
        first = await self._first()
        if not first.is_timed or any(point.after - point.offset > LARGE_BYTES for point in first.points):
            return await self._open_walking(first.zero)
        hints = await self._hints()
        last = await self._last(hints[-1].offset if hints else None)
        ends = {point.offset: point for point in [*first.points, *last.points]}
        if hints and _agree(hints, last.points):
            points = _sorted({**{point.offset: point for point in hints}, **ends}.values())
            await self._check_hints(points)
            points = _fewer(points)
        else:
            points = await self._look_around(_sorted(ends.values()))
        return self._opened(points, first.zero, last)

    def _opened(
        self,
        points: Sequence[FragmentPoint],
        zero: float,
        last: _LastFragments,
        bases: Mapping[int, Mapping[int, int]] | None = None,
    ) -> FragmentedFile:
        clock = FragmentClock(zero, tuple(FragmentJump(*each) for each in sorted(self._jumps.items())))
        seconds = last.ends + clock.shift(self._source.size_bytes)
        return FragmentedFile(self._header, self._head, points, clock, seconds, last.is_broken, bases or {})

    async def _fragments(self, fragment_walk: FragmentWalk) -> AsyncIterator[Fragment]:
        """Yield all fragments, beginning with that of the samples in the header."""
        if self._head:
            yield self._head
        async for fragment in fragment_walk.fragments(self._after):
            yield fragment

    async def _first(self) -> _FirstFragments:
        """Read the first fragments until each track has begun."""
        starts: dict[int, float] = {}
        points: list[FragmentPoint] = []
        follower, is_timed = self._follower(), True
        async for bare in self._fragments(FragmentWalk(self._reader)):
            is_timed = is_timed and all(traf.decode_time is not None for traf in bare.trafs)
            fragment = follower.with_times(bare)
            follower.follow(fragment)
            points += await self._points(fragment)
            for traf in fragment.trafs:
                starts.setdefault(traf.track, self._begins(traf))
            if starts.keys() == self._tracks.keys() or len(points) >= FIRST_FRAGMENTS:
                break
        if self._header.video.number not in starts:
            raise UnsupportedMedia(f"no video in the first {FIRST_FRAGMENTS} fragments")
        return _FirstFragments(points, min(starts.values()), is_timed)

    def _follower(self) -> FragmentFollower:
        return FragmentFollower(self._header, dict.fromkeys(self._tracks, 0))

    def _begins(self, traf: TrackFragment) -> float:
        track = self._tracks[traf.track]
        return max(track.shows_from, track.seconds(min(sample.shown for sample in traf.samples)))

    async def _points(self, fragment: Fragment) -> list[FragmentPoint]:
        if fragment is self._head:
            point = fragment_point(fragment, fragment.end, self._header)
        else:
            point = await self._reader.point(fragment)
        return [point] if point else []

    async def _open_walking(self, zero: float) -> FragmentedFile:
        """Open a file by reading the heads of all fragments.

        If the fragments do not name their decode times, the durations of all fragments before are added up.
        """
        follower, fragment_walk = self._follower(), FragmentWalk(self._reader)
        points: list[FragmentPoint] = []
        latest: list[Fragment] = []
        bases: dict[int, dict[int, int]] = {}
        async for bare in self._fragments(fragment_walk):
            bases[bare.offset] = dict(follower.ticks)
            if bare.offset in fragment_walk.damaged and any(traf.decode_time is None for traf in bare.trafs):
                raise UnsupportedMedia("damage among fragments without times")
            fragment = follower.with_times(bare)
            if jump := follower.follow(fragment):
                self._jumps[fragment.offset] = jump
            points += await self._points(fragment)
            latest = [*latest[-FEW_FRAGMENTS:], fragment]
            if len(bases) > MAX_WALKED:
                raise UnsupportedMedia(f"more than {MAX_WALKED} fragments without an index")
        last = _LastFragments(points, self._reach(latest), self._breaks_off(fragment_walk, points))
        return self._opened(points, zero, last, bases)

    def _breaks_off(self, fragment_walk: FragmentWalk, points: Sequence[FragmentPoint]) -> bool:
        return fragment_walk.is_broken or self._cut_at < float("inf") or not points

    def _reach(self, fragments: Iterable[Fragment]) -> float:
        """Return when the video of the last fragments ends, in seconds of the movie's time line.

        If the file ends within a fragment, the video ends at the first sample that is not complete.
        """
        samples = [
            (self._tracks[traf.track], sample)
            for fragment in fragments
            for traf in fragment.trafs
            for sample in traf.samples
        ]
        size = self._source.size_bytes
        cut = (
            track.seconds(each.shown + each.length)
            for track, each in samples
            if each.offset + each.size > size
        )
        self._cut_at = min(cut, default=float("inf"))
        return max(
            (
                track.seconds(each.shown + each.length)
                for track, each in samples
                if track.kind is TrackKind.VIDEO and each.offset + each.size <= size
                if track.seconds(each.shown) < self._cut_at
            ),
            default=NEVER,
        )

    async def _hints(self) -> list[FragmentPoint]:
        """Return the fragments with video keyframes that the file's own index lists."""
        index = await self._random_access() or await self._segment_index()
        if index is None or not index.offsets:
            return []
        track = self._header.video
        times = [track.origin + time / (index.timescale or track.timescale) for time in index.times]
        return [
            FragmentPoint(offset, after, 0, start, end, 1)
            for (offset, after), (start, end) in zip(pairwise(index.offsets), pairwise(times), strict=True)
            if offset >= self._after
        ]

    async def _random_access(self) -> FragmentIndex | None:
        """Return the index at the end of the file (``mfra``); None: the file has none."""
        size = self._source.size_bytes
        length = read_mfro(await self._reader.read(size - MFRO_BYTES, MFRO_BYTES, ahead=0))
        if length is None or not MFRO_BYTES < length <= min(MAX_INDEX_BYTES, size - self._after):
            return None
        data = await self._reader.read(size - length, length)
        with suppress(UnsupportedMedia):
            mfra = next(walk(lambda at, count: data[at : at + count], 0, length))
            if mfra.kind == b"mfra" and mfra.end == length:
                self._end = size - length
                found = read_random_access(lambda at, count: data[at : at + count], mfra, self._end)
                return found.get(self._header.video.number)
        return None

    async def _segment_index(self) -> FragmentIndex | None:
        """Return the index before the first fragment (``sidx``); None: missing, or of one fragment."""
        offset = self._after
        for _ in range(MAX_HEADS):
            box = await self._reader.box(offset)
            if box is None or box.kind == FRAGMENT or box.end > self._source.size_bytes:
                break
            if box.kind == b"sidx" and box.size <= MAX_INDEX_BYTES:
                with suppress(UnsupportedMedia):
                    index = read_segment_index(
                        await self._reader.read(box.start, box.end - box.start), box.end
                    )
                    if index.track == self._header.video.number and len(index.offsets) > 2:  # noqa: PLR2004
                        return index
            offset = box.end
        return None

    async def _last(self, hint: int | None) -> _LastFragments:
        """Find the last fragments: from the fragment at ``hint``, else by a search back from the end."""
        tries = 0
        async for start in self._back_from_end(hint):
            tries += 1
            if tries > MAX_STARTS:
                break
            fragment_walk = FragmentWalk(self._reader)
            points: list[FragmentPoint] = []
            latest: list[Fragment] = []
            async for fragment in fragment_walk.fragments(start):
                points += await self._points(fragment)
                latest = [*latest[-FEW_FRAGMENTS:], fragment]
                if len(points) > LAST_FRAGMENTS:
                    break
            else:
                if (ends := self._reach(latest)) > NEVER:
                    return _LastFragments(points, ends, self._breaks_off(fragment_walk, points))
        if self._head:
            return _LastFragments(await self._points(self._head), self._reach([self._head]), is_broken=True)
        raise UnsupportedMedia(f"no fragment with video in the last {MAX_BACK_BYTES // MEBIBYTE} MiB")

    async def _back_from_end(self, hint: int | None) -> AsyncIterator[int]:
        """Yield the offsets of fragments to start from: that of the hint, then those near the file's end."""
        if hint is not None and await self._reader.fragment_at(hint):
            yield hint
        reader = FragmentReader(self._source, self._header)
        end, size = self._end, HEAD_BYTES
        while end > self._after and self._end - end < MAX_BACK_BYTES:
            start = max(end - size, self._after)
            for at in reversed(await self._reader.candidates(start, end)):
                if await reader.fragment_at(at):
                    yield at
            end, size = start, min(size * 4, BACK_BYTES)

    async def _look_around(self, points: list[FragmentPoint]) -> list[FragmentPoint]:
        """Read fragments at some places of the file, and more of them wherever the clock may jump.

        A clock that restarts at 0 can be seen for as long afterwards as it had run before. So the distance
        between places doubles, from the start of the file, and again from each jump.
        """
        first, last = points[0], points[-1]
        size = last.offset - first.after
        even = [first.after + size * part // EVEN_LOOKS for part in range(1, EVEN_LOOKS)]
        points = await self._look_at(points, [*even, *_doubling(first, last)])
        pace = FragmentStatistics.of(points, len(self._tracks))
        checked: set[tuple[int, int]] = set()
        while unchecked := [pair for pair in pairwise(points) if (pair[0][0], pair[1][0]) not in checked]:
            known = set(self._jumps)
            for low, high in unchecked:
                checked.add((low.offset, high.offset))
                points = _sorted({*points, *await self._check(low, high, pace)})
                if begun := [point for point in points if point.offset in self._jumps.keys() - known]:
                    points = await self._look_at(points, _doubling(begun[-1], last))
                    break
        return points

    async def _look_at(self, points: Sequence[FragmentPoint], places: Sequence[int]) -> list[FragmentPoint]:
        """Return the known fragments, and those that are found at some places of the file."""
        last = points[-1]
        turns = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def look(place: int) -> FragmentPoint | None:
            async with turns:
                return await FragmentReader(self._source, self._header).look(place, last.offset)

        self._count_looks(len(places))
        found = await asyncio.gather(*map(look, places))
        return _sorted({*points, *(point for point in found if point)})

    async def _check(
        self, low: FragmentPoint, high: FragmentPoint, pace: FragmentStatistics
    ) -> list[FragmentPoint]:
        """Find the jumps between two fragments; return the fragments that were read on the way."""
        limit = MAX_SLOW_LOOKS if pace.is_steady(low, high) else MAX_LOOKS
        is_odd = pace.is_slow(low, high) if limit == MAX_SLOW_LOOKS else True
        is_known = high.offset in self._jumps or high.offset <= low.after
        if not is_odd or is_known or (self._looks >= limit and not is_behind(low, high)):
            return []
        self._count_looks(1)
        if high.offset - low.after > FEW_FRAGMENTS * (low.after - low.offset):
            middle = await self._reader.look((low.after + high.offset) // 2, high.offset)
            if middle:
                before = await self._check(low, middle, pace)
                return [*before, middle, *await self._check(middle, high, pace)]
        return await self._find_jumps(low, high)

    def _count_looks(self, number: int) -> None:
        self._looks += number
        if self._looks > MAX_LOOKS:
            raise UnsupportedMedia(f"a clock that needs more than {MAX_LOOKS} looks to follow its jumps")

    async def _check_hints(self, points: Sequence[FragmentPoint]) -> None:
        """Search for jumps wherever the times of an index go back, or go on much more than usual."""
        steps = sorted(high.start - low.start for low, high in pairwise(points))
        usual = steps[len(steps) // 2] if steps else 0.0
        for low, high in pairwise(points):
            if not -BACK_SECONDS <= high.start - low.start <= 3 * usual + 2 * HINT_SECONDS:
                self._count_looks(1)
                await self._find_jumps(low, high)

    async def _find_jumps(self, low: FragmentPoint, high: FragmentPoint) -> list[FragmentPoint]:
        """Read all fragments between two, and record the jumps of the clock; return the fragments there."""
        found: list[FragmentPoint] = []
        follower = FragmentFollower(self._header)
        offset, number = low.offset, 0
        if self._head and low.offset == self._head.offset:
            follower.follow(self._head)
            offset = self._head.end
        async for fragment in FragmentWalk(self._reader).fragments(offset):
            if jump := follower.follow(follower.with_times(fragment)):
                self._jumps[fragment.offset] = jump
                found += await self._points(fragment)
            number += 1
            if number > MAX_WALKED:
                raise UnsupportedMedia(f"a jump of the clock within more than {MAX_WALKED} fragments")
            if fragment.offset >= high.offset:
                break
        return found


def _doubling(first: FragmentPoint, last: FragmentPoint) -> list[int]:
    """Return places between two fragments, each twice as far from the first fragment as the next."""
    places: list[int] = []
    distance = (last.offset - first.after) // 2
    while distance > FEW_FRAGMENTS * (first.after - first.offset):
        places.append(first.after + distance)
        distance //= 2
    return places


def _listed_fragment(header: Header, moov: Box) -> Fragment | None:
    """Return a fragment of the samples that the header lists; None: it lists no samples."""
    parts = [
        TrackFragment(track.number, track.samples[0].decoded, track.samples)
        for track in header.tracks
        if track.samples
    ]
    return Fragment(moov.head, moov.end, 0, tuple(parts)) if parts else None


def _sorted(points: Iterable[FragmentPoint]) -> list[FragmentPoint]:
    return sorted(points, key=lambda point: point.offset)


def _fewer(points: Sequence[FragmentPoint]) -> list[FragmentPoint]:
    """Return every n-th of many fragments, with the first and the last."""
    step = -(-len(points) // (MAX_POINTS // 2))
    return [*points[:-1:step], points[-1]]


def _agree(hints: Sequence[FragmentPoint], last: Sequence[FragmentPoint]) -> bool:
    """Tell whether the last entry of an index agrees with the fragment that it names."""
    found = {point.offset: point for point in last}
    hint = hints[-1]
    return hint.offset in found and abs(found[hint.offset].start - hint.start) < HINT_SECONDS
