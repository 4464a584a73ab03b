"""Cuts and clips to test with: valid as they are, changed by keyword."""

from datetime import UTC, datetime, timedelta
from typing import Any

from clip_registry.domain import Clip, Cut
from clip_shared.events import (
    ClipCreated,
    CutMode,
    CutReceipt,
    Event,
    HighlightKind,
    PosterObject,
    StoredObject,
    clip_id_for,
)
from clip_shared.registry_api import ClipStatus

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
RECEIPT = CutReceipt(
    mode=CutMode.COPY,
    requested_start_seconds=1,
    requested_end_seconds=3,
    actual_start_seconds=0.5,
    actual_end_seconds=3,
    audio_video_skew_ms=1.5,
)


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
        "highlight_event_id": event,
        "highlight_detected_at": at,
    }
    return Cut(**{**values, **changes})


def a_clip(status: ClipStatus = ClipStatus.AVAILABLE, *, cut: Cut | None = None, **changes: Any) -> Clip:
    """A clip whose columns are what its status implies. Purged at noon plus four hours."""
    ephemeral = status in {ClipStatus.AVAILABLE, ClipStatus.PURGED}
    published = status is ClipStatus.PUBLISHED
    values: dict[str, Any] = {
        **vars(cut or a_cut()),
        "status": status,
        "expires_at": NOON + 2 * HOUR if ephemeral else None,
        "expires_in_seconds": 3600.0 if ephemeral else None,
        "kept_at": None if ephemeral else NOON,
        "kept_by": None if ephemeral else "ann",
        "published_at": NOON if published else None,
        "share_slug": "slug" if published else None,
        "purged_at": NOON + 4 * HOUR if status is ClipStatus.PURGED else None,
        "version": 3,
        "created_at": NOON,
        "updated_at": NOON + HOUR,
    }
    return Clip(**{**values, **changes})


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
    )
    return Event[ClipCreated].new(
        data.model_copy(update=changes), source="clip-cutter", id=named, time=NOON, traceparent=traceparent
    )
