"""Put the parts of the cutter together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from clip_cutter.cutter import Cutter
from clip_cutter.domain.plan import ModeChoice
from clip_cutter.domain.policy import Policy
from clip_cutter.ffmpeg.process import ProcessLimits
from clip_cutter.ffmpeg.run import Ffmpeg, FfmpegPrograms
from clip_cutter.handlers import CutterHandlers, Lane, subscribe
from clip_cutter.metrics import CutterMetrics
from clip_cutter.scratch import Scratch
from clip_cutter.settings import MEBIBYTE, CutterSettings, CuttingSettings
from clip_cutter.skip_limit import SkipLimit
from clip_cutter.storage import clip_storage_of
from clip_cutter.vods.index_cache import IndexCache
from clip_cutter.vods.opener import VodOpener
from clip_cutter.vods.source_storage import SourceStorage
from clip_shared.bus.bus import Bus
from clip_shared.bus.delivery.dead_letter_limit import DeadLetterLimit
from clip_shared.contracts.service_names import CLIP_CUTTER
from clip_shared.http.operations import create_app, metrics_registry
from clip_shared.refused_connections import RefusedConnections, System
from clip_shared.storage import FreeStorage

# Share of the shutdown grace period that the bus may use.
BUS_SHARE = 0.8
# A presigned URL stays valid longer than the job that reads it.
URL_MARGIN_SECONDS = 60
# Copies go first: re-encodes take the CPU that copies leave.
ENCODING_NICENESS = 10


def build(settings: CutterSettings) -> FastAPI:
    """Return the service, not yet connected to anything.

    Raises:
        UnusableTool: ffmpeg or ffprobe is missing, or its version is not a tested one.
    """
    prometheus = metrics_registry()
    metrics = CutterMetrics(prometheus)
    programs = FfmpegPrograms.find(settings.ffmpeg_path, settings.ffprobe_path)
    refused = RefusedConnections(prometheus, [System.KAFKA, System.STORAGE, System.SOURCE_STORAGE])
    bus = Bus(
        settings,
        service=CLIP_CUTTER,
        registry=prometheus,
        on_refused=refused.of(System.KAFKA),
        grace_seconds=settings.shutdown_grace_seconds * BUS_SHARE,
    )
    sources = SourceStorage(
        settings.source_storage_profiles,
        url_seconds=max(settings.job_deadline_seconds, settings.encoding_deadline_seconds)
        + URL_MARGIN_SECONDS,
        on_pulled=metrics.pulled,
        on_refused=refused.of(System.SOURCE_STORAGE),
    )
    free_storage = FreeStorage(settings, refused.of(System.STORAGE))
    free_storage.show_configured(prometheus)
    clips = clip_storage_of(free_storage)
    scratch = Scratch(settings.scratch_dir, metrics)
    # With CUT_MODE=exact every clip is re-encoded in the first lane: no copy waits behind it.
    encodes_all = settings.cut_mode is ModeChoice.EXACT
    deadline_seconds = settings.encoding_deadline_seconds if encodes_all else settings.job_deadline_seconds
    ffmpeg = ffmpeg_of(settings, programs, metrics, deadline_seconds=deadline_seconds)
    encoding_ffmpeg = ffmpeg_of(
        settings,
        programs,
        metrics,
        deadline_seconds=settings.encoding_deadline_seconds,
        niceness=ENCODING_NICENESS,
    )
    handlers = CutterHandlers(
        policy=policy_of(settings),
        sources=sources,
        clips=clips,
        vods=vods_of(settings, ffmpeg, scratch, metrics),
        scratch=scratch,
        publish=bus.publish,
        metrics=metrics,
        skips=SkipLimit(DeadLetterLimit(settings.skip_limit, settings.skip_window_seconds)),
        copies=Lane(cutter_of(settings, ffmpeg, encodes_video=encodes_all), deadline_seconds),
        encodings=Lane(cutter_of(settings, encoding_ffmpeg), settings.encoding_deadline_seconds),
    )
    subscribe(bus, handlers)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        with scratch.opened():
            yield

    async def check_sources() -> str | None:
        return sources.check()

    async def check_ffmpeg() -> str | None:
        programs.check_present()
        return None

    checks = {"storage": clips.check, "sources": check_sources, "ffmpeg": check_ffmpeg}
    return create_app(CLIP_CUTTER, registry=prometheus, bus=bus, checks=checks, lifespan=lifespan)


def policy_of(settings: CuttingSettings) -> Policy:
    """Return the rules by which highlights become clips."""
    return Policy(
        min_seconds=settings.min_clip_seconds,
        max_seconds=settings.max_clip_seconds,
        max_clips_per_vod=settings.max_clips_per_vod,
    )


def ffmpeg_of(
    settings: CuttingSettings,
    programs: FfmpegPrograms,
    metrics: CutterMetrics,
    *,
    deadline_seconds: float,
    niceness: int = 0,
) -> Ffmpeg:
    """Return ffmpeg with limits. The kernel enforces all of them but the deadline."""
    limits = ProcessLimits(
        deadline_seconds=deadline_seconds,
        cpu_seconds=max(1, int(deadline_seconds * settings.ffmpeg_threads)),
        memory_bytes=settings.ffmpeg_memory_mebibytes * MEBIBYTE,
        file_bytes=settings.max_clip_mebibytes * MEBIBYTE,
        niceness=niceness,
    )
    return Ffmpeg(programs, limits=limits, threads=settings.ffmpeg_threads, on_pulled=metrics.pulled)


def vods_of(settings: CuttingSettings, ffmpeg: Ffmpeg, scratch: Scratch, metrics: CutterMetrics) -> VodOpener:
    """Return the opener of VODs, with its cache of indexes on the scratch disk."""
    return VodOpener(ffmpeg, IndexCache(scratch, settings.index_cache_mebibytes * MEBIBYTE), metrics)


def cutter_of(settings: CuttingSettings, ffmpeg: Ffmpeg, *, encodes_video: bool = True) -> Cutter:
    """Return the cutter of a lane; ``encodes_video`` False: it leaves re-encodes to the other lane."""
    return Cutter(
        ffmpeg,
        mode=settings.cut_mode,
        min_seconds=settings.min_clip_seconds,
        max_bytes=settings.max_clip_mebibytes * MEBIBYTE,
        encodes_video=encodes_video,
    )
