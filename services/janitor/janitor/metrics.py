"""Every metric that the janitor exports, besides those of the bus and the process."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, write_to_textfile
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from clip_shared import tracing
from janitor.domain import TickEnd
from janitor.sweep import Tally

HOUR = 3600.0


class Moment(Collector):
    """A gauge of a moment, which shows nothing until the moment has come."""

    def __init__(self, name: str, documentation: str, *, registry: CollectorRegistry) -> None:
        self._family = partial(GaugeMetricFamily, name, documentation)
        self._at: float | None = None
        registry.register(self)

    def set_to_now(self) -> None:
        """Set it to the current time."""
        self._at = time.time()

    def collect(self) -> Iterable[Metric]:
        """Show it to Prometheus."""
        return [self._family(value=self._at)]


class Metrics:
    """What SREs see of the janitor."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._expired = Counter(
            "clips_expired",
            "Clips that ticks of this process purged because they were due.",
            registry=registry,
        )
        self._ticks = Histogram(
            "clips_tick_seconds",
            "Seconds that a tick worked, by how it ended: finished (nothing due is left), out_of_time (a"
            " follow-up goes on), refused (too many clips were due at once).",
            ["end"],
            buckets=(0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 3600),
            registry=registry,
        )
        for end in TickEnd:
            self._ticks.labels(end)
        self._tick_finished = Moment(
            "clips_tick_finished_timestamp_seconds",
            "When this process last finished a tick (Unix time); absent until it has.",
            registry=registry,
        )
        self._refused_due = Gauge(
            "clips_tick_refused_due",
            "Clips that were due when the last tick purged none because they are more than PURGE_LIMIT and"
            " PURGE_LIMIT_PERCENT allow; else 0.",
            registry=registry,
        )
        self._deleted = Counter(
            "clips_objects_deleted",
            "Released objects that were deleted, or were gone already.",
            registry=registry,
        )
        self._failed = Counter(
            "clips_objects_failed",
            "Released objects that are given up (their releases are dead-lettered), by reason.",
            ["reason"],
            registry=registry,
        )
        self._age = Histogram(
            "clips_release_to_deletion_seconds",
            "Time from the moment when a released object could have been deleted to its deletion.",
            buckets=(1, 5, 15, 60, 300, 900, HOUR, 6 * HOUR, 24 * HOUR, 72 * HOUR),
            registry=registry,
        )
        self._oldest_release = Gauge(
            "clips_released_oldest_seconds",
            "Time since the oldest object that this process has still to delete could have been deleted (no"
            " clip owns it, and its URLs have run out); 0 when there is none.",
            registry=registry,
        )
        self._refusing = Gauge(
            "clips_storage_refuses_deletion",
            "1 while the storage does not delete: it is out, or refuses us; else 0.",
            registry=registry,
        )

    def show_trouble(self, is_in_trouble: Callable[[], bool]) -> None:
        """Show from now on whether the storage deletes."""
        self._refusing.set_function(is_in_trouble)

    def show_oldest_release(self, seconds: Callable[[], float]) -> None:
        """Show from now on for how long the oldest released object could have been deleted."""
        self._oldest_release.set_function(seconds)

    def expired(self, count: int) -> None:
        """Count purged clips."""
        self._expired.inc(count)

    def ticked(self, seconds: float, end: TickEnd) -> None:
        """Note how long a tick took, and how it ended."""
        self._ticks.labels(end).observe(seconds, tracing.exemplar())
        if end is TickEnd.FINISHED:
            self._tick_finished.set_to_now()

    def refused(self, due: int) -> None:
        """Show how many due clips the last tick refused to purge; 0: it did not refuse."""
        self._refused_due.set(due)

    def deleted(self, age_seconds: float) -> None:
        """Count an object that is gone, ``age_seconds`` after its release."""
        self._deleted.inc()
        self._age.observe(max(0.0, age_seconds), tracing.exemplar())

    def failed(self, reason: str) -> None:
        """Count a release that goes to the dead letters."""
        self._failed.labels(reason).inc()


def write_sweep(tally: Tally, path: Path) -> None:
    """Write a sweep's figures for node_exporter's textfile collector, at once and whole."""
    registry = CollectorRegistry()
    for name, description, value in (
        ("examined_objects", "Objects that the last orphan sweep asked about.", tally.examined),
        ("orphans", "Objects that no clip owned.", tally.orphans),
        ("orphan_bytes", "Their bytes.", tally.orphan_bytes),
        ("deleted_objects", "Orphans that the last sweep deleted.", tally.deleted),
        ("failed_objects", "Orphans that it could not delete.", tally.failed),
        ("finished_timestamp_seconds", "When it was through.", time.time()),
    ):
        Gauge(f"clips_sweep_{name}", description, registry=registry).set(value)
    write_to_textfile(str(path), registry)
