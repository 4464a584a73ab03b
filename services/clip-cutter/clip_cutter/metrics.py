"""The metrics of the cutter, besides those of the bus and of the process."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from clip_shared import tracing
from clip_shared.contracts.events import CutMode, SkipReason

SECONDS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)


class ReadMethod(StrEnum):
    """How a VOD is read, or ``known`` if it is still open from an earlier highlight."""

    KNOWN = "known"
    INDEXED = "indexed"
    FRAGMENTED = "fragmented"
    STREAMED = "streamed"
    REMUXED = "remuxed"


class CutterMetrics:
    """The cutter's own metrics. Each is declared here, with the methods that count it below."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._in_progress = Gauge(
            "clips_jobs_in_progress", "Highlights that are being handled now.", registry=registry
        )
        self._cut = Histogram(
            "clips_cut_seconds",
            "Seconds from the start of a job to its stored clip, by cut mode.",
            ["mode"],
            buckets=SECONDS,
            registry=registry,
        )
        self._to_created = Histogram(
            "clips_highlight_to_created_seconds",
            "Seconds from the detection of a highlight to its clip-created event.",
            buckets=(*SECONDS, 1800, 3600, 21600),
            registry=registry,
        )
        self._skipped = Counter(
            "clips_skipped",
            "Highlights that became no clip, by reason, as announced by the cutter (clip-skipped).",
            ["reason"],
            registry=registry,
        )
        self._fallbacks = Counter(
            "clips_cut_fallbacks",
            "Clips whose video was re-encoded because it could not be copied as planned.",
            registry=registry,
        )
        self._passed_on = Counter(
            "clips_encodings_requested",
            "Highlights passed on to the lane for re-encodes (highlight-encodings).",
            registry=registry,
        )
        self._repeats = Counter(
            "clips_repeated_highlights",
            "Redelivered highlights whose clip was already stored.",
            registry=registry,
        )
        self._stored = Counter(
            "clips_stored_bytes", "Bytes of clips written to free storage.", registry=registry
        )
        self._pulled = Counter("clips_pulled_bytes", "Bytes read from source storage.", registry=registry)
        self._opened = Counter(
            "clips_recordings_opened",
            "VODs opened for a highlight, by how they are read, or known from an earlier highlight.",
            ["how"],
            registry=registry,
        )
        self._waiting = Gauge(
            "clips_jobs_waiting_for_disk",
            "Jobs that are waiting for space on the scratch disk.",
            registry=registry,
        )
        self._longest_wait = Gauge(
            "clips_disk_wait_seconds",
            "Longest time that a job has been waiting for space on the scratch disk; 0 when no job waits.",
            registry=registry,
        )
        self._free = Gauge("clips_scratch_free_bytes", "Free space on the scratch disk.", registry=registry)
        self._size = Gauge("clips_scratch_size_bytes", "Size of the scratch disk.", registry=registry)
        for how in ReadMethod:
            self._opened.labels(how)
        for mode in CutMode:
            self._cut.labels(mode)
        for reason in SkipReason:
            self._skipped.labels(reason)

    def job(self) -> AbstractContextManager[None]:
        """Count a job as in progress, in the context."""
        return self._in_progress.track_inprogress()

    def stored(self, mode: CutMode, seconds: float, size_bytes: int, *, fell_back: bool) -> None:
        """Count a clip that was cut and stored, with the time that it took."""
        self._cut.labels(mode).observe(seconds, tracing.exemplar())
        self._stored.inc(size_bytes)
        self._fallbacks.inc(fell_back)

    def passed_on(self) -> None:
        """Count a highlight whose video has to be re-encoded."""
        self._passed_on.inc()

    def created(self, detected_at: datetime) -> None:
        """Record the time from the detection of a highlight until now, when its clip was announced."""
        seconds = max(0.0, (datetime.now(UTC) - detected_at).total_seconds())
        self._to_created.observe(seconds, tracing.exemplar())

    def skipped(self, reason: SkipReason) -> None:
        """Count a highlight that became no clip."""
        self._skipped.labels(reason).inc()

    def repeated(self) -> None:
        """Count a highlight whose clip was already stored."""
        self._repeats.inc()

    def pulled(self, size_bytes: int) -> None:
        """Count bytes read from source storage."""
        self._pulled.inc(size_bytes)

    def opened(self, how: ReadMethod) -> None:
        """Count a VOD that was opened for a highlight."""
        self._opened.labels(how).inc()

    @contextmanager
    def waiting_for_disk(self) -> Iterator[None]:
        """Count a job as waiting for disk space, in the context."""
        with self._waiting.track_inprogress():
            yield

    def show_disk(
        self,
        *,
        free_bytes: Callable[[], float],
        size_bytes: Callable[[], float],
        longest_wait_seconds: Callable[[], float],
    ) -> None:
        """Export the figures of the scratch disk; the functions are called at each scrape."""
        self._free.set_function(free_bytes)
        self._size.set_function(size_bytes)
        self._longest_wait.set_function(longest_wait_seconds)
