"""Every metric that the cutter exports, besides those of the bus and the process."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from clip_shared import tracing
from clip_shared.contracts.events import CutMode, SkipReason

SECONDS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)


class ReadMethod(StrEnum):
    """How a VOD was opened: the way in which it is read, or that it was known from an earlier highlight."""

    KNOWN = "known"
    INDEXED = "indexed"
    FRAGMENTED = "fragmented"
    STREAMED = "streamed"
    REMUXED = "remuxed"


class CutterMetrics:
    """What SREs see of the cutter."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._in_progress = Gauge(
            "clips_jobs_in_progress", "Highlights that a handler is working on now.", registry=registry
        )
        self._cut = Histogram(
            "clips_cut_seconds",
            "Time from the start of a job to its stored clip, by how the clip was cut (mode).",
            ["mode"],
            buckets=SECONDS,
            registry=registry,
        )
        self._to_created = Histogram(
            "clips_highlight_to_created_seconds",
            "Time from the detection of a highlight until its clip was announced (clip-created).",
            buckets=(*SECONDS, 1800, 3600, 21600),
            registry=registry,
        )
        self._skipped = Counter(
            "clips_skipped",
            "Highlights that became no clip, by reason, as announced by the cutter.",
            ["reason"],
            registry=registry,
        )
        self._fallbacks = Counter(
            "clips_cut_fallbacks",
            "Clips whose copied video was not good enough, so that it was re-encoded.",
            registry=registry,
        )
        self._passed_on = Counter(
            "clips_encodings_requested",
            "Highlights passed on to the lane of re-encodes (highlight-encodings).",
            registry=registry,
        )
        self._repeats = Counter(
            "clips_repeated_highlights", "Highlights whose clip was already stored.", registry=registry
        )
        self._stored = Counter("clips_stored_bytes", "Bytes put into the clips' bucket.", registry=registry)
        self._pulled = Counter("clips_pulled_bytes", "Bytes read from source storage.", registry=registry)
        self._opened = Counter(
            "clips_recordings_opened",
            "VODs opened for a highlight, by the way in which they are read, or known from an earlier one.",
            ["how"],
            registry=registry,
        )
        self._waiting = Gauge(
            "clips_jobs_waiting_for_disk", "Jobs that wait for space on the scratch disk.", registry=registry
        )
        self._longest_wait = Gauge(
            "clips_disk_wait_seconds",
            "Time for which the job that has waited longest has been waiting for space on the scratch disk; 0"
            " when no job waits.",
            registry=registry,
        )
        self._free = Gauge("clips_scratch_free_bytes", "Free space of the scratch disk.", registry=registry)
        self._size = Gauge("clips_scratch_size_bytes", "Size of the scratch disk.", registry=registry)
        for how in ReadMethod:
            self._opened.labels(how)
        for mode in CutMode:
            self._cut.labels(mode)
        for reason in SkipReason:
            self._skipped.labels(reason)

    def job(self) -> AbstractContextManager[None]:
        """Count a job for as long as it is worked on."""
        return self._in_progress.track_inprogress()

    def stored(self, mode: CutMode, seconds: float, size_bytes: int, *, fell_back: bool) -> None:
        """Note a clip that was cut and put into the clips' bucket."""
        self._cut.labels(mode).observe(seconds, tracing.exemplar())
        self._stored.inc(size_bytes)
        self._fallbacks.inc(fell_back)

    def passed_on(self) -> None:
        """Count a highlight whose video has to be re-encoded."""
        self._passed_on.inc()

    def created(self, detected_at: datetime) -> None:
        """Note an announced clip."""
        seconds = max(0.0, (datetime.now(UTC) - detected_at).total_seconds())
        self._to_created.observe(seconds, tracing.exemplar())

    def skipped(self, reason: SkipReason) -> None:
        """Count a highlight that became no clip."""
        self._skipped.labels(reason).inc()

    def repeated(self) -> None:
        """Count a highlight whose clip was there already."""
        self._repeats.inc()

    def pulled(self, size_bytes: int) -> None:
        """Count bytes read from source storage."""
        self._pulled.inc(size_bytes)

    def opened(self, how: ReadMethod) -> None:
        """Count a VOD that was opened for a highlight."""
        self._opened.labels(how).inc()

    @contextmanager
    def waiting_for_disk(self) -> Iterator[None]:
        """Count a job for as long as it waits."""
        with self._waiting.track_inprogress():
            yield

    def show_disk(
        self,
        *,
        free_bytes: Callable[[], float],
        size_bytes: Callable[[], float],
        longest_wait_seconds: Callable[[], float],
    ) -> None:
        """Show the scratch disk from now on."""
        self._free.set_function(free_bytes)
        self._size.set_function(size_bytes)
        self._longest_wait.set_function(longest_wait_seconds)
