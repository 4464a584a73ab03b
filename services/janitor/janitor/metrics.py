"""Every metric that the janitor exports, besides those of the bus and the process."""

import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, write_to_textfile

from janitor.sweep import Tally

HOUR = 3600.0


class Metrics:
    """What SREs see of the janitor."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._expired = Counter("clips_expired", "Clips purged because they were due.", registry=registry)
        self._ticks = Histogram(
            "clips_tick_seconds",
            "Seconds that a tick worked, by whether it ended with nothing left or out of time.",
            ["end"],
            buckets=(0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 3600),
            registry=registry,
        )
        self._deleted = Counter(
            "clips_objects_deleted",
            "Released objects that are gone (already gone counts).",
            registry=registry,
        )
        self._failed = Counter(
            "clips_objects_failed",
            "Releases that were dead-lettered, by reason.",
            ["reason"],
            registry=registry,
        )
        self._age = Histogram(
            "clips_release_to_deletion_seconds",
            "Seconds from the release of an object to its deletion.",
            buckets=(1, 5, 15, 60, 300, 900, HOUR, 6 * HOUR, 24 * HOUR, 72 * HOUR),
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

    def expired(self, count: int) -> None:
        """Count purged clips."""
        self._expired.inc(count)

    def ticked(self, seconds: float, *, finished: bool) -> None:
        """Note how long a tick took, and whether it got through."""
        self._ticks.labels("finished" if finished else "out_of_time").observe(seconds)

    def deleted(self, age_seconds: float) -> None:
        """Count an object that is gone, ``age_seconds`` after its release."""
        self._deleted.inc()
        self._age.observe(max(0.0, age_seconds))

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
