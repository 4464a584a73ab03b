"""What the registry does with each event of the cutter, and below it the table of its topics."""

from dataclasses import dataclass

import structlog

from clip_registry.clips.store import ClipStore, RecordedCut
from clip_registry.domain.cuts import CutOutcome
from clip_registry.metrics import RegistryMetrics
from clip_registry.reports import reported_cut, reported_skip
from clip_shared.bus.bus import Bus, Rejected
from clip_shared.contracts.events import ClipCreated, ClipSkipped, Event
from clip_shared.errors import PermanentError

log = structlog.get_logger()

# A batch holds the events that are waiting, in one transaction. An event that arrives alone does not wait.
MAX_CUTS_IN_BATCH = 100
CUTS_DEADLINE_SECONDS = 60
SKIP_DEADLINE_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class RegistryHandlers:
    """The handlers, and what they work with. ``bucket``: the only one that clips may be in; None: any.

    The bus delivers an event again until its handler returns. Each handler raises TransientError when the
    database cannot be used.
    """

    store: ClipStore
    metrics: RegistryMetrics
    bucket: str | None

    async def clip_created(self, events: list[Event[ClipCreated]]) -> list[Rejected[ClipCreated]]:
        """Record cuts in one transaction, and return the events that can never be recorded."""
        try:
            return await self._record(events)
        except PermanentError:
            # At least one event is bad and has undone the transaction: record each event alone.
            return [rejected for event in events for rejected in await self._record_alone(event)]

    async def clip_skipped(self, event: Event[ClipSkipped]) -> None:
        """Remember why a highlight became no clip."""
        await self.store.skips.record(reported_skip(event))
        self.metrics.skipped(event.data.reason)
        log.info("clip skipped", reason=event.data.reason, why=event.data.message)

    async def _record(self, events: list[Event[ClipCreated]]) -> list[Rejected[ClipCreated]]:
        recorded = await self.store.record([reported_cut(event, self.bucket) for event in events])
        for event, cut in zip(events, recorded, strict=True):
            self._report(event, cut)
        return [
            Rejected(event, PermanentError(f"clip {cut.clip.clip_id} belongs to another account"))
            for event, cut in zip(events, recorded, strict=True)
            if cut.outcome is CutOutcome.FOREIGN
        ]

    async def _record_alone(self, event: Event[ClipCreated]) -> list[Rejected[ClipCreated]]:
        try:
            return await self._record([event])
        except PermanentError as error:
            self.metrics.cut_refused()
            return [Rejected(event, error)]

    def _report(self, event: Event[ClipCreated], recorded: RecordedCut) -> None:
        self.metrics.cut_recorded(recorded)
        log.info(
            "cut recorded", outcome=recorded.outcome, clip_id=str(recorded.clip.clip_id), event_id=event.id
        )


def subscribe(bus: Bus, handlers: RegistryHandlers) -> None:
    """Hand each type of event to its handler."""
    bus.batch_subscriber(ClipCreated, deadline_seconds=CUTS_DEADLINE_SECONDS, max_records=MAX_CUTS_IN_BATCH)(
        handlers.clip_created
    )
    bus.subscriber(ClipSkipped, deadline_seconds=SKIP_DEADLINE_SECONDS)(handlers.clip_skipped)
