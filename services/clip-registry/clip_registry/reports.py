"""What the cutter reports: its events, checked and turned into cuts and skips. Pure, no I/O."""

from dataclasses import dataclass

from clip_registry.domain.clips import Cut, Skip
from clip_shared.contracts.clip_keys import poster_key, video_key
from clip_shared.contracts.events import ClipCreated, ClipOrigin, ClipSkipped, Event, clip_id_for
from clip_shared.errors import InvalidEvent


@dataclass(frozen=True)
class ReportedCut:
    """A cut, with the id and trace of the ``clip-created`` event that reported it."""

    cut: Cut
    event_id: str
    traceparent: str | None = None


def reported_cut(event: Event[ClipCreated], bucket: str | None = None) -> ReportedCut:
    """Return the cut that an event reports. ``bucket``: the only one that clips may be in; None: any.

    Raises:
        InvalidEvent: the clip id is not that of the highlight, or an object's bucket or key is not that of
            the clip. Such an object may belong to another service, and is never released.
    """
    data = event.data
    _check_objects(data, bucket)
    cut = Cut(
        clip_id=data.clip_id,
        stream_highlight_id=data.stream_highlight_id,
        twitch_account_id=data.twitch_account_id,
        source_vod_id=data.source_vod_id,
        kind=data.kind,
        title=data.title,
        score=data.score,
        bucket=data.object.bucket,
        object_key=data.object.key,
        poster_key=data.poster.key if data.poster else None,
        content_type=data.object.content_type,
        file_size_bytes=data.object.size_bytes,
        duration_seconds=data.duration_seconds,
        cut_receipt=data.cut_receipt.model_dump(mode="json"),
        source=data.source.model_dump(mode="json") if data.source else None,
        origin=data.origin or ClipOrigin.DETECTOR,
        highlight_event_id=data.highlight_event_id,
        highlight_detected_at=data.highlight_detected_at,
    )
    return ReportedCut(cut, event_id=event.id, traceparent=event.traceparent)


def reported_skip(event: Event[ClipSkipped]) -> Skip:
    """Return the skipped highlight that an event reports."""
    data = event.data
    return Skip(
        stream_highlight_id=data.stream_highlight_id,
        twitch_account_id=data.twitch_account_id,
        source_vod_id=data.source_vod_id,
        kind=data.kind,
        reason=data.reason,
        message=data.message,
        highlight_event_id=data.highlight_event_id,
        highlight_detected_at=data.highlight_detected_at,
        skipped_at=event.time,
    )


def _check_objects(data: ClipCreated, bucket: str | None) -> None:
    expected_id = clip_id_for(data.stream_highlight_id)
    if data.clip_id != expected_id:
        raise InvalidEvent(
            f"clip_id is {data.clip_id}; that of highlight {data.stream_highlight_id} is {expected_id}"
        )
    if bucket not in {None, data.object.bucket}:
        raise InvalidEvent(f"the video is in bucket {data.object.bucket}; clips are in {bucket}")
    clip = (data.twitch_account_id, data.clip_id, data.highlight_event_id)
    if data.object.key != video_key(*clip):
        raise InvalidEvent(f"the video's key is {data.object.key}; that of this clip is {video_key(*clip)}")
    if data.poster is None:
        return
    if data.poster.key != poster_key(*clip):
        raise InvalidEvent(f"the poster's key is {data.poster.key}; that of this clip is {poster_key(*clip)}")
    if data.poster.bucket != data.object.bucket:
        raise InvalidEvent(
            f"video and poster are in different buckets: {data.object.bucket} and {data.poster.bucket}"
        )
