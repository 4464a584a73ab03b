"""What each lifecycle event says of the columns of its clip."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from clip_registry.clips.guarded_updates import UNDELETED, UNPUBLISHED
from clip_registry.domain.clips import Clip
from clip_registry.recovery.topic_history import LifecycleEvent, is_expiry_over_limit
from clip_shared.contracts.events import (
    ClipAvailable,
    ClipDeleted,
    ClipKept,
    ClipPublished,
    ClipPurged,
    ClipRenamed,
    ClipRestored,
    ClipUnkept,
    ClipUnpublished,
    PurgeReason,
)
from clip_shared.contracts.registry_api import ClipStatus


def columns_after(clip: Clip, event: LifecycleEvent) -> Mapping[str, Any]:
    """Return the columns that a lifecycle event changes, given the clip before the event."""
    return _COLUMNS[event.data.TYPE](clip, event.data, event.time)


def _available(clip: Clip, change: ClipAvailable, at: datetime) -> Mapping[str, Any]:
    if clip.status is not ClipStatus.AVAILABLE or change.expires_at is None:
        return {}
    evicted = {"purge_reason": PurgeReason.EVICTED} if is_expiry_over_limit(change, at) else {}
    return {"expires_at": change.expires_at, **evicted}


def _kept(_clip: Clip, change: ClipKept, _: datetime) -> Mapping[str, Any]:
    kept = {"kept_at": change.kept_at, "kept_by": change.kept_by}
    return {"status": ClipStatus.KEPT, **_NOT_EXPIRING, **kept}


def _unkept(_clip: Clip, change: ClipUnkept, _: datetime) -> Mapping[str, Any]:
    return {"status": ClipStatus.AVAILABLE, "expires_at": change.expires_at, **_NOT_KEPT}


def _published(clip: Clip, change: ClipPublished, _: datetime) -> Mapping[str, Any]:
    return {
        "status": ClipStatus.PUBLISHED,
        **_NOT_EXPIRING,
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
    if clip.status is ClipStatus.DELETED:  # it has got another video
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


_NOT_EXPIRING = {"expires_at": None, "purge_reason": None}
_NOT_KEPT = {"kept_at": None, "kept_by": None}
_COLUMNS: Mapping[str, Callable[[Clip, Any, datetime], Mapping[str, Any]]] = {
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
