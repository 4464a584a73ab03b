"""Writes an MP4 (ISO/IEC 14496-12) with samples from other files.

The index is first in the file ("faststart"), and the samples are interleaved by time. The edit list
(``elst``, §8.6.6) hides the samples that the decoder needs but a player must not show: those from the
keyframe to the start of the clip, and those after its end. Samples are copied byte by byte; their times are
new.
"""

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path

from clip_cutter.containers.model import Sample, Track, TrackKind

MOVIE_TIMESCALE = 90_000  # ticks per second of edit lists: as in MPEG-TS, enough for every frame rate
CHUNK_SECONDS = 0.5  # length of a chunk of one track, before a chunk of the other track
MAX_SPAN_BYTES = 4 * 1024 * 1024  # read in one request, with the samples of the other track between
EMPTY_EDIT = -1  # the media_time of an edit that shows nothing, for a track that starts late
UNITY = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
HANDLERS = {TrackKind.VIDEO: (b"vide", b"VideoHandler\0"), TrackKind.AUDIO: (b"soun", b"SoundHandler\0")}
# The brands that ffmpeg writes: every player reads them.
FILE_TYPE = b"isom" + struct.pack(">I", 0x200) + b"isomiso2avc1mp41"
UNDETERMINED = 0x55C4  # the language "und" (§8.4.2.3)
WIDE_HEAD = struct.Struct(">I4sQ")
WIDE_OFFSETS = 2**32


class Unwritable(ValueError):
    """The samples cannot be written as an MP4; the message gives the reason."""


@dataclass(frozen=True)
class _Chunk:
    """Consecutive samples of one track in the written file; ``track`` is the position of the track."""

    samples: Sequence[Sample]
    track: int
    seconds: float

    @property
    def size(self) -> int:
        return sum(sample.size for sample in self.samples)


def write(path: Path, tracks: Sequence[Track], start: float, end: float) -> None:
    """Write an MP4 that shows tracks from ``start`` to ``end``.

    All samples are written, in decoding order; the edit list hides those outside. ``start`` becomes time 0 of
    the file; a track that begins after ``start`` begins late in the file.

    Args:
        path: of the file to write.
        tracks: at most one of each kind.
        start: of the clip, in seconds of the VOD.
        end: of the clip, in seconds of the VOD.

    Raises:
        Unwritable: a track has no samples or shows nothing, its decode times go back, or a number is too
            large.
        OSError: the disk is full.
    """
    try:
        tracks = [_with_sample_ticks(track) for track in tracks]
        chunks = _interleave(tracks)
        file_type = _box(b"ftyp", FILE_TYPE)
        has_wide_offsets = sum(chunk.size for chunk in chunks) > WIDE_OFFSETS // 2
        layout = _MovieLayout(tracks, start, end, has_wide_offsets=has_wide_offsets)
        data_at = len(file_type) + len(layout.index(chunks, 0)) + WIDE_HEAD.size
        header = file_type + layout.index(chunks, data_at)
    except struct.error as error:
        raise Unwritable(f"MP4: a number is too large: {error}") from error
    with path.open("wb") as file:
        file.write(header)
        size = WIDE_HEAD.size + sum(chunk.size for chunk in chunks)
        file.write(WIDE_HEAD.pack(1, b"mdat", size))
        file.writelines(_media(tracks, chunks))


def _with_sample_ticks(track: Track) -> Track:
    """Return the track; audio with a timescale that is its sample rate.

    ffmpeg, which browsers use too, counts the ticks that an edit list hides as samples: of a track with 10
    million ticks per second it would hide minutes. A timescale of twice the rate is kept: SBR has it.
    """
    rates = {each.rate for each in track.formats}
    if track.kind is not TrackKind.AUDIO or len(rates) != 1:
        return track
    (rate,) = rates
    if not rate or track.timescale in (rate, 2 * rate):
        return track
    samples = [
        sample._replace(
            decoded=_scaled(sample.decoded, rate, track.timescale),
            shown=(shown := _scaled(sample.shown, rate, track.timescale)),
            length=_scaled(sample.shown + sample.length, rate, track.timescale) - shown,
        )
        for sample in track.samples
    ]
    return replace(track, timescale=rate, samples=samples)


def _scaled(ticks: int, rate: int, timescale: int) -> int:
    return (2 * ticks * rate + timescale) // (2 * timescale)


def _interleave(tracks: Sequence[Track]) -> list[_Chunk]:
    chunks: list[_Chunk] = []
    for number, track in enumerate(tracks):
        if not track.samples:
            raise Unwritable(f"{track.kind} track: no samples")
        step = CHUNK_SECONDS * track.timescale
        for _, group in groupby(track.samples, key=lambda sample: (sample.decoded // step, sample.format)):
            samples = list(group)
            chunks.append(_Chunk(samples, number, track.seconds(samples[0].decoded)))
    return sorted(chunks, key=lambda chunk: chunk.seconds)


def _media(tracks: Sequence[Track], chunks: Iterable[_Chunk]) -> Iterator[bytes]:
    """Yield the bytes of all samples, in the order of the chunks."""
    with ExitStack() as files:
        descriptors = [files.enter_context(track.media.open("rb")).fileno() for track in tracks]
        for chunk in chunks:
            yield from _data_of(descriptors[chunk.track], chunk.samples)


def _data_of(descriptor: int, samples: Sequence[Sample]) -> Iterator[bytes]:
    """Yield the bytes of samples: read in one span if that is small, else each group of adjacent samples."""
    start = min(sample.offset for sample in samples)
    end = max(sample.offset + sample.size for sample in samples)
    if end - start > MAX_SPAN_BYTES:
        yield from (_read(descriptor, offset, size) for offset, size in _adjacent(samples))
        return
    span = memoryview(_read(descriptor, start, end - start))
    yield b"".join(span[sample.offset - start :][: sample.size] for sample in samples)


def _read(descriptor: int, offset: int, size: int) -> bytes:
    data = os.pread(descriptor, size, offset)
    if len(data) != size:
        raise Unwritable(f"samples: {len(data)} of {size} bytes at offset {offset} of their file")
    return data


def _adjacent(samples: Iterable[Sample]) -> Iterator[tuple[int, int]]:
    start = end = -1
    for sample in samples:
        if sample.offset != end:
            if end > start:
                yield start, end - start
            start = sample.offset
        end = sample.offset + sample.size
    if end > start:
        yield start, end - start


class _MovieLayout:
    """Makes the index of the file; the size of the index does not depend on the offset of the data."""

    def __init__(self, tracks: Sequence[Track], start: float, end: float, *, has_wide_offsets: bool) -> None:
        self._timings = [_TrackTiming(track, start, end) for track in tracks]
        self._has_wide_offsets = has_wide_offsets

    def index(self, chunks: Sequence[_Chunk], data_at: int) -> bytes:
        """Return the ``moov`` box of a file whose samples begin at offset ``data_at``."""
        offsets: list[list[int]] = [[] for _ in self._timings]
        for chunk in chunks:
            offsets[chunk.track].append(data_at)
            data_at += chunk.size
        duration = max(timing.duration for timing in self._timings)
        header = struct.pack(">4I", 0, 0, MOVIE_TIMESCALE, duration)
        rate_and_volume = struct.pack(">ih10x", 0x10000, 0x100)
        next_track = struct.pack(">24xI", len(self._timings) + 1)
        traks = (
            self._trak(number, timing, [chunk for chunk in chunks if chunk.track == number], offsets[number])
            for number, timing in enumerate(self._timings)
        )
        return _box(b"moov", _full_box(b"mvhd", header, rate_and_volume, UNITY, next_track), *traks)

    def _trak(
        self, number: int, timing: "_TrackTiming", chunks: Sequence[_Chunk], offsets: Sequence[int]
    ) -> bytes:
        track = timing.track
        handler, name = HANDLERS[track.kind]
        head = struct.pack(">5I8x2h", 0, 0, number + 1, 0, timing.duration, 0, 0)
        volume = struct.pack(">H2x", 0x100 if track.kind is TrackKind.AUDIO else 0)
        language = struct.pack(">HH", UNDETERMINED, 0)
        media_header = (
            _full_box(b"vmhd", bytes(8), flags=1)
            if track.kind is TrackKind.VIDEO
            else _full_box(b"smhd", bytes(4))
        )
        reference = _full_box(b"dref", struct.pack(">I", 1), _full_box(b"url ", flags=1))  # in this file
        return _box(
            b"trak",
            _full_box(b"tkhd", head, volume, track.display or _unrotated(track), flags=3),
            _box(b"edts", _full_box(b"elst", *timing.edits())),
            _box(
                b"mdia",
                _full_box(b"mdhd", struct.pack(">4I", 0, 0, track.timescale, timing.media_ticks), language),
                _full_box(b"hdlr", bytes(4), handler, bytes(12), name),
                _box(b"minf", media_header, _box(b"dinf", reference), self._stbl(timing, chunks, offsets)),
            ),
        )

    def _stbl(self, timing: "_TrackTiming", chunks: Sequence[_Chunk], offsets: Sequence[int]) -> bytes:
        track = timing.track
        sizes = [sample.size for sample in track.samples]
        tables = [
            _full_box(
                b"stsd",
                struct.pack(">I", len(track.formats)),
                *(each.entry for each in track.formats),
            ),
            _table(b"stts", ">II", _runs(timing.durations)),
            _table(b"stsc", ">III", _chunk_runs(chunks)),
            _full_box(b"stsz", struct.pack(f">2I{len(sizes)}I", 0, len(sizes), *sizes)),
            _table(
                b"co64" if self._has_wide_offsets else b"stco",
                ">Q" if self._has_wide_offsets else ">I",
                _rows(offsets),
            ),
        ]
        if any(timing.composition_offsets):
            tables.append(_table(b"ctts", ">II", _runs(timing.composition_offsets)))
        if not all(sample.is_keyframe for sample in track.samples):
            keyframes = [at for at, sample in enumerate(track.samples, start=1) if sample.is_keyframe]
            tables.append(_table(b"stss", ">I", _rows(keyframes)))
        return _box(b"stbl", *tables)


class _TrackTiming:
    """Times of a track's samples in the file, and the part that its edit list shows."""

    def __init__(self, track: Track, start: float, end: float) -> None:
        self.track = track
        samples = track.samples
        # Decoding begins so early that no sample is shown before it is decoded (§8.6.1.3).
        early = max(0, *(sample.decoded - sample.shown for sample in samples))
        self._zero = samples[0].decoded - early
        self.composition_offsets = [sample.shown - sample.decoded + early for sample in samples]
        seen = [sample for sample in samples if sample.length] or samples
        shown_to = max(sample.shown + sample.length for sample in seen)
        shown_from = min(sample.shown for sample in seen)
        begin = max(track.ticks(start), shown_from)
        finish = min(track.ticks(end), shown_to)
        if finish <= begin:
            raise Unwritable(f"{track.kind} track: no sample is shown between {start:.3f} s and {end:.3f} s")
        # Players take the end of the last decoded sample for the end of the clip, also if another is shown
        # last.
        is_video = track.kind is TrackKind.VIDEO
        self.durations = _durations(samples, finish - samples[-1].shown if is_video else samples[-1].length)
        self.media_ticks = sum(self.durations)
        self._empty_ticks = (
            _movie_ticks(track.seconds(begin) - start) if begin > track.ticks(start) + 1 else 0
        )
        self._media_time = begin - self._zero
        self._shown_ticks = _movie_ticks((finish - begin) / track.timescale)
        self.duration = self._empty_ticks + self._shown_ticks

    def edits(self) -> list[bytes]:
        """Return the number of edits, and the edits (``elst``, §8.6.6)."""
        rows = [struct.pack(">IiI", self._shown_ticks, self._media_time, 0x10000)]
        if self._empty_ticks:
            rows.insert(0, struct.pack(">IiI", self._empty_ticks, EMPTY_EDIT, 0x10000))
        return [struct.pack(">I", len(rows)), *rows]


def _durations(samples: Sequence[Sample], last: int) -> list[int]:
    """Return the durations for ``stts``; ``last`` is that of the last sample, in ticks."""
    decoded = [sample.decoded for sample in samples]
    durations = [after - before for before, after in pairwise(decoded)]
    if min(durations, default=0) < 0:
        raise Unwritable(f"stts: decode times run backwards by {-min(durations)} ticks")
    return [*durations, max(last, 1)]


def _movie_ticks(seconds: float) -> int:
    return round(seconds * MOVIE_TIMESCALE)


def _unrotated(track: Track) -> bytes:
    """Return matrix and size (16.16) for a track that is shown as it is coded."""
    first = track.formats[0]
    return UNITY + struct.pack(">2I", first.width << 16, first.height << 16)


def _chunk_runs(chunks: Sequence[_Chunk]) -> list[tuple[int, ...]]:
    """Return the rows of ``stsc`` (§8.7.4): first chunk, samples per chunk, and sample entry of each run."""
    rows: list[tuple[int, ...]] = []
    for number, chunk in enumerate(chunks, start=1):
        alike = (len(chunk.samples), chunk.samples[0].format + 1)
        if not rows or rows[-1][1:] != alike:
            rows.append((number, *alike))
    return rows


def _runs(values: Iterable[int]) -> list[tuple[int, ...]]:
    """Return run lengths: the number of equal values in a row, and the value."""
    return [(len(list(same)), value) for value, same in groupby(values)]


def _rows(values: Iterable[int]) -> list[tuple[int, ...]]:
    return [(value,) for value in values]


def _table(kind: bytes, form: str, rows: Sequence[tuple[int, ...]]) -> bytes:
    row = struct.Struct(form)
    return _full_box(kind, struct.pack(">I", len(rows)), *(row.pack(*each) for each in rows))


def _box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full_box(kind: bytes, *content: bytes, flags: int = 0) -> bytes:
    """Return a box that begins with version 0 and flags (§4.2)."""
    return _box(kind, struct.pack(">I", flags), *content)
