"""Read the fragments of an MP4: box by box, or from any offset by searching for the next fragment."""

from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from clip_cutter.containers.model import ByteRange, UnsupportedMedia
from clip_cutter.containers.mp4.boxes import HEAD, WIDE_HEAD_BYTES, Box, walk
from clip_cutter.containers.mp4.fragment_clock import FragmentPoint, fragment_point
from clip_cutter.containers.mp4.fragments import (
    MAX_MOOF_BYTES,
    MOOF_HEAD_BYTES,
    Fragment,
    Header,
    find_moofs,
    read_fragment,
    read_header,
)
from clip_cutter.scratch import Job
from clip_cutter.vods.ranges import PlacedRange, merge, read_ranges
from clip_cutter.vods.source import Source

KIBIBYTE, MEBIBYTE = 1024, 1024 * 1024
BLOCK_BYTES = 16 * KIBIBYTE  # a ``moof`` of some seconds, and the head of what follows it
SEARCH_BYTES = (64 * KIBIBYTE, 256 * KIBIBYTE, MEBIBYTE)  # of the reads of a search; the last is repeated
MAX_SEARCH_BYTES = 64 * MEBIBYTE
MAX_HEADER_BYTES = 16 * MEBIBYTE
MAX_EXCERPT_BYTES = 1024 * MEBIBYTE
MAX_RANGES = 256
MAX_BOXES = 256  # from one fragment to the next
MAX_TRIES = 64  # places that look like the start of a fragment, and are not
FRAGMENT, HEADER = b"moof", b"moov"
# What may stand among fragments (§4.3, §8.1, §8.8, §8.11, §8.16).
OTHERS = frozenset(
    {b"ftyp", b"styp", b"mdat", b"free", b"skip", b"wide", b"uuid", b"meta", b"udta", b"pdin"}
    | {b"sidx", b"ssix", b"prft", b"emsg", b"mfra"}
)


class InvalidBox(UnsupportedMedia):
    """No valid box begins at ``offset``: the file is damaged there, or shortly before."""

    def __init__(self, why: str, offset: int) -> None:
        super().__init__(why)
        self.offset = offset


class ScratchCopy:
    """A file in the job's folder with those ranges of a VOD that a window needs."""

    def __init__(self, source: Source, job: Job) -> None:
        self.path = job.folder / "samples"
        self.path.touch()
        self._source, self._job = source, job
        self._ranges: list[PlacedRange] = []
        self._size = 0

    async def fetch(self, ranges: Iterable[ByteRange]) -> None:
        """Append ranges of the VOD to the file.

        Raises:
            UnsupportedMedia: the file would hold more than 1 GiB, or more than 256 ranges.
            Skipped: the VOD is no longer in storage, or the scratch disk is too small.
            TransientError: the storage is unavailable, or the scratch disk is full.
        """
        placed: list[PlacedRange] = []
        size = self._size
        for wanted in ranges:
            placed.append(PlacedRange(wanted, size))
            size += wanted.size
        if size > MAX_EXCERPT_BYTES or len(placed) > MAX_RANGES:
            raise UnsupportedMedia(
                f"a window of {size} bytes in {len(placed)} places;"
                f" {MAX_EXCERPT_BYTES} bytes in {MAX_RANGES} places are read"
            )
        await self._job.reserve(size - self._size)
        await read_ranges(self._source, placed, lambda: self.path.open("r+b", buffering=0))
        self._size = size
        self._ranges += placed

    def position(self, offset: int, size: int) -> int | None:
        """Return the position in the file of some bytes of the VOD; None: they are not in the file."""
        for wanted, position in self._ranges:
            if wanted.start <= offset and offset + size <= wanted.end:
                return position + offset - wanted.start
        return None

    def read(self, offset: int, size: int) -> bytes | None:
        """Return some bytes of the VOD; None: they are not in the file."""
        if (position := self.position(offset, size)) is None:
            return None
        with self.path.open("rb") as file:
            file.seek(position)
            return file.read(size)

    async def fetch_missing(self, ranges: Iterable[ByteRange]) -> None:
        """Append the ranges that are not in the file yet. Raises as :meth:`fetch`."""
        missing = [each for each in ranges if self.position(each.start, each.size) is None]
        if missing:
            await self.fetch(merge(missing))


class FragmentReader:
    """Read boxes of a VOD: from the copy in the job's folder, from the last block, or from the source.

    ``header`` is None until it is read; fragments cannot be read before.
    """

    def __init__(self, source: Source, header: Header | None = None, copy: ScratchCopy | None = None) -> None:
        self.size = source.size_bytes
        self._source, self._header, self._copy = source, header, copy
        self._block, self._block_at = b"", 0
        self._failed = 0  # tries

    async def read(self, offset: int, size: int, *, ahead: int = BLOCK_BYTES) -> bytes:
        """Return up to ``size`` bytes at ``offset``; fewer at the end of the file.

        At least ``ahead`` bytes are requested, because what follows will probably be read next.
        """
        size = max(min(size, self.size - offset), 0)
        if size == 0 or offset < 0:  # the offset comes from the file, and may be anything
            return b""
        if self._copy and (found := self._copy.read(offset, size)) is not None:
            return found
        if not self._block_at <= offset <= offset + size <= self._block_at + len(self._block):
            end = min(offset + max(size, ahead), self.size)
            self._block_at, self._block = offset, await self._source.peek(ByteRange(offset, end))
        return self._block[offset - self._block_at :][:size]

    async def box(self, offset: int) -> Box | None:
        """Return the box at an offset; None at the end of the file.

        Raises:
            UnsupportedMedia: no valid box begins at the offset.
        """
        head = await self.read(offset, WIDE_HEAD_BYTES)
        if len(head) < HEAD.size:
            return None
        return next(walk(lambda at, size: head[at - offset :][:size], offset, self.size))

    async def next_fragment(self, offset: int) -> tuple[Fragment | None, int]:
        """Return the next fragment from the box at an offset on, and the end of its ``moof``.

        Without another fragment: None, and the end of the last box, or its start if the file ends within it.

        Raises:
            InvalidBox: the file is damaged before the next fragment.
            UnsupportedMedia: a VOD of another kind begins, or more than 256 other boxes come first.
        """
        boxes = 0
        while (box := await self._known_box(offset)) and box.end <= self.size:
            boxes += 1
            if boxes > MAX_BOXES:
                raise UnsupportedMedia(f"more than {MAX_BOXES} boxes without a fragment")
            if box.kind == FRAGMENT:
                return await self._fragment(box), box.end
            if box.kind == HEADER:
                await self._check_same(box)
            offset = box.end
        return None, offset

    async def _known_box(self, offset: int) -> Box | None:
        try:
            box = await self.box(offset)
        except UnsupportedMedia as error:
            raise InvalidBox(str(error), offset) from error
        if box and box.kind not in OTHERS and box.kind not in (FRAGMENT, HEADER):
            raise InvalidBox(f"a box {box.kind!r} among fragments", offset)
        return box

    async def _fragment(self, box: Box) -> Fragment:
        if self._header is None:
            raise UnsupportedMedia("a fragment before the header")
        if box.size > MAX_MOOF_BYTES:
            raise InvalidBox(f"the header of a fragment has {box.size} bytes", box.head)
        try:
            return read_fragment(await self.read(box.head, box.size), box.head, self._header)
        except UnsupportedMedia as error:
            raise InvalidBox(str(error), box.head) from error

    async def _check_same(self, box: Box) -> None:
        """Check that another header equals the first one, as in a file that was joined from several."""
        found = await self.header(box)
        if self._header is None or found.listed or found.signature != self._header.signature:
            raise UnsupportedMedia("a VOD of another kind begins within the file")

    async def header(self, box: Box) -> Header:
        """Read a header.

        Raises:
            UnsupportedMedia: the header announces no fragments or no video, is damaged, or exceeds 16 MiB.
        """
        if box.size > MAX_HEADER_BYTES:
            raise UnsupportedMedia(f"a header of {box.size} bytes; {MAX_HEADER_BYTES} are read")
        data = await self.read(box.head, box.size)

        def read_data(at: int, size: int) -> bytes:
            start = max(at - box.head, 0)
            return data[start : start + size]

        return read_header(read_data, box, self.size)

    async def fragment_at(self, offset: int) -> Fragment | None:
        """Return the fragment that begins at an offset; None: no fragment begins there.

        Raises:
            UnsupportedMedia: no fragment began at 64 offsets that were tried.
        """
        if self._failed >= MAX_TRIES:
            raise UnsupportedMedia(f"{MAX_TRIES} places that only look like a fragment")
        self._failed += 1
        with suppress(UnsupportedMedia):
            box = await self.box(offset)
            if box and box.kind == FRAGMENT and box.end <= self.size:
                found = await self._fragment(box)
                self._failed -= 1
                return found
        return None

    async def search(self, offset: int, end: int) -> Fragment | None:
        """Return the first fragment that begins between two offsets. No box need begin at these.

        Raises:
            UnsupportedMedia: 64 MiB hold no fragment.
        """
        first, sizes, step = offset, iter(SEARCH_BYTES), 0
        while offset < end:
            if offset - first > MAX_SEARCH_BYTES:
                raise UnsupportedMedia(f"no fragment in {MAX_SEARCH_BYTES} bytes")
            step = next(sizes, step)
            for at in await self.candidates(offset, min(offset + step, end)):
                if found := await self.fragment_at(at):
                    return found
            offset += step
        return None

    async def candidates(self, start: int, end: int) -> list[int]:
        """Return the offsets between two others at which a fragment may begin."""
        data = await self.read(start, end - start + MOOF_HEAD_BYTES, ahead=0)
        return [start + at for at in find_moofs(data) if start + at < end]

    async def look(self, offset: int, end: int) -> FragmentPoint | None:
        """Return the time and place of the first fragment with samples between two offsets.

        Raises:
            UnsupportedMedia: 64 MiB hold no fragment, or the fragment does not name its time.
        """
        while fragment := await self.search(offset, end):
            if point := await self.point(fragment):
                return point
            offset = fragment.end
        return None

    async def point(self, fragment: Fragment) -> FragmentPoint | None:
        """Return the time and place of a fragment; None: it has no samples.

        Raises:
            UnsupportedMedia: the fragment does not name its time.
        """
        if self._header is None or any(traf.decode_time is None for traf in fragment.trafs):
            raise UnsupportedMedia("a fragment without a time")
        return fragment_point(fragment, await self._data_end(fragment.end), self._header)

    async def _data_end(self, offset: int) -> int:
        """Return the end of a fragment's samples; its ``moof`` ends at ``offset``."""
        try:
            box = await self.box(offset)
        except UnsupportedMedia:
            return offset
        return min(box.end, self.size) if box and box.kind == b"mdat" else offset


@dataclass
class FragmentWalk:
    """Go through a file from fragment to fragment, and skip damaged parts.

    Args:
        reader: reads the fragments.
        is_broken: whether the file ends within a box, or with bytes that are no box.
        damaged: the offsets of the fragments that follow a damaged part.
    """

    reader: FragmentReader
    is_broken: bool = False
    damaged: set[int] = field(default_factory=set)

    async def fragments(self, offset: int) -> AsyncIterator[Fragment]:
        """Yield the fragments from the box at ``offset`` on.

        Raises:
            UnsupportedMedia: a VOD of another kind begins, or a damaged part exceeds 64 MiB.
        """
        while fragment := await self._next(offset):
            yield fragment
            offset = fragment.end

    async def _next(self, offset: int) -> Fragment | None:
        try:
            fragment, offset = await self.reader.next_fragment(offset)
        except InvalidBox as lost:
            fragment = await self.reader.search(lost.offset + 1, self.reader.size)
            if fragment:
                self.damaged.add(fragment.offset)
            offset = lost.offset
        if fragment is None:
            self.is_broken = self.is_broken or offset != self.reader.size
        return fragment
