"""The index of an MP4 (``moov``, ISO/IEC 14496-12 §8): which bytes of it hold a window.

An index has a row for each picture and each bit of audio: that of six hours has 30 MB. A clip needs a
thousandth of it. So it is looked up block by block and never held as a whole: memory stays flat. Whatever is
unusual about an index is left to ffmpeg: see :class:`clip_cutter.containers.model.UnsupportedMedia`.
"""

import math
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from clip_cutter.containers.model import ROUNDING_SECONDS, Format, Sample, Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.mp4.boxes import Box, Read, child, children, content, walk
from clip_cutter.containers.mp4.edit_list import Edit, SampleRange, join, read_edits
from clip_cutter.containers.mp4.sample_entries import MAX_ENTRIES, is_cover_art, read_entries
from clip_cutter.containers.mp4.sample_tables import SUMMED_TABLES, Extent, SampleTables

KINDS = {b"vide": TrackKind.VIDEO, b"soun": TrackKind.AUDIO}
LEAD_SECONDS = 0.25  # of audio before the window: a decoder's first frames are not right yet
MAX_SAMPLE_BYTES = 32 * 1024 * 1024
MAX_SAMPLES = 250_000  # of a track in a window, which the settings let last an hour
KEYFRAMES_TRIED = 3  # from the last one back: when a keyframe is shown is another table's business
SELF_CONTAINED = 1
ENABLED = 1  # a flag of a track (§8.3.2)
DISPLAY_BYTES = 44  # the end of a track header: matrix and size
MAX_TOP_LEVEL = 64
FIRST_KINDS = frozenset({b"ftyp", b"moov", b"free", b"skip", b"wide", b"mdat"})
LOOKED_BACK = 64  # pictures, from the last one decoded before a time to the last one shown before it
FAR = 2**62  # ticks
DAMAGED = (struct.error, IndexError, ValueError, ZeroDivisionError, OverflowError)


class Movie:
    """An index that is read block by block, through ``read(offset, size)``.

    Seconds are those of the VOD's line: 0 is where its first track begins.
    """

    def __init__(self, tracks: Sequence["TrackIndex"], media: Path) -> None:
        self._media = media
        self._tracks = {track.kind: track for track in tracks}
        # ffmpeg, and so everybody, counts from where the first track begins.
        self._zero = min(track.starts_at for track in self._tracks.values())
        self._seconds = next(iter(self._tracks.values())).ends_at - self._zero

    @classmethod
    def read(
        cls, read: Read, moov: Box, file_size: int, media: Path = Path(), *, needs_video: bool = True
    ) -> Self:
        """Look at an index.

        Args:
            read: the file.
            moov: where in it the index lies.
            file_size: how large the file is. Samples beyond its end are left out.
            media: the file, if it is on this machine.
            needs_video: whether a file with audio alone is refused.

        Raises:
            UnsupportedMedia: the file is fragmented, has no video, or its index is damaged or unusual.
        """
        try:
            tracks = [TrackIndex(read, found, file_size) for found in _choose(read, moov)]
            found = [track for track in tracks if track.has_samples]
            if not found or (needs_video and found[0].kind is not TrackKind.VIDEO):
                raise UnsupportedMedia("no video")
            return cls(found, media)
        except DAMAGED as error:
            raise UnsupportedMedia(f"a damaged index: {error}") from error

    @property
    def seconds(self) -> float:
        """Return how far its video reaches, or its audio where it has no video."""
        return self._seconds

    @property
    def begins_at(self) -> float:
        """Return where the VOD's line begins on that of the movie, in seconds: with its first track."""
        return self._zero

    @property
    def is_cut_off(self) -> bool:
        """Return whether the file ends before the samples that the index lists."""
        return any(track.is_cut_off for track in self._tracks.values())

    def span(self, kind: TrackKind) -> tuple[float, float] | None:
        """Return from when to when the video, or the audio, is shown; None where there is no such track."""
        track = self._tracks.get(kind)
        return (track.starts_at - self._zero, track.ends_at - self._zero) if track else None

    def select(self, start: float, end: float) -> list[Track]:
        """Return the samples that a clip of a window needs: video first.

        Video begins with the last keyframe that is shown by ``start``, audio a little before. Offsets are
        those in the file. Audio without samples there is left out.

        Raises:
            UnsupportedMedia: the window has no video or more than 250,000 samples; or the index is damaged.
        """
        try:
            tracks = [track.select(start + self._zero, end + self._zero) for track in self._tracks.values()]
            return self._placed(tracks)
        except DAMAGED as error:
            raise UnsupportedMedia(f"a damaged index: {error}") from error

    def all(self) -> list[Track]:
        """Return all samples of a short file. As :meth:`select`."""
        try:
            return self._placed([track.all(self._zero) for track in self._tracks.values()])
        except DAMAGED as error:
            raise UnsupportedMedia(f"a damaged index: {error}") from error

    def _placed(self, tracks: Sequence[Track]) -> list[Track]:
        """Put tracks on the VOD's line."""
        if not tracks[0].samples:
            raise UnsupportedMedia("no video in the window")
        return [
            replace(
                track,
                media=self._media,
                origin=track.origin - self._zero,
                damages=tuple(replace(each, seconds=each.seconds - self._zero) for each in track.damages),
            )
            for track in tracks
            if track.samples
        ]

    def row_extents(self, start: float, end: float) -> list[Extent]:
        """Return which rows of large tables :meth:`select` reads. Raises as it does."""
        try:
            return [
                extent
                for track in self._tracks.values()
                for extent in track.row_extents(start + self._zero, end + self._zero)
            ]
        except DAMAGED as error:
            raise UnsupportedMedia(f"a damaged index: {error}") from error


def open_movie(path: Path, *, needs_video: bool = True) -> Movie:
    """Look at the index of a finished MP4 on this machine. Its tracks' ``media`` is ``path``.

    Raises:
        UnsupportedMedia: as :meth:`Movie.read`; or it is no MP4.
        OSError: it cannot be read.
    """

    def read(offset: int, size: int) -> bytes:
        with path.open("rb") as file:
            return os.pread(file.fileno(), size, offset)

    size = path.stat().st_size
    return Movie.read(read, find_index(read, size), size, media=path, needs_video=needs_video)


def find_index(read: Read, file_size: int) -> Box:
    """Return the index of a file, wherever in it that lies.

    Raises:
        UnsupportedMedia: it is no MP4, or its index is missing or cut off.
    """
    for number, box in enumerate(walk(read, 0, file_size)):
        if box.kind == b"moov":
            if box.end > file_size:
                raise UnsupportedMedia("an index that is cut off")
            return box
        if number >= MAX_TOP_LEVEL or (number == 0 and box.kind not in FIRST_KINDS):
            break
    raise UnsupportedMedia("no MP4 with an index")


def find_tracks(read: Read, moov: Box) -> list[Box]:
    """Return the tracks of an index.

    Raises:
        UnsupportedMedia: the file is fragmented, or the index is damaged.
    """
    parts = children(read, moov)
    if b"mvex" in parts:
        raise UnsupportedMedia("a fragmented file")
    return parts.get(b"trak", [])


def visit_tables(read: Read, trak: Box, have: Callable[[int, int], None]) -> None:
    """Go through a track as :meth:`Movie.read` does, without the content of its tables.

    Args:
        read: the file.
        trak: the track.
        have: is called with the offset and the size of each table that will be read whole.

    Raises:
        UnsupportedMedia: as :meth:`Movie.read`.
    """

    def visit(table: Box) -> None:
        if table.kind in SUMMED_TABLES:
            have(table.head, table.size)

    try:
        list(_read_trak(read, trak, 1, visit))
    except DAMAGED as error:
        raise UnsupportedMedia(f"a damaged index: {error}") from error


@dataclass(frozen=True)
class _TrackBoxes:
    """A track that a clip can have, and its parts."""

    box: Box
    kind: TrackKind
    movie_timescale: int
    header: bytes
    media: Box
    information: Box
    tables_box: Box
    tables: dict[bytes, list[Box]]
    formats: tuple[Format, ...]

    @property
    def is_enabled(self) -> bool:
        return bool(self.header[3] & ENABLED)


def _choose(read: Read, moov: Box) -> list[_TrackBoxes]:
    """Return the video and the audio that a player chooses: of each kind the first one that is enabled."""
    boxes = find_tracks(read, moov)
    movie_timescale = _timescale(content(read, child(read, moov, b"mvhd")))
    traks = [trak for box in boxes for trak in _read_trak(read, box, movie_timescale)]
    return [
        min(same, key=lambda trak: not trak.is_enabled)
        for kind in TrackKind
        if (same := [trak for trak in traks if trak.kind is kind])
    ]


def _read_trak(
    read: Read, box: Box, movie_timescale: int, visit: Callable[[Box], None] = lambda _: None
) -> Iterator[_TrackBoxes]:
    """Look at a track; yields nothing if it is none that a clip can have."""
    media = child(read, box, b"mdia")
    kind = KINDS.get(content(read, child(read, media, b"hdlr"))[8:12])
    if kind is None:
        return
    information = child(read, media, b"minf")
    tables_box = child(read, information, b"stbl")
    tables = children(read, tables_box, visit)
    formats = read_entries(read, child(read, tables_box, b"stsd"), kind)
    if not any(map(is_cover_art, formats)):
        header = content(read, child(read, box, b"tkhd"))
        yield _TrackBoxes(box, kind, movie_timescale, header, media, information, tables_box, tables, formats)


def _timescale(header: bytes) -> int:
    """Return the ticks a second (``mvhd``, ``mdhd``): after version, flags and two dates."""
    return int(struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)[0])


class TrackIndex:
    """One track of an index. Seconds are those of the movie's line, ticks those of its media."""

    def __init__(self, read: Read, trak: _TrackBoxes, file_size: int) -> None:
        _check_reference(read, trak.information)
        self.kind = trak.kind
        self._formats = trak.formats
        self._display = trak.header[-DISPLAY_BYTES:] if trak.kind is TrackKind.VIDEO else b""
        self._timescale = _timescale(content(read, child(read, trak.media, b"mdhd")))
        self._segments = read_edits(read, trak.box, self._timescale, trak.movie_timescale)
        self._tables = SampleTables(read, trak.tables_box, file_size)
        self._file_size = file_size

    @property
    def has_samples(self) -> bool:
        """Return whether it has any, within the file."""
        return self._tables.count > 0

    @property
    def is_cut_off(self) -> bool:
        """Return whether the file ends before its last sample."""
        return self._tables.count < self._tables.listed

    @cached_property
    def starts_at(self) -> float:
        """Return when its first sample is shown."""
        first = self._segments[0]
        earliest = min(self._tables.shown(0, min(16, self._tables.count)))
        return max(first.start, first.origin + earliest / self._timescale)

    @cached_property
    def ends_at(self) -> float:
        """Return when its last sample ends."""
        media_end = self._tables.end / self._timescale
        return max(min(segment.end, segment.origin + media_end) for segment in self._segments)

    def select(self, start: float, end: float) -> Track:
        """Return the samples of a window. Raises as :meth:`Movie.select`."""
        return self._joined([(part, self._samples(part)) for part in self._parts(start, end)], start)

    def row_extents(self, start: float, end: float) -> list[Extent]:
        """Return where the rows lie that :meth:`select` reads."""
        parts = self._parts(start, end)
        for part in parts:
            _check_count(part)
        return [extent for part in parts for extent in self._tables.row_extents(part.first, part.after)]

    def all(self, zero: float) -> Track:
        """Return all samples; of several edits, those that they show and need."""
        if len(self._segments) > 1:
            return self.select(zero, math.inf)
        segment = self._segments[0]
        part = SampleRange(segment, segment.start, segment.end, 0, self._tables.count)
        return self._joined([(part, self._samples(part))], zero)

    def _joined(self, parts: Sequence[tuple[SampleRange, list[Sample]]], start: float) -> Track:
        joined = join(self.kind, self._timescale, parts, start)
        used = sorted({sample.format for sample in joined.samples})
        return replace(
            joined,
            formats=tuple(self._formats[number % MAX_ENTRIES] for number in used),
            samples=_renumbered(joined.samples, used),
            display=self._display,
        )

    def _parts(self, start: float, end: float) -> list[SampleRange]:
        """Return which samples of each segment a window needs."""
        shown = [
            segment
            for segment in self._segments
            if min(end, segment.end) - max(start, segment.start) > ROUNDING_SECONDS
        ]
        parts = [self._part(segment, max(start, segment.start), min(end, segment.end)) for segment in shown]
        return [part for part in parts if part.after > part.first]

    def _part(self, segment: Edit, start: float, end: float) -> SampleRange:
        """Return the samples that are needed to show a part of a segment."""
        if self.kind is TrackKind.VIDEO:
            first = self._keyframe_before(self._ticks(segment, start + ROUNDING_SECONDS))
            after = self._needed_until(first, self._ticks(segment, end))
        else:
            first, after = self._heard(self._ticks(segment, start), self._ticks(segment, end))
        return SampleRange(segment, start, end, first, after)

    def _heard(self, start: int, end: int) -> tuple[int, int]:
        """Return the audio samples from a little before a time to the first one at or after another."""
        after = self._tables.first_after(end)
        if after == 0 or self._tables.ends(after - 1) <= start:
            return 0, 0
        lead = round(LEAD_SECONDS * self._timescale)
        return self._tables.last_before(start - lead), min(after + 1, self._tables.count)

    def _ticks(self, segment: Edit, seconds: float) -> int:
        """Return the first tick of the media that is not shown before a time."""
        return FAR if math.isinf(seconds) else math.ceil((seconds - segment.origin) * self._timescale)

    def _keyframe_before(self, ticks: int) -> int:
        """Return the last sample that can be decoded alone and is shown by then, else the first."""
        latest = self._tables.last_before(ticks)
        keyframes = self._tables.keyframes
        if keyframes is None:
            return latest
        after = self._tables.keyframe_at_or_before(latest) + 1
        numbers = [keyframes[at] - 1 for at in range(after - 1, max(after - 1 - KEYFRAMES_TRIED, -1), -1)]
        for number in numbers:
            if self._tables.shown(number, number + 1)[0] <= ticks:
                return number
        return numbers[-1] if numbers else 0

    def _needed_until(self, first: int, ticks: int) -> int:
        """Return the number after the last sample, in decoding order, that is shown before then."""
        after = self._tables.first_after(ticks)
        first = max(first, after - LOOKED_BACK)
        shown = self._tables.shown(first, after)
        return max((first + at for at, time in enumerate(shown, start=1) if time < ticks), default=after)

    def _samples(self, part: SampleRange) -> list[Sample]:
        """Read the samples of a part.

        Raises:
            UnsupportedMedia: they are more than 250,000, too large, or outside the file.
        """
        first, after = part.first, part.after
        _check_count(part)
        places = self._tables.places(first, after)
        if any(place.size > MAX_SAMPLE_BYTES for place in places):
            raise UnsupportedMedia(f"a sample of {max(place.size for place in places)} bytes")
        if any(place.offset + place.size > self._file_size for place in places):
            raise UnsupportedMedia("samples outside the file")
        if not all(0 <= place.entry < len(self._formats) for place in places):
            raise UnsupportedMedia(f"samples of a sample entry that is none of {len(self._formats)}")
        times = zip(
            self._tables.decoded(first, after),
            self._tables.shown(first, after),
            self._tables.steps(first, after),
            places,
            self._tables.are_keyframes(first, after),
            strict=True,
        )
        return [
            Sample(decoded, shown, length, place.offset, place.size, is_keyframe, place.entry)
            for decoded, shown, length, place, is_keyframe in times
        ]


def _check_count(part: SampleRange) -> None:
    if part.after - part.first > MAX_SAMPLES:
        raise UnsupportedMedia(f"{part.after - part.first} samples in the window")


def _renumbered(samples: Sequence[Sample], used: Sequence[int]) -> Sequence[Sample]:
    """Count formats among those that are used."""
    if used == [0]:
        return samples
    numbers = {number: at for at, number in enumerate(used)}
    return [sample._replace(format=numbers[sample.format]) for sample in samples]


def _check_reference(read: Read, information: Box) -> None:
    """Refuse a track whose samples lie in another file than this one."""
    reference = content(read, child(read, information, b"dinf", b"dref"))
    count, _, _, flags = struct.unpack_from(">II4sI", reference, 4)
    if count != 1 or flags != SELF_CONTAINED:
        raise UnsupportedMedia("media in another file")
