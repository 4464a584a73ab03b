"""Fragmented MP4 (ISO/IEC 14496-12 §8.8): files that were written while the stream went on.

No table lists all samples. A window is found with the file's index of fragments, or without an index by
reading the time of the next fragment at some places of the file. From there, fragments are read one after the
other until all tracks have passed the window's end.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import replace

from clip_cutter.containers.model import EMPTY_AUDIO, ByteRange, Excerpt, Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.mp4.fragment_clock import FragmentFollower, FragmentPoint
from clip_cutter.containers.mp4.fragment_samples import AUDIO_AFTER_SECONDS, FragmentSamples
from clip_cutter.domain.policy import Window, clock
from clip_cutter.scratch import Job
from clip_cutter.vods.fragment_opening import MAX_POINTS, FragmentedFile, open_file
from clip_cutter.vods.fragment_reader import (
    BLOCK_BYTES,
    MAX_EXCERPT_BYTES,
    FragmentReader,
    FragmentWalk,
    ScratchCopy,
)
from clip_cutter.vods.source import Source

# How far before the window's start reading begins; the next value is used if no keyframe was found.
BACK_SECONDS = (0.5, 4.0, 16.0, 64.0)
AUDIO_BACK_SECONDS = 4.0  # if no audio was found this far back, the window has none at its start
MAX_LOOKS = 64
HALVE_EVERY = 3  # every third look halves the range, because estimates fail if the bit rate varies much
# Fragments up to this length are read as a whole. Of longer ones, the heads and then the window's samples.
SHORT_SECONDS = 5.0
MAX_FRAGMENTS = 20_000  # of a window
END_SECONDS = 0.5


async def open_fragmented(source: Source, job: Job) -> "FragmentedMp4":
    """Open a fragmented MP4: read its header, and find its end.

    Raises:
        UnsupportedMedia: the file is not a fragmented MP4, or must be read by ffmpeg.
        Skipped: the VOD is no longer in storage.
        TransientError: source storage is unavailable.
    """
    del job  # nothing is written: what is known about the file is small, and stays in memory
    return FragmentedMp4(await open_file(source))


class FragmentedMp4:
    """A fragmented MP4. Seconds are those of the VOD's time line."""

    def __init__(self, opened: FragmentedFile) -> None:
        self._opened = opened
        self._header, self._clock = opened.header, opened.clock
        self._points = list(opened.points)  # the fragments whose time is known, in file order

    @property
    def seconds(self) -> float:
        """See :class:`clip_cutter.vods.vod.Vod`."""
        return self._opened.seconds

    async def excerpt(self, source: Source, window: Window, job: Job) -> Excerpt:
        """See :class:`clip_cutter.vods.vod.Vod`."""
        copy = ScratchCopy(source, job)
        tracks = await self._tracks(source, copy, window)
        if not tracks or tracks[0].kind is not TrackKind.VIDEO:
            raise UnsupportedMedia("no video in the window")
        ranges = [
            ByteRange(each.offset, each.offset + each.size) for track in tracks for each in track.samples
        ]
        await copy.fetch_missing(ranges)
        video, *audio = [_placed(track, copy) for track in tracks]
        silence = None if self._header.audio is None else EMPTY_AUDIO
        return Excerpt(video, audio[0] if audio else silence, self._remark(window))

    def _remark(self, window: Window) -> str | None:
        if not self._opened.is_broken or window.end < self.seconds - END_SECONDS:
            return None
        return f"the VOD breaks off at {clock(self.seconds)}"

    async def _tracks(self, source: Source, copy: ScratchCopy, window: Window) -> list[Track]:
        """Return the samples that a window needs; begin further back until a keyframe is found."""
        tracks: list[Track] = []
        for back in BACK_SECONDS:
            point = await self._before(FragmentReader(source, self._header), window.start - back)
            await self._read_ahead(copy, point, window)
            samples = await self._gather(FragmentReader(source, self._header, copy), point, window)
            tracks = samples.tracks(window.start, window.end)
            if point is self._points[0] or _reaches_back(tracks, window, back):
                break
        return tracks

    async def _before(self, reader: FragmentReader, seconds: float) -> FragmentPoint:
        """Return the last fragment that begins at or before a time, or one shortly before it."""
        low, high = self._neighbours(seconds)
        if high is None or low.after == high.offset:
            return low
        from_, to = low.after, high.offset  # where other fragments may begin
        for look in range(1, MAX_LOOKS):
            if self._clock.end(low) >= seconds or from_ >= to:
                break
            at = self._guess(low, high, seconds)
            at = (from_ + to) // 2 if look % HALVE_EVERY == 0 else min(max(at, from_), to - 1)
            at = from_ if to - from_ <= 2 * _size(low) else at
            point = await self._look(reader, at, to)
            if point and self._clock.start(point) <= seconds:
                low, from_ = point, point.after
            elif at == from_:
                break
            else:
                high, to = point or high, at
        return low

    def _neighbours(self, seconds: float) -> tuple[FragmentPoint, FragmentPoint | None]:
        after = bisect_right(self._points, seconds, key=self._clock.start)
        return self._points[max(after - 1, 0)], self._points[after] if after < len(self._points) else None

    def _guess(self, low: FragmentPoint, high: FragmentPoint, seconds: float) -> int:
        """Estimate the offset of the fragment of a time, by the bit rate between two other fragments."""
        start, end = self._clock.start(low), self._clock.start(high)
        part = (seconds - low.seconds / 2 - start) / max(end - start, low.seconds, END_SECONDS)
        return low.offset + int(part * (high.offset - low.offset)) - _size(low) // 2

    async def _look(self, reader: FragmentReader, offset: int, end: int) -> FragmentPoint | None:
        point = await reader.look(offset, end)
        if point and point not in self._points and len(self._points) < MAX_POINTS:
            insort(self._points, point)
        return point

    async def _read_ahead(self, copy: ScratchCopy, point: FragmentPoint, window: Window) -> None:
        """If fragments are short, fetch the range that the window probably needs with one request."""
        if point.seconds > SHORT_SECONDS or copy.position(point.offset, 1) is not None:
            return
        end = self._estimate(point, window.end + AUDIO_AFTER_SECONDS)
        if point.offset < end <= point.offset + MAX_EXCERPT_BYTES // 2:
            await copy.fetch([ByteRange(point.offset, end)])

    def _estimate(self, point: FragmentPoint, seconds: float) -> int:
        """Estimate the offset of a time, from a fragment before it."""
        after = bisect_left(self._points, seconds, key=self._clock.start)
        if after >= len(self._points):
            return self._points[-1].after
        low, high = max(self._points[max(after - 1, 0)], point), self._points[after]
        return min(self._guess(low, high, seconds + 1.5 * low.seconds) + _size(low), high.offset)

    async def _gather(self, reader: FragmentReader, point: FragmentPoint, window: Window) -> FragmentSamples:
        """Read the heads of fragments, from ``point`` until all tracks have passed the window's end."""
        found = FragmentSamples(self._header, self._clock.zero, reader.size)
        fragment_walk = FragmentWalk(reader)
        follower = FragmentFollower(self._header, self._opened.bases.get(point.offset, {}))
        offset, shift = point.offset, self._clock.shift(point.offset)
        if (head := self._opened.head) and offset == head.offset:
            follower.follow(head)
            found.add(head, shift)
            offset = head.end
        number = 0
        async for bare in fragment_walk.fragments(offset):
            fragment = follower.with_times(bare)
            jump = follower.follow(fragment)
            shift = self._clock.shift(bare.offset) if self._clock.has_jump(bare.offset) else shift + jump
            if found.has_passed(window.end + AUDIO_AFTER_SECONDS, fragment, shift):
                break
            if bare.offset in fragment_walk.damaged:
                found.add_damage("the VOD is damaged here")
            found.add(fragment, shift)
            number += 1
            if number > MAX_FRAGMENTS:
                raise UnsupportedMedia(f"more than {MAX_FRAGMENTS} fragments in the window")
        return found


def _size(point: FragmentPoint) -> int:
    return max(point.after - point.offset, BLOCK_BYTES)


def _placed(track: Track, copy: ScratchCopy) -> Track:
    """Return a track with the offsets of its samples in the job's file."""
    samples = []
    for sample in track.samples:
        position = copy.position(sample.offset, sample.size)
        if position is None:
            raise UnsupportedMedia("samples that overlap")
        samples.append(sample._replace(offset=position))
    return replace(track, samples=samples, media=copy.path)


def _reaches_back(tracks: Sequence[Track], window: Window, back: float) -> bool:
    """Tell whether the tracks begin at or before the window's start; audio may be missing there."""
    starts = {track.kind: track.seconds(track.samples[0].shown) for track in tracks}
    if starts.get(TrackKind.VIDEO, window.end) > window.start:
        return False
    return starts.get(TrackKind.AUDIO, window.end) <= window.start or back >= AUDIO_BACK_SECONDS
