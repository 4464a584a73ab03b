"""The bus: what the cutter reports, into the store."""

import structlog

from clip_registry.clips.store import ClipStore, RecordedCut, ReportedCut
from clip_registry.domain.clips import Cut, Skip
from clip_registry.domain.cuts import CutOutcome
from clip_registry.metrics import RegistryMetrics
from clip_shared.bus.bus import Bus, Rejected
from clip_shared.contracts.clip_keys import poster_key, video_key
from clip_shared.contracts.events import ClipCreated, ClipOrigin, ClipSkipped, Event, clip_id_for
from clip_shared.errors import InvalidEvent, PermanentError

log = structlog.get_logger()

# One transaction for what has piled up; a single event that arrives alone waits for no other.
MAX_CUTS_AT_ONCE = 100
CUTS_DEADLINE_SECONDS = 60
SKIP_DEADLINE_SECONDS = 10


def subscribe(bus: Bus, store: ClipStore, metrics: RegistryMetrics, *, bucket: str | None) -> None:
    """Register the registry's handlers. ``bucket``: the one that clips lie in; None: any."""

    async def record(events: list[Event[ClipCreated]]) -> list[Rejected[ClipCreated]]:
        recorded = await store.record([delivery_of(each, bucket) for each in events])
        judged = (_judged(*each, metrics) for each in zip(events, recorded, strict=True))
        return [rejected for rejected in judged if rejected is not None]

    async def record_alone(event: Event[ClipCreated]) -> list[Rejected[ClipCreated]]:
        try:
            return await record([event])
        except PermanentError as error:
            metrics.cut_refused()
            return [Rejected(event, error)]

    @bus.batch_subscriber(ClipCreated, deadline_seconds=CUTS_DEADLINE_SECONDS, max_records=MAX_CUTS_AT_ONCE)
    async def clips_created(events: list[Event[ClipCreated]]) -> list[Rejected[ClipCreated]]:
        try:
            return await record(events)
        except PermanentError:
            # One of them is bad: find it, and let the others pass.
            return [each for event in events for each in await record_alone(event)]

    @bus.subscriber(ClipSkipped, deadline_seconds=SKIP_DEADLINE_SECONDS)
    async def clip_skipped(event: Event[ClipSkipped]) -> None:
        await store.skips.record(skip_of(event))
        metrics.skipped(event.data.reason)
        log.info("clip skipped", reason=event.data.reason, why=event.data.message)


def _judged(
    event: Event[ClipCreated], recorded: RecordedCut, metrics: RegistryMetrics
) -> Rejected[ClipCreated] | None:
    metrics.cut_judged(recorded)
    clip_id = recorded.clip.clip_id
    log.info("cut judged", verdict=recorded.verdict, clip_id=str(clip_id), event_id=event.id)
    if recorded.verdict is not CutOutcome.FOREIGN:
        return None
    return Rejected(event, PermanentError(f"clip {clip_id} belongs to another account"))


def skip_of(event: Event[ClipSkipped]) -> Skip:
    """What an event says of a highlight."""
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


def delivery_of(event: Event[ClipCreated], bucket: str | None = None) -> ReportedCut:
    """The cut that an event brings. ``bucket``: the one that it must lie in; None: any.

    Raises:
        InvalidEvent: its parts do not belong together, or its objects are not those of a clip. They may be
            anybody's, and are therefore never released.
    """
    data = event.data
    if data.clip_id != clip_id_for(data.stream_highlight_id):
        raise InvalidEvent(f"clip_id {data.clip_id} is not that of highlight {data.stream_highlight_id}")
    if bucket not in {None, data.object.bucket}:
        raise InvalidEvent(f"{data.object.bucket} is not the clips' bucket")
    place = (data.twitch_account_id, data.clip_id, data.highlight_event_id)
    if data.object.key != video_key(*place):
        raise InvalidEvent(f"{data.object.key} is not the key of this clip's video")
    if data.poster is not None and data.poster.key != poster_key(*place):
        raise InvalidEvent(f"{data.poster.key} is not the key of this clip's poster")
    if data.poster is not None and data.poster.bucket != data.object.bucket:
        raise InvalidEvent("video and poster are in different buckets")
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
