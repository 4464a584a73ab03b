"""The events that the registry publishes about a change of a clip. Pure, no I/O.

Every event id follows from the cause of the event, so that an event which is written twice has the same id:
the clip and its version for a lifecycle event, the causing event for a release, the account and the day for
an expiry notice.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from clip_registry.domain.clips import Clip, StoredKey
from clip_shared.contracts.clip_keys import account_of
from clip_shared.contracts.events import (
    ClipAvailable,
    ClipDeleted,
    ClipExpiring,
    ClipKept,
    ClipLifecycle,
    ClipPublished,
    ClipPurged,
    ClipRenamed,
    ClipRestored,
    ClipUnkept,
    ClipUnpublished,
    Event,
    ObjectReleased,
    ReleaseReason,
    event_id,
)
from clip_shared.contracts.registry_api import ClipAction, ClipStatus
from clip_shared.contracts.service_names import CLIP_REGISTRY


def available(clip: Clip, traceparent: str | None = None) -> Event[Any]:
    """A clip has its first or another video, or expires at another time."""
    data = ClipAvailable.model_validate(
        {
            **_identity(clip),
            "title": clip.title,
            "kind": clip.kind,
            "duration_seconds": clip.duration_seconds,
            "expires_at": clip.expires_at,
        }
    )
    return _lifecycle(clip, data, traceparent)


def recut(clip: Clip, traceparent: str | None = None) -> Event[Any]:
    """A clip has another video. For a deleted clip this is a clip.deleted event: it cannot be watched."""
    if clip.status is ClipStatus.DELETED:
        return _lifecycle(clip, _deleted(clip), traceparent)
    return available(clip, traceparent)


def done(action: ClipAction, clip: Clip) -> Event[Any]:
    """An action has changed a clip."""
    return _lifecycle(clip, _BY_ACTION[action](clip), None)


def purged(clip: Clip, *, at: datetime) -> list[Event[Any]]:
    """A clip is purged. ``at``: its objects are released at this moment."""
    data = ClipPurged.model_validate(
        {**_identity(clip), "purged_at": clip.purged_at, "reason": clip.purge_reason}
    )
    purge = _lifecycle(clip, data, None)
    return [purge, *released(clip, clip.objects, ReleaseReason.PURGED, cause_id=purge.id, at=at)]


def released(
    clip: Clip, objects: Iterable[StoredKey], reason: ReleaseReason, *, cause_id: str, at: datetime
) -> list[Event[Any]]:
    """Release objects that a clip does not own: an event for each object, which is sent at ``at`` or later.

    An object whose key is not one of this account's clips is never released: it may belong to another
    service.
    """
    return [
        Event.new(
            ObjectReleased(bucket=each.bucket, object_key=each.key, reason=reason, clip_id=clip.clip_id),
            source=CLIP_REGISTRY,
            id=event_id("released", cause_id, each.bucket, each.key),
            time=at,
        )
        for each in sorted(objects)
        if account_of(each.key) == clip.twitch_account_id
    ]


def expiring(
    account_id: str, clip_ids: Sequence[UUID], *, clip_count: int, expires_before: datetime
) -> Event[Any]:
    """Clips of an account expire on the day that ends at ``expires_before``."""
    data = ClipExpiring(
        twitch_account_id=account_id,
        clip_ids=tuple(clip_ids),
        clip_count=clip_count,
        expires_before=expires_before,
    )
    return Event.new(
        data,
        source=CLIP_REGISTRY,
        id=event_id("expiring", account_id, f"{expires_before.astimezone(UTC):%Y-%m-%d}"),
    )


def _lifecycle(clip: Clip, data: ClipLifecycle, traceparent: str | None) -> Event[Any]:
    return Event.new(
        data,
        source=CLIP_REGISTRY,
        id=event_id("lifecycle", str(clip.clip_id), str(clip.version)),
        time=clip.updated_at,
        traceparent=traceparent,
    )


def _identity(clip: Clip) -> dict[str, Any]:
    return {name: getattr(clip, name) for name in ClipLifecycle.model_fields}


def _kept(clip: Clip) -> ClipLifecycle:
    return ClipKept.model_validate({**_identity(clip), "kept_at": clip.kept_at, "kept_by": clip.kept_by})


def _unkept(clip: Clip) -> ClipLifecycle:
    return ClipUnkept.model_validate({**_identity(clip), "expires_at": clip.expires_at})


def _published(clip: Clip) -> ClipLifecycle:
    return ClipPublished.model_validate(
        {
            **_identity(clip),
            "share_slug": clip.share_slug,
            "published_at": clip.published_at,
            "revision": clip.published_revision,
            "until": clip.published_until,
            "embed": clip.published_embed,
            "downloadable": clip.published_downloadable,
            "indexable": clip.published_indexable,
        }
    )


def _unpublished(clip: Clip) -> ClipLifecycle:
    return ClipUnpublished.model_validate(_identity(clip))


def _deleted(clip: Clip) -> ClipLifecycle:
    return ClipDeleted.model_validate(
        {**_identity(clip), "deleted_at": clip.deleted_at, "expires_at": clip.expires_at}
    )


def _restored(clip: Clip) -> ClipLifecycle:
    return ClipRestored.model_validate(
        {**_identity(clip), "status": clip.status, "expires_at": clip.expires_at}
    )


def _renamed(clip: Clip) -> ClipLifecycle:
    return ClipRenamed.model_validate({**_identity(clip), "title": clip.title})


_BY_ACTION: Mapping[ClipAction, Callable[[Clip], ClipLifecycle]] = {
    ClipAction.KEEP: _kept,
    ClipAction.UNKEEP: _unkept,
    ClipAction.PUBLISH: _published,
    ClipAction.UNPUBLISH: _unpublished,
    ClipAction.DELETE: _deleted,
    ClipAction.RESTORE: _restored,
    ClipAction.RENAME: _renamed,
}
