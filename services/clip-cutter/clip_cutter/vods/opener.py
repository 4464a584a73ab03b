"""Open VODs, each in the way that fits its container, and keep the latest few open.

The highlights of a VOD arrive one after the other, and share what was read of the VOD when it was opened.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from clip_cutter.containers.model import ByteRange, Excerpt, UnsupportedMedia
from clip_cutter.containers.mpegts import is_transport_stream
from clip_cutter.domain.policy import Window, unreadable
from clip_cutter.ffmpeg.run import Ffmpeg
from clip_cutter.metrics import CutterMetrics, ReadMethod
from clip_cutter.scratch import Job
from clip_cutter.vods.fragmented import open_fragmented
from clip_cutter.vods.index_cache import IndexCache
from clip_cutter.vods.indexed import open_indexed
from clip_cutter.vods.remuxed import open_remuxed
from clip_cutter.vods.source import Source
from clip_cutter.vods.streamed import open_stream
from clip_cutter.vods.vod import Vod

log = structlog.get_logger()

KEPT = 4
MAGIC_BYTES = 2048  # several packets of MPEG-TS
# The boxes that an MP4 or QuickTime file may begin with (ISO/IEC 14496-12 §4.3; old QuickTime has no ftyp).
FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"})

Opener = Callable[[Source, Job], Awaitable[Vod]]


@dataclass(frozen=True)
class _VodWithFallback:
    """A VOD of which a part is read by ffmpeg if the VOD's own reader does not support that part."""

    vod: Vod
    ffmpeg: Ffmpeg

    @property
    def seconds(self) -> float | None:
        return self.vod.seconds

    async def excerpt(self, source: Source, window: Window, job: Job) -> Excerpt:
        try:
            return await self.vod.excerpt(source, window, job)
        except UnsupportedMedia as error:
            log.info("ffmpeg reads a window", why=str(error))
        remuxed = await open_remuxed(source, self.ffmpeg)
        return await remuxed.excerpt(source, window, job)


class VodOpener:
    """Open VODs, and keep the latest ``KEPT`` of them open."""

    def __init__(self, ffmpeg: Ffmpeg, indexes: IndexCache, metrics: CutterMetrics) -> None:
        self._ffmpeg = ffmpeg
        self._metrics = metrics
        self._indexes = indexes
        self._kept: OrderedDict[str, Vod] = OrderedDict()

    async def open(self, source: Source, job: Job) -> Vod:
        """Return an opened VOD: the one that is kept for the same bytes, else a new one.

        Raises:
            Skipped: the VOD cannot be read as a video, or its index is larger than the scratch disk.
            TransientError: the storage or the scratch disk is unavailable.
        """
        if (known := self._kept.get(source.identity)) is not None:
            self._metrics.opened(ReadMethod.KNOWN)
            self._kept.move_to_end(source.identity)
            return known
        vod = self._kept[source.identity] = await self._open(source, job)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return vod

    async def _open(self, source: Source, job: Job) -> Vod:
        if source.size_bytes == 0:
            raise unreadable("the file is empty")
        magic = await source.peek(ByteRange(0, min(MAGIC_BYTES, source.size_bytes)))
        for way, opener in self._ways(magic):
            try:
                vod = await opener(source, job)
            except UnsupportedMedia as error:
                log.info("a VOD is read in another way", not_by=way, why=str(error))
            else:
                self._metrics.opened(way)
                return _VodWithFallback(vod, self._ffmpeg)
        vod = await open_remuxed(source, self._ffmpeg)
        self._metrics.opened(ReadMethod.REMUXED)
        return vod

    def _ways(self, magic: bytes) -> list[tuple[ReadMethod, Opener]]:
        """Return the ways to read a file by its first bytes, to be tried in order; else ffmpeg reads it."""
        if magic[4:8] in FIRST_BOXES:
            return [(ReadMethod.INDEXED, self._open_indexed), (ReadMethod.FRAGMENTED, open_fragmented)]
        if magic.startswith(b"FLV") or is_transport_stream(magic):
            return [(ReadMethod.STREAMED, open_stream)]
        return []

    async def _open_indexed(self, source: Source, job: Job) -> Vod:
        return await open_indexed(source, job, self._indexes)
