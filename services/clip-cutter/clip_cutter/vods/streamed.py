"""MPEG-TS and FLV, which have no index: a window is found by reading times at some places of the file."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, Self, cast

from clip_cutter.containers.flv import FlvStream
from clip_cutter.containers.model import (
    ROUNDING_SECONDS,
    ByteRange,
    Excerpt,
    Sample,
    Track,
    TrackKind,
    UnsupportedMedia,
)
from clip_cutter.containers.mpegts import TransportStream
from clip_cutter.containers.stream import ConfigurationHistory, Demuxer, Stream
from clip_cutter.containers.survey import HEAD_BYTES, WHOLE_FILE_BYTES, StreamSurvey, StreamSurveyor
from clip_cutter.containers.window_search import (
    AUDIO_BEFORE_SECONDS,
    INTERLEAVE_SECONDS,
    ReadStart,
    WindowSearch,
)
from clip_cutter.domain.policy import Window, clock
from clip_cutter.scratch import Job
from clip_cutter.threads import in_thread
from clip_cutter.vods.source import CHUNK_BYTES, Source

CONTAINERS: Sequence[Callable[[bytes], Stream]] = (TransportStream.read, FlvStream.read)
SIDE_BY_SIDE = 8  # reads
AUDIO_AFTER_SECONDS = 0.5
# First, slightly more than the estimated size of the window is read; then more, until all tracks reach its
# end.
SPARE, SPARE_BYTES = 1.05, 128 * 1024
MAX_READS = 64
MAX_BYTES = 2 * 1024 * 1024 * 1024
# Up to this offset, all bytes before the window are read to learn the codec configuration; behind it, the
# configuration is taken from nearby.
MAX_HISTORY_BYTES = 256 * 1024 * 1024
SAMPLES = "samples"  # a file in the job's folder


@dataclass(frozen=True)
class StreamedVod:
    """A VOD without an index. ``survey`` has its time line, and the configurations that were found."""

    stream: Stream
    survey: StreamSurvey
    size_bytes: int
    history: ConfigurationHistory | None
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)  # of the history

    @property
    def seconds(self) -> float | None:
        """See :class:`~clip_cutter.vods.vod.Vod`."""
        return self.survey.seconds

    async def excerpt(self, source: Source, window: Window, job: Job) -> Excerpt:
        """See :class:`~clip_cutter.vods.vod.Vod`."""
        path = job.folder / SAMPLES
        try:
            with path.open("wb", buffering=CHUNK_BYTES) as output:
                return await self._read(source, window, job, output)
        except UnsupportedMedia:
            path.unlink()
            raise

    async def _read(self, source: Source, window: Window, job: Job, output: IO[bytes]) -> Excerpt:
        """Read the samples of a window, from a keyframe before it until all tracks have passed its end."""
        search = WindowSearch(self.stream, self.survey, partial(_peek_all, source), self.size_bytes)
        begin = await search.find(window.start)
        demuxer = self.stream.demuxer(
            output, begin.offset, self.survey.timeline, await self._heads(source, begin)
        )
        await job.reserve(len(begin.data))
        await in_thread(_feed_all, demuxer, begin.data)
        offset, reads = begin.offset + len(begin.data), 0
        while offset < self.size_bytes and (left := _left(demuxer, window)) > 0:
            size = int(left * begin.bytes_per_second * SPARE) + SPARE_BYTES
            wanted = ByteRange(offset, min(offset + size, self.size_bytes))
            reads += 1
            if reads > MAX_READS or wanted.end - begin.offset > MAX_BYTES:
                raise UnsupportedMedia(f"a window that takes more than {offset - begin.offset} bytes")
            await job.reserve(wanted.size)
            with _Feed(demuxer.feed) as feed:
                await source.read(wanted, cast("IO[bytes]", feed))
            offset = wanted.end
        demuxer.finish()
        tracks = {track.kind: track for track in demuxer.tracks(Path(output.name))}
        video, audio = tracks.get(TrackKind.VIDEO), tracks.get(TrackKind.AUDIO)
        if video is None and begin.offset > 0:
            raise UnsupportedMedia("video that cannot be read from a keyframe on")
        return Excerpt(
            video and _trim_video(video, window, is_from_start=begin.offset == 0),
            audio and _trim_audio(audio, window),
            self._remark(window),
        )

    async def _heads(self, source: Source, begin: ReadStart) -> Sequence[bytes]:
        """Return the parts of the file with codec configurations that lie before ``begin``, in file order."""
        segment = self.survey.timeline.segment(begin.offset)
        heads = [(0, self.survey.heads[0]), (segment.offset, self.survey.head(begin.offset))]
        if self.history is not None:
            if begin.offset <= MAX_HISTORY_BYTES:
                await self._learn(source, self.history, begin.offset)
            heads += [(self.history.reached, each) for each in self.history.heads(begin.offset)]
        return [head for _, head in sorted(heads, key=lambda each: each[0])] + [begin.before]

    async def _learn(self, source: Source, history: ConfigurationHistory, offset: int) -> None:
        async with self._reading:
            if history.reached < offset:
                with _Feed(history.feed) as feed:
                    await source.read(ByteRange(history.reached, offset), cast("IO[bytes]", feed))

    def _remark(self, window: Window) -> str | None:
        """Describe where the clock jumps within a window; None: it does not."""
        timeline = self.survey.timeline
        starts = [segment.start / timeline.timescale for segment in timeline.segments[1:]]
        inside = [clock(start) for start in starts if window.start < start < window.end]
        return f"the stream was interrupted at {', '.join(inside)}" if inside else None


async def open_stream(source: Source, job: Job) -> StreamedVod:
    """Open an MPEG-TS or FLV file.

    Raises:
        UnsupportedMedia: the file is of another container, or must be read by ffmpeg.
        Skipped: the VOD is no longer in storage.
        TransientError: source storage is unavailable.
    """
    del job  # nothing is written
    size = source.size_bytes
    head = await source.peek(ByteRange(0, size if size <= WHOLE_FILE_BYTES else HEAD_BYTES))
    stream = _recognize(head)
    survey = await StreamSurveyor(stream, partial(_peek_all, source), size, head).survey()
    # A file that our readers do not support is mostly so from its first sample: find out now.
    with BytesIO() as nowhere:
        stream.demuxer(nowhere, 0, survey.timeline, ()).feed(head[:HEAD_BYTES])
    return StreamedVod(stream, survey, size, stream.history())


class _Feed:
    """A file that passes what is written to it to a demuxer, until it is closed.

    Otherwise the thread of a cancelled job would go on to write, at the same time as the next job of the VOD.
    """

    def __init__(self, feed: Callable[[bytes], None]) -> None:
        self._feed = feed
        self._lock = threading.Lock()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_closed = True

    def write(self, data: bytes) -> int:
        """Pass ``data`` on. Raises what the demuxer raises, and ValueError after it is closed."""
        with self._lock:
            if self._is_closed:
                raise ValueError("the job that reads this has ended")
            self._feed(data)
        return len(data)


def _recognize(head: bytes) -> Stream:
    problems = []
    for read in CONTAINERS:
        try:
            return read(head)
        except UnsupportedMedia as error:
            problems.append(str(error))
    raise UnsupportedMedia(", ".join(problems))


async def _peek_all(source: Source, wanted: Sequence[ByteRange]) -> Sequence[bytes]:
    """Read several ranges of a VOD, ``SIDE_BY_SIDE`` at a time."""
    limit = asyncio.Semaphore(SIDE_BY_SIDE)

    async def peek(place: ByteRange) -> bytes:
        async with limit:
            return await source.peek(place)

    return await asyncio.gather(*map(peek, wanted))


def _feed_all(demuxer: Demuxer, data: bytes) -> None:
    for at in range(0, len(data), CHUNK_BYTES):
        demuxer.feed(data[at : at + CHUNK_BYTES])


def _left(demuxer: Demuxer, window: Window) -> float:
    """Estimate how many seconds are still to be read; 0 or less: the window is complete."""
    ends = {TrackKind.VIDEO: window.end, TrackKind.AUDIO: window.end + AUDIO_AFTER_SECONDS}
    if all(demuxer.reached[kind] >= end for kind, end in ends.items()):
        return 0
    farthest = max(*demuxer.reached.values(), window.start - INTERLEAVE_SECONDS)
    if farthest < ends[TrackKind.AUDIO]:
        return ends[TrackKind.AUDIO] - farthest
    # One track is behind the other; if it stays behind by INTERLEAVE_SECONDS, it has a gap here.
    return min(window.end + INTERLEAVE_SECONDS - farthest, INTERLEAVE_SECONDS / 2)


def _trim_video(track: Track, window: Window, *, is_from_start: bool) -> Track:
    """Return the video from the keyframe that the frame on screen at the window's start depends on."""
    times = [track.seconds(sample.shown) for sample in track.samples]
    keyframes = [place for place, sample in enumerate(track.samples) if sample.is_keyframe]
    before = [place for place in keyframes if times[place] <= window.start + ROUNDING_SECONDS]
    if not keyframes or not (before or is_from_start):
        raise UnsupportedMedia("video without a keyframe before the window")
    first = before[-1] if before else keyframes[0]
    shown = [place for place, time in enumerate(times) if time < window.end and place >= first]
    part = _part(track, range(first, shown[-1] + 1 if shown else first), window)
    return replace(part, samples=_held(part.samples, part.ticks(window.end)))


def _held(samples: Sequence[Sample], end: int) -> list[Sample]:
    """Return samples of which the last is shown until ``end``, in ticks."""
    last = max(samples, key=lambda each: each.shown, default=None)
    return [
        each._replace(length=max(each.length, end - each.shown)) if each is last else each for each in samples
    ]


def _trim_audio(track: Track, window: Window) -> Track:
    """Return the audio of a window, and a little before and after it."""
    start, end = window.start - AUDIO_BEFORE_SECONDS, window.end + AUDIO_AFTER_SECONDS
    heard = [
        place
        for place, sample in enumerate(track.samples)
        if track.seconds(sample.shown + sample.length) > start and track.seconds(sample.shown) < end
    ]
    return _part(track, range(heard[0], heard[-1] + 1) if heard else range(0), window)


def _part(track: Track, places: range, window: Window) -> Track:
    """Return some samples of a track, with their formats, and with the damages of the window."""
    samples = track.samples[places.start : places.stop]
    used = sorted({sample.format for sample in samples})
    start = min([window.start, *(track.seconds(sample.shown) for sample in samples[:1])])
    return replace(
        track,
        formats=tuple(track.formats[place] for place in used) if samples else track.formats[:1],
        samples=[sample._replace(format=used.index(sample.format)) for sample in samples],
        damages=tuple(each for each in track.damages if start <= each.seconds < window.end),
    )
