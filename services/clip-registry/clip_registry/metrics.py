"""Every metric that the registry exports, besides those of the bus and the process."""

import asyncio
import time

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from clip_registry.domain import Answer
from clip_registry.store import Figures, Recorded, Store
from clip_shared.errors import TransientError
from clip_shared.events import SkipReason
from clip_shared.registry_api import ClipAction, ExpirationResult, ExpiryNoticeResult

log = structlog.get_logger()


class Metrics:
    """What SREs see of the registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._transitions = Counter(
            "clips_transitions",
            "Transitions asked for, by kind and outcome.",
            ["kind", "outcome"],
            registry=registry,
        )
        self._notices = Counter(
            "clips_expiry_notices",
            "Notices of coming expiry, one for an account and a day.",
            registry=registry,
        )
        self._objects_asked = Counter(
            "clips_objects_asked",
            "Objects that the orphan sweep asked about, by whether a clip owns them.",
            ["answer"],
            registry=registry,
        )
        self._skips = Counter(
            "clips_registry_skips",
            "Highlights that became no clip, by reason.",
            ["reason"],
            registry=registry,
        )
        self._to_available = Histogram(
            "clips_highlight_to_available_seconds",
            "Seconds from the detection of a highlight until its clip could be watched.",
            buckets=(0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 21600),
            registry=registry,
        )
        self._by_status = Gauge(
            "clips_by_status", "Clips by status, without purged ones.", ["status"], registry=registry
        )
        self._overdue = Gauge(
            "clips_overdue", "Clips that have expired and are not purged.", registry=registry
        )
        self._outbox_depth = Gauge("clips_outbox_depth", "Events that wait in the outbox.", registry=registry)
        self._outbox_age = Gauge(
            "clips_outbox_age_seconds", "Age of the oldest event in the outbox.", registry=registry
        )
        self._outbox_dead = Gauge(
            "clips_outbox_dead", "Events in the outbox's dead letters.", registry=registry
        )
        self._counted_at = Gauge(
            "clips_counted_timestamp_seconds", "When the figures were last counted.", registry=registry
        )

    def cut_judged(self, recorded: Recorded) -> None:
        """Count a clip-created event, and how long its highlight took to become watchable."""
        self._transitions.labels("cut", recorded.verdict).inc()
        if recorded.verdict.changes_clip:
            took = recorded.clip.updated_at - recorded.clip.highlight_detected_at
            self._to_available.observe(max(0.0, took.total_seconds()))

    def cut_refused(self) -> None:
        """Count a clip-created event that was dead-lettered."""
        self._transitions.labels("cut", "refused").inc()

    def acted(self, action: ClipAction, answer: Answer) -> None:
        """Count what an owner asked for."""
        self._transitions.labels(action, answer).inc()

    def expired(self, result: ExpirationResult) -> None:
        """Count purged clips."""
        self._transitions.labels("purge", "done").inc(result.expired)

    def notified(self, result: ExpiryNoticeResult) -> None:
        """Count accounts that were told."""
        self._notices.inc(result.notified)

    def objects_asked(self, asked: int, *, unknown: int) -> None:
        """Count what an orphan sweep wanted to know."""
        self._objects_asked.labels("owned").inc(asked - unknown)
        self._objects_asked.labels("unknown").inc(unknown)

    def skipped(self, reason: SkipReason) -> None:
        """Count a clip-skipped event."""
        self._skips.labels(reason).inc()

    def counted(self, figures: Figures) -> None:
        """Show the state of the store."""
        for status, number in figures.clips.items():
            self._by_status.labels(status).set(number)
        self._overdue.set(figures.overdue)
        self._outbox_depth.set(figures.outbox_depth)
        self._outbox_age.set(figures.outbox_age_seconds)
        self._outbox_dead.set(figures.outbox_dead)
        self._counted_at.set(time.time())


async def keep_counting(store: Store, metrics: Metrics, *, every_seconds: float) -> None:
    """Refresh the figures until cancelled, so that a scrape costs no query."""
    while True:
        try:
            metrics.counted(await store.figures())
        except TransientError as error:
            log.warning("cannot count for the metrics", error=str(error))
        await asyncio.sleep(every_seconds)
