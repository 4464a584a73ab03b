"""From a VOD and a window to a clip: plan, cut, set the first frame, verify, and fall back once.

The exactness of a clip is made here. ffmpeg reads and writes packets; which of them is the first one shown
is decided by :func:`clip_cutter.domain.cut.place` on the times in the file that ffmpeg wrote, and set there
by :mod:`clip_cutter.mp4`.
"""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from clip_cutter.arguments import Cut, Input
from clip_cutter.domain import cut as rules
from clip_cutter.domain.cut import BadClip, Findings, ModeChoice, Placement, Plan
from clip_cutter.domain.media import Media, NotPlain, Video, picture_end, picture_of, skew_ms
from clip_cutter.domain.policy import Window, unreadable
from clip_cutter.ffmpeg import Ffmpeg, ToolFailed
from clip_cutter.h264 import is_refresh
from clip_cutter.mp4 import MalformedClip, Movie
from clip_cutter.mp4_index import Index
from clip_shared.errors import TransientError
from clip_shared.events import CutMode

log = structlog.get_logger()

MAX_REASON = 200
DAMAGED = "the file is damaged, or not a video at all"


@dataclass(frozen=True)
class Clip:
    """A finished clip on scratch; from ``start`` to ``end`` is what it shows, in seconds of the VOD."""

    video: Path
    poster: Path
    mode: CutMode
    start: float
    end: float
    size_bytes: int
    skew_ms: float | None
    fallback_reason: str | None = None

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start


@dataclass(frozen=True)
class Job:
    """One clip to cut: from what, what of it, and the folder to work in.

    ``source`` may be a part of the VOD: its time line, on which ``window`` lies, begins ``offset`` seconds
    after the VOD's.
    """

    source: Input
    media: Media
    window: Window
    folder: Path
    offset: float = 0.0


class Cutter:
    """Cuts clips with ffmpeg."""

    def __init__(self, ffmpeg: Ffmpeg, *, mode: ModeChoice, min_seconds: float) -> None:
        self._ffmpeg = ffmpeg
        self._mode = mode
        self._min_seconds = min_seconds

    async def look(self, source: Input) -> Media:
        """What a VOD consists of.

        Raises:
            Skipped: it is no video that a clip could be cut from.
            ToolCrashed: a bug of ffprobe, or a lack of memory.
            TransientError: the storage broke off.
        """
        try:
            media = await self._ffmpeg.probe(source)
        except ToolFailed as error:
            log.warning("the source cannot be probed", reason=str(error))
            raise unreadable(DAMAGED) from error
        picture_of(media)
        return media

    def plan(self, media: Media, window: Window) -> Plan:
        """How a clip of this VOD is going to be cut."""
        return rules.choose_plan(self._mode, media, window)

    async def cut(self, job: Job) -> Clip:
        """Cut a clip; a copy that is not good enough is replaced by a re-encode, once.

        Raises:
            Skipped: no clip can be cut from this VOD.
            ToolCrashed: a bug of ffmpeg, or a lack of memory.
            TransientError: the storage broke off, or the scratch disk is full.
        """
        clip = await self._cut(job)
        return replace(clip, start=clip.start + job.offset, end=clip.end + job.offset)

    async def _cut(self, job: Job) -> Clip:
        plan = self.plan(job.media, job.window)
        try:
            return await self._attempt(job, plan)
        except BadClip as problem:
            if plan.mode is CutMode.EXACT:
                raise self._give_up(problem) from problem
            reason = str(problem)
        log.warning("a copy is not good enough: re-encoding", reason=reason)
        try:
            clip = await self._attempt(job, rules.re_encoded(plan))
        except BadClip as problem:
            raise self._give_up(problem) from problem
        return replace(clip, fallback_reason=reason[:MAX_REASON])

    def _give_up(self, problem: BadClip) -> Exception:
        log.warning("no clip can be cut from the source", reason=str(problem))
        return unreadable("this part of it is damaged or missing")

    async def _attempt(self, job: Job, plan: Plan) -> Clip:
        """One clip by one plan, verified.

        Raises:
            BadClip: the VOD does not give it.
            TransientError: the storage or the scratch disk does not.
        """
        video = job.folder / "clip.mp4"
        outages: list[str] = []
        try:
            seek, placement = await self._film(job, plan, video, outages)
            start = seek + placement.start
            await self._trim(job, placement, video, length=job.window.end - start)
            if plan.mode is CutMode.COPY:
                _check_keyframe(video, picture_of(job.media))
            return await self._verify(job, plan, video, start, placement.sound_late)
        except (BadClip, MalformedClip, NotPlain, ToolFailed) as error:
            if outages:  # ffmpeg takes a connection that broke for the end of the file, and reports success
                raise TransientError(f"the source storage broke off: {outages[-1]}") from error
            raise BadClip(str(error)) from error

    async def _film(self, job: Job, plan: Plan, video: Path, outages: list[str]) -> tuple[float, Placement]:
        """Cut, reading from further and further back, until picture and sound run from the start.

        Returns:
            where reading began, and where after it the clip begins.
        """
        window, before = job.window, None
        for seek in rules.seeks(job.media.container, window.start):
            cut = Cut(job.source, job.media, plan, seek, window.start, window.end)
            outages += (await self._ffmpeg.cut(cut, video)).outages
            placement = _place(video, window.start - seek, picture_of(job.media))
            if rules.starts_well(placement, before):
                break
            before = placement
        rules.check_placement(plan, placement, window, self._min_seconds)
        return seek, placement

    async def _trim(self, job: Job, placement: Placement, video: Path, length: float) -> None:
        """Set what is shown, and drop most of what is not when there is much of it."""
        start = placement.start
        if rules.is_wasteful(placement, job.window):
            Movie.open(video).show(start, start + length + rules.MARGIN_SECONDS)
            tight = job.folder / "tight.mp4"
            await self._ffmpeg.tighten(video, tight)
            tight.replace(video)
            start = _place(video, 0.0, picture_of(job.media)).start
        Movie.open(video).show(start, start + length)

    async def _verify(self, job: Job, plan: Plan, video: Path, start: float, sound_late: float) -> Clip:
        """Look at the finished file, and decode a picture of it for the poster."""
        poster = job.folder / "poster.jpg"
        shown = Movie.open(video).shown("video")
        try:
            # Both have ended when this has, also when one fails: the next attempt works in the same folder.
            async with asyncio.TaskGroup() as group:
                probing = group.create_task(self._ffmpeg.probe(Input.of_file(video)))
                group.create_task(self._ffmpeg.poster(video, poster, shown.first_keyframe))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        clip = probing.result()
        found = Findings(clip, _size(video), shown.first)
        expected = None if picture_end(job.media) is None else job.window.end - start
        rules.check_clip(found, plan, expected_seconds=expected, sound_late=sound_late)
        return Clip(
            video=video,
            poster=poster,
            mode=plan.mode,
            start=start,
            end=start + (clip.seconds or 0.0),
            size_bytes=found.size_bytes,
            skew_ms=skew_ms(clip),
        )


def _size(path: Path) -> int:
    return path.stat().st_size


def _check_keyframe(video: Path, source: Video) -> None:
    """Refuse a copy that browsers cannot begin to decode.

    Raises:
        BadClip: it is one.
        NotPlain: it is no MP4 as our own ffmpeg writes it.
    """
    if source.codec == "h264":
        with video.open("rb") as file:
            description, keyframe = Index.read(file).keyframe(0.0)
        if not is_refresh(description, keyframe):
            raise BadClip("it begins within an open group of pictures, which browsers do not decode")


def _place(video: Path, asked: float, source: Video) -> Placement:
    movie = Movie.open(video)
    picture, sound = movie.track("video"), movie.track("audio")
    return rules.place(
        asked=asked,
        frame_seconds=source.frame_seconds,
        frames=picture.times if picture else (),
        keyframes=picture.keyframes if picture else (),
        sound_start=min(sound.times) if sound else None,
        earliest=max((track.earliest_start for track in (picture, sound) if track), default=0.0),
    )
