"""The bus: a highlight in, a clip or the reason why not out."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from clip_cutter.announcements import Highlight, Keys, created_event, note_of, skipped_event
from clip_cutter.cutter import Clip, Cutter
from clip_cutter.domain import cut as cutting
from clip_cutter.domain.policy import Policy, Skipped, check_policy, place_window
from clip_cutter.metrics import Metrics
from clip_cutter.recordings import Recordings
from clip_cutter.scratch import Scratch
from clip_cutter.source_storage import SourceStorage, Vod
from clip_cutter.storage import ClipStorage, StoredClip
from clip_shared.bus import Bus
from clip_shared.events import Event, HighlightDetected, SkipReason

log = structlog.get_logger()

ROOM = 2  # times the estimated clip: a take, and the copy that drops what nobody sees of it
PATIENCE = 0.5  # of a job's deadline may go by waiting for disk space

Publish = Callable[[Event[Any]], Awaitable[None]]


def subscribe(bus: Bus, highlights: "Highlights", deadline_seconds: float) -> None:
    """Register the cutter's handler."""
    bus.subscriber(HighlightDetected, deadline_seconds=deadline_seconds)(highlights.handle)


@dataclass(frozen=True)
class Highlights:
    """What becomes of highlights. ``clips``: None where free storage is not configured."""

    policy: Policy
    sources: SourceStorage
    clips: ClipStorage | None
    recordings: Recordings
    cutter: Cutter
    scratch: Scratch
    publish: Publish
    metrics: Metrics
    deadline_seconds: float

    async def handle(self, event: Highlight) -> None:
        """Announce the clip of a highlight, or why there is none.

        Raises:
            PermanentError: the highlight names a place that nobody may read.
            TransientError: storage, the disk or the bus is out.
        """
        with self.metrics.job():
            try:
                clip = await self._clip(event)
            except Skipped as skip:
                log.info("highlight skipped", reason=skip.reason, why=str(skip))
                await self.publish(skipped_event(event, skip))
                self.metrics.skipped(skip.reason)
            else:
                await self.publish(created_event(event, clip))
                self.metrics.created(event.time)
                log.info("clip created", key=Keys.of(event).video)

    async def _clip(self, event: Highlight) -> StoredClip:
        """The clip of a highlight: the one that is stored, else a new one."""
        check_policy(self.policy, is_clipable=event.data.is_clipable, rank=event.data.rank)
        if self.clips is None:
            raise Skipped(
                SkipReason.STORAGE_NOT_CONFIGURED,
                "This platform has no storage for clips set up at the moment.",
            )
        if (stored := await self.clips.find(Keys.of(event).video)) is not None:
            self.metrics.repeated()
            return stored
        vod = await self.sources.locate(event.data.source)
        with self.scratch.job() as folder:
            clip = await self._cut(event, vod, folder)
            return await self._store(self.clips, event, clip)

    async def _cut(self, event: Highlight, vod: Vod, folder: Path) -> Clip:
        patience = PATIENCE * self.deadline_seconds
        try:
            recording = await self.recordings.open(vod, patience)
            window = place_window(
                event.data.start_seconds, event.data.end_seconds, recording.seconds, self.policy
            )
            started = time.monotonic()
            job = await self.recordings.stage(vod, recording, window, folder, patience)
            size = cutting.estimate_bytes(job.media, self.cutter.plan(job.media, job.window), job.window)
            await self.scratch.wait_for_room(ROOM * size, patience)
            clip = await self.cutter.cut(job)
        except Skipped as skip:
            if skip.reason is SkipReason.SOURCE_UNREADABLE:
                await self.sources.confirm(event.data.source)  # or was it the storage, after all?
            raise
        self.metrics.cut(clip.mode, time.monotonic() - started, fell_back=clip.fallback_reason is not None)
        return clip

    async def _store(self, clips: ClipStorage, event: Highlight, clip: Clip) -> StoredClip:
        keys, note = Keys.of(event), note_of(event, clip)
        stored = await clips.save(
            poster=clip.poster, poster_key=keys.poster, video=clip.video, video_key=keys.video, note=note
        )
        self.metrics.stored(stored.size_bytes)
        return stored
