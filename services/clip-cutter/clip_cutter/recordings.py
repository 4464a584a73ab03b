"""What each VOD turned out to be, shared by all highlights of it; and how the window of one is read.

Of an MP4 the worker reads the index itself, once, and then of each window just the samples, into an excerpt
on scratch. Other files are probed once. Of an MPEG-TS or FLV the part with the window is read, likewise; all
others, and whatever is unusual, are read by ffmpeg where they are.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

import structlog

from clip_cutter.arguments import Input
from clip_cutter.boxes import HEAD, WIDE_SIZE, Box, Malformed, walk
from clip_cutter.cutter import Cutter, Job
from clip_cutter.domain.media import ByteRange, Media, NotPlain, picture_end
from clip_cutter.domain.policy import Skipped, Window
from clip_cutter.excerpt import Excerpt, excerpt_of
from clip_cutter.metrics import Metrics, Opening
from clip_cutter.mp4_index import Index
from clip_cutter.scratch import Scratch
from clip_cutter.source_storage import SourceStorage, Vod
from clip_cutter.streams import FlashVideo, Search, Stream, TransportStream

log = structlog.get_logger()

KEPT = 4  # VODs: their highlights come one after the other
MAX_INDEX_BYTES = 128 * 1024 * 1024  # a day at 60 frames a second
PEEK_BYTES = 4096
MAX_PEEKS = 8
STREAM_HEAD_BYTES = 64 * 1024
STREAMS: Mapping[str, Callable[[bytes, Media], Stream]] = {
    "mpegts": TransportStream.read,
    "flv": FlashVideo.read,
}


@dataclass(frozen=True)
class Probed:
    """A VOD without an index that we read. ``stream``: None where ffmpeg reads it where it is."""

    media: Media
    stream: Stream | None

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


OffsetOf = Callable[[Media], float]
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

    async def wait_for_room(self, size_bytes: int, patience_seconds: float) -> None:
        """Wait for room on scratch. The indexes are given up first: each can be read again.

        Raises as :meth:`Scratch.wait_for_room`.
        """
        if not self._scratch.has_room(size_bytes):
            self.close()
        await self._scratch.wait_for_room(size_bytes, patience_seconds)

    async def open(self, vod: Vod, patience_seconds: float) -> Probed | Indexed:
        """Find out what a VOD consists of, unless that is known; wait so long for room on scratch if need be.

        Raises:
            Skipped: it is no video that a clip could be cut from, or scratch is too small for it.
            TransientError: the storage or the scratch disk is out.
        """
        if (known := self._kept.get(_content(vod))) is not None:
            self._metrics.opened(Opening.KNOWN)
            self._kept.move_to_end(_content(vod))
            return known
        try:
            return self._keep(vod, await self._index(vod, patience_seconds), Opening.INDEX)
        except (NotPlain, Malformed) as error:
            log.info("a VOD without an index that we read", why=str(error))
            return await self._probe(vod)

    async def stage(
        self, vod: Vod, recording: Probed | Indexed, window: Window, folder: Path, patience_seconds: float
    ) -> Job:
        """Get a window ready to be cut in ``folder``. Raises as :meth:`open`."""
        try:
            return await self._stage(vod, recording, window, folder, patience_seconds)
        except NotPlain as error:
            log.info("a window is left to ffmpeg", why=str(error))
        probed = await self._probe(vod) if isinstance(recording, Indexed) else recording
        return Job(vod.url, probed.media, window, folder)

    async def _stage(
        self, vod: Vod, recording: Probed | Indexed, window: Window, folder: Path, patience_seconds: float
    ) -> Job:
        """Put an excerpt on scratch."""
        excerpt, offset_of = await self._lay_out(vod, recording, window)
        await self.wait_for_room(excerpt.size_bytes, patience_seconds)
        path = folder / "excerpt"
        with path.open("wb") as file:
            file.write(excerpt.header)
            for wanted in excerpt.ranges:
                await self._sources.read(vod, wanted, file)
        source = Input.of_file(path)
        try:
            media = await self._cutter.look(source)
        except Skipped as error:  # what it needs may lie elsewhere: the parameters of H.264, for example
            raise NotPlain(f"an excerpt that does not stand alone: {error}") from error
        offset = offset_of(media)
        return Job(source, media, Window(window.start - offset, window.end - offset), folder, offset)

    async def _lay_out(
        self, vod: Vod, recording: Probed | Indexed, window: Window
    ) -> tuple[Excerpt, OffsetOf]:
        """An excerpt; and, given what it turns out to be, how many seconds after the VOD's it begins."""
        excerpt, offset_of = (
            await asyncio.to_thread(_select, recording, window)
            if isinstance(recording, Indexed)
            else await self._search(vod, recording, window)
        )
        if excerpt.size_bytes > self._max_excerpt_bytes or excerpt.ranges[-1].end > vod.size_bytes:
            raise NotPlain(f"an excerpt of {excerpt.size_bytes} bytes, up to {excerpt.ranges[-1].end}")
        return excerpt, offset_of

    async def _search(self, vod: Vod, recording: Probed, window: Window) -> tuple[Excerpt, OffsetOf]:
        """An excerpt of a stream."""
        stream, seconds = recording.stream, recording.media.seconds
        if stream is None or seconds is None:
            raise NotPlain("a format that only ffmpeg reads")
        peek = partial(self._sources.peek, vod)
        part = await Search(stream, peek, size=vod.size_bytes, seconds=seconds).find(window.start, window.end)
        is_whole = part.rest.start == len(part.data)  # from the start of the file on
        return Excerpt((b"" if is_whole else stream.preamble) + part.data, [part.rest]), stream.offset_of

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

    async def _probe(self, vod: Vod) -> Probed:
        media = await self._cutter.look(vod.url)
        head = await self._sources.peek(vod, ByteRange(0, min(STREAM_HEAD_BYTES, vod.size_bytes)))
        try:
            stream = STREAMS[media.container](head, media) if media.container in STREAMS else None
        except NotPlain as error:
            log.info("a VOD is left to ffmpeg", why=str(error))
            stream = None
        return self._keep(vod, Probed(media, stream), Opening.PROBE)

    async def _index(self, vod: Vod, patience_seconds: float) -> Indexed:
        file_type, place = await self._find_index(vod)
        if place.size > MAX_INDEX_BYTES or place.end > vod.size_bytes:
            raise NotPlain(f"an index of {place.size} bytes")
        await self.wait_for_room(place.size, patience_seconds)
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


def _select(recording: Indexed, window: Window) -> tuple[Excerpt, OffsetOf]:
    """An excerpt by an index."""
    parts, zero = recording.index.select(window.start, window.end)
    start = min(part.start for part in parts)
    return excerpt_of(recording.file_type, parts, start), lambda _: start - zero
