"""The bus: a highlight in, a clip or the reason why not out."""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
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
from clip_shared.delivery import DeadLetterLimit
from clip_shared.errors import HeldBack
from clip_shared.events import Event, HighlightDetected, SkipReason

log = structlog.get_logger()

ROOM = 2  # times the estimated clip: a take, and the copy that drops what nobody sees of it
PATIENCE = 0.5  # of a job's deadline may go by waiting for disk space

# What a broken profile, or a broken service, would say of every VOD.
SUSPICIOUS = frozenset({SkipReason.SOURCE_MISSING, SkipReason.SOURCE_UNREADABLE})
REMEMBERED = 1000  # VODs and highlights: a redelivery counts once

Publish = Callable[[Event[Any]], Awaitable[None]]


def subscribe(bus: Bus, highlights: "Highlights", deadline_seconds: float) -> None:
    """Register the cutter's handler."""
    bus.subscriber(HighlightDetected, deadline_seconds=deadline_seconds)(highlights.handle)


@dataclass(frozen=True)
class SkipLimit:
    """Holds highlights back where too many of one profile would be skipped because of their VODs.

    A missing VOD counts once however many highlights it has. An unreadable one counts for each highlight: a
    broken tool shows on one VOD as well.
    """

    limit: DeadLetterLimit
    _counted: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _held: dict[str, Skipped] = field(default_factory=dict)  # by event

    def check_again(self, event: Highlight) -> None:
        """Ask before the work is done for a highlight that may have been held back.

        Raises:
            HeldBack: it was, and would be again.
        """
        if (skip := self._held.pop(event.id, None)) is not None:
            self.check(event, skip)

    def check(self, event: Highlight, skip: Skipped) -> None:
        """Ask before a skip is announced.

        Raises:
            HeldBack: the profile had too many of them within the window.
        """
        profile = event.data.source.profile
        if self._is_new(event, skip) and not self.limit.allows(profile):
            self._hold(event, skip)
            raise HeldBack(
                f"{profile!r} had {self.limit.limit} missing VODs, and highlights of unreadable ones,"
                f" within {self.limit.window_seconds:g} s; of this one it would be said: {skip}"
            )

    def count(self, event: Highlight, skip: Skipped) -> None:
        """Note an announced skip."""
        if self._is_new(event, skip):
            self.limit.count(event.data.source.profile)
            self._counted.append(_blamed(event, skip))

    def _is_new(self, event: Highlight, skip: Skipped) -> bool:
        return skip.reason in SUSPICIOUS and _blamed(event, skip) not in self._counted

    def _hold(self, event: Highlight, skip: Skipped) -> None:
        self._held[event.id] = skip
        if len(self._held) > REMEMBERED:  # others took some of them over
            del self._held[next(iter(self._held))]


def _blamed(event: Highlight, skip: Skipped) -> str:
    """What a skip counts against: the VOD that is missing, or the highlight."""
    source = event.data.source
    is_missing = skip.reason is SkipReason.SOURCE_MISSING
    return f"{source.profile}/{source.bucket}/{source.key}" if is_missing else event.id


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
    skips: SkipLimit
    deadline_seconds: float

    async def handle(self, event: Highlight) -> None:
        """Announce the clip of a highlight, or why there is none.

        Raises:
            PermanentError: the highlight names a place that nobody may read.
            HeldBack: too many highlights of its profile were skipped because of their VODs.
            ToolCrashed, SourceRefused: something is wrong with this service, or with what it asks for.
            TransientError: storage, the disk or the bus is out.
        """
        self.skips.check_again(event)
        with self.metrics.job():
            try:
                clip = await self._clip(event)
            except Skipped as skip:
                self.skips.check(event, skip)
                log.info("highlight skipped", reason=skip.reason, why=str(skip))
                await self.publish(skipped_event(event, skip))
                self.skips.count(event, skip)
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
            await self.recordings.wait_for_room(ROOM * size, patience)
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
