"""Cuts and clips to test with: valid as they are, changed by keyword."""

from datetime import UTC, datetime, timedelta
from typing import Any

from clip_registry.domain.actions import ActionRequest
from clip_registry.domain.clips import Clip, Cut, PublicationOptions, Skip
from clip_shared.contracts.events import (
    ClipCreated,
    ClipOrigin,
    CutMode,
    CutReceipt,
    Event,
    HighlightKind,
    PosterObject,
    PurgeReason,
    SourceObject,
    StoredObject,
    clip_id_for,
)
from clip_shared.contracts.registry_api import ClipAction, ClipStatus

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
VOD = SourceObject(profile="twitch", bucket="vods", key="vod-1.mp4")
RECEIPT = CutReceipt(
    mode=CutMode.COPY,
    requested_start_seconds=1,
    requested_end_seconds=3,
    actual_start_seconds=0.5,
    actual_end_seconds=3,
    audio_video_skew_ms=1.5,
)

OPTIONS = PublicationOptions(until=None, embed=True, downloadable=False, indexable=False)


def a_cut(
    highlight: str = "hl-1", event: str = "event-5", at: datetime = NOON, account: str = "ann", **changes: Any
) -> Cut:
    values: dict[str, Any] = {
        "clip_id": clip_id_for(highlight),
        "stream_highlight_id": highlight,
        "twitch_account_id": account,
        "source_vod_id": "vod-1",
        "kind": "heuristic",
        "title": "A fine moment",
        "score": 0.5,
        "bucket": "clips",
        "object_key": f"clips/{account}/{clip_id_for(highlight)}/{event}.mp4",
        "poster_key": f"clips/{account}/{clip_id_for(highlight)}/{event}.jpg",
        "content_type": "video/mp4",
        "file_size_bytes": 1000,
        "duration_seconds": 2.0,
        "cut_receipt": RECEIPT.model_dump(mode="json"),
        "source": VOD.model_dump(mode="json"),
        "origin": ClipOrigin.DETECTOR,
        "highlight_event_id": event,
        "highlight_detected_at": at,
    }
    return Cut(**{**values, **changes})


def a_clip(status: ClipStatus = ClipStatus.AVAILABLE, *, cut: Cut | None = None, **changes: Any) -> Clip:
    """A clip whose columns are what its status implies. Purged at noon plus four hours.

    A deleted one was deleted at noon plus one hour, from ``deleted_from``: available if not said.
    """
    cut = cut or a_cut()
    is_mortal = status in {ClipStatus.AVAILABLE, ClipStatus.DELETED, ClipStatus.PURGED}
    is_deleted = status is ClipStatus.DELETED
    was = changes.get("deleted_from", ClipStatus.AVAILABLE) if is_deleted else status
    kept = was in {ClipStatus.KEPT, ClipStatus.PUBLISHED}
    published = was is ClipStatus.PUBLISHED
    purge_reason = {ClipStatus.PURGED: PurgeReason.EXPIRED, ClipStatus.DELETED: PurgeReason.DELETED}
    judged = (cut.highlight_detected_at, cut.highlight_event_id)
    detector, owner = ((None, None), judged) if cut.is_owners else (judged, (None, None))
    values: dict[str, Any] = {
        **vars(cut),
        "revision": 1,
        "status": status,
        "expires_at": NOON + 2 * HOUR if is_mortal else None,
        "expires_in_seconds": 3600.0 if is_mortal else None,
        "renamed_at": None,
        "kept_at": NOON if kept else None,
        "kept_by": "ann" if kept else None,
        "published_at": NOON if published else None,
        "share_slug": "slug" if published else None,
        "published_revision": 1 if published else None,
        "published_until": None,
        "published_embed": True if published else None,
        "published_downloadable": False if published else None,
        "published_indexable": False if published else None,
        "deleted_from": was if is_deleted else None,
        "deleted_at": NOON + HOUR if is_deleted else None,
        "expires_at_before_delete": NOON + 9 * HOUR if is_deleted and not kept else None,
        "purged_at": NOON + 4 * HOUR if status is ClipStatus.PURGED else None,
        "purge_reason": purge_reason.get(status),
        "offer": None,
        "detector_cut_at": detector[0],
        "detector_cut_id": detector[1],
        "owner_cut_at": owner[0],
        "owner_cut_id": owner[1],
        "version": 3,
        "created_at": NOON,
        "updated_at": NOON + HOUR,
    }
    return Clip(**{**values, **changes})


def a_skip(highlight: str = "hl-1", account: str = "ann", **changes: Any) -> Skip:
    values: dict[str, Any] = {
        "stream_highlight_id": highlight,
        "twitch_account_id": account,
        "source_vod_id": "vod-1",
        "kind": "refined",
        "reason": "too_short",
        "message": "The highlight is shorter than a second.",
        "highlight_event_id": "event-5",
        "highlight_detected_at": NOON,
        "skipped_at": NOON + HOUR,
    }
    return Skip(**{**values, **changes})


def an_action(action: ClipAction, account: str = "ann", **changes: Any) -> ActionRequest:
    """An action with what its action needs; publishing as the contract's defaults say."""
    values: dict[str, Any] = {"action": action, "account_id": account}
    if action is ClipAction.RENAME:
        values["title"] = "A better title"
    if action is ClipAction.PUBLISH:
        values["options"] = OPTIONS
    return ActionRequest(**{**values, **changes})


def a_created_event(
    cut: Cut | None = None, *, named: str | None = None, traceparent: str | None = None, **changes: Any
) -> Event[ClipCreated]:
    cut = cut or a_cut()
    data = ClipCreated(
        clip_id=cut.clip_id,
        stream_highlight_id=cut.stream_highlight_id,
        twitch_account_id=cut.twitch_account_id,
        source_vod_id=cut.source_vod_id,
        kind=HighlightKind(cut.kind),
        title=cut.title,
        score=cut.score,
        highlight_event_id=cut.highlight_event_id,
        highlight_detected_at=cut.highlight_detected_at,
        object=StoredObject(
            bucket=cut.bucket,
            key=cut.object_key,
            size_bytes=cut.file_size_bytes,
            content_type=cut.content_type,
        ),
        poster=PosterObject(bucket=cut.bucket, key=cut.poster_key) if cut.poster_key else None,
        duration_seconds=cut.duration_seconds,
        cut_receipt=RECEIPT,
        source=VOD,
        origin=cut.origin,
    )
    return Event[ClipCreated].new(
        data.model_copy(update=changes), source="clip-cutter", id=named, time=NOON, traceparent=traceparent
    )
