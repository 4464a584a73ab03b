"""The one place where the parts of the cutter are put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from fastapi import FastAPI

from clip_cutter import handlers
from clip_cutter.announcements import NAME
from clip_cutter.cutter import Cutter
from clip_cutter.domain.policy import Policy
from clip_cutter.ffmpeg import Ffmpeg, Programs
from clip_cutter.handlers import Highlights, SkipLimit
from clip_cutter.metrics import Metrics
from clip_cutter.process import Limits
from clip_cutter.recordings import Recordings
from clip_cutter.scratch import Scratch
from clip_cutter.settings import MEBIBYTE, CuttingSettings, Settings
from clip_cutter.source_storage import SourceStorage
from clip_cutter.storage import ClipStorage
from clip_shared.bus import Bus
from clip_shared.delivery import DeadLetterLimit
from clip_shared.service import CHECK_TIMEOUT_SECONDS, create_app, metrics_registry
from clip_shared.storage import free_storage_client

# The bus's share of the grace period when the service stops.
BUS_SHARE = 0.8
# A URL outlives the job that reads it.
URL_MARGIN_SECONDS = 60


def build(settings: Settings) -> FastAPI:
    """The service, not yet connected to anything.

    Raises:
        UnusableTool: ffmpeg or ffprobe is not there, or of a version that nobody tested.
    """
    prometheus = metrics_registry()
    metrics = Metrics(prometheus)
    programs = Programs.find(settings.ffmpeg_path, settings.ffprobe_path)
    bus = Bus(
        settings, service=NAME, registry=prometheus, grace_seconds=settings.shutdown_grace_seconds * BUS_SHARE
    )
    sources = SourceStorage(
        settings.source_storage_profiles,
        url_seconds=settings.job_deadline_seconds + URL_MARGIN_SECONDS,
        on_pulled=metrics.pulled,
    )
    clips = _clip_storage(settings)
    scratch = Scratch(settings.scratch_dir, metrics)
    cutter = cutter_of(settings, programs, metrics)
    recordings = Recordings(
        sources, cutter, scratch, metrics, max_excerpt_bytes=settings.max_clip_mebibytes * MEBIBYTE
    )
    highlights = Highlights(
        policy=policy_of(settings),
        sources=sources,
        clips=clips,
        recordings=recordings,
        cutter=cutter,
        scratch=scratch,
        publish=bus.publish,
        metrics=metrics,
        skips=SkipLimit(DeadLetterLimit(settings.skip_limit, settings.skip_window_seconds)),
        deadline_seconds=settings.job_deadline_seconds,
    )
    handlers.subscribe(bus, highlights, settings.job_deadline_seconds)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        with scratch.opened(), closing(recordings):
            yield

    async def check_storage() -> str | None:
        if clips is None:
            return "free storage is not configured (FREE_STORAGE_BUCKET): every highlight is skipped"
        return await clips.check()

    async def check_sources() -> str | None:
        return sources.check()

    async def check_ffmpeg() -> str | None:
        programs.check_present()
        return None

    checks = {"storage": check_storage, "sources": check_sources, "ffmpeg": check_ffmpeg}
    return create_app(NAME, registry=prometheus, bus=bus, checks=checks, lifespan=lifespan)


def policy_of(settings: CuttingSettings) -> Policy:
    """Which highlights become clips."""
    return Policy(
        min_seconds=settings.min_clip_seconds,
        max_seconds=settings.max_clip_seconds,
        max_clips_per_vod=settings.max_clips_per_vod,
    )


def cutter_of(settings: CuttingSettings, programs: Programs, metrics: Metrics) -> Cutter:
    """The cutter, bounded so that a job that runs away is ended by the kernel if by nobody else."""
    limits = Limits(
        deadline_seconds=settings.job_deadline_seconds,
        cpu_seconds=max(1, int(settings.job_deadline_seconds * settings.ffmpeg_threads)),
        memory_bytes=settings.ffmpeg_memory_mebibytes * MEBIBYTE,
        file_bytes=settings.max_clip_mebibytes * MEBIBYTE,
    )
    ffmpeg = Ffmpeg(programs, limits=limits, threads=settings.ffmpeg_threads, on_pulled=metrics.pulled)
    return Cutter(ffmpeg, mode=settings.cut_mode, min_seconds=settings.min_clip_seconds)


def _clip_storage(settings: Settings) -> ClipStorage | None:
    if settings.free_storage_bucket is None:
        return None
    prober = free_storage_client(
        settings, connect_timeout_seconds=1, read_timeout_seconds=CHECK_TIMEOUT_SECONDS - 1, max_attempts=1
    )
    return ClipStorage(free_storage_client(settings), settings.free_storage_bucket, prober=prober)
