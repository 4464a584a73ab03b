"""What the registry knows of a clip: its current cut, its status, and its end."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from clip_shared.contracts.events import ClipOrigin, PurgeReason
from clip_shared.contracts.registry_api import ClipStatus

# The statuses of clips that their owner sees.
VISIBLE = (ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.PUBLISHED)


class StoredKey(NamedTuple):
    """One object in a bucket."""

    bucket: str
    key: str


class CutPosition(NamedTuple):
    """The order of a highlight's cuts: the later detection is newer; at the same moment the greater id."""

    detected_at: datetime
    event_id: str


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A finished cut in the free bucket: the video of a new clip, or a new video of its highlight's clip."""

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
        """Its position among the cuts of its highlight."""
        return CutPosition(self.highlight_detected_at, self.highlight_event_id)

    @property
    def is_owners(self) -> bool:
        """Whether the clip's owner asked for it: such a cut comes before those of a detector."""
        return self.origin is ClipOrigin.OWNER

    @property
    def objects(self) -> frozenset[StoredKey]:
        """Its video and, if it has one, its poster."""
        return frozenset(StoredKey(self.bucket, key) for key in (self.object_key, self.poster_key) if key)


@dataclass(frozen=True, kw_only=True)
class PublicationOptions:
    """How a clip is public. ``until``: when the publication ends; None: when its owner ends it."""

    until: datetime | None
    embed: bool
    downloadable: bool
    indexable: bool


@dataclass(frozen=True, kw_only=True)
class Clip(Cut):
    """A clip: its current cut, its status, and what was decided about it.

    ``expires_in_seconds``: by the database's clock; 0 or less: expired; None: it does not expire.
    ``purge_reason`` of a clip that is not purged: the reason that its purge will have; None: expired.
    ``deleted_from``: the status before the deletion; a deleted clip keeps what a restore needs.
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
        """The objects that must not be deleted. A purged clip owns no object."""
        return frozenset() if self.status is ClipStatus.PURGED else self.objects

    @property
    def options(self) -> PublicationOptions | None:
        """How it is public, or was when it was deleted; None: it was not public."""
        if self.published_at is None:
            return None
        return PublicationOptions(
            until=self.published_until,
            embed=bool(self.published_embed),
            downloadable=bool(self.published_downloadable),
            indexable=bool(self.published_indexable),
        )

    def has_considered(self, cut: Cut) -> bool:
        """Whether the clip took or refused this cut, or a newer one of the same origin, before."""
        at, event_id = (
            (self.owner_cut_at, self.owner_cut_id)
            if cut.is_owners
            else (self.detector_cut_at, self.detector_cut_id)
        )
        return at is not None and event_id is not None and cut.position <= CutPosition(at, event_id)


@dataclass(frozen=True, kw_only=True)
class Skip:
    """A highlight that became no clip. ``message`` is the reason in words for a person."""

    stream_highlight_id: str
    twitch_account_id: str
    source_vod_id: str
    kind: str
    reason: str
    message: str
    highlight_event_id: str
    highlight_detected_at: datetime
    skipped_at: datetime


def is_due(clip: Clip, cutoff: datetime) -> bool:
    """Whether a purge with this cutoff purges the clip."""
    can_expire = clip.status in {ClipStatus.AVAILABLE, ClipStatus.DELETED}
    return can_expire and clip.expires_at is not None and clip.expires_at <= cutoff


def last_watchable_at(clip: Clip) -> datetime:
    """When a purged clip could be watched for the last time: no URL is signed after it has expired."""
    return clip.expires_at or clip.updated_at
