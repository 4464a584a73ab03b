"""After a restore: bring the database up to what the topics know of the time since the backup.

``clip-created`` has the videos; ``clip-lifecycle`` has what became of each clip: the actions of its owner,
and its purge. The changes of a clip are applied in the order of their versions, and each row ends with the
version that Kafka knows. A row that has this version already is left alone: a recovery may begin too early,
and may be repeated.

No change is announced again. A cut is announced again, under the same event id and version as the first time.
Clips that were created after the backup get a whole retention from now on.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import bindparam, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.clips.store import ClipStore
from clip_registry.database.tables import generated_clips as clips
from clip_registry.database.tables import share_slugs
from clip_registry.database.transactions import transaction
from clip_registry.domain.clips import Clip
from clip_registry.recovery.lifecycle_columns import columns_after
from clip_registry.recovery.topic_history import (
    ClipHistory,
    LifecycleEvent,
    TopicHistory,
    brings_a_video,
    opens_to_detector,
)
from clip_registry.reports import reported_cut, reported_skip
from clip_shared.contracts.events import ClipCreated, ClipPublished, Event
from clip_shared.errors import PermanentError

log = structlog.get_logger()

# Cuts have the cutter's time, lifecycle events the database's: a cut may look later than its change.
CLOCK_SKEW = timedelta(minutes=1)


@dataclass
class RecoveryReport:
    """What a recovery did, or would do.

    ``created``: clips that were missing. ``changes``: applied changes by type of event. ``gaps``: the clips
    that could not be brought up to date, each with what is missing.
    """

    created: int = 0
    changes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    skips: int = 0
    gaps: list[str] = field(default_factory=list)


class Recovery:
    """Brings rows up to what the topics know; without ``apply``, only counts what is missing.

    ``store`` must have no cap: clips that expired because of the cap are among the changes, and a cut that is
    recorded here must not make other clips expire.
    """

    def __init__(self, engine: AsyncEngine, store: ClipStore, *, bucket: str | None, apply: bool) -> None:
        self._engine, self._store = engine, store
        self._bucket, self._apply = bucket, apply
        self.report = RecoveryReport()

    async def recover(self, history: TopicHistory) -> RecoveryReport:
        """Bring every clip of the history up to date.

        Raises:
            TransientError: the database cannot be used. Recovered clips stay so; repeat the recovery.
        """
        for clip_id, of_clip in sorted(history.clips.items()):
            await self._recover_clip(clip_id, of_clip)
        for skip in history.skips:
            self.report.skips += 1
            if self._apply:
                await self._store.skips.record(reported_skip(skip))
        return self.report

    async def _recover_clip(self, clip_id: UUID, history: ClipHistory) -> None:
        clip = await self._store.get(clip_id)
        self.report.created += clip is None
        version = clip.version if clip else 0
        for next_version, change in sorted(history.changes.items()):
            if next_version <= version:
                continue
            if next_version > version + 1:
                self.report.gaps.append(
                    f"{clip_id} is at version {version}, and the next known version is {next_version}"
                )
                return
            self.report.changes[change.data.TYPE] += 1
            version = next_version
            if self._apply and not await self._bring_to(clip_id, history, change):
                self.report.gaps.append(f"{clip_id}: the video of version {version} is not in clip-created")
                return
        if self._apply:
            await self._record(history.cuts)

    async def _bring_to(self, clip_id: UUID, history: ClipHistory, change: LifecycleEvent) -> bool:
        """Bring a clip to the version of a change. False: the clip does not exist, and no cut creates it."""
        if opens_to_detector(change):
            await self._record(history.take_refused_before(change))
        clip = await self._store.get(clip_id)
        if brings_a_video(change, clip):
            clip = await self._record_until(clip, history, change)
        if clip is None:
            return False
        if clip.version < change.data.version:
            await self._change(clip, change)
        return True

    async def _record_until(
        self, clip: Clip | None, history: ClipHistory, change: LifecycleEvent
    ) -> Clip | None:
        """Record the cuts up to the one that brought a change about, and return the clip afterwards."""
        while history.cuts and history.cuts[0].time <= change.time + CLOCK_SKEW:
            await self._record([history.cuts.pop(0)])
            clip = await self._store.get(change.data.clip_id)
            if clip is not None and clip.version >= change.data.version:
                break
        return clip

    async def _record(self, cuts: list[Event[ClipCreated]]) -> None:
        for cut in cuts:
            try:
                await self._store.record([reported_cut(cut, self._bucket)])
            except PermanentError as error:
                log.warning("a cut was refused, as before the restore", event_id=cut.id, error=str(error))

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
                slug = {"share_slug": change.data.share_slug, "created_at": change.data.published_at}
                await connection.execute(insert(share_slugs).values(slug).on_conflict_do_nothing())
