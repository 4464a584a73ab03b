"""The one place where the parts of the cutter are put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import FastAPI

from clip_cutter import handlers
from clip_cutter.cutter import Cutter
from clip_cutter.domain.plan import ModeChoice
from clip_cutter.domain.policy import Policy
from clip_cutter.ffmpeg.process import Limits
from clip_cutter.ffmpeg.run import Ffmpeg, Programs
from clip_cutter.handlers import Highlights
from clip_cutter.metrics import Metrics
from clip_cutter.scratch import Scratch
from clip_cutter.settings import MEBIBYTE, CuttingSettings, Settings
from clip_cutter.skip_limit import SkipLimit
from clip_cutter.storage import ClipStorage
from clip_cutter.vods.index_cache import IndexCache
from clip_cutter.vods.latest import Vods
from clip_cutter.vods.source_storage import SourceStorage
from clip_shared.bus.bus import Bus
from clip_shared.bus.delivery.dead_letter_limit import DeadLetterLimit
from clip_shared.contracts.service_names import CLIP_CUTTER
from clip_shared.http.operations import CHECK_TIMEOUT_SECONDS, create_app, metrics_registry
from clip_shared.refused_connections import OnRefused, RefusedConnections, System
from clip_shared.storage import free_storage_client, show_storage_configured

# The bus's share of the grace period when the service stops.
BUS_SHARE = 0.8
# A URL outlives the job that reads it.
URL_MARGIN_SECONDS = 60
# A re-encode takes what CPU is left over: copies go before it.
ENCODING_NICENESS = 10


def build(settings: Settings) -> FastAPI:
    """The service, not yet connected to anything.

    Raises:
        UnusableTool: ffmpeg or ffprobe is not there, or of a version that nobody tested.
    """
    prometheus = metrics_registry()
    metrics = Metrics(prometheus)
    programs = Programs.find(settings.ffmpeg_path, settings.ffprobe_path)
    refusals = RefusedConnections(prometheus, [System.KAFKA, System.STORAGE, System.SOURCE_STORAGE])
    bus = Bus(
        settings,
        service=CLIP_CUTTER,
        registry=prometheus,
        on_refused=refusals.of(System.KAFKA),
        grace_seconds=settings.shutdown_grace_seconds * BUS_SHARE,
    )
    sources = SourceStorage(
        settings.source_storage_profiles,
        url_seconds=max(settings.job_deadline_seconds, settings.encoding_deadline_seconds)
        + URL_MARGIN_SECONDS,
        on_pulled=metrics.pulled,
        on_refused=refusals.of(System.SOURCE_STORAGE),
    )
    clips = _clip_storage(settings, refusals.of(System.STORAGE))
    show_storage_configured(settings, prometheus)
    scratch = Scratch(settings.scratch_dir, metrics)
    # Where every clip is re-encoded, no copy waits.
    encodes_all = settings.cut_mode is ModeChoice.EXACT
    deadline_seconds = settings.encoding_deadline_seconds if encodes_all else settings.job_deadline_seconds
    ffmpeg = ffmpeg_of(settings, programs, metrics, deadline_seconds=deadline_seconds)
    patient = ffmpeg_of(
        settings,
        programs,
        metrics,
        deadline_seconds=settings.encoding_deadline_seconds,
        niceness=ENCODING_NICENESS,
    )
    copies = Highlights(
        policy=policy_of(settings),
        sources=sources,
        clips=clips,
        vods=vods_of(settings, ffmpeg, scratch, metrics),
        cutter=cutter_of(settings, ffmpeg, encodes_video=encodes_all),
        scratch=scratch,
        publish=bus.publish,
        metrics=metrics,
        skips=SkipLimit(DeadLetterLimit(settings.skip_limit, settings.skip_window_seconds)),
        deadline_seconds=deadline_seconds,
    )
    encodings = replace(
        copies, cutter=cutter_of(settings, patient), deadline_seconds=settings.encoding_deadline_seconds
    )
    handlers.subscribe(bus, copies, encodings)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        with scratch.opened():
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
    return create_app(CLIP_CUTTER, registry=prometheus, bus=bus, checks=checks, lifespan=lifespan)


def policy_of(settings: CuttingSettings) -> Policy:
    """Which highlights become clips."""
    return Policy(
        min_seconds=settings.min_clip_seconds,
        max_seconds=settings.max_clip_seconds,
        max_clips_per_vod=settings.max_clips_per_vod,
    )


def ffmpeg_of(
    settings: CuttingSettings,
    programs: Programs,
    metrics: Metrics,
    *,
    deadline_seconds: float,
    niceness: int = 0,
) -> Ffmpeg:
    """Return ffmpeg, bounded so that a run that runs away is ended by the kernel if by nobody else."""
    limits = Limits(
        deadline_seconds=deadline_seconds,
        cpu_seconds=max(1, int(deadline_seconds * settings.ffmpeg_threads)),
        memory_bytes=settings.ffmpeg_memory_mebibytes * MEBIBYTE,
        file_bytes=settings.max_clip_mebibytes * MEBIBYTE,
        niceness=niceness,
    )
    return Ffmpeg(programs, limits=limits, threads=settings.ffmpeg_threads, on_pulled=metrics.pulled)


def vods_of(settings: CuttingSettings, ffmpeg: Ffmpeg, scratch: Scratch, metrics: Metrics) -> Vods:
    """Return what opens VODs."""
    return Vods(ffmpeg, IndexCache(scratch, settings.index_cache_mebibytes * MEBIBYTE), metrics)


def cutter_of(settings: CuttingSettings, ffmpeg: Ffmpeg, *, encodes_video: bool = True) -> Cutter:
    """Return what cuts clips out of them."""
    return Cutter(
        ffmpeg,
        mode=settings.cut_mode,
        min_seconds=settings.min_clip_seconds,
        max_bytes=settings.max_clip_mebibytes * MEBIBYTE,
        encodes_video=encodes_video,
    )


def _clip_storage(settings: Settings, on_refused: OnRefused) -> ClipStorage | None:
    if settings.free_storage_bucket is None:
        return None
    prober = free_storage_client(
        settings,
        on_refused=on_refused,
        connect_timeout_seconds=1,
        read_timeout_seconds=CHECK_TIMEOUT_SECONDS - 1,
        max_attempts=1,
    )
    client = free_storage_client(settings, on_refused=on_refused)
    return ClipStorage(client, settings.free_storage_bucket, prober=prober)
