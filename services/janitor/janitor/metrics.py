"""Every metric that the janitor exports, beside those of the bus and the process."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, write_to_textfile
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from clip_shared import tracing
from janitor.domain import TickOutcome
from janitor.sweep import SweepCounts

HOUR = 3600.0


class TimestampGauge(Collector):
    """A gauge of a time that is absent until it is set."""

    def __init__(self, name: str, documentation: str, *, registry: CollectorRegistry) -> None:
        self._family = partial(GaugeMetricFamily, name, documentation)
        self._at: float | None = None
        registry.register(self)

    def set_to_now(self) -> None:
        """Set the gauge to the current time."""
        self._at = time.time()

    def collect(self) -> Iterable[Metric]:
        """Return the gauge, without a value while it is not set."""
        return [self._family(value=self._at)]


class JanitorMetrics:
    """The metrics of one janitor process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._purged = Counter(
            "clips_expired",
            "Clips that ticks of this process purged because they were due.",
            registry=registry,
        )
        self._ticks = Histogram(
            "clips_tick_seconds",
            "Duration of a tick, by end: finished (nothing due is left), out_of_time (a follow-up tick"
            " continues), refused (too many clips were due at once).",
            ["end"],
            buckets=(0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 3600),
            registry=registry,
        )
        for outcome in TickOutcome:
            self._ticks.labels(outcome)
        self._tick_finished = TimestampGauge(
            "clips_tick_finished_timestamp_seconds",
            "Time at which this process last finished a tick (Unix time); absent before.",
            registry=registry,
        )
        self._refused_due = Gauge(
            "clips_tick_refused_due",
            "Due clips that the last tick refused to purge because they are more than PURGE_LIMIT and"
            " PURGE_LIMIT_PERCENT allow; 0 when it did not refuse.",
            registry=registry,
        )
        self._deleted = Counter(
            "clips_objects_deleted",
            "Released objects that were deleted, or were no longer there.",
            registry=registry,
        )
        self._failed = Counter(
            "clips_objects_failed",
            "Released objects that cannot be deleted, by reason; their releases become dead letters.",
            ["reason"],
            registry=registry,
        )
        self._age = Histogram(
            "clips_release_to_deletion_seconds",
            "Time between the release of an object and its deletion.",
            buckets=(1, 5, 15, 60, 300, 900, HOUR, 6 * HOUR, 24 * HOUR, 72 * HOUR),
            registry=registry,
        )
        self._oldest_release = Gauge(
            "clips_released_oldest_seconds",
            "Age of the oldest release whose object this process has not deleted yet; 0 when every release is"
            " handled.",
            registry=registry,
        )
        self._refusing = Gauge(
            "clips_storage_refuses_deletion",
            "1 while the storage does not delete, because it is down or refuses our keys; else 0.",
            registry=registry,
        )

    def show_failed_deletion(self, is_failing: Callable[[], bool]) -> None:
        """Export from now on whether the storage fails to delete."""
        self._refusing.set_function(is_failing)

    def show_oldest_release(self, seconds: Callable[[], float]) -> None:
        """Export from now on the age of the oldest release that is not handled."""
        self._oldest_release.set_function(seconds)

    def purged(self, count: int) -> None:
        """Count purged clips."""
        self._purged.inc(count)

    def ticked(self, seconds: float, outcome: TickOutcome) -> None:
        """Record the duration and the outcome of a tick."""
        self._ticks.labels(outcome).observe(seconds, tracing.exemplar())
        if outcome is TickOutcome.FINISHED:
            self._tick_finished.set_to_now()

    def show_refused(self, due: int) -> None:
        """Export how many due clips the last tick refused to purge; 0: it did not refuse."""
        self._refused_due.set(due)

    def deleted(self, age_seconds: float) -> None:
        """Count an object that was deleted ``age_seconds`` after its release."""
        self._deleted.inc()
        self._age.observe(max(0.0, age_seconds), tracing.exemplar())

    def failed(self, reason: str) -> None:
        """Count a release that becomes a dead letter."""
        self._failed.labels(reason).inc()


def write_sweep(counts: SweepCounts, path: Path) -> None:
    """Write the counts of a sweep for node_exporter's textfile collector. A reader never sees half a file."""
    registry = CollectorRegistry()
    for name, description, value in (
        (
            "clips_sweep_examined_objects",
            "Objects that the last orphan sweep examined.",
            counts.examined,
        ),
        ("clips_sweep_orphans", "Orphans that the last sweep found.", counts.orphans),
        ("clips_sweep_orphan_bytes", "Bytes of the orphans that the last sweep found.", counts.orphan_bytes),
        ("clips_sweep_deleted_objects", "Orphans that the last sweep deleted.", counts.deleted),
        ("clips_sweep_failed_objects", "Orphans that the last sweep could not delete.", counts.failed),
        (
            "clips_sweep_finished_timestamp_seconds",
            "End of the last sweep (Unix time).",
            time.time(),
        ),
    ):
        Gauge(name, description, registry=registry).set(value)
    write_to_textfile(str(path), registry)
