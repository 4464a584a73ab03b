"""The metrics of the registry. Those of the bus, HTTP and the process are in :mod:`clip_shared`."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy import Pool, QueuePool

from clip_registry.clips.store import RecordedCut
from clip_registry.domain.actions import ActionOutcome
from clip_registry.domain.cuts import CutOutcome
from clip_registry.timers.metrics_snapshot import MetricsSnapshot
from clip_registry.timers.trimming import Trimmed
from clip_shared import tracing
from clip_shared.contracts.events import SkipReason
from clip_shared.contracts.registry_api import ClipAction, ExpirationResult, ExpiryNoticeResult


class RegistryMetrics:
    """Every metric of the registry, and what counts in it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._transitions = Counter(
            "clips_transitions",
            "Requested changes of clips, by outcome and kind (cut: a clip-created event; purge; or the"
            " action of the owner).",
            ["kind", "outcome"],
            registry=registry,
        )
        self._notices = Counter(
            "clips_expiry_notices",
            "Notices to an account that clips expire soon (clip.expiring events): one for a day of expiry.",
            registry=registry,
        )
        self._objects_asked = Counter(
            "clips_objects_asked",
            "Objects that the orphan sweep asked about, by answer (owned: by a clip; unknown: an orphan).",
            ["answer"],
            registry=registry,
        )
        self._skips = Counter(
            "clips_registry_skips",
            "Skipped highlights (highlights that became no clip) that the registry recorded, by reason.",
            ["reason"],
            registry=registry,
        )
        self._to_available = Histogram(
            "clips_highlight_to_available_seconds",
            "Time from the detection of a highlight until its clip is available.",
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
            "Time since the expiry of the first clip that is due to be purged; 0 when no clip is due.",
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
            "Available clips by the day on which they expire unless their owner keeps them: day 0 is the next"
            " 24 hours, day 6 the last day of a week from now.",
            ["day"],
            registry=registry,
        )
        self._leaving_bytes = Gauge(
            "clips_leaving_bytes",
            "Bytes of the available clips by the day on which they expire unless their owner keeps them: day"
            " 0 is the next 24 hours.",
            ["day"],
            registry=registry,
        )
        self._remembered = Gauge(
            "clips_purged_remembered",
            "Purged clips whose row is still in the database; it is deleted 40 days after the purge.",
            registry=registry,
        )
        self._trimmed = Counter(
            "clips_trimmed",
            "Rows of purged clips that were deleted, 40 days after the purge.",
            registry=registry,
        )
        self._connections = Gauge(
            "clips_database_connections",
            "Connections of this process to PostgreSQL for events and HTTP, by state: in_use, idle, and limit"
            " (the most connections that it may have).",
            ["state"],
            registry=registry,
        )
        self._outbox_depth = Gauge(
            "clips_outbox_depth",
            "Events in the outbox that are due and not yet sent to Kafka.",
            registry=registry,
        )
        self._outbox_age = Gauge(
            "clips_outbox_age_seconds",
            "Time since the oldest event in the outbox was due to be sent to Kafka; 0 when no event waits.",
            registry=registry,
        )
        self._outbox_dead = Gauge(
            "clips_outbox_dead",
            "Events that Kafka refused, set aside in the database until `clip-registry outbox replay` sends"
            " them.",
            registry=registry,
        )
        self._counted_at = Gauge(
            "clips_counted_timestamp_seconds",
            "Unix time of the latest count of clips and outbox for the metrics of this process.",
            registry=registry,
        )
        self._show_from_the_start()

    def _show_from_the_start(self) -> None:
        """Show every series with 0, so that Prometheus sees the first event of a kind as an increase."""
        outcomes: dict[str, list[str]] = {"cut": [*CutOutcome, "refused"], "purge": ["done"]}
        outcomes |= {action: list(ActionOutcome) for action in ClipAction}
        for kind, ends in outcomes.items():
            for end in ends:
                self._transitions.labels(kind, end)
        for answer in ("owned", "unknown"):
            self._objects_asked.labels(answer)
        for reason in SkipReason:
            self._skips.labels(reason)

    def cut_recorded(self, recorded: RecordedCut) -> None:
        """Count a clip-created event, and the time from the highlight to the clip."""
        self._transitions.labels("cut", recorded.outcome).inc()
        if recorded.outcome.changes_clip:
            took = recorded.clip.updated_at - recorded.clip.highlight_detected_at
            self._to_available.observe(max(0.0, took.total_seconds()), tracing.exemplar())

    def cut_refused(self) -> None:
        """Count a clip-created event that was dead-lettered."""
        self._transitions.labels("cut", "refused").inc()

    def acted(self, action: ClipAction, outcome: ActionOutcome) -> None:
        """Count an account's action on a clip."""
        self._transitions.labels(action, outcome).inc()

    def purged(self, result: ExpirationResult) -> None:
        """Count purged clips."""
        self._transitions.labels("purge", "done").inc(result.expired)

    def notified(self, result: ExpiryNoticeResult) -> None:
        """Count the accounts that were told of clips that expire soon."""
        self._notices.inc(result.notified)

    def objects_asked(self, asked: int, *, orphans: int) -> None:
        """Count the objects that the orphan sweep asked about."""
        self._objects_asked.labels("owned").inc(asked - orphans)
        self._objects_asked.labels("unknown").inc(orphans)

    def skipped(self, reason: SkipReason) -> None:
        """Count a clip-skipped event."""
        self._skips.labels(reason).inc()

    def trimmed(self, trimmed: Trimmed) -> None:
        """Count the rows of purged clips that were deleted."""
        self._trimmed.inc(trimmed.rows)

    def show_connections(self, pool: Pool) -> None:
        """Show the connections of a pool at every scrape."""
        assert isinstance(pool, QueuePool)  # noqa: S101 - the pool of every engine that open_engine makes
        self._connections.labels("in_use").set_function(pool.checkedout)
        self._connections.labels("idle").set_function(pool.checkedin)
        self._connections.labels("limit").set(pool.size())

    def show(self, snapshot: MetricsSnapshot) -> None:
        """Show the state of the clips and of the outbox."""
        for status, number in snapshot.clips.items():
            self._by_status.labels(status).set(number)
        for status, size in snapshot.bytes.items():
            self._bytes.labels(status).set(size)
        for day, (number, size) in enumerate(zip(snapshot.leaving, snapshot.leaving_bytes, strict=True)):
            self._leaving.labels(str(day)).set(number)
            self._leaving_bytes.labels(str(day)).set(size)
        self._remembered.set(snapshot.purged)
        self._overdue.set(snapshot.overdue)
        self._purge_lag.set(snapshot.purge_lag_seconds)
        self._outbox_depth.set(snapshot.outbox_depth)
        self._outbox_age.set(snapshot.outbox_age_seconds)
        self._outbox_dead.set(snapshot.outbox_dead)
        self._counted_at.set(time.time())
