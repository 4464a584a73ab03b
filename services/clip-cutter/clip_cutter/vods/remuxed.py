"""Matroska, and files that our own readers do not support: ffmpeg copies a part into an MP4, which we read.

ffmpeg seeks by the container's index, or without an index by time stamps, and may land behind the keyframe
that the window's first frame needs. So reading is repeated from further back until that keyframe is found.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from clip_cutter.containers.model import (
    EMPTY_AUDIO,
    ROUNDING_SECONDS,
    Damage,
    Excerpt,
    Track,
    TrackKind,
    UnsupportedMedia,
)
from clip_cutter.containers.mp4.index import open_movie
from clip_cutter.domain.media import UNKNOWN, Media, video_end, video_of
from clip_cutter.domain.policy import Window, damaged, interrupted, no_video, unreadable
from clip_cutter.ffmpeg.commands import copies_audio, copies_video
from clip_cutter.ffmpeg.run import Ffmpeg, RunLog, ToolFailed
from clip_cutter.scratch import Job
from clip_cutter.vods.source import Source
from clip_shared.errors import TransientError

log = structlog.get_logger()

# How far before the window's start reading begins; the next value is used if no keyframe was found. MPEG-TS
# has no index, so a seek may land anywhere. In other containers it lands on the keyframe, or shortly behind
# it.
UNINDEXED = frozenset({"mpegts"})
UNINDEXED_LEADS = (6.0, 20.0, 60.0)
INDEXED_LEADS = (0.0, 2.0, *UNINDEXED_LEADS)
ASSUMED_BIT_RATE = 12_000_000  # of a VOD that does not name its bit rate
DAMAGED = "the file is damaged, or not a video at all"
REMUXED = "remuxed.mp4"
TAIL_SECONDS = 0.5  # read after the window: the order in which frames are stored and shown differs
LATE_SECONDS = 0.1  # if audio begins later than this after the window's start, a seek may have missed it


def _seeks(container: str, start: float) -> list[float]:
    """Return the times to seek to for a window's start, each further back than the one before."""
    steps = UNINDEXED_LEADS if container in UNINDEXED else INDEXED_LEADS
    found = [start - lead for lead in steps if lead < start]
    return found if len(found) == len(steps) else [*found, 0.0]


@dataclass(frozen=True)
class RemuxedVod:
    """A VOD that ffmpeg reads."""

    media: Media
    ffmpeg: Ffmpeg

    @property
    def seconds(self) -> float | None:
        """See :class:`clip_cutter.vods.vod.Vod`."""
        return video_end(self.media)

    async def excerpt(self, source: Source, window: Window, job: Job) -> Excerpt:
        """Read the samples that a window needs into the job's folder.

        Raises:
            Skipped: the window has no video, cannot be read, or the VOD's clock jumps in it.
            ToolCrashed, ToolLimited: as :class:`clip_cutter.ffmpeg.run.Ffmpeg`.
            TransientError: the storage or the scratch disk is unavailable.
        """
        before: _RemuxedWindow | None = None
        for seek in _seeks(self.media.container, window.start):
            await job.reserve(self._estimate(seek, window))
            now = await self._read(source, seek, window, job.folder / REMUXED)
            if now.begins_in_time or (now.video is not None and now.begins_as(before)):
                break
            before = now
        now.check()
        if now.video is None:
            raise no_video(window)
        silence = None if self.media.audio is None else EMPTY_AUDIO
        return Excerpt(now.video, now.audio or silence, end=None if self.seconds else now.end)

    def _estimate(self, seek: float, window: Window) -> int:
        rate = self.media.bit_rate or ASSUMED_BIT_RATE
        return int((window.end + TAIL_SECONDS - seek) * rate / 8)

    async def _read(self, source: Source, seek: float, window: Window, path: Path) -> "_RemuxedWindow":
        """Copy the VOD from ``seek`` to the window's end, and return what it holds of the window."""
        media = self.media
        try:
            run_log = await self.ffmpeg.remux(source.input, media, seek, window.end + TAIL_SECONDS, path)
        except ToolFailed as error:
            log.warning("ffmpeg cannot copy a part of the VOD", reason=str(error))
            raise damaged(window.start, window.end) from error
        try:
            tracks = _select(path, seek, window)
        except UnsupportedMedia as error:
            log.info("the copied part holds nothing of the window", seek=seek, why=str(error))
            tracks = []
        found = {track.kind: self._named(track, run_log) for track in tracks}
        return _RemuxedWindow(window, run_log, found.get(TrackKind.VIDEO), found.get(TrackKind.AUDIO))

    def _named(self, track: Track, run_log: RunLog) -> Track:
        """Return a track with the codec that the VOD names, and with the damage that ffmpeg reported."""
        is_video = track.kind is TrackKind.VIDEO
        stream = self.media.video if is_video else self.media.audio
        codec = stream.codec if stream else UNKNOWN
        is_copied = copies_video(codec) if is_video else copies_audio(codec)
        formats = [replace(each, codec=codec, is_web=each.is_web and is_copied) for each in track.formats]
        damages = [Damage(track.seconds(track.samples[0].shown), why) for why in run_log.damages]
        return replace(track, formats=tuple(formats), damages=(*track.damages, *damages))


@dataclass(frozen=True)
class _RemuxedWindow:
    """What ffmpeg copied of a window: the tracks, on the VOD's time line, and the log of the run."""

    window: Window
    run_log: RunLog
    video: Track | None
    audio: Track | None

    @property
    def begins_in_time(self) -> bool:
        """Whether the frame on screen at the window's start was copied, and the audio from there on."""
        video = _first(self.video)
        audio = -math.inf if self.audio is None else _first(self.audio)
        return max(video - ROUNDING_SECONDS, audio - LATE_SECONDS) <= self.window.start

    @property
    def end(self) -> float | None:
        """When the VOD's video ends, if all of its tracks end before the window does."""
        ends = [_last(track) for track in (self.video, self.audio) if track is not None]
        return _last(self.video) if self.video is not None and max(ends) < self.window.end else None

    def begins_as(self, before: "_RemuxedWindow | None") -> bool:
        """Tell whether reading from further back gave nothing more: the VOD's tracks begin there."""
        return before is not None and all(
            abs(now - then) <= LATE_SECONDS or now == then
            for now, then in zip(self._begins(), before._begins(), strict=True)
        )

    def _begins(self) -> tuple[float, float]:
        return _first(self.video), _first(self.audio)

    def check(self) -> None:
        """Check that what was copied is the window, and all of it.

        Raises:
            Skipped: the VOD's clock jumps in the window, so that its times are not known.
            TransientError: the connection to the source storage failed.
        """
        if self.run_log.outages and not self.begins_in_time:
            raise TransientError(f"reading from source storage failed: {self.run_log.outages[-1]}")
        if self.run_log.has_clock_jump:
            raise interrupted(self.window)


def _first(track: Track | None) -> float:
    """Return when the first sample of a track is shown or heard, in seconds of the VOD's time line."""
    if track is None:
        return math.inf
    return track.seconds(min(sample.shown for sample in track.samples))


def _last(track: Track) -> float:
    """Return when the last sample of a track ends, in seconds of the VOD's time line."""
    return track.seconds(max(sample.shown + sample.length for sample in track.samples))


def _select(path: Path, seek: float, window: Window) -> Iterable[Track]:
    """Return the samples that a window needs, from an MP4 that was copied from ``seek`` on.

    Raises:
        UnsupportedMedia: the MP4 holds no video of the window.
    """
    movie = open_movie(path)
    origin = seek + movie.begins_at
    tracks = movie.select(window.start - origin, window.end - origin)
    moved = [replace(track, origin=track.origin + origin) for track in tracks]
    return [track for track in moved if _last(track) > window.start]


async def open_remuxed(source: Source, ffmpeg: Ffmpeg) -> RemuxedVod:
    """Open a VOD that ffmpeg will read: ask ffprobe what it holds.

    Raises:
        Skipped: ffprobe cannot read the VOD as a video.
        ToolCrashed, ToolLimited: as :class:`clip_cutter.ffmpeg.run.Ffmpeg`.
        TransientError: the connection to the source storage failed.
    """
    try:
        media = await ffmpeg.probe(source.input)
    except ToolFailed as error:
        log.warning("ffprobe cannot read the VOD", reason=str(error))
        raise unreadable(DAMAGED) from error
    video_of(media)
    return RemuxedVod(media, ffmpeg)
