"""The index of an MP4 (``moov``, ISO/IEC 14496-12 §8): finds the samples of a window.

An index has a row for each picture and each frame of audio: that of six hours has 30 MB, and a clip needs a
thousandth of it. The index is read block by block and never held in memory as a whole. An index with features
that this module does not know raises :class:`clip_cutter.containers.model.UnsupportedMedia`.
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
LEAD_SECONDS = 0.25  # of audio before the window: the first frames after a decoder's start are distorted
MAX_SAMPLE_BYTES = 32 * 1024 * 1024
MAX_SAMPLES = 250_000  # of a track in a window, which the settings let last an hour
KEYFRAMES_TRIED = 3  # the last keyframe that is decoded before a time may be shown after it
SELF_CONTAINED = 1  # flag of a data reference (§8.7.2)
ENABLED = 1  # flag of a track header (§8.3.2)
DISPLAY_BYTES = 44  # matrix and size, at the end of a track header
MAX_TOP_LEVEL = 64
FIRST_KINDS = frozenset({b"ftyp", b"moov", b"free", b"skip", b"wide", b"mdat"})
MAX_REORDERED = 64  # pictures between the last one decoded before a time and the last one shown before it
INFINITE_TICKS = 2**62
# What struct and arithmetic raise for the numbers of a damaged index.
DAMAGE_ERRORS = (struct.error, IndexError, ValueError, ZeroDivisionError, OverflowError)


class Movie:
    """The index of an MP4. Times are in seconds of the VOD: 0 is where its first track begins."""

    def __init__(self, tracks: Sequence["TrackIndex"], media: Path) -> None:
        self._media = media
        self._tracks = {track.kind: track for track in tracks}
        # ffmpeg, and players with it, count from the start of the first track.
        self._zero = min(track.starts_at for track in self._tracks.values())
        self._seconds = next(iter(self._tracks.values())).ends_at - self._zero

    @classmethod
    def read(
        cls, read: Read, moov: Box, file_size: int, media: Path = Path(), *, needs_video: bool = True
    ) -> Self:
        """Read an index.

        Args:
            read: reads the file: ``read(offset, size)``.
            moov: the box of the index.
            file_size: in bytes; samples after the end of the file are left out.
            media: path of the file, if it is on this machine.
            needs_video: whether a file without video is refused.

        Raises:
            UnsupportedMedia: the file is fragmented or has no video; or its index is damaged, or has features
                that this module does not know.
        """
        try:
            tracks = [TrackIndex(read, found, file_size) for found in _choose(read, moov)]
            found = [track for track in tracks if track.has_samples]
            if not found or (needs_video and found[0].kind is not TrackKind.VIDEO):
                raise UnsupportedMedia("moov: no video track with samples")
            return cls(found, media)
        except DAMAGE_ERRORS as error:
            raise UnsupportedMedia(f"moov: damaged: {error}") from error

    @property
    def seconds(self) -> float:
        """Return the end of the video; of the audio if the file has no video."""
        return self._seconds

    @property
    def begins_at(self) -> float:
        """Return the start of the VOD, in seconds of the movie: the start of its first track."""
        return self._zero

    @property
    def is_cut_off(self) -> bool:
        """Return whether the file ends before the last sample of the index."""
        return any(track.is_cut_off for track in self._tracks.values())

    def span(self, kind: TrackKind) -> tuple[float, float] | None:
        """Return start and end of the video or the audio; None if the file has no such track."""
        track = self._tracks.get(kind)
        return (track.starts_at - self._zero, track.ends_at - self._zero) if track else None

    def select(self, start: float, end: float) -> list[Track]:
        """Return the tracks that a clip of a window needs, video first.

        Video begins with the last keyframe that is shown at or before ``start``, audio a little before
        ``start``. Offsets are those in the file. Audio without samples in the window is left out.

        Raises:
            UnsupportedMedia: the window has no video or more than 250,000 samples; or the index is damaged.
        """
        try:
            tracks = [track.select(start + self._zero, end + self._zero) for track in self._tracks.values()]
            return self._placed(tracks)
        except DAMAGE_ERRORS as error:
            raise UnsupportedMedia(f"moov: damaged: {error}") from error

    def all(self) -> list[Track]:
        """Return all samples of a short file. Raises as :meth:`select`."""
        try:
            return self._placed([track.all(self._zero) for track in self._tracks.values()])
        except DAMAGE_ERRORS as error:
            raise UnsupportedMedia(f"moov: damaged: {error}") from error

    def _placed(self, tracks: Sequence[Track]) -> list[Track]:
        """Convert the times of tracks from seconds of the movie to seconds of the VOD."""
        if not tracks[0].samples:
            raise UnsupportedMedia("moov: no video in the window")
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
        """Return where the rows are that :meth:`select` reads from large tables. Raises as :meth:`select`."""
        try:
            return [
                extent
                for track in self._tracks.values()
                for extent in track.row_extents(start + self._zero, end + self._zero)
            ]
        except DAMAGE_ERRORS as error:
            raise UnsupportedMedia(f"moov: damaged: {error}") from error


def open_movie(path: Path, *, needs_video: bool = True) -> Movie:
    """Read the index of an MP4 on this machine. Its tracks' ``media`` is ``path``.

    Raises:
        UnsupportedMedia: as :func:`find_index` and :meth:`Movie.read`.
        OSError: the file cannot be read.
    """

    def read(offset: int, size: int) -> bytes:
        with path.open("rb") as file:
            return os.pread(file.fileno(), size, offset)

    size = path.stat().st_size
    return Movie.read(read, find_index(read, size), size, media=path, needs_video=needs_video)


def find_index(read: Read, file_size: int) -> Box:
    """Return the ``moov`` box of a file; it may be anywhere among the top-level boxes.

    Raises:
        UnsupportedMedia: the file is not an MP4, or its index is missing or truncated.
    """
    for number, box in enumerate(walk(read, 0, file_size)):
        if box.kind == b"moov":
            if box.end > file_size:
                raise UnsupportedMedia(f"moov: cut off: ends at {box.end}, the file at {file_size}")
            return box
        if number >= MAX_TOP_LEVEL or (number == 0 and box.kind not in FIRST_KINDS):
            break
    raise UnsupportedMedia("MP4: no moov box among the first top-level boxes")


def find_tracks(read: Read, moov: Box) -> list[Box]:
    """Return the ``trak`` boxes of an index.

    Raises:
        UnsupportedMedia: the file is fragmented, or the index is damaged.
    """
    ranges = children(read, moov)
    if b"mvex" in ranges:
        raise UnsupportedMedia("moov: the file is fragmented (mvex)")
    return ranges.get(b"trak", [])


def visit_tables(read: Read, trak: Box, have: Callable[[int, int], None]) -> None:
    """Find the tables that :meth:`Movie.read` reads whole, without reading their content.

    Args:
        read: reads the file.
        trak: the box of the track.
        have: is called with offset and size of each such table.

    Raises:
        UnsupportedMedia: as :meth:`Movie.read`.
    """

    def visit(table: Box) -> None:
        if table.kind in SUMMED_TABLES:
            have(table.head, table.size)

    try:
        list(_read_trak(read, trak, 1, visit))
    except DAMAGE_ERRORS as error:
        raise UnsupportedMedia(f"moov: damaged: {error}") from error


@dataclass(frozen=True)
class _TrackBoxes:
    """A ``trak`` box of a video or audio track, and the boxes in it."""

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
    """Return the video and the audio that a player chooses: the first enabled track of each kind."""
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
    """Read a ``trak`` box; yield nothing for cover art, subtitles and other kinds of track."""
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
    """Return the timescale of ``mvhd`` or ``mdhd``: it follows version, flags and two dates."""
    return int(struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)[0])


class TrackIndex:
    """A track of an index. Times are in seconds of the movie, or in ticks of the track's media."""

    def __init__(self, read: Read, trak: _TrackBoxes, file_size: int) -> None:
        _check_reference(read, trak.information)
        self.kind = trak.kind
        self._formats = trak.formats
        self._display = trak.header[-DISPLAY_BYTES:] if trak.kind is TrackKind.VIDEO else b""
        self._timescale = _timescale(content(read, child(read, trak.media, b"mdhd")))
        self._edits = read_edits(read, trak.box, self._timescale, trak.movie_timescale)
        self._tables = SampleTables(read, trak.tables_box, file_size)
        self._file_size = file_size

    @property
    def has_samples(self) -> bool:
        """Return whether the track has samples within the file."""
        return self._tables.count > 0

    @property
    def is_cut_off(self) -> bool:
        """Return whether the file ends before the track's last sample."""
        return self._tables.count < self._tables.listed

    @cached_property
    def starts_at(self) -> float:
        """Return the time at which the first sample is shown."""
        first = self._edits[0]
        earliest = min(self._tables.shown(0, min(16, self._tables.count)))
        return max(first.start, first.origin + earliest / self._timescale)

    @cached_property
    def ends_at(self) -> float:
        """Return the time at which the last sample ends."""
        media_end = self._tables.end / self._timescale
        return max(min(edit.end, edit.origin + media_end) for edit in self._edits)

    def select(self, start: float, end: float) -> Track:
        """Return the samples of a window. Raises as :meth:`Movie.select`."""
        return self._joined([(wanted, self._samples(wanted)) for wanted in self._ranges(start, end)], start)

    def row_extents(self, start: float, end: float) -> list[Extent]:
        """Return where the rows are that :meth:`select` reads from large tables."""
        ranges = self._ranges(start, end)
        for wanted in ranges:
            _check_count(wanted)
        return [
            extent for wanted in ranges for extent in self._tables.row_extents(wanted.first, wanted.after)
        ]

    def all(self, zero: float) -> Track:
        """Return all samples; of a track with several edits, those that its edits need."""
        if len(self._edits) > 1:
            return self.select(zero, math.inf)
        edit = self._edits[0]
        wanted = SampleRange(edit, edit.start, edit.end, 0, self._tables.count)
        return self._joined([(wanted, self._samples(wanted))], zero)

    def _joined(self, ranges: Sequence[tuple[SampleRange, list[Sample]]], start: float) -> Track:
        joined = join(self.kind, self._timescale, ranges, start)
        used = sorted({sample.format for sample in joined.samples})
        return replace(
            joined,
            formats=tuple(self._formats[number % MAX_ENTRIES] for number in used),
            samples=_renumbered(joined.samples, used),
            display=self._display,
        )

    def _ranges(self, start: float, end: float) -> list[SampleRange]:
        """Return the samples of each edit that a window needs."""
        shown = [
            edit for edit in self._edits if min(end, edit.end) - max(start, edit.start) > ROUNDING_SECONDS
        ]
        ranges = [self._range(edit, max(start, edit.start), min(end, edit.end)) for edit in shown]
        return [wanted for wanted in ranges if wanted.after > wanted.first]

    def _range(self, edit: Edit, start: float, end: float) -> SampleRange:
        """Return the samples that are needed to show a part of an edit."""
        if self.kind is TrackKind.VIDEO:
            first = self._keyframe_before(self._ticks(edit, start + ROUNDING_SECONDS))
            after = self._needed_until(first, self._ticks(edit, end))
        else:
            first, after = self._audio_range(self._ticks(edit, start), self._ticks(edit, end))
        return SampleRange(edit, start, end, first, after)

    def _audio_range(self, start: int, end: int) -> tuple[int, int]:
        """Return the audio samples from a little before ``start`` to the first sample at or after ``end``."""
        after = self._tables.first_after(end)
        if after == 0 or self._tables.ends(after - 1) <= start:
            return 0, 0
        lead = round(LEAD_SECONDS * self._timescale)
        return self._tables.last_before(start - lead), min(after + 1, self._tables.count)

    def _ticks(self, edit: Edit, seconds: float) -> int:
        """Return the first tick of the media that is shown at or after a time."""
        return INFINITE_TICKS if math.isinf(seconds) else math.ceil((seconds - edit.origin) * self._timescale)

    def _keyframe_before(self, ticks: int) -> int:
        """Return the last keyframe that is shown at or before ``ticks``; the first sample if none is."""
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
        """Return the number after the last sample, in decoding order, that is shown before ``ticks``."""
        after = self._tables.first_after(ticks)
        first = max(first, after - MAX_REORDERED)
        shown = self._tables.shown(first, after)
        return max((first + at for at, time in enumerate(shown, start=1) if time < ticks), default=after)

    def _samples(self, wanted: SampleRange) -> list[Sample]:
        """Read the samples of a range.

        Raises:
            UnsupportedMedia: the range has more than 250,000 samples, or a sample is too large, outside the
                file, or of a sample entry that does not exist.
        """
        first, after = wanted.first, wanted.after
        _check_count(wanted)
        locations = self._tables.locations(first, after)
        largest = max((location.size for location in locations), default=0)
        if largest > MAX_SAMPLE_BYTES:
            raise UnsupportedMedia(f"stsz: a sample of {largest} bytes, the limit is {MAX_SAMPLE_BYTES}")
        if any(location.offset + location.size > self._file_size for location in locations):
            raise UnsupportedMedia(f"stco: samples outside the file of {self._file_size} bytes")
        if not all(0 <= location.entry < len(self._formats) for location in locations):
            raise UnsupportedMedia(f"stsc: a sample entry outside the {len(self._formats)} of stsd")
        times = zip(
            self._tables.decoded(first, after),
            self._tables.shown(first, after),
            self._tables.durations(first, after),
            locations,
            self._tables.are_keyframes(first, after),
            strict=True,
        )
        return [
            Sample(decoded, shown, length, location.offset, location.size, is_keyframe, location.entry)
            for decoded, shown, length, location, is_keyframe in times
        ]


def _check_count(wanted: SampleRange) -> None:
    if wanted.after - wanted.first > MAX_SAMPLES:
        raise UnsupportedMedia(
            f"moov: {wanted.after - wanted.first} samples in the window, the limit is {MAX_SAMPLES}"
        )


def _renumbered(samples: Sequence[Sample], used: Sequence[int]) -> Sequence[Sample]:
    """Convert the format numbers of samples to positions among the used ones."""
    if used == [0]:
        return samples
    numbers = {number: at for at, number in enumerate(used)}
    return [sample._replace(format=numbers[sample.format]) for sample in samples]


def _check_reference(read: Read, information: Box) -> None:
    """Check that the samples of a track are in this file.

    Raises:
        UnsupportedMedia: they are in another file, or in several files.
    """
    reference = content(read, child(read, information, b"dinf", b"dref"))
    count, _, _, flags = struct.unpack_from(">II4sI", reference, 4)
    if count != 1 or flags != SELF_CONTAINED:
        raise UnsupportedMedia(f"dref: media in another file: {count} references, flags {flags}")
