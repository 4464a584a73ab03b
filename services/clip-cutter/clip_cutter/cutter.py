"""From an excerpt and a window to a clip: plan, write, verify.

What is copied is written by us, sample by sample; what has to be re-encoded goes through ffmpeg first. Either
way the clip's samples and times are known before it is written, and verified in what was written.
"""

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog

from clip_cutter.containers import avc
from clip_cutter.containers.model import (
    ROUNDING_SECONDS,
    Damage,
    Excerpt,
    Format,
    Sample,
    Track,
    TrackKind,
    UnsupportedMedia,
)
from clip_cutter.containers.mp4.index import open_movie
from clip_cutter.containers.mp4.writer import Unwritable, write
from clip_cutter.domain import plan as rules
from clip_cutter.domain.check import check_clip, check_encoded, skew_ms
from clip_cutter.domain.plan import BadClip, CutPlan, EncodingNeeded, FittedExcerpt, ModeChoice, TrackPlan
from clip_cutter.domain.policy import Window, damaged, too_large, unreadable
from clip_cutter.ffmpeg.commands import Encoding
from clip_cutter.ffmpeg.run import Ffmpeg, ToolFailed
from clip_cutter.scratch import Job
from clip_cutter.threads import in_thread
from clip_shared.contracts.events import CutMode, TrackFate

log = structlog.get_logger()

# Bits a second of a re-encode that is as large as they come.
ENCODED_BIT_RATE = 12_000_000
POSTER_MOMENTS = 4


@dataclass(frozen=True)
class FinishedClip:
    """A finished clip on scratch; from ``start`` to ``end`` is what it shows, in seconds of the VOD.

    ``tracks``: what became of the VOD's video and audio. ``remark``: what is to be said of the VOD.
    """

    video: Path
    poster: Path
    mode: CutMode
    start: float
    end: float
    size_bytes: int
    skew_ms: float | None
    fallback_reason: str | None = None
    tracks: tuple[TrackPlan, ...] = ()
    remark: str | None = None

    @property
    def seconds(self) -> float:
        """Return how long it is."""
        return self.end - self.start


@dataclass(frozen=True)
class WrittenClip:
    """A clip that is written to ``video`` and not verified: how it was made, and the tracks that it holds."""

    video: Path
    excerpt: Excerpt
    fitted: FittedExcerpt
    plan: CutPlan
    tracks: tuple[Track, ...]
    size_bytes: int

    @property
    def finished(self) -> FinishedClip:
        """Return what it is once it is verified, and its poster is there."""
        return FinishedClip(
            video=self.video,
            poster=self.video.with_name("poster.jpg"),
            mode=self.plan.mode,
            start=self.fitted.start,
            end=self.fitted.end,
            size_bytes=self.size_bytes,
            skew_ms=skew_ms(self.tracks, self.fitted),
            fallback_reason=self.plan.fallback_reason,
            tracks=(self.plan.video, self.plan.audio),
            remark=self.excerpt.remark,
        )


class Cutter:
    """Cuts clips.

    Args:
        ffmpeg: re-encodes, and makes posters.
        mode: how clips are cut.
        min_seconds: a shorter clip is not worth it.
        max_bytes: a larger clip is refused.
        encodes_video: whether this one re-encodes video; else it leaves that to another.
    """

    def __init__(
        self,
        ffmpeg: Ffmpeg,
        *,
        mode: ModeChoice,
        min_seconds: float,
        max_bytes: int,
        encodes_video: bool = True,
    ) -> None:
        self._ffmpeg = ffmpeg
        self._mode = mode
        self._min_seconds = min_seconds
        self._max_bytes = max_bytes
        self._encodes_video = encodes_video

    async def plan(self, excerpt: Excerpt, window: Window) -> tuple[FittedExcerpt, CutPlan]:
        """Choose what a clip shows, and what becomes of each track.

        Raises:
            Skipped: there is no video in the window.
        """
        return await asyncio.to_thread(self._plan, excerpt, window)

    def _plan(self, excerpt: Excerpt, window: Window) -> tuple[FittedExcerpt, CutPlan]:
        fitted = rules.fit(excerpt, window, self._min_seconds)
        video, begins_with_idr = _inspect(fitted.video)
        fitted = replace(fitted, video=video)
        has_audio = excerpt.audio is not None
        plan = rules.choose(self._mode, fitted, has_audio=has_audio, begins_with_idr=begins_with_idr)
        return fitted, plan

    async def cut(self, excerpt: Excerpt, window: Window, job: Job) -> WrittenClip:
        """Write a clip. It is not verified.

        Raises:
            EncodingNeeded: its video has to be re-encoded, and this cutter leaves that to another.
            Skipped: no clip can be cut from this part of the VOD.
            ToolCrashed: a bug of ffmpeg, or a lack of memory.
            TransientError: the scratch disk is full.
        """
        fitted, plan = await self.plan(excerpt, window)
        return await self.cut_with_plan(excerpt, fitted, plan, job)

    async def cut_with_plan(
        self, excerpt: Excerpt, fitted: FittedExcerpt, plan: CutPlan, job: Job
    ) -> WrittenClip:
        """Write a clip by a plan. Raises as :meth:`cut`."""
        if plan.mode is CutMode.EXACT and not self._encodes_video:
            raise EncodingNeeded(plan.video.reason or "")
        try:
            return await self._write(excerpt, fitted, plan, job)
        except (BadClip, ToolFailed, Unwritable, UnsupportedMedia) as error:
            if plan.mode is CutMode.EXACT:
                raise _damaged(fitted, error) from error
            log.warning("a copy cannot be written: re-encoding", reason=str(error))
            return await self.cut_with_plan(excerpt, fitted, rules.re_encoded(plan, str(error)), job)

    async def re_encode(self, cut: WrittenClip, problem: BadClip, job: Job) -> WrittenClip:
        """Re-encode what was not good enough as a copy.

        Raises:
            Skipped: it was a re-encode already; else as :meth:`cut`.
        """
        if cut.plan.mode is CutMode.EXACT:
            raise _damaged(cut.fitted, problem)
        log.warning("a copy is not good enough: re-encoding", reason=str(problem))
        return await self.cut_with_plan(
            cut.excerpt, cut.fitted, rules.re_encoded(cut.plan, str(problem)), job
        )

    async def verify(self, cut: WrittenClip) -> FinishedClip:
        """Read the written file, compare it with its plan, and decode pictures of it for the poster.

        Where these show a sign of damage, a copy is decoded to its end.

        Raises:
            BadClip: it is not the clip that was planned.
            ToolCrashed, TransientError: as :meth:`cut`.
        """
        try:
            # Both have ended when this has, also when one fails: the next attempt works in the same folder.
            async with asyncio.TaskGroup() as group:
                group.create_task(in_thread(_check_written, cut))
                group.create_task(self._make_poster(cut))
        except ExceptionGroup as failures:
            raise _as_bad(failures.exceptions[0]) from failures
        return cut.finished

    async def _make_poster(self, cut: WrittenClip) -> None:
        moments = _poster_moments(cut)
        keyframe = await in_thread(_write_keyframe, cut, moments[0]) if moments else None
        errors = await self._ffmpeg.poster(cut.video, cut.finished.poster, moments, keyframe)
        if errors and cut.plan.mode is CutMode.COPY:
            await self._check_decodes(cut.video)

    async def _check_decodes(self, video: Path) -> None:
        if errors := await self._ffmpeg.decode(video):
            raise BadClip(f"it does not decode without errors: {errors[0]}")

    async def make(self, excerpt: Excerpt, window: Window, job: Job) -> FinishedClip:
        """Cut a clip and verify it; a copy that is not good enough is re-encoded. Raises as :meth:`cut`."""
        cut = await self.cut(excerpt, window, job)
        try:
            return await self.verify(cut)
        except BadClip as problem:
            again = await self.re_encode(cut, problem, job)
        try:
            return await self.verify(again)
        except BadClip as problem:
            raise _damaged(cut.fitted, problem) from problem

    async def _write(self, excerpt: Excerpt, fitted: FittedExcerpt, plan: CutPlan, job: Job) -> WrittenClip:
        encoded = await self._encode(fitted, plan, job)
        tracks = tuple(
            encoded.get(track.kind, track)
            for track, fate in ((fitted.video, plan.video), (fitted.audio, plan.audio))
            if track is not None and fate.fate is not TrackFate.LEFT_OUT
        )
        if (size := _bytes_of(tracks)) > self._max_bytes:
            raise too_large(size)
        await job.reserve(size)
        tracks = tuple(map(_named_for_all_players, tracks))
        video = job.folder / "clip.mp4"
        await in_thread(write, video, tracks, fitted.start, fitted.end)
        return WrittenClip(video, excerpt, fitted, plan, tracks, _size(video))

    async def _encode(self, fitted: FittedExcerpt, plan: CutPlan, job: Job) -> dict[TrackKind, Track]:
        """Re-encode the tracks whose fate that is."""
        videos = _by_format(fitted.video) if plan.video.fate is TrackFate.RE_ENCODED else []
        audios = _by_format(fitted.audio) if plan.audio.fate is TrackFate.RE_ENCODED else []
        if not videos and not audios:
            return {}
        parts = [*videos, *audios]
        if len(parts) > rules.MAX_FORMATS:
            raise unreadable("its coding changes too often in this part of it")
        begin = min(part.seconds(min(sample.shown for sample in part.samples)) for part in parts)
        await job.reserve(_bytes_of(parts) + int(fitted.seconds * ENCODED_BIT_RATE / 8))
        source, output = job.folder / "encode-source.mp4", job.folder / "encoded.mp4"
        await in_thread(write, source, parts, begin, _end_of(parts))
        encoding = Encoding(
            source,
            video=tuple(range(len(videos))),
            audio=tuple(range(len(videos), len(parts))),
            start=fitted.start - begin,
            end=fitted.end - begin,
            rate=rules.steady_rate(fitted),
            is_damaged=any(part.damages for part in parts),
        )
        await self._ffmpeg.encode(encoding, output)
        movie = await asyncio.to_thread(_read_back, output)
        encoded = {track.kind: rules.hold_last_frame(_moved(track, fitted.start), fitted) for track in movie}
        check_encoded(encoded.values(), fitted, {part.kind for part in parts})
        return encoded


def _damaged(fitted: FittedExcerpt, error: Exception) -> Exception:
    log.warning("no clip can be cut from this part of the VOD", reason=str(error))
    return damaged(fitted.start, fitted.end)


def _inspect(video: Track) -> tuple[Track, bool]:
    """Look at the coded pictures that a copy would hold.

    Returns:
        the track, with a sign of damage where a sample is not what its format says; and whether decoding can
        begin with the first one whatever came before it.
    """
    if any(video.formats[sample.format].codec != "h264" for sample in video.samples):
        return video, True
    try:
        sizes = [avc.length_size_of(each.entry) for each in video.formats]
    except UnsupportedMedia as error:
        return _with_damage(video, video.samples[0], str(error)), False
    with video.media.open("rb") as file:
        data = partial(_sample_data, file.fileno())
        begins_with_idr = avc.is_idr(data(video.samples[0]), sizes[video.samples[0].format])
        for sample in video.samples:
            if not avc.is_well_formed(data(sample), sizes[sample.format]):
                return _with_damage(video, sample, "a picture is damaged"), begins_with_idr
    return video, begins_with_idr


def _with_damage(video: Track, sample: Sample, why: str) -> Track:
    # When it is decoded, which is within the clip; it may be shown behind its end.
    return replace(video, damages=(*video.damages, Damage(video.seconds(sample.decoded), why)))


def _sample_data(descriptor: int, sample: Sample) -> bytes:
    return os.pread(descriptor, sample.size, sample.offset)


def _named_for_all_players(track: Track) -> Track:
    """Name HEVC as Apple's players want it: they know it in MP4 as ``hvc1`` only."""
    return replace(track, formats=tuple(map(_named, track.formats)))


def _named(coded: Format) -> Format:
    if coded.codec != "hevc":
        return coded
    return replace(coded, entry=coded.entry.replace(b"hev1", b"hvc1", 1))


def _by_format(track: Track | None) -> list[Track]:
    """Split a track into one for each of its formats, as a decoder wants them."""
    if track is None:
        return []
    numbers = sorted({sample.format for sample in track.samples})
    return [
        replace(
            track,
            formats=(track.formats[number],),
            samples=[each._replace(format=0) for each in track.samples if each.format == number],
        )
        for number in numbers
    ]


def _read_back(path: Path) -> list[Track]:
    return open_movie(path, needs_video=False).all()


def _check_written(cut: WrittenClip) -> None:
    """Read a clip, and compare it with its plan. Raises UnsupportedMedia, BadClip."""
    written = _read_back(cut.video)
    check_clip(written, cut.tracks, cut.fitted, size_bytes=cut.size_bytes)
    _check_content(written, cut.tracks)


def _as_bad(error: Exception) -> Exception:
    """Return what an exception says of the clip, where it says anything of it."""
    return BadClip(str(error)) if isinstance(error, UnsupportedMedia | ToolFailed | Unwritable) else error


def _check_content(written: Iterable[Track], planned: Sequence[Track]) -> None:
    """Compare bytes: each keyframe, and the first and the last sample of each stretch of the file.

    Sizes have been compared: where these samples are right, so is what lies between them.

    Raises:
        BadClip: a sample is another one than was planned.
    """
    found = {track.kind: track for track in written}
    for plan in planned:
        with found[plan.kind].media.open("rb") as clip, plan.media.open("rb") as media:
            for has, wanted in _to_compare(found[plan.kind], plan):
                if _sample_data(clip.fileno(), has) != _sample_data(media.fileno(), wanted):
                    raise BadClip(f"its {plan.kind} is not that of the VOD")


def _to_compare(found: Track, plan: Track) -> Iterator[tuple[Sample, Sample]]:
    pairs = list(zip(found.samples, plan.samples, strict=True))
    ends = [has.offset + has.size for has, _ in pairs]
    for at, (has, wanted) in enumerate(pairs):
        is_first = at == 0 or has.offset != ends[at - 1]
        is_last = at + 1 == len(pairs) or pairs[at + 1][0].offset != ends[at]
        if is_first or is_last or (has.is_keyframe and found.kind is TrackKind.VIDEO):
            yield has, wanted


def _moved(track: Track, seconds: float) -> Track:
    return replace(track, origin=track.origin + seconds)


def _video_of(cut: WrittenClip) -> Track:
    return next(track for track in cut.tracks if track.kind is TrackKind.VIDEO)


def _poster_moments(cut: WrittenClip) -> list[float]:
    """Return when a few keyframes are shown, if any is: the first one, and others along the clip.

    In seconds of the clip. What is hidden before its start, or lies behind its end, is not shown.
    """
    video, fitted = _video_of(cut), cut.fitted
    times = sorted(video.seconds(each.shown) - fitted.start for each in video.samples if each.is_keyframe)
    shown = [time for time in times if -ROUNDING_SECONDS <= time < fitted.seconds]
    step = max(len(shown) // POSTER_MOMENTS, 1)
    return shown[::step][:POSTER_MOMENTS]


def _write_keyframe(cut: WrittenClip, moment: float) -> Path:
    """Write an MP4 that has just the keyframe shown at a moment: ffmpeg finds that in a third of the time."""
    video = _video_of(cut)
    keyframes = (sample for sample in video.samples if sample.is_keyframe)
    sample = min(keyframes, key=lambda each: abs(video.seconds(each.shown) - cut.fitted.start - moment))
    alone = sample._replace(decoded=0, shown=0, length=video.timescale)
    path = cut.video.with_name("keyframe.mp4")
    write(path, [replace(video, samples=[alone], origin=0.0)], 0.0, 1.0)
    return path


def _bytes_of(tracks: Iterable[Track]) -> int:
    return sum(sample.size for track in tracks for sample in track.samples)


def _end_of(tracks: Sequence[Track]) -> float:
    return max(track.seconds(each.shown + each.length) for track in tracks for each in track.samples)


def _size(path: Path) -> int:
    return path.stat().st_size
