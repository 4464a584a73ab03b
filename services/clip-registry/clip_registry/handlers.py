"""The bus: what the cutter reports, into the store."""

import structlog

from clip_registry.domain import Cut, Verdict
from clip_registry.metrics import Metrics
from clip_registry.store import Offer, Store
from clip_shared.bus import Bus, Rejected
from clip_shared.errors import InvalidEvent, PermanentError
from clip_shared.events import ClipCreated, ClipSkipped, Event, clip_id_for

log = structlog.get_logger()

# One transaction for what has piled up; a single event that arrives alone waits for no other.
MAX_CUTS_AT_ONCE = 100
CUTS_DEADLINE_SECONDS = 60
SKIP_DEADLINE_SECONDS = 10


def subscribe(bus: Bus, store: Store, metrics: Metrics) -> None:
    """Register the registry's handlers."""

    @bus.batch_subscriber(ClipCreated, deadline_seconds=CUTS_DEADLINE_SECONDS, max_records=MAX_CUTS_AT_ONCE)
    async def clips_created(events: list[Event[ClipCreated]]) -> list[Rejected[ClipCreated]]:
        try:
            return await _record(events, store, metrics)
        except PermanentError:
            # One of them is bad: find it, and let the others pass.
            return [each for event in events for each in await _record_alone(event, store, metrics)]

    @bus.subscriber(ClipSkipped, deadline_seconds=SKIP_DEADLINE_SECONDS)
    async def clip_skipped(event: Event[ClipSkipped]) -> None:
        metrics.skipped(event.data.reason)
        log.info("clip skipped", reason=event.data.reason, why=event.data.message)


async def _record(
    events: list[Event[ClipCreated]], store: Store, metrics: Metrics
) -> list[Rejected[ClipCreated]]:
    rejected = []
    for event, recorded in zip(events, await store.record([offer_of(each) for each in events]), strict=True):
        metrics.cut_judged(recorded)
        log.info(
            "cut judged", verdict=recorded.verdict, clip_id=str(recorded.clip.clip_id), event_id=event.id
        )
        if recorded.verdict is Verdict.FOREIGN:
            problem = f"clip {recorded.clip.clip_id} belongs to another account"
            rejected.append(Rejected(event, PermanentError(problem)))
    return rejected


async def _record_alone(
    event: Event[ClipCreated], store: Store, metrics: Metrics
) -> list[Rejected[ClipCreated]]:
    try:
        return await _record([event], store, metrics)
    except PermanentError as error:
        metrics.cut_refused()
        return [Rejected(event, error)]


def offer_of(event: Event[ClipCreated]) -> Offer:
    """What an event offers.

    Raises:
        InvalidEvent: its parts do not belong together.
    """
    data = event.data
    if data.clip_id != clip_id_for(data.stream_highlight_id):
        raise InvalidEvent(f"clip_id {data.clip_id} is not that of highlight {data.stream_highlight_id}")
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
        highlight_event_id=data.highlight_event_id,
        highlight_detected_at=data.highlight_detected_at,
    )
    return Offer(cut, event_id=event.id, traceparent=event.traceparent)
