"""After a restore: what the topics know of the time since the backup, brought back into the database.

``clip-created`` has the videos, ``clip-lifecycle`` what became of each clip: what its owner did, and its
purge. Changes of a clip are applied in the order of their versions, and each row ends with the version that
the bus knows. What is there already is left alone: a recovery may begin too early, and may be repeated.

No change is announced again. A cut is: under the same event id and version as the first time. Clips that were
made since the backup get a new, whole retention.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import bindparam, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.clips.statements import UNDELETED, UNPUBLISHED
from clip_registry.clips.store import ClipStore
from clip_registry.database.engine import transaction
from clip_registry.database.tables import generated_clips as clips
from clip_registry.database.tables import share_slugs
from clip_registry.domain.clips import Clip
from clip_registry.handlers import delivery_of, skip_of
from clip_shared.bus.envelope import from_record
from clip_shared.bus.log_reader import LogReader, log_reader
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import (
    ClipAvailable,
    ClipCreated,
    ClipDeleted,
    ClipKept,
    ClipLifecycle,
    ClipPublished,
    ClipPurged,
    ClipRenamed,
    ClipRestored,
    ClipSkipped,
    ClipUnkept,
    ClipUnpublished,
    Event,
    EventData,
    PurgeReason,
)
from clip_shared.contracts.registry_api import ClipStatus
from clip_shared.errors import InvalidEvent, PermanentError

log = structlog.get_logger()

LifecycleEvent = Event[ClipLifecycle]
_CHANGES: tuple[type[ClipLifecycle], ...] = (
    *(ClipAvailable, ClipKept, ClipUnkept, ClipPublished, ClipUnpublished),
    *(ClipDeleted, ClipRestored, ClipRenamed, ClipPurged),
)
TOPICS = (ClipCreated.TOPIC, ClipSkipped.TOPIC, ClipLifecycle.TOPIC)
# Cuts have the cutter's time, changes that of the database: a cut may look later than what it brought about.
CLOCKS_DIFFER = timedelta(minutes=1)


@dataclass
class ClipHistory:
    """What happened to one clip: its cuts in the order of their events, its changes by version."""

    cuts: list[Event[ClipCreated]] = field(default_factory=list)
    changes: dict[int, LifecycleEvent] = field(default_factory=dict)

    def refused_before(self, change: LifecycleEvent) -> list[Event[ClipCreated]]:
        """Take out the cuts that the clip refused for its status, which this change ends.

        They are those of before it, but for as many as later changes still need: a cut that was sent before
        the change may have been judged after it.
        """
        before = [cut for cut in self.cuts if cut.time <= change.time]
        later = [each for number, each in self.changes.items() if number > change.data.version]
        needed = sum(map(_brings_a_video, later)) - (len(self.cuts) - len(before))
        refused = before[: len(before) - max(0, needed)]
        self.cuts = [cut for cut in self.cuts if cut not in refused]
        return refused


@dataclass
class TopicHistory:
    """What the topics know since a moment."""

    clips: defaultdict[UUID, ClipHistory] = field(default_factory=lambda: defaultdict(ClipHistory))
    skips: list[Event[ClipSkipped]] = field(default_factory=list)


@dataclass
class RecoveryReport:
    """What a recovery did, or would do.

    ``changes``: by type. ``gaps``: clips of which a version is missing, with what is known.
    """

    created: int = 0
    changes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    skips: int = 0
    gaps: list[str] = field(default_factory=list)


async def read_topics(settings: KafkaSettings, since: datetime) -> TopicHistory:
    """Read what the topics have since a moment.

    Raises:
        TransientError: the bus cannot be reached.
    """
    past = TopicHistory()
    async with log_reader(settings, "read what happened", *TOPICS) as reader:
        async for created in _events(reader, since, ClipCreated):
            past.clips[created.data.clip_id].cuts.append(created)
        async for change in _events(reader, since, *_CHANGES):
            past.clips[change.data.clip_id].changes[change.data.version] = change
        past.skips = [each async for each in _events(reader, since, ClipSkipped)]
    return past


async def _events(reader: LogReader, since: datetime, *types: type[EventData]) -> AsyncIterator[Event[Any]]:
    by_name = {each.TYPE: each for each in types}
    for place in await reader.ranges(types[0].TOPIC, int(since.timestamp() * 1000)):
        async for record in reader.read(*place):
            name = dict(record.headers).get("ce_type") or types[0].TYPE.encode()
            if (data_type := by_name.get(name.decode(errors="replace"))) is None:
                continue  # a notice of coming expiry
            try:
                yield from_record(data_type, record)
            except InvalidEvent:
                continue  # it was dead-lettered


class Recovery:
    """Brings rows up to what the topics know. Without ``apply``, only counts what is missing.

    ``store`` has no cap: evictions are among the changes, and a cut here must not cause others.
    """

    def __init__(self, engine: AsyncEngine, store: ClipStore, *, bucket: str | None, apply: bool) -> None:
        self._engine, self._store = engine, store
        self._bucket, self._apply = bucket, apply
        self.tally = RecoveryReport()

    async def recover(self, past: TopicHistory) -> RecoveryReport:
        """Bring every clip that the past tells of up to date.

        Raises:
            TransientError: the database is away. What was recovered stays; repeat it.
        """
        for clip_id, history in sorted(past.clips.items()):
            await self._recover_clip(clip_id, history)
        for skip in past.skips:
            self.tally.skips += 1
            if self._apply:
                await self._store.skips.record(skip_of(skip))
        return self.tally

    async def _recover_clip(self, clip_id: UUID, history: ClipHistory) -> None:
        clip = await self._store.get(clip_id)
        self.tally.created += clip is None
        version = clip.version if clip else 0
        for number, change in sorted(history.changes.items()):
            if number <= version:
                continue
            if number > version + 1:
                self.tally.gaps.append(f"{clip_id} is at version {version}, and the next known is {number}")
                return
            self.tally.changes[change.data.TYPE] += 1
            version = number
            if self._apply and not await self._bring_to(clip_id, history, change):
                self.tally.gaps.append(f"{clip_id}: the video of version {number} is not in {TOPICS[0]}")
                return
        if self._apply:
            await self._record(history.cuts)

    async def _bring_to(self, clip_id: UUID, history: ClipHistory, change: LifecycleEvent) -> bool:
        """Bring a clip to the version of a change. False: there is no clip to be brought there."""
        if _ends_refusals(change):
            await self._record(history.refused_before(change))
        clip = await self._store.get(clip_id)
        if _brings_a_video(change, clip):
            clip = await self._record_until(clip, history, change)
        if clip is None:
            return False
        if clip.version < change.data.version:
            await self._change(clip, change)
        return True

    async def _record_until(
        self, clip: Clip | None, history: ClipHistory, change: LifecycleEvent
    ) -> Clip | None:
        """Record the cut that brought a change about, and those before it. Returns the clip after it."""
        while history.cuts and history.cuts[0].time <= change.time + CLOCKS_DIFFER:
            await self._record([history.cuts.pop(0)])
            clip = await self._store.get(change.data.clip_id)
            if clip is not None and clip.version >= change.data.version:
                break
        return clip

    async def _record(self, cuts: list[Event[ClipCreated]]) -> None:
        for cut in cuts:
            try:
                await self._store.record([delivery_of(cut, self._bucket)])
            except PermanentError as error:
                log.warning("a cut was refused, as before", event_id=cut.id, error=str(error))

    async def _change(self, clip: Clip, change: LifecycleEvent) -> None:
        values = {**columns_after(clip, change), "version": change.data.version, "updated_at": change.time}
        async with transaction(self._engine) as connection:
            await connection.execute(
                update(clips)
                .where(clips.c.clip_id == bindparam("of_clip"), clips.c.version == bindparam("of_version"))
                .values(values),
                {"of_clip": clip.clip_id, "of_version": clip.version},
            )
            if isinstance(change.data, ClipPublished):
                given_out = {"share_slug": change.data.share_slug, "created_at": change.data.published_at}
                await connection.execute(insert(share_slugs).values(given_out).on_conflict_do_nothing())


def _brings_a_video(change: LifecycleEvent, clip: Clip | None = None) -> bool:
    """Whether a cut brought a change about: the clip became available, or, deleted, it got another video."""
    if isinstance(change.data, ClipDeleted):
        return clip is not None and clip.status is ClipStatus.DELETED
    return isinstance(change.data, ClipAvailable) and not _is_eviction(change.data, change.time)


def _is_eviction(change: ClipAvailable, at: datetime) -> bool:
    return change.expires_at is not None and change.expires_at <= at


def _ends_refusals(change: LifecycleEvent) -> bool:
    """Whether a clip takes cuts of the detector from this change on, which it refused before."""
    is_restored = isinstance(change.data, ClipRestored) and change.data.status == ClipStatus.AVAILABLE
    return is_restored or isinstance(change.data, ClipUnkept)


def columns_after(clip: Clip, change: LifecycleEvent) -> Mapping[str, Any]:
    """The columns that a change sets, given the clip before it."""
    return _AFTER[change.data.TYPE](clip, change.data, change.time)


def _available(clip: Clip, change: ClipAvailable, at: datetime) -> Mapping[str, Any]:
    if clip.status is not ClipStatus.AVAILABLE or change.expires_at is None:
        return {}
    evicted = {"purge_reason": PurgeReason.EVICTED} if _is_eviction(change, at) else {}
    return {"expires_at": change.expires_at, **evicted}


def _kept(_clip: Clip, change: ClipKept, _: datetime) -> Mapping[str, Any]:
    kept = {"kept_at": change.kept_at, "kept_by": change.kept_by}
    return {"status": ClipStatus.KEPT, **_IMMORTAL, **kept}


def _unkept(_clip: Clip, change: ClipUnkept, _: datetime) -> Mapping[str, Any]:
    return {"status": ClipStatus.AVAILABLE, "expires_at": change.expires_at, **_NOT_KEPT}


def _published(clip: Clip, change: ClipPublished, _: datetime) -> Mapping[str, Any]:
    return {
        "status": ClipStatus.PUBLISHED,
        **_IMMORTAL,
        "kept_at": clip.kept_at or change.published_at,
        "kept_by": clip.kept_by or clip.twitch_account_id,
        "published_at": change.published_at,
        "share_slug": change.share_slug,
        "published_revision": min(change.revision or clip.revision, clip.revision),
        "published_until": change.until,
        "published_embed": bool(change.embed),
        "published_downloadable": bool(change.downloadable),
        "published_indexable": bool(change.indexable),
    }


def _unpublished(_clip: Clip, _change: ClipUnpublished, _: datetime) -> Mapping[str, Any]:
    return {"status": ClipStatus.KEPT, **UNPUBLISHED}


def _deleted(clip: Clip, change: ClipDeleted, _: datetime) -> Mapping[str, Any]:
    moments = {"deleted_at": change.deleted_at, "expires_at": change.expires_at}
    if clip.status is ClipStatus.DELETED:  # it got another video meanwhile
        return moments
    return {
        "status": ClipStatus.DELETED,
        "deleted_from": clip.status,
        **moments,
        "expires_at_before_delete": clip.expires_at,
        "purge_reason": PurgeReason.DELETED,
    }


def _restored(_clip: Clip, change: ClipRestored, _: datetime) -> Mapping[str, Any]:
    return {"status": change.status, "expires_at": change.expires_at, "purge_reason": None, **UNDELETED}


def _renamed(_clip: Clip, change: ClipRenamed, at: datetime) -> Mapping[str, Any]:
    return {"title": change.title, "renamed_at": at}


def _purged(clip: Clip, change: ClipPurged, _: datetime) -> Mapping[str, Any]:
    return {
        "status": ClipStatus.PURGED,
        "expires_at": clip.expires_at or change.purged_at,
        "purged_at": change.purged_at,
        "purge_reason": change.reason or PurgeReason.EXPIRED,
        **_NOT_KEPT,
        "renamed_at": None,
        "offer": None,
        **UNPUBLISHED,
        **UNDELETED,
    }


_IMMORTAL = {"expires_at": None, "purge_reason": None}
_NOT_KEPT = {"kept_at": None, "kept_by": None}
_AFTER: Mapping[str, Callable[[Clip, Any, datetime], Mapping[str, Any]]] = {
    ClipAvailable.TYPE: _available,
    ClipKept.TYPE: _kept,
    ClipUnkept.TYPE: _unkept,
    ClipPublished.TYPE: _published,
    ClipUnpublished.TYPE: _unpublished,
    ClipDeleted.TYPE: _deleted,
    ClipRestored.TYPE: _restored,
    ClipRenamed.TYPE: _renamed,
    ClipPurged.TYPE: _purged,
}
