"""What Kafka knows of the clips since a moment: read from three topics, and sorted by clip."""

from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from clip_registry.domain.clips import Clip
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
)
from clip_shared.contracts.registry_api import ClipStatus
from clip_shared.errors import InvalidEvent

LifecycleEvent = Event[ClipLifecycle]

TOPICS = (ClipCreated.TOPIC, ClipSkipped.TOPIC, ClipLifecycle.TOPIC)
_LIFECYCLE: tuple[type[ClipLifecycle], ...] = (
    *(ClipAvailable, ClipKept, ClipUnkept, ClipPublished, ClipUnpublished),
    *(ClipDeleted, ClipRestored, ClipRenamed, ClipPurged),
)


@dataclass
class ClipHistory:
    """What happened to a clip: its cuts in the order of their events, its lifecycle events by version."""

    cuts: list[Event[ClipCreated]] = field(default_factory=list)
    changes: dict[int, LifecycleEvent] = field(default_factory=dict)

    def take_refused_before(self, change: LifecycleEvent) -> list[Event[ClipCreated]]:
        """Take out, and return, the cuts that the clip refused because of its status before ``change``.

        These are the cuts that were reported before the change, without the ones that later changes need: a
        cut that was reported before the change may have been recorded after it.
        """
        before = [cut for cut in self.cuts if cut.time <= change.time]
        later = [each for version, each in self.changes.items() if version > change.data.version]
        needed = sum(map(brings_a_video, later)) - (len(self.cuts) - len(before))
        refused = before[: len(before) - max(0, needed)]
        self.cuts = [cut for cut in self.cuts if cut not in refused]
        return refused


@dataclass
class TopicHistory:
    """What the topics know since a moment: the history of each clip, and the skips."""

    clips: defaultdict[UUID, ClipHistory] = field(default_factory=lambda: defaultdict(ClipHistory))
    skips: list[Event[ClipSkipped]] = field(default_factory=list)


async def read_topics(settings: KafkaSettings, since: datetime) -> TopicHistory:
    """Read the events since a moment.

    Raises:
        TransientError: Kafka cannot be reached.
    """
    history = TopicHistory()
    async with log_reader(settings, "read what happened", *TOPICS) as reader:
        async for created in _events(reader, since, ClipCreated):
            history.clips[created.data.clip_id].cuts.append(created)
        async for change in _events(reader, since, *_LIFECYCLE):
            history.clips[change.data.clip_id].changes[change.data.version] = change
        history.skips = [skip async for skip in _events(reader, since, ClipSkipped)]
    return history


async def _events(reader: LogReader, since: datetime, *types: type[EventData]) -> AsyncIterator[Event[Any]]:
    by_name = {each.TYPE: each for each in types}
    for partition_range in await reader.ranges(types[0].TOPIC, int(since.timestamp() * 1000)):
        async for record in reader.read(*partition_range):
            name = dict(record.headers).get("ce_type") or types[0].TYPE.encode()
            if (data_type := by_name.get(name.decode(errors="replace"))) is None:
                continue  # an expiry notice: it changed no clip
            try:
                yield from_record(data_type, record)
            except InvalidEvent:
                continue  # it became a dead letter


def brings_a_video(change: LifecycleEvent, clip: Clip | None = None) -> bool:
    """Whether a cut brought the change about: the clip became available, or got a video while deleted."""
    if isinstance(change.data, ClipDeleted):
        return clip is not None and clip.status is ClipStatus.DELETED
    return isinstance(change.data, ClipAvailable) and not is_expiry_over_limit(change.data, change.time)


def is_expiry_over_limit(change: ClipAvailable, at: datetime) -> bool:
    """Whether the clip expired at once, because its account had more ephemeral clips than it may have."""
    return change.expires_at is not None and change.expires_at <= at


def opens_to_detector(change: LifecycleEvent) -> bool:
    """Whether the clip takes the detector's cuts from this change on, which it refused before."""
    is_restored = isinstance(change.data, ClipRestored) and change.data.status == ClipStatus.AVAILABLE
    return is_restored or isinstance(change.data, ClipUnkept)
