"""What each VOD turned out to be, shared by all highlights of it; and how the window of one is read.

Of an MP4 the worker reads the index itself, once, and then of each window just the samples, into an excerpt
on scratch. All other files are probed once, and then read by ffmpeg where they are.
"""

import asyncio
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TypeVar

import structlog

from clip_cutter.arguments import Input
from clip_cutter.boxes import HEAD, WIDE_SIZE, Box, Malformed, walk
from clip_cutter.cutter import Cutter, Job
from clip_cutter.domain.media import ByteRange, Media, picture_end
from clip_cutter.domain.policy import Window
from clip_cutter.excerpt import Excerpt, excerpt_of
from clip_cutter.metrics import Metrics, Opening
from clip_cutter.mp4_index import Index, NotPlain
from clip_cutter.scratch import Scratch
from clip_cutter.source_storage import SourceStorage, Vod

log = structlog.get_logger()

KEPT = 4  # VODs: their highlights come one after the other
MAX_INDEX_BYTES = 128 * 1024 * 1024  # a day at 60 frames a second
PEEK_BYTES = 4096
MAX_PEEKS = 8


@dataclass(frozen=True)
class Probed:
    """A VOD that ffmpeg reads where it is."""

    media: Media

    @property
    def seconds(self) -> float | None:
        """How far its picture reaches; None where it does not say."""
        return picture_end(self.media)


@dataclass(frozen=True)
class Indexed:
    """An MP4 of which only the samples of a window are read. ``file_type``: its ``ftyp`` box."""

    file_type: bytes
    index: Index
    file: IO[bytes]

    @property
    def seconds(self) -> float:
        """How far its picture reaches."""
        return self.index.seconds


Kept = TypeVar("Kept", Probed, Indexed)


class Recordings:
    """The latest few VODs. ``max_excerpt_bytes``: a window that needs more is left to ffmpeg."""

    def __init__(
        self,
        sources: SourceStorage,
        cutter: Cutter,
        scratch: Scratch,
        metrics: Metrics,
        *,
        max_excerpt_bytes: int,
    ) -> None:
        self._sources = sources
        self._cutter = cutter
        self._scratch = scratch
        self._metrics = metrics
        self._max_excerpt_bytes = max_excerpt_bytes
        self._kept: OrderedDict[Vod, Probed | Indexed] = OrderedDict()

    async def open(self, vod: Vod, patience_seconds: float) -> Probed | Indexed:
        """Find out what a VOD consists of, unless that is known; wait so long for room on scratch if need be.

        Raises:
            Skipped: it is no video that a clip could be cut from.
            TransientError: the storage or the scratch disk is out.
        """
        if (known := self._kept.get(_content(vod))) is not None:
            self._metrics.opened(Opening.KNOWN)
            self._kept.move_to_end(_content(vod))
            return known
        try:
            return self._keep(vod, await self._index(vod, patience_seconds), Opening.INDEX)
        except (NotPlain, Malformed) as error:
            return await self._probe(vod, error)

    async def stage(
        self, vod: Vod, recording: Probed | Indexed, window: Window, folder: Path, patience_seconds: float
    ) -> Job:
        """Get a window ready to be cut in ``folder``. Raises as :meth:`open`."""
        if isinstance(recording, Indexed):
            try:
                return await self._excerpt(vod, recording, window, folder, patience_seconds)
            except NotPlain as error:
                recording = await self._probe(vod, error)
        return Job(vod.url, recording.media, window, folder)

    def _keep(self, vod: Vod, recording: Kept, how: Opening) -> Kept:
        self._metrics.opened(how)
        self._kept[_content(vod)] = recording
        self._forget(KEPT)
        return recording

    def close(self) -> None:
        """Forget all VODs, and give back the room of their indexes on scratch."""
        self._forget(0)

    def _forget(self, kept: int) -> None:
        while len(self._kept) > kept:
            _, oldest = self._kept.popitem(last=False)
            if isinstance(oldest, Indexed):
                oldest.file.close()

    async def _probe(self, vod: Vod, why: Exception) -> Probed:
        log.info("a VOD is left to ffmpeg", why=str(why))
        return self._keep(vod, Probed(await self._cutter.look(vod.url)), Opening.PROBE)

    async def _index(self, vod: Vod, patience_seconds: float) -> Indexed:
        file_type, place = await self._find_index(vod)
        if place.size > MAX_INDEX_BYTES or place.end > vod.size_bytes:
            raise NotPlain(f"an index of {place.size} bytes")
        await self._scratch.wait_for_room(place.size, patience_seconds)
        with ExitStack() as on_failure:
            file = on_failure.enter_context(self._scratch.spare_file())
            await self._sources.read(vod, place, file)
            file.flush()
            index = await asyncio.to_thread(Index.read, file)
            on_failure.pop_all()
            return Indexed(file_type, index, file)

    async def _find_index(self, vod: Vod) -> tuple[bytes, ByteRange]:
        """The ``ftyp`` box, and where the ``moov`` box is: before or after the media."""
        offset, file_type = 0, b""
        for _ in range(MAX_PEEKS):
            data = await self._sources.peek(vod, ByteRange(offset, min(offset + PEEK_BYTES, vod.size_bytes)))
            boxes = _boxes_in(data, offset, vod.size_bytes)
            if offset == 0 and boxes[0].kind == b"ftyp":
                file_type = data[: boxes[0].end]
            for found in boxes:
                if file_type and found.kind == b"moov":
                    return file_type, ByteRange(found.head, found.end)
            offset = boxes[-1].end
            if not file_type or offset >= vod.size_bytes:
                break
        raise NotPlain("no MP4 with an index")

    async def _excerpt(
        self, vod: Vod, recording: Indexed, window: Window, folder: Path, patience_seconds: float
    ) -> Job:
        excerpt, offset = await asyncio.to_thread(_lay_out, recording, window)
        if excerpt.size_bytes > self._max_excerpt_bytes or excerpt.ranges[-1].end > vod.size_bytes:
            raise NotPlain(f"an excerpt of {excerpt.size_bytes} bytes, up to {excerpt.ranges[-1].end}")
        await self._scratch.wait_for_room(excerpt.size_bytes, patience_seconds)
        path = folder / "excerpt.mp4"
        with path.open("wb") as file:
            file.write(excerpt.header)
            for wanted in excerpt.ranges:
                await self._sources.read(vod, wanted, file)
        source = Input.of_file(path)
        shifted = Window(window.start - offset, window.end - offset)
        return Job(source, await self._cutter.look(source), shifted, folder, offset)


def _content(vod: Vod) -> Vod:
    """A VOD apart from the URL of this moment."""
    return replace(vod, url=Input(""))


def _boxes_in(data: bytes, offset: int, end: int) -> list[Box]:
    """The boxes of a file that ends at ``end`` whose heads are in ``data``, which lies at ``offset``."""
    boxes: list[Box] = []
    for found in walk(lambda at, size: data[at - offset :][:size], offset, end):
        boxes.append(found)
        if found.end + HEAD.size + WIDE_SIZE.size > offset + len(data):
            break
    return boxes


def _lay_out(recording: Indexed, window: Window) -> tuple[Excerpt, float]:
    """An excerpt, and how many seconds after the VOD's its time line begins."""
    parts, zero = recording.index.select(window.start, window.end)
    excerpt = excerpt_of(recording.file_type, parts)
    return excerpt, excerpt.start - zero
