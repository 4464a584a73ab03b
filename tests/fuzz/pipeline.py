"""The target that runs the whole cutter: open a VOD, place a window, read, plan, write, verify."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

from clip_cutter.app import cutter_of, ffmpeg_of, vods_of
from clip_cutter.containers.model import Excerpt, UnsupportedMedia
from clip_cutter.cutter import Cutter, FinishedClip
from clip_cutter.domain.plan import BadClip
from clip_cutter.domain.policy import Policy, Skipped, Window, place_window
from clip_cutter.ffmpeg.run import Ffmpeg, FfmpegPrograms
from clip_cutter.metrics import CutterMetrics
from clip_cutter.scratch import Job, Scratch
from clip_cutter.settings import CuttingSettings
from clip_cutter.vods.opener import VodOpener
from clip_cutter.vods.source import LocalFile
from clip_shared.contracts.events import TrackFate
from clip_shared.http.operations import metrics_registry
from local_stack.processes.ffmpeg import find_tools
from tests.fuzz.mutations import MutatedFile
from tests.fuzz.readers import check_tracks
from tests.fuzz.seeds import SECONDS, Seed
from tests.integration.clip_cutter.media import DecodedFile

POLICY = Policy(min_seconds=1, max_seconds=180, max_clips_per_vod=None)
PATIENCE_SECONDS = 5.0
DEADLINE_SECONDS = 60.0
MAX_SKEW_SECONDS = 0.35  # of a frame from its time: three frames, because a mutation may lose some
FIRST_FRAMES = 5


class FfmpegNeeded(Exception):
    """Our own readers and writer cannot make a clip of this window without ffmpeg."""


REFUSALS = (UnsupportedMedia, Skipped, FfmpegNeeded)


class WrongWindow(AssertionError):
    """A clip shows another part of the VOD than its receipt says."""


class NoFfmpeg(Ffmpeg):
    """Takes the place of ffmpeg where only our own code is tested."""

    def __init__(self) -> None:
        """Have no programs."""

    def __getattribute__(self, name: str) -> object:
        raise FfmpegNeeded(name)


@dataclass
class CutterRig:
    """A cutter with its own scratch disk, with ffmpeg and without (``bare``)."""

    folder: Path
    scratch: Scratch
    vods: VodOpener
    cutter: Cutter
    bare_vods: VodOpener
    bare_cutter: Cutter

    def read(self, random: Random, seed: Seed, made: MutatedFile) -> None:
        """Cut without ffmpeg. Raises UnsupportedMedia, Skipped or FfmpegNeeded for what is refused."""
        asyncio.run(self._cut(random, seed, made, self.bare_vods, self.bare_cutter))

    def cut(self, random: Random, seed: Seed, made: MutatedFile) -> None:
        """Cut a clip, with ffmpeg where it is needed. Raises Skipped for what is refused."""
        asyncio.run(self._cut(random, seed, made, self.vods, self.cutter))

    async def _cut(
        self, random: Random, seed: Seed, made: MutatedFile, vods: VodOpener, cutter: Cutter
    ) -> None:
        path = self.folder / f"vod{seed.suffix}"
        path.write_bytes(made.data)
        source = LocalFile.of(path)
        start = random.choice((0.0, random.uniform(0, 1.5 * SECONDS)))
        try:
            with self.scratch.job(PATIENCE_SECONDS) as job:
                vod = await vods.open(source, job)
                window = place_window(start, start + random.choice((1.0, 2.3, 100.0)), vod.seconds, POLICY)
                excerpt = await vod.excerpt(source, window, job)
                check_excerpt(excerpt)
                clip = await _finish(cutter, excerpt, window, job)
                if clip and made.keeps_times and seed.rate and clip.fallback_reason is None:
                    check_window(clip, seed.rate)
        finally:
            path.unlink()
            vods._kept.clear()
        self._check_scratch()

    def _check_scratch(self) -> None:
        left = list(self.scratch.root.glob("*/job-*"))
        assert not left, f"left on scratch: {left}"


async def _finish(cutter: Cutter, excerpt: Excerpt, window: Window, job: Job) -> FinishedClip | None:
    """Make the clip; without ffmpeg, write and verify a copy only."""
    if not isinstance(cutter._ffmpeg, NoFfmpeg):
        return await cutter.make(excerpt, window, job)
    fitted, plan = await cutter.plan(excerpt, window)
    if TrackFate.RE_ENCODED in (plan.video.fate, plan.audio.fate):
        raise FfmpegNeeded("re-encode")
    cut = await cutter.cut_with_plan(excerpt, fitted, plan, job)
    try:
        await cutter.verify(cut)
    except BadClip as problem:
        raise AssertionError(f"a clip that we wrote is not the planned one: {problem}") from problem
    return None


def check_excerpt(excerpt: Excerpt) -> None:
    """Check what every way of reading guarantees."""
    tracks = [track for track in (excerpt.video, excerpt.audio) if track is not None and track.samples]
    if tracks:
        check_tracks(tracks, max(track.media.stat().st_size for track in tracks))


def check_window(clip: FinishedClip, rate: int) -> None:
    """Check that a clip begins with the frames of its start time.

    Raises:
        AnotherMoment: they are not.
    """
    numbers = DecodedFile(clip.video).numbers()[:FIRST_FRAMES]
    late = [abs(number / rate - (clip.start + at / rate)) for at, number in enumerate(numbers)]
    if not numbers or median(late) > MAX_SKEW_SECONDS:
        raise WrongWindow(f"the clip begins with frames {numbers}, its start is {clip.start} s")


@contextmanager
def opened_cutter_rig(folder: Path) -> Iterator[CutterRig]:
    """Set up a rig in a folder."""
    tools = find_tools()
    settings = CuttingSettings()
    metrics = CutterMetrics(metrics_registry())
    scratch = Scratch(folder / "scratch", metrics)
    programs = FfmpegPrograms(tools.ffmpeg, tools.ffprobe)
    ffmpeg = ffmpeg_of(settings, programs, metrics, deadline_seconds=DEADLINE_SECONDS)
    with scratch.opened():
        yield CutterRig(
            folder,
            scratch,
            vods_of(settings, ffmpeg, scratch, metrics),
            cutter_of(settings, ffmpeg),
            vods_of(settings, NoFfmpeg(), scratch, metrics),
            cutter_of(settings, NoFfmpeg()),
        )
