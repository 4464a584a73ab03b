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

from clip_shared.contracts.events import ClipOrigin, PurgeReason
from clip_shared.contracts.registry_api import ClipAction, ClipStatus

LIVING = (ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.PUBLISHED)


class StoredKey(NamedTuple):
    """One object in a bucket."""

    bucket: str
    key: str


class CutPosition(NamedTuple):
    """Where a cut stands among those of its highlight: the later detection is newer, then the greater id."""

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
    source: Mapping[str, Any] | None
    origin: ClipOrigin
    highlight_event_id: str
    highlight_detected_at: datetime

    @property
    def position(self) -> CutPosition:
        """Its place among the cuts of its highlight."""
        return CutPosition(self.highlight_detected_at, self.highlight_event_id)

    @property
    def is_owners(self) -> bool:
        """Whether the clip's owner asked for it: such a cut outranks a detector's."""
        return self.origin is ClipOrigin.OWNER

    @property
    def objects(self) -> frozenset[StoredKey]:
        """Its objects: video and poster."""
        return frozenset(StoredKey(self.bucket, key) for key in (self.object_key, self.poster_key) if key)


@dataclass(frozen=True, kw_only=True)
class PublicationOptions:
    """How a clip is public. ``until``: when that ends; None: not by itself."""

    until: datetime | None
    embed: bool
    downloadable: bool
    indexable: bool


@dataclass(frozen=True, kw_only=True)
class Clip(Cut):
    """A clip as the registry knows it: its current cut, and where it is in its life.

    ``expires_in_seconds`` is by the database's clock; 0 or less: expired; None: it does not expire.
    ``purge_reason`` of a clip that is not purged: what its purge will say; None: that it expired.
    A deleted clip keeps all that it needs to become again what it was, ``deleted_from``.
    """

    revision: int
    status: ClipStatus
    expires_at: datetime | None
    expires_in_seconds: float | None
    renamed_at: datetime | None
    kept_at: datetime | None
    kept_by: str | None
    published_at: datetime | None
    share_slug: str | None
    published_revision: int | None
    published_until: datetime | None
    published_embed: bool | None
    published_downloadable: bool | None
    published_indexable: bool | None
    deleted_from: ClipStatus | None
    deleted_at: datetime | None
    expires_at_before_delete: datetime | None
    purged_at: datetime | None
    purge_reason: PurgeReason | None
    offer: Mapping[str, Any] | None
    detector_cut_at: datetime | None
    detector_cut_id: str | None
    owner_cut_at: datetime | None
    owner_cut_id: str | None
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def owned_objects(self) -> frozenset[StoredKey]:
        """The objects that must not be deleted: a purged clip owns none."""
        return frozenset() if self.status is ClipStatus.PURGED else self.objects

    @property
    def options(self) -> PublicationOptions | None:
        """How it is public; None: it is not, and was not when it was deleted."""
        if self.published_at is None:
            return None
        return PublicationOptions(
            until=self.published_until,
            embed=bool(self.published_embed),
            downloadable=bool(self.published_downloadable),
            indexable=bool(self.published_indexable),
        )

    def has_judged(self, cut: Cut) -> bool:
        """Whether this cut, or a newer one that the same party asked for, was judged before."""
        at, event_id = (
            (self.owner_cut_at, self.owner_cut_id)
            if cut.is_owners
            else (self.detector_cut_at, self.detector_cut_id)
        )
        return at is not None and event_id is not None and cut.position <= CutPosition(at, event_id)


@dataclass(frozen=True, kw_only=True)
class Skip:
    """A highlight became no clip: ``message`` says why to a person."""

    stream_highlight_id: str
    twitch_account_id: str
    source_vod_id: str
    kind: str
    reason: str
    message: str
    highlight_event_id: str
    highlight_detected_at: datetime
    skipped_at: datetime


class Verdict(StrEnum):
    """What becomes of a cut."""

    CREATED = "created"  # the highlight's first clip
    REPLACED = "replaced"  # a newer video of a living clip
    RECUT = "recut"  # a new life after a purge
    OFFERED = "offered"  # newer than the video of a clip that its owner decided about: remembered only
    REPEATED = "repeated"  # the clip's own event once more
    STALE = "stale"  # older than the clip's video, than its purge, or than another that was refused
    FOREIGN = "foreign"  # names another account than the clip's: refused

    @property
    def changes_clip(self) -> bool:
        """Whether the cut is now the clip's."""
        return self in {Verdict.CREATED, Verdict.REPLACED, Verdict.RECUT}


def judge(clip: Clip | None, cut: Cut) -> Verdict:
    """Decide about a cut, given the highlight's clip if there is one.

    A refused cut stays refused, since a clip remembers the newest that it judged: its objects may go.
    An event's second delivery never revives a clip, because its objects were released with it.
    """
    if clip is None:
        return Verdict.CREATED
    if cut.twitch_account_id != clip.twitch_account_id:
        return Verdict.FOREIGN
    if cut.highlight_event_id == clip.highlight_event_id:
        return Verdict.REPEATED
    return Verdict.STALE if clip.has_judged(cut) else _judge_news(clip, cut)


def _judge_news(clip: Clip, cut: Cut) -> Verdict:
    if clip.status is ClipStatus.PURGED:
        return Verdict.RECUT if _revives(clip, cut) else Verdict.STALE
    if cut.is_owners:
        return Verdict.REPLACED
    if clip.status is ClipStatus.AVAILABLE:
        return Verdict.STALE if clip.is_owners else Verdict.REPLACED
    return Verdict.OFFERED if cut.position > clip.position else Verdict.STALE


def _revives(clip: Clip, cut: Cut) -> bool:
    """Whether a purged clip begins a new life.

    What its owner deleted comes back only when they ask after the purge; what nobody kept, also for a cut
    that its owner had asked for before.
    """
    is_later = clip.purged_at is not None and cut.highlight_detected_at > clip.purged_at
    if clip.purge_reason is PurgeReason.DELETED:
        return cut.is_owners and is_later
    return cut.is_owners or is_later


def offer_of(cut: Cut) -> dict[str, Any]:
    """Return what a clip remembers of a newer cut that it did not take, in the shape of ``CutOffer``."""
    return {
        "kind": cut.kind,
        "title": cut.title,
        "score": cut.score,
        "start_seconds": cut.cut_receipt["requested_start_seconds"],
        "end_seconds": cut.cut_receipt["requested_end_seconds"],
        "highlight_event_id": cut.highlight_event_id,
        "highlight_detected_at": cut.highlight_detected_at.isoformat(),
    }


def released_by_cut(before: Clip | None, cut: Cut, after: Clip) -> frozenset[StoredKey]:
    """What the clip needs no more once a cut was judged: all that took part, but for what it owns now."""
    owned_before = before.owned_objects if before else frozenset()
    return (owned_before | cut.objects) - after.owned_objects


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What an account asks of a clip.

    ``title``: of a renaming. ``options``: of a publishing; ``republishes``: they are meant for a clip that
    is public already, too.
    """

    action: ClipAction
    account_id: str
    title: str | None = None
    options: PublicationOptions | None = None
    republishes: bool = True


@dataclass(frozen=True)
class Transition:
    """An action's way: from which statuses to which, and in which it has nothing left to do.

    ``target`` None: what the clip is, or was before it was deleted.
    """

    sources: frozenset[ClipStatus]
    target: ClipStatus | None
    satisfied_in: frozenset[ClipStatus]


def _way(
    sources: set[ClipStatus], target: ClipStatus | None, satisfied_in: set[ClipStatus] | None = None
) -> Transition:
    return Transition(frozenset(sources), target, frozenset(satisfied_in or ()))


TRANSITIONS: Mapping[ClipAction, Transition] = {
    ClipAction.KEEP: _way(
        {ClipStatus.AVAILABLE}, ClipStatus.KEPT, satisfied_in={ClipStatus.KEPT, ClipStatus.PUBLISHED}
    ),
    # A published clip must be unpublished first: nobody loses a public page by letting go of a clip.
    ClipAction.UNKEEP: _way({ClipStatus.KEPT}, ClipStatus.AVAILABLE, satisfied_in={ClipStatus.AVAILABLE}),
    ClipAction.PUBLISH: _way(set(LIVING), ClipStatus.PUBLISHED),
    ClipAction.UNPUBLISH: _way(
        {ClipStatus.PUBLISHED}, ClipStatus.KEPT, satisfied_in={ClipStatus.AVAILABLE, ClipStatus.KEPT}
    ),
    ClipAction.DELETE: _way(set(LIVING), ClipStatus.DELETED, satisfied_in={ClipStatus.DELETED}),
    ClipAction.RESTORE: _way({ClipStatus.DELETED}, None, satisfied_in=set(LIVING)),
    ClipAction.RENAME: _way(set(LIVING), None),
}
# What may let a clip become ephemeral that was not.
LETTING_GO = (ClipAction.UNKEEP, ClipAction.RESTORE)


class Answer(StrEnum):
    """What an owner is told."""

    DONE = "done"
    UNCHANGED = "unchanged"  # it already was as asked
    UNKNOWN = "unknown"  # no such clip, or purged
    NOT_OWNER = "not_owner"
    NOT_ALLOWED = "not_allowed"  # not from this status
    FULL = "full"  # the clip would be an ephemeral one too many: it, or another, would expire at once


def answer(wish: Wish, clip: Clip | None, *, full: bool = False) -> Answer:
    """Decide about an account's wish. Expired but not yet purged is still in time.

    ``full``: the account has all the ephemeral clips that it may have.
    """
    if clip is None or clip.status is ClipStatus.PURGED:
        return Answer.UNKNOWN
    if clip.twitch_account_id != wish.account_id:
        return Answer.NOT_OWNER
    way = TRANSITIONS[wish.action]
    if clip.status in way.satisfied_in:
        return Answer.UNCHANGED
    if clip.status not in way.sources:
        return Answer.NOT_ALLOWED
    if _is_so_already(wish, clip):
        return Answer.UNCHANGED
    target = way.target or clip.deleted_from or clip.status
    becomes_ephemeral = target is ClipStatus.AVAILABLE and clip.status is not ClipStatus.AVAILABLE
    return Answer.FULL if full and becomes_ephemeral else Answer.DONE


def _is_so_already(wish: Wish, clip: Clip) -> bool:
    """Whether nothing would change, though the clip's status allows the action."""
    if wish.action is ClipAction.RENAME:
        return wish.title == clip.title
    if wish.action is ClipAction.PUBLISH and clip.status is ClipStatus.PUBLISHED:
        return not wish.republishes or wish.options == clip.options
    return False


def is_due(clip: Clip, cutoff: datetime) -> bool:
    """Whether an expiration with this cutoff purges the clip."""
    is_mortal = clip.status in {ClipStatus.AVAILABLE, ClipStatus.DELETED}
    return is_mortal and clip.expires_at is not None and clip.expires_at <= cutoff


def unwatched_at(clip: Clip) -> datetime:
    """When a purged clip's objects were watchable for the last time: URLs are signed until it expires."""
    return clip.expires_at or clip.updated_at
