"""The rules of a clip's life: pure functions over what is known. No I/O, no clock, no framework.

:mod:`clip_registry.store` carries them out as guarded statements, and compares each result with the
verdict from here: when the two disagree, nothing is committed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from clip_shared.registry_api import ClipStatus

LIVING = (ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.PUBLISHED)


class StoredKey(NamedTuple):
    """One object in a bucket."""

    bucket: str
    key: str


class Revision(NamedTuple):
    """Which cut of a highlight this is. They compare: the later detection is newer, then the greater id."""

    detected_at: datetime
    event_id: str


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A finished cut in the free bucket, which asks to become (the new video of) a clip."""

    clip_id: UUID
    stream_highlight_id: str
    twitch_account_id: str
    source_vod_id: str
    kind: str
    title: str
    score: float | None
    bucket: str
    object_key: str
    poster_key: str | None
    content_type: str
    file_size_bytes: int
    duration_seconds: float
    cut_receipt: Mapping[str, Any]
    highlight_event_id: str
    highlight_detected_at: datetime

    @property
    def revision(self) -> Revision:
        """Its place among the cuts of its highlight."""
        return Revision(self.highlight_detected_at, self.highlight_event_id)

    @property
    def objects(self) -> frozenset[StoredKey]:
        """Its objects: video and poster."""
        return frozenset(StoredKey(self.bucket, key) for key in (self.object_key, self.poster_key) if key)


@dataclass(frozen=True, kw_only=True)
class Clip(Cut):
    """A clip as the registry knows it: its current cut, and where it is in its life.

    ``expires_in_seconds`` is by the database's clock; 0 or less: expired; None: it does not expire.
    """

    status: ClipStatus
    expires_at: datetime | None
    expires_in_seconds: float | None
    kept_at: datetime | None
    kept_by: str | None
    published_at: datetime | None
    share_slug: str | None
    purged_at: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def owned_objects(self) -> frozenset[StoredKey]:
        """The objects that must not be deleted: a purged clip owns none."""
        return frozenset() if self.status is ClipStatus.PURGED else self.objects


class Verdict(StrEnum):
    """What becomes of a cut."""

    CREATED = "created"  # the highlight's first clip
    REPLACED = "replaced"  # a newer video of a living clip
    RECUT = "recut"  # a new life after a purge
    REPEATED = "repeated"  # the clip's own event once more
    STALE = "stale"  # older than the clip's video, or than its purge
    FOREIGN = "foreign"  # names another account than the clip's: refused

    @property
    def changes_clip(self) -> bool:
        """Whether the cut is now the clip's."""
        return self in {Verdict.CREATED, Verdict.REPLACED, Verdict.RECUT}


def judge(clip: Clip | None, cut: Cut) -> Verdict:
    """Decide about a cut, given the highlight's clip if there is one.

    A refused cut stays refused, since revisions and purges only move forward: its objects may go.
    An event's second delivery never revives a clip, because its objects were released with it.
    """
    if clip is None:
        return Verdict.CREATED
    if cut.twitch_account_id != clip.twitch_account_id:
        return Verdict.FOREIGN
    if cut.highlight_event_id == clip.highlight_event_id:
        return Verdict.REPEATED
    if cut.revision < clip.revision:
        return Verdict.STALE
    if clip.purged_at is None:
        return Verdict.REPLACED
    return Verdict.RECUT if cut.highlight_detected_at > clip.purged_at else Verdict.STALE


def released_by_cut(before: Clip | None, cut: Cut, after: Clip) -> frozenset[StoredKey]:
    """What the clip needs no more once a cut was judged: all that took part, but for what it owns now."""
    owned_before = before.owned_objects if before else frozenset()
    return (owned_before | cut.objects) - after.owned_objects


class Action(StrEnum):
    """What an owner can ask for."""

    KEEP = "keep"
    UNKEEP = "unkeep"
    PUBLISH = "publish"
    UNPUBLISH = "unpublish"


@dataclass(frozen=True)
class Transition:
    """An action's way: from which statuses to which, and in which it has nothing left to do."""

    sources: frozenset[ClipStatus]
    target: ClipStatus
    satisfied_in: frozenset[ClipStatus]


def _way(sources: set[ClipStatus], target: ClipStatus, satisfied_in: set[ClipStatus]) -> Transition:
    return Transition(frozenset(sources), target, frozenset(satisfied_in))


TRANSITIONS: Mapping[Action, Transition] = {
    Action.KEEP: _way(
        {ClipStatus.AVAILABLE}, ClipStatus.KEPT, satisfied_in={ClipStatus.KEPT, ClipStatus.PUBLISHED}
    ),
    # A published clip must be unpublished first: nobody loses a public page by letting go of a clip.
    Action.UNKEEP: _way({ClipStatus.KEPT}, ClipStatus.AVAILABLE, satisfied_in={ClipStatus.AVAILABLE}),
    Action.PUBLISH: _way(
        {ClipStatus.AVAILABLE, ClipStatus.KEPT}, ClipStatus.PUBLISHED, satisfied_in={ClipStatus.PUBLISHED}
    ),
    Action.UNPUBLISH: _way(
        {ClipStatus.PUBLISHED}, ClipStatus.KEPT, satisfied_in={ClipStatus.AVAILABLE, ClipStatus.KEPT}
    ),
}


class Answer(StrEnum):
    """What an owner is told."""

    DONE = "done"
    UNCHANGED = "unchanged"  # it already was as asked
    UNKNOWN = "unknown"  # no such clip, or purged
    NOT_OWNER = "not_owner"
    NOT_ALLOWED = "not_allowed"  # not from this status
    FULL = "full"  # the clip would be an ephemeral one too many: it, or another, would expire at once


def answer(action: Action, clip: Clip | None, account_id: str, *, full: bool = False) -> Answer:
    """Decide about an action of an account on a clip. Expired but not yet purged is still in time.

    ``full``: the account has all the ephemeral clips that it may have.
    """
    if clip is None or clip.status is ClipStatus.PURGED:
        return Answer.UNKNOWN
    if clip.twitch_account_id != account_id:
        return Answer.NOT_OWNER
    way = TRANSITIONS[action]
    if clip.status in way.sources:
        return Answer.FULL if full and way.target is ClipStatus.AVAILABLE else Answer.DONE
    return Answer.UNCHANGED if clip.status in way.satisfied_in else Answer.NOT_ALLOWED


def is_due(clip: Clip, cutoff: datetime) -> bool:
    """Whether an expiration with this cutoff purges the clip."""
    return clip.status is ClipStatus.AVAILABLE and clip.expires_at is not None and clip.expires_at <= cutoff


def unwatched_at(clip: Clip) -> datetime:
    """When a purged clip's objects were watchable for the last time: URLs are signed until it expires."""
    return clip.expires_at or clip.updated_at
