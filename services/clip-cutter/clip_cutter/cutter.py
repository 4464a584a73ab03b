"""Cut a clip out of an excerpt: plan it, write it, verify it.

Copied tracks are written by our own MP4 writer, sample by sample. Tracks that must be re-encoded go through
ffmpeg first, and then through the same writer. So the samples and times of a clip are known before it is
written, and are compared with the written file afterwards.
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

# Upper bound of the bit rate of a re-encode, in bits a second. Disk space is reserved for it.
ENCODED_BIT_RATE = 12_000_000
POSTER_TIMES = 4


@dataclass(frozen=True)
class FinishedClip:
    """A clip in the job's folder, with its poster. ``start`` and ``end`` are in seconds of the VOD.

    Args:
        skew_ms: start of the audio minus start of the video, in milliseconds; None without audio.
        fallback_reason: why a copy was given up and the video re-encoded; None if it was not.
        tracks: what was done to the VOD's video and audio.
        remark: what the receipt says about the VOD, if anything.
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
        return self.end - self.start


@dataclass(frozen=True)
class WrittenClip:
    """A clip that is written to ``video`` but not verified, with what it was made of and ``tracks`` in it."""

    video: Path
    excerpt: Excerpt
    fitted: FittedExcerpt
    plan: CutPlan
    tracks: tuple[Track, ...]
    size_bytes: int

    @property
    def finished(self) -> FinishedClip:
        """The clip as it will be when it is verified and its poster is written."""
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
    """Cut clips, in one lane.

    Args:
        ffmpeg: re-encodes tracks, and makes posters.
        mode: the setting CUT_MODE.
        min_seconds: the shortest clip.
        max_bytes: the largest clip.
        encodes_video: False in the lane for copies: EncodingNeeded is raised where video must be re-encoded.
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
        """Choose the samples of a clip, and whether each track is copied or re-encoded.

        Raises:
            Skipped: the window holds no video, or less of it than ``min_seconds``.
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
        """Write a clip, without verifying it.

        Raises:
            EncodingNeeded: the video must be re-encoded, and this cutter has ``encodes_video=False``.
            Skipped: no clip can be cut from this part of the VOD.
            ToolCrashed: ffmpeg crashed, by a bug or for lack of memory.
            TransientError: the scratch disk is full.
        """
        fitted, plan = await self.plan(excerpt, window)
        return await self.cut_with_plan(excerpt, fitted, plan, job)

    async def cut_with_plan(
        self, excerpt: Excerpt, fitted: FittedExcerpt, plan: CutPlan, job: Job
    ) -> WrittenClip:
        """Write a clip as planned; re-encode it if it cannot be copied. Raises as :meth:`cut`."""
        if plan.mode is CutMode.EXACT and not self._encodes_video:
            raise EncodingNeeded(plan.video.reason or "")
        try:
            return await self._write(excerpt, fitted, plan, job)
        except (BadClip, ToolFailed, Unwritable, UnsupportedMedia) as error:
            if plan.mode is CutMode.EXACT:
                raise _damaged(fitted, error) from error
            log.warning("re-encoding a clip that cannot be copied", reason=str(error))
            return await self.cut_with_plan(excerpt, fitted, rules.re_encoded(plan, str(error)), job)

    async def re_encode(self, cut: WrittenClip, problem: BadClip, job: Job) -> WrittenClip:
        """Cut a clip again with its video re-encoded, because its verification failed with ``problem``.

        Raises:
            Skipped: the clip was a re-encode already. Else as :meth:`cut`.
        """
        if cut.plan.mode is CutMode.EXACT:
            raise _damaged(cut.fitted, problem)
        log.warning("re-encoding a clip whose verification failed", reason=str(problem))
        return await self.cut_with_plan(
            cut.excerpt, cut.fitted, rules.re_encoded(cut.plan, str(problem)), job
        )

    async def verify(self, cut: WrittenClip) -> FinishedClip:
        """Compare the written file with its plan, and make the poster from it.

        If decoding the poster's frames gives errors, a copied clip is decoded to its end.

        Raises:
            BadClip: the file is not the clip that was planned, or it does not decode.
            ToolCrashed, TransientError: as :meth:`cut`.
        """
        try:
            # A TaskGroup, so that both have ended if one fails: the next attempt uses the same folder.
            async with asyncio.TaskGroup() as group:
                group.create_task(in_thread(_check_written, cut))
                group.create_task(self._make_poster(cut))
        except ExceptionGroup as failures:
            raise _as_bad(failures.exceptions[0]) from failures
        return cut.finished

    async def _make_poster(self, cut: WrittenClip) -> None:
        times = _poster_times(cut)
        keyframe = await in_thread(_write_keyframe, cut, times[0]) if times else None
        errors = await self._ffmpeg.poster(cut.video, cut.finished.poster, times, keyframe)
        if errors and cut.plan.mode is CutMode.COPY:
            await self._check_decodes(cut.video)

    async def _check_decodes(self, video: Path) -> None:
        if errors := await self._ffmpeg.decode(video):
            raise BadClip(f"the clip does not decode without errors: {errors[0]}")

    async def make(self, excerpt: Excerpt, window: Window, job: Job) -> FinishedClip:
        """Cut and verify a clip; re-encode it if verification fails. Raises as :meth:`cut`."""
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
        """Re-encode the tracks that the plan says; return them by kind."""
        videos = _by_format(fitted.video) if plan.video.fate is TrackFate.RE_ENCODED else []
        audios = _by_format(fitted.audio) if plan.audio.fate is TrackFate.RE_ENCODED else []
        if not videos and not audios:
            return {}
        parts = [*videos, *audios]
        if len(parts) > rules.MAX_FORMATS:
            raise unreadable("its format changes too often in this part")
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
    log.warning("this part of the VOD cannot be cut", reason=str(error))
    return damaged(fitted.start, fitted.end)


def _inspect(video: Track) -> tuple[Track, bool]:
    """Read the coded pictures that a copy would hold.

    Returns:
        the track, with a Damage for the first sample that is not well-formed; and whether its first sample is
        an IDR picture, with which decoding can begin.
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
                return _with_damage(video, sample, "a frame is damaged"), begins_with_idr
    return video, begins_with_idr


def _with_damage(video: Track, sample: Sample, why: str) -> Track:
    # The time of decoding lies within the clip; the time of showing may lie behind its end.
    return replace(video, damages=(*video.damages, Damage(video.seconds(sample.decoded), why)))


def _sample_data(descriptor: int, sample: Sample) -> bytes:
    return os.pread(descriptor, sample.size, sample.offset)


def _named_for_all_players(track: Track) -> Track:
    """Rename HEVC sample entries to ``hvc1``: Apple's players know HEVC in MP4 by no other name."""
    return replace(track, formats=tuple(map(_named, track.formats)))


def _named(coded: Format) -> Format:
    if coded.codec != "hevc":
        return coded
    return replace(coded, entry=coded.entry.replace(b"hev1", b"hvc1", 1))


def _by_format(track: Track | None) -> list[Track]:
    """Split a track into tracks of one format each, because a decoder is set up for one format."""
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
    """Compare a written clip with its plan. Raises UnsupportedMedia or BadClip."""
    written = _read_back(cut.video)
    check_clip(written, cut.tracks, cut.fitted, size_bytes=cut.size_bytes)
    _check_content(written, cut.tracks)


def _as_bad(error: Exception) -> Exception:
    """Return a BadClip for an error that is the clip's fault, and any other error unchanged."""
    return BadClip(str(error)) if isinstance(error, UnsupportedMedia | ToolFailed | Unwritable) else error


def _check_content(written: Iterable[Track], planned: Sequence[Track]) -> None:
    """Compare the bytes of each keyframe, and of the first and last sample of each contiguous run.

    The sizes of all samples were compared before: if these samples are right, those between them are too.

    Raises:
        BadClip: the bytes of a sample differ from the VOD's.
    """
    found = {track.kind: track for track in written}
    for plan in planned:
        with found[plan.kind].media.open("rb") as clip, plan.media.open("rb") as media:
            for has, wanted in _to_compare(found[plan.kind], plan):
                if _sample_data(clip.fileno(), has) != _sample_data(media.fileno(), wanted):
                    raise BadClip(f"the clip's {plan.kind} differs from the VOD's")


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


def _poster_times(cut: WrittenClip) -> list[float]:
    """Return the times of up to ``POSTER_TIMES`` keyframes, in seconds of the clip; the first one first.

    Keyframes that are hidden before the clip's start, or lie behind its end, do not count.
    """
    video, fitted = _video_of(cut), cut.fitted
    times = sorted(video.seconds(each.shown) - fitted.start for each in video.samples if each.is_keyframe)
    shown = [time for time in times if -ROUNDING_SECONDS <= time < fitted.seconds]
    step = max(len(shown) // POSTER_TIMES, 1)
    return shown[::step][:POSTER_TIMES]


def _write_keyframe(cut: WrittenClip, time: float) -> Path:
    """Write an MP4 of the keyframe at a time alone: ffmpeg decodes it in a third of the time."""
    video = _video_of(cut)
    keyframes = (sample for sample in video.samples if sample.is_keyframe)
    sample = min(keyframes, key=lambda each: abs(video.seconds(each.shown) - cut.fitted.start - time))
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
