"""An example of every event, from a highlight to its purged clip."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from clip_shared.contracts.clip_keys import poster_key, video_key
from clip_shared.contracts.events import (
    ClipAvailable,
    ClipCreated,
    ClipDeleted,
    ClipExpiring,
    ClipKept,
    ClipOrigin,
    ClipPublished,
    ClipPurged,
    ClipRenamed,
    ClipRestored,
    ClipSkipped,
    ClipUnkept,
    ClipUnpublished,
    CutMode,
    CutReceipt,
    DailyTick,
    EncodingRequested,
    Event,
    EventData,
    HighlightDetected,
    HighlightKind,
    ObjectReleased,
    PosterObject,
    PurgeReason,
    ReleaseReason,
    SkipReason,
    SourceObject,
    StoredObject,
    TrackFate,
    TrackReceipt,
    clip_id_for,
)

ACCOUNT, VOD, HIGHLIGHT = "streamer-1", "vod-2201", "highlight-7"
CLIP = clip_id_for(HIGHLIGHT)
DETECTED_AT = datetime(2026, 11, 20, 21, 13, 58, tzinfo=UTC)
DETECTED = "0b6f2c1e-6a55-4f6e-9a43-1c2f5ad1f6f1"
EXPIRES_AT = DETECTED_AT + timedelta(days=7)
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

_IDS = {"stream_highlight_id": HIGHLIGHT, "twitch_account_id": ACCOUNT, "source_vod_id": VOD}
_SOURCE = SourceObject(profile="archive", bucket="vods", key="streamer-1/vod-2201.mp4")
_WINDOW = {"start_seconds": 4210.0, "end_seconds": 4241.5}
_KIND, _TITLE = HighlightKind.REFINED, "Clutch in the last round"
_HIGHLIGHT = {
    **_IDS,
    **_WINDOW,
    "source": _SOURCE,
    "kind": _KIND,
    "title": _TITLE,
    "score": 0.93,
    "rank": 2,
}
_OUTCOME = {**_IDS, "kind": _KIND, "highlight_event_id": DETECTED, "highlight_detected_at": DETECTED_AT}
_CREATED = {
    **_OUTCOME,
    "clip_id": CLIP,
    "title": _TITLE,
    "score": 0.93,
    "object": StoredObject(bucket="clips", key=video_key(ACCOUNT, CLIP, DETECTED), size_bytes=23_900_160),
    "poster": PosterObject(bucket="clips", key=poster_key(ACCOUNT, CLIP, DETECTED)),
    "duration_seconds": 31.5,
    "cut_receipt": CutReceipt(
        mode=CutMode.COPY,
        requested_start_seconds=4210.0,
        requested_end_seconds=4241.5,
        actual_start_seconds=4210.0,
        actual_end_seconds=4241.5,
        audio_video_skew_ms=-3.2,
        video=TrackReceipt(fate=TrackFate.COPIED),
        audio=TrackReceipt(fate=TrackFate.COPIED),
    ),
    "source": _SOURCE,
    "origin": ClipOrigin.DETECTOR,
}


def _change(version: int, **fields: object) -> dict[str, object]:
    return {**_IDS, "clip_id": CLIP, "version": version, **fields}


_DATA: tuple[tuple[type[EventData], Mapping[str, object]], ...] = (
    (HighlightDetected, _HIGHLIGHT),
    (EncodingRequested, {**_HIGHLIGHT, "reason": "the video is HEVC"}),
    (ClipCreated, _CREATED),
    (
        ClipSkipped,
        {
            **_OUTCOME,
            "stream_highlight_id": "highlight-8",
            "reason": SkipReason.SOURCE_MISSING,
            "source_profile": "archive",
            "message": "There is no VOD streamer-1/vod-2201.mp4 in the bucket vods.",
        },
    ),
    (ClipAvailable, _change(1, title=_TITLE, kind=_KIND, duration_seconds=31.5, expires_at=EXPIRES_AT)),
    (ClipKept, _change(2, kept_at=NOON, kept_by=ACCOUNT)),
    (ClipUnkept, _change(3, expires_at=NOON + timedelta(days=7))),
    (
        ClipPublished,
        _change(
            4,
            share_slug="q3Zt8Jm1Xw0aBcDeFgHiJk",
            published_at=NOON,
            revision=1,
            until=None,
            embed=True,
            downloadable=False,
            indexable=False,
        ),
    ),
    (ClipUnpublished, _change(5)),
    (ClipDeleted, _change(6, deleted_at=NOON, expires_at=NOON + timedelta(minutes=10))),
    (ClipRestored, _change(7, status="kept", expires_at=None)),
    (ClipRenamed, _change(8, title="The clutch of the season")),
    (
        ClipExpiring,
        {
            "twitch_account_id": ACCOUNT,
            "clip_ids": (CLIP,),
            "expires_before": datetime(2026, 11, 28, tzinfo=UTC),
            "clip_count": 1,
        },
    ),
    (ClipPurged, _change(9, purged_at=EXPIRES_AT, reason=PurgeReason.EXPIRED)),
    (
        ObjectReleased,
        {
            "bucket": "clips",
            "object_key": video_key(ACCOUNT, CLIP, DETECTED),
            "reason": ReleaseReason.PURGED,
            "clip_id": CLIP,
        },
    ),
    (DailyTick, {"continuation": 0}),
)
EXAMPLES: Mapping[type[EventData], EventData] = {each: each.model_validate(data) for each, data in _DATA}


def highlight_event() -> Event[EventData]:
    """Return the detector's event with its envelope."""
    return Event.new(EXAMPLES[HighlightDetected], source="detector", id=DETECTED, time=DETECTED_AT)
