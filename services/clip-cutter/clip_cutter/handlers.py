"""Make a clip of each highlight, and announce the clip, or why the highlight is skipped.

There are two lanes, each with its own topic and consumer: a copy takes seconds, a re-encode takes minutes.
Every highlight begins in the lane for copies (``highlight-detected``). If its video has to be re-encoded, the
highlight is passed on to the lane for re-encodes (``highlight-encodings``): no copy waits behind a re-encode.
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
from clip_cutter.storage import ClipStorage, StoredClip, UnconfiguredClipStorage
from clip_cutter.vods.opener import VodOpener
from clip_cutter.vods.source_storage import SourceStorage
from clip_shared import tracing
from clip_shared.bus.bus import Bus
from clip_shared.contracts.events import EncodingRequested, Event, HighlightDetected, SkipReason

log = structlog.get_logger()

DISK_WAIT_SHARE = 0.5  # of a lane's deadline that a job may wait for space on the scratch disk

Publish = Callable[[Event[Any]], Awaitable[None]]


@dataclass(frozen=True)
class Lane:
    """What differs between the lanes. A job that takes longer than ``deadline_seconds`` is stopped."""

    cutter: Cutter
    deadline_seconds: float


@dataclass(frozen=True)
class CutterHandlers:
    """The parts that a highlight needs on its way to a clip, and one method for each event type.

    ``copies`` is the lane in which every highlight begins; ``encodings`` the lane that re-encodes video.
    """

    policy: Policy
    sources: SourceStorage
    clips: ClipStorage | UnconfiguredClipStorage
    vods: VodOpener
    scratch: Scratch
    publish: Publish
    metrics: CutterMetrics
    skips: SkipLimit
    copies: Lane
    encodings: Lane

    async def highlight_detected(self, event: Event[HighlightDetected]) -> None:
        """Make the clip, or pass the highlight on to be re-encoded. Raises as :meth:`make_clip`."""
        await self.make_clip(event, self.copies)

    async def encoding_requested(self, event: Event[EncodingRequested]) -> None:
        """Make the clip, with its video re-encoded if needed. Raises as :meth:`make_clip`."""
        await self.make_clip(event, self.encodings)

    async def make_clip(self, event: HighlightEvent, lane: Lane) -> None:
        """Make the clip of a highlight, and publish what came of it.

        Raises:
            PermanentError: the highlight names a place in source storage that no profile allows.
            HeldBack: the skip limit of the highlight's source profile is reached.
            ToolCrashed, ToolLimited: ffmpeg crashed, or reached a limit of this service.
            SourceRefused: source storage rejected the request itself.
            TransientError: storage, the scratch disk or the bus is unavailable.
        """
        self.skips.check_again(event)
        with self.metrics.job():
            try:
                clip = await self._stored_clip(event, lane)
            except EncodingNeeded as need:
                await self._pass_on(event, need)
            except Skipped as skip:
                await self._skip(event, skip)
            else:
                await self._announce(event, clip)

    async def _stored_clip(self, event: HighlightEvent, lane: Lane) -> StoredClip:
        """Return the clip that an earlier delivery stored; else cut, verify and store it."""
        check_policy(self.policy, is_clipable=event.data.is_clipable, rank=event.data.rank)
        if (stored := await self.clips.find(ClipKeys.of(event).video)) is not None:
            self.metrics.repeated()
            return stored
        with self.scratch.job(DISK_WAIT_SHARE * lane.deadline_seconds) as job:
            began = time.monotonic()
            written = await self._cut(event, lane.cutter, job)
            stored = await self._verify_while_uploading(event, written, lane.cutter, job)
        self._count_stored(stored, time.monotonic() - began)
        return stored

    async def _cut(self, event: HighlightEvent, cutter: Cutter, job: Job) -> WrittenClip:
        """Read the window's part of the VOD, and write a clip of it to the job's folder, not verified yet."""
        with tracing.span("cut"):
            source = await self.sources.locate(event.data.source)
            try:
                vod = await self.vods.open(source, job)
                asked = event.data.start_seconds, event.data.end_seconds
                window = place_window(*asked, vod.seconds, self.policy)
                excerpt = await vod.excerpt(source, window, job)
                return await cutter.cut(excerpt, window, job)
            except Skipped as skip:
                if skip.reason is SkipReason.SOURCE_UNREADABLE:
                    # Raises if the storage is to blame, so that no good VOD is reported as unreadable.
                    await self.sources.confirm(event.data.source)
                raise

    async def _verify_while_uploading(
        self, event: HighlightEvent, written: WrittenClip, cutter: Cutter, job: Job
    ) -> StoredClip:
        """Verify a clip while it is uploaded, and make it visible. A copy that fails is re-encoded once."""
        keys = ClipKeys.of(event)
        metadata = metadata_of(event, written.finished)
        async with self.clips.upload(written.video, keys.video, metadata) as upload:
            try:
                with tracing.span("verify"):
                    clip = await cutter.verify(written)
            except BadClip as error:
                problem = error
            else:
                return await upload.finish(clip.poster, keys.poster)
        encoded = await cutter.re_encode(written, problem, job)
        return await self._verify_while_uploading(event, encoded, cutter, job)

    def _count_stored(self, stored: StoredClip, seconds: float) -> None:
        receipt = stored.metadata.cut_receipt
        fell_back = receipt.fallback_reason is not None
        self.metrics.stored(receipt.mode, seconds, stored.size_bytes, fell_back=fell_back)

    async def _announce(self, event: HighlightEvent, clip: StoredClip) -> None:
        await self.publish(created_event(event, clip))
        self.metrics.created(event.time)
        log.info("clip created", key=ClipKeys.of(event).video)

    async def _pass_on(self, event: HighlightEvent, need: EncodingNeeded) -> None:
        log.info("highlight passed on to be re-encoded", why=str(need))
        await self.publish(encoding_event(event, str(need)))
        self.metrics.passed_on()

    async def _skip(self, event: HighlightEvent, skip: Skipped) -> None:
        self.skips.check(event, skip)
        log.info("highlight skipped", reason=skip.reason, why=str(skip))
        await self.publish(skipped_event(event, skip))
        self.skips.count(event, skip)
        self.metrics.skipped(skip.reason)


def subscribe(bus: Bus, handlers: CutterHandlers) -> None:
    """Register one handler for each topic that the cutter consumes."""
    copies, encodings = handlers.copies, handlers.encodings
    bus.subscriber(HighlightDetected, deadline_seconds=copies.deadline_seconds, crash_marks=True)(
        handlers.highlight_detected
    )
    bus.subscriber(EncodingRequested, deadline_seconds=encodings.deadline_seconds, crash_marks=True)(
        handlers.encoding_requested
    )
