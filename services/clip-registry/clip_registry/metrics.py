"""Every metric that the registry exports, besides those of the bus and the process."""

import asyncio
import time

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy import Pool, QueuePool

from clip_registry.clips.store import ClipStore, RecordedCut
from clip_registry.domain.actions import ActionOutcome
from clip_registry.domain.cuts import CutOutcome
from clip_registry.timers.metrics_snapshot import MetricsSnapshot
from clip_registry.timers.trimming import Trimmed
from clip_shared import tracing
from clip_shared.contracts.events import SkipReason
from clip_shared.contracts.registry_api import ClipAction, ExpirationResult, ExpiryNoticeResult
from clip_shared.errors import TransientError

log = structlog.get_logger()


class RegistryMetrics:
    """What SREs see of the registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._transitions = Counter(
            "clips_transitions",
            "Changes of clips that were asked for, by kind (cut: a clip-created event; purge; or the owner's"
            " action) and by outcome.",
            ["kind", "outcome"],
            registry=registry,
        )
        self._notices = Counter(
            "clips_expiry_notices",
            "Notices that clips expire soon (clip.expiring events): one for an account and a day of expiry.",
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
            "Highlights that became no clip, by reason, as recorded by the registry.",
            ["reason"],
            registry=registry,
        )
        self._to_available = Histogram(
            "clips_highlight_to_available_seconds",
            "Time from the detection of a highlight until its clip could be watched.",
            buckets=(0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 21600),
            registry=registry,
        )
        self._by_status = Gauge(
            "clips_by_status", "Clips by status, without purged ones.", ["status"], registry=registry
        )
        self._overdue = Gauge(
            "clips_overdue", "Clips that have expired and are not purged.", registry=registry
        )
        self._purge_lag = Gauge(
            "clips_purge_lag_seconds",
            "Time since the expiry of the clip that has been due to be purged for longest; 0 when no clip is"
            " due.",
            registry=registry,
        )
        self._bytes = Gauge(
            "clips_storage_bytes",
            "Bytes of the clips' videos in the free bucket by status, without purged clips.",
            ["status"],
            registry=registry,
        )
        self._leaving = Gauge(
            "clips_leaving",
            "Unkept clips that expire within a day from now on unless somebody keeps them: day 0 is the next"
            " 24 hours, day 6 the last of a week.",
            ["day"],
            registry=registry,
        )
        self._leaving_bytes = Gauge(
            "clips_leaving_bytes",
            "Bytes of the unkept clips that expire on a day from now on unless somebody keeps them: day 0 is"
            " the next 24 hours.",
            ["day"],
            registry=registry,
        )
        self._remembered = Gauge(
            "clips_purged_remembered",
            "Purged clips whose row is still in the table; it is deleted 40 days after the purge.",
            registry=registry,
        )
        self._trimmed = Counter(
            "clips_trimmed",
            "Rows of purged clips that were deleted, 40 days after the purge.",
            registry=registry,
        )
        self._connections = Gauge(
            "clips_database_connections",
            "Connections of this process to PostgreSQL for events and HTTP: in use, idle, and the most that"
            " it may have.",
            ["state"],
            registry=registry,
        )
        self._outbox_depth = Gauge(
            "clips_outbox_depth", "Events that wait in the outbox for Kafka.", registry=registry
        )
        self._outbox_age = Gauge(
            "clips_outbox_age_seconds",
            "Time for which the oldest event that waits in the outbox for Kafka has been due; 0 when no event"
            " waits.",
            registry=registry,
        )
        self._outbox_dead = Gauge(
            "clips_outbox_dead",
            "Events that Kafka refuses for good: they stand in the outbox until somebody sends them again.",
            registry=registry,
        )
        self._counted_at = Gauge(
            "clips_counted_timestamp_seconds",
            "When this process last counted the clips and the outbox for its metrics (Unix time).",
            registry=registry,
        )
        self._show_from_the_start()

    def _show_from_the_start(self) -> None:
        """Show every series, so that the first of a kind is seen as an increase."""
        outcomes: dict[str, list[str]] = {"cut": [*CutOutcome, "refused"], "purge": ["done"]}
        outcomes |= {action: list(ActionOutcome) for action in ClipAction}
        for kind, ends in outcomes.items():
            for end in ends:
                self._transitions.labels(kind, end)
        for answer in ("owned", "unknown"):
            self._objects_asked.labels(answer)
        for reason in SkipReason:
            self._skips.labels(reason)

    def cut_judged(self, recorded: RecordedCut) -> None:
        """Count a clip-created event, and how long its highlight took to become watchable."""
        self._transitions.labels("cut", recorded.verdict).inc()
        if recorded.verdict.changes_clip:
            took = recorded.clip.updated_at - recorded.clip.highlight_detected_at
            self._to_available.observe(max(0.0, took.total_seconds()), tracing.exemplar())

    def cut_refused(self) -> None:
        """Count a clip-created event that was dead-lettered."""
        self._transitions.labels("cut", "refused").inc()

    def acted(self, action: ClipAction, answer: ActionOutcome) -> None:
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

    def forgotten(self, what: Trimmed) -> None:
        """Count rows of clips that were purged long ago."""
        self._trimmed.inc(what.rows)

    def show_connections(self, pool: Pool) -> None:
        """Show from now on how many connections there are, and of how many."""
        assert isinstance(pool, QueuePool)  # noqa: S101 - as an engine's is unless told
        self._connections.labels("in_use").set_function(pool.checkedout)
        self._connections.labels("idle").set_function(pool.checkedin)
        self._connections.labels("limit").set(pool.size())

    def counted(self, figures: MetricsSnapshot) -> None:
        """Show the state of the store."""
        for status, number in figures.clips.items():
            self._by_status.labels(status).set(number)
        for status, size in figures.bytes.items():
            self._bytes.labels(status).set(size)
        for day, (number, size) in enumerate(zip(figures.leaving, figures.leaving_bytes, strict=True)):
            self._leaving.labels(str(day)).set(number)
            self._leaving_bytes.labels(str(day)).set(size)
        self._remembered.set(figures.purged)
        self._overdue.set(figures.overdue)
        self._purge_lag.set(figures.purge_lag_seconds)
        self._outbox_depth.set(figures.outbox_depth)
        self._outbox_age.set(figures.outbox_age_seconds)
        self._outbox_dead.set(figures.outbox_dead)
        self._counted_at.set(time.time())


async def keep_counting(store: ClipStore, metrics: RegistryMetrics, *, every_seconds: float) -> None:
    """Refresh the figures until cancelled, so that a scrape costs no query."""
    while True:
        try:
            metrics.counted(await store.figures())
        except TransientError as error:
            log.warning("cannot count for the metrics", error=str(error))
        await asyncio.sleep(every_seconds)
