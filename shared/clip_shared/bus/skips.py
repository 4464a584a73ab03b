"""Skipped highlights: list them by reason and source profile, and send the highlights once more.

The skips are the events in ``clip-skipped``. The highlight itself is looked up in ``highlight-detected``, as
long as that topic retains it. It is sent with its identity and its time: if a clip of it has been cut since,
the cutter finds that clip and cuts nothing.
"""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from datetime import datetime

from aiokafka import ConsumerRecord

from clip_shared.bus.envelope import from_record, identity_of
from clip_shared.bus.log_reader import LogReader, log_reader
from clip_shared.bus.resend import send_copy, sender
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import ClipSkipped, Event, HighlightDetected, SkipReason
from clip_shared.errors import InvalidEvent

Skip = Event[ClipSkipped]


@dataclass(frozen=True)
class SkipFilter:
    """Which skips to take; None: any reason, any source profile, any time.

    ``since``: skipped at that time or later.
    """

    reason: SkipReason | None = None
    profile: str | None = None
    since: datetime | None = None

    def includes(self, skip: Skip) -> bool:
        """Return whether a skip passes the filter."""
        return (
            self.reason in (None, skip.data.reason)
            and self.profile in (None, skip.data.source_profile)
            and (self.since is None or self.since <= skip.time)
        )


@dataclass(frozen=True)
class ReplayedSkips:
    """How many highlights were sent once more, and how many are no longer retained."""

    sent: int
    gone: int


async def find(settings: KafkaSettings, chosen: SkipFilter) -> list[Skip]:
    """Return the skips that pass a filter, the latest of each highlight event, oldest first."""
    async with log_reader(settings, f"read {ClipSkipped.TOPIC}", ClipSkipped.TOPIC) as reader:
        return await _find(reader, chosen)


async def replay(settings: KafkaSettings, chosen: SkipFilter, *, limit: int | None) -> ReplayedSkips:
    """Send the highlights of skips once more, oldest first, at most ``limit`` (None: all of them)."""
    topics = (ClipSkipped.TOPIC, HighlightDetected.TOPIC)
    async with log_reader(settings, "replay skips", *topics) as reader, sender(settings) as producer:
        skips = (await _find(reader, chosen))[:limit]
        highlights = await _highlights(reader, skips) if skips else {}
        for skip in skips:
            if (record := highlights.get(skip.data.highlight_event_id)) is not None:
                await send_copy(producer, record)
    return ReplayedSkips(len(highlights), len(skips) - len(highlights))


async def _find(reader: LogReader, chosen: SkipFilter) -> list[Skip]:
    last: dict[str, Skip] = {}
    async for record in _all(reader, ClipSkipped.TOPIC):
        try:
            skip = from_record(ClipSkipped, record)
        except InvalidEvent:
            continue  # the registry has dead-lettered it
        if chosen.includes(skip):
            last[skip.data.highlight_event_id] = skip
    return sorted(last.values(), key=lambda skip: skip.time)


async def _highlights(reader: LogReader, skips: Collection[Skip]) -> dict[str, ConsumerRecord]:
    """Return the first record of each skip's highlight, by the highlight's event id."""
    ids = {skip.data.highlight_event_id for skip in skips}
    # An event is never later than its record.
    oldest = min(skip.data.highlight_detected_at for skip in skips)
    found: dict[str, ConsumerRecord] = {}
    async for record in _all(reader, HighlightDetected.TOPIC, since_ms=int(oldest.timestamp() * 1000)):
        if (event_id := _identity(record)) in ids:
            found.setdefault(event_id, record)
    return found


def _identity(record: ConsumerRecord) -> str:
    try:
        return identity_of(record)
    except InvalidEvent:
        return ""


async def _all(reader: LogReader, topic: str, *, since_ms: int = 0) -> AsyncIterator[ConsumerRecord]:
    for partition in reader.partitions(topic):
        _, end = await reader.bounds(partition)
        async for record in reader.read(partition, await reader.since(partition, since_ms), end):
            yield record
