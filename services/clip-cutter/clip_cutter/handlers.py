"""The bus: a highlight in, a clip or the reason why not out.

There are two lanes, each with a consumer of its own: one for clips that are copied, and one for those whose
video has to be re-encoded, which takes longer by far. A highlight begins in the first, and is passed on when
it needs the second.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from clip_cutter.announcements import (
    ClipKeys,
    HighlightEvent,
    created_event,
    encoding_event,
    metadata_of,
    skipped_event,
)
from clip_cutter.cutter import Cutter, WrittenClip
from clip_cutter.domain.plan import BadClip, EncodingNeeded
from clip_cutter.domain.policy import Policy, Skipped, check_policy, place_window
from clip_cutter.metrics import CutterMetrics
from clip_cutter.scratch import Job, Scratch
from clip_cutter.skip_limit import SkipLimit
from clip_cutter.storage import ClipStorage, StoredClip
from clip_cutter.vods.opener import VodOpener
from clip_cutter.vods.source_storage import SourceStorage
from clip_shared import tracing
from clip_shared.bus.bus import Bus
from clip_shared.contracts.events import EncodingRequested, Event, HighlightDetected, SkipReason

log = structlog.get_logger()

DISK_WAIT_SHARE = 0.5  # of a job's deadline may go by waiting for disk space

Publish = Callable[[Event[Any]], Awaitable[None]]


@dataclass(frozen=True)
class Highlights:
    """One lane: what becomes of highlights. ``clips``: None where free storage is not configured."""

    policy: Policy
    sources: SourceStorage
    clips: ClipStorage | None
    vods: VodOpener
    cutter: Cutter
    scratch: Scratch
    publish: Publish
    metrics: CutterMetrics
    skips: SkipLimit
    deadline_seconds: float

    async def handle(self, event: HighlightEvent) -> None:
        """Announce the clip of a highlight, or why there is none; or pass it on to the lane of re-encodes.

        Raises:
            PermanentError: the highlight names a place that nobody may read.
            HeldBack: too many highlights of its profile were skipped because of their VODs.
            ToolCrashed, ToolLimited, SourceRefused: something is wrong with this service, with its limits, or
                with what it asks for.
            TransientError: storage, the disk or the bus is out.
        """
        self.skips.check_again(event)
        with self.metrics.job():
            try:
                clip = await self._clip(event)
            except EncodingNeeded as need:
                log.info("highlight passed on to be re-encoded", why=str(need))
                await self.publish(encoding_event(event, str(need)))
                self.metrics.passed_on()
            except Skipped as skip:
                self.skips.check(event, skip)
                log.info("highlight skipped", reason=skip.reason, why=str(skip))
                await self.publish(skipped_event(event, skip))
                self.skips.count(event, skip)
                self.metrics.skipped(skip.reason)
            else:
                await self.publish(created_event(event, clip))
                self.metrics.created(event.time)
                log.info("clip created", key=ClipKeys.of(event).video)

    async def _clip(self, event: HighlightEvent) -> StoredClip:
        """Return the clip of a highlight: the one that is stored, else a new one."""
        check_policy(self.policy, is_clipable=event.data.is_clipable, rank=event.data.rank)
        if self.clips is None:
            raise Skipped(
                SkipReason.STORAGE_NOT_CONFIGURED,
                "This platform has no storage for clips set up at the moment.",
            )
        if (stored := await self.clips.find(ClipKeys.of(event).video)) is not None:
            self.metrics.repeated()
            return stored
        with self.scratch.job(DISK_WAIT_SHARE * self.deadline_seconds) as job:
            began = time.monotonic()
            with tracing.span("cut"):
                cut = await self._cut(event, job)
            stored = await self._save(self.clips, event, cut, job)
        receipt = stored.metadata.cut_receipt
        fell_back = receipt.fallback_reason is not None
        self.metrics.stored(receipt.mode, time.monotonic() - began, stored.size_bytes, fell_back=fell_back)
        return stored

    async def _cut(self, event: HighlightEvent, job: Job) -> WrittenClip:
        """Cut a clip out of its VOD. It is not verified."""
        source = await self.sources.locate(event.data.source)
        try:
            vod = await self.vods.open(source, job)
            window = place_window(event.data.start_seconds, event.data.end_seconds, vod.seconds, self.policy)
            excerpt = await vod.excerpt(source, window, job)
            return await self.cutter.cut(excerpt, window, job)
        except Skipped as skip:
            if skip.reason is SkipReason.SOURCE_UNREADABLE:
                await self.sources.confirm(event.data.source)  # or was it the storage, after all?
            raise

    async def _save(
        self, clips: ClipStorage, event: HighlightEvent, cut: WrittenClip, job: Job
    ) -> StoredClip:
        """Verify a clip while it is uploaded. A copy that is not good enough is re-encoded, once."""
        keys = ClipKeys.of(event)
        async with clips.upload(cut.video, keys.video, metadata_of(event, cut.clip)) as upload:
            try:
                with tracing.span("verify"):
                    clip = await self.cutter.verify(cut)
            except BadClip as error:
                problem = error
            else:
                return await upload.finish(clip.poster, keys.poster)
        again = await self.cutter.re_encode(cut, problem, job)
        return await self._save(clips, event, again, job)


def subscribe(bus: Bus, copies: Highlights, encodings: Highlights) -> None:
    """Register the handlers, one for each lane."""
    bus.subscriber(HighlightDetected, deadline_seconds=copies.deadline_seconds)(copies.handle)
    bus.subscriber(EncodingRequested, deadline_seconds=encodings.deadline_seconds)(encodings.handle)
