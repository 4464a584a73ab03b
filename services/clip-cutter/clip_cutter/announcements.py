"""Build the events that the cutter publishes, the keys of a clip's objects, and the cut receipt."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from clip_cutter.containers.model import TrackKind
from clip_cutter.cutter import FinishedClip
from clip_cutter.domain.policy import Skipped, Window
from clip_cutter.storage import MAX_REASON, ClipMetadata, StoredClip
from clip_shared.contracts.clip_keys import poster_key, video_key
from clip_shared.contracts.events import (
    ClipCreated,
    ClipOrigin,
    ClipSkipped,
    CutReceipt,
    EncodingRequested,
    Event,
    HighlightDetected,
    PosterObject,
    StoredObject,
    TrackReceipt,
    clip_id_for,
    event_id,
)
from clip_shared.contracts.service_names import CLIP_CUTTER

HighlightEvent = Event[HighlightDetected] | Event[EncodingRequested]


@dataclass(frozen=True)
class ClipKeys:
    """The keys of a clip's objects in the free bucket. The same event always gives the same keys."""

    video: str
    poster: str

    @classmethod
    def of(cls, event: HighlightEvent) -> Self:
        """Return the keys that follow from the account, the highlight and the event's id."""
        place = (event.data.twitch_account_id, clip_id_for(event.data.stream_highlight_id), event.id)
        return cls(video_key(*place), poster_key(*place))


def metadata_of(event: HighlightEvent, clip: FinishedClip) -> ClipMetadata:
    """Return the metadata that is stored with a clip's video. Verifying the clip changes nothing in it."""
    return ClipMetadata(
        source_vod_id=event.data.source_vod_id,
        kind=event.data.kind,
        title=event.data.title,
        score=event.data.score,
        highlight_detected_at=event.time,
        duration_seconds=clip.seconds,
        cut_receipt=receipt_of(clip, Window(event.data.start_seconds, event.data.end_seconds)),
        created_at=datetime.now(UTC),
    )


def receipt_of(clip: FinishedClip, asked: Window) -> CutReceipt:
    """Return the cut receipt: the requested window, the actual one, and what was done to each track."""
    return CutReceipt(
        mode=clip.mode,
        requested_start_seconds=asked.start,
        requested_end_seconds=asked.end,
        actual_start_seconds=round(clip.start, 6),
        actual_end_seconds=round(clip.end, 6),
        audio_video_skew_ms=clip.skew_ms,
        fallback_reason=_bounded(clip.fallback_reason),
        video=_track_receipt(clip, TrackKind.VIDEO),
        audio=_track_receipt(clip, TrackKind.AUDIO),
        remark=_bounded(clip.remark),
    )


def _track_receipt(clip: FinishedClip, kind: TrackKind) -> TrackReceipt | None:
    for each in clip.tracks:
        if each.kind is kind:
            return TrackReceipt(fate=each.fate, reason=_bounded(each.reason))
    return None


def _bounded(text: str | None) -> str | None:
    return text and text[:MAX_REASON]


def created_event(event: HighlightEvent, clip: StoredClip) -> Event[ClipCreated]:
    """Return ``clip-created`` for a stored clip. A redelivered highlight gives the same event again."""
    keys, metadata = ClipKeys.of(event), clip.metadata
    clip_id = clip_id_for(event.data.stream_highlight_id)
    data = ClipCreated(
        clip_id=clip_id,
        stream_highlight_id=event.data.stream_highlight_id,
        twitch_account_id=event.data.twitch_account_id,
        source_vod_id=metadata.source_vod_id,
        kind=metadata.kind,
        title=metadata.title,
        score=metadata.score,
        highlight_event_id=event.id,
        highlight_detected_at=metadata.highlight_detected_at,
        object=StoredObject(
            bucket=clip.bucket, key=keys.video, size_bytes=clip.size_bytes, content_type=clip.content_type
        ),
        poster=PosterObject(bucket=clip.bucket, key=keys.poster),
        duration_seconds=metadata.duration_seconds,
        cut_receipt=metadata.cut_receipt,
        source=event.data.source,
        origin=ClipOrigin.DETECTOR,
    )
    return Event[ClipCreated].new(
        data,
        source=CLIP_CUTTER,
        id=event_id(ClipCreated.TYPE, str(clip_id), event.id),
        time=metadata.created_at,
        traceparent=event.traceparent,
    )


def encoding_event(event: HighlightEvent, why: str) -> Event[EncodingRequested]:
    """Return the event that passes a highlight on to the lane for re-encodes.

    It keeps the id and the time of the highlight's event, because the keys and the metadata of the clip
    follow from them.
    """
    data = EncodingRequested(**{**event.data.model_dump(), "reason": why[:MAX_REASON]})
    return Event[EncodingRequested].new(
        data, source=CLIP_CUTTER, id=event.id, time=event.time, traceparent=event.traceparent
    )


def skipped_event(event: HighlightEvent, skip: Skipped) -> Event[ClipSkipped]:
    """Return ``clip-skipped`` with the reason, and with the sentence for the streamer."""
    clip_id = clip_id_for(event.data.stream_highlight_id)
    data = ClipSkipped(
        stream_highlight_id=event.data.stream_highlight_id,
        twitch_account_id=event.data.twitch_account_id,
        source_vod_id=event.data.source_vod_id,
        kind=event.data.kind,
        highlight_event_id=event.id,
        highlight_detected_at=event.time,
        reason=skip.reason,
        source_profile=event.data.source.profile,
        message=str(skip),
    )
    return Event[ClipSkipped].new(
        data,
        source=CLIP_CUTTER,
        id=event_id(ClipSkipped.TYPE, str(clip_id), event.id),
        traceparent=event.traceparent,
    )
