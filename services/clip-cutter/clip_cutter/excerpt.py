"""An excerpt of an MP4 recording: a file of its own, with the samples of a window and an index of just them.

It holds what ffmpeg would have read from the whole recording, and nothing else. Every sample keeps its time
relative to the others; only the start of the time line is moved. ffmpeg then cuts it as any other file.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from clip_cutter.boxes import HEAD, WIDE_SIZE, box, full_box
from clip_cutter.domain.media import ByteRange, NotPlain
from clip_cutter.mp4_index import NOTHING, Samples

# The movie's ticks a second: those of MPEG-TS, and fine enough for every frame rate.
MOVIE_TIMESCALE = 90_000
MAX_GAP_BYTES = 64 * 1024  # is read with what lies around it: cheaper than another request
MAX_RANGES = 64
DATA_INFORMATION = box(
    b"dinf",
    full_box(b"dref", struct.pack(">I", 1), full_box(b"url ", flags=1)),  # it lies in this file
)
UNITY = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


@dataclass(frozen=True)
class Excerpt:
    """A file to be: ``header``, followed by the ``ranges`` of the recording, one after the other."""

    header: bytes
    ranges: Sequence[ByteRange]

    @property
    def size_bytes(self) -> int:
        """How large it will be."""
        return len(self.header) + sum(each.size for each in self.ranges)


def excerpt_of(file_type: bytes, parts: Sequence[Samples], start: float) -> Excerpt:
    """Lay out an excerpt.

    Args:
        file_type: the recording's ``ftyp`` box: what its other boxes mean depends on it.
        parts: the samples of each track.
        start: where its time line begins on that of the recording's file, in seconds.

    Raises:
        NotPlain: they lie in too many places, or do not fit the usual sizes of numbers.
    """
    ranges = list(_ranges(parts))
    if len(ranges) > MAX_RANGES:
        raise NotPlain("samples that are scattered over the file")
    data = HEAD.pack(1, b"mdat") + WIDE_SIZE.pack(
        HEAD.size + WIDE_SIZE.size + sum(each.size for each in ranges)
    )
    try:
        # The index has the same size wherever the samples lie.
        index = _index(parts, start, _Layout(ranges, 0))
        position = len(file_type) + len(index) + len(data)
        index = _index(parts, start, _Layout(ranges, position))
    except struct.error as error:
        raise NotPlain(f"numbers that are too large: {error}") from error
    return Excerpt(file_type + index + data, ranges)


def _ranges(parts: Sequence[Samples]) -> Iterator[ByteRange]:
    """Where the samples lie, those that are close to each other together."""
    places = sorted(
        (offset, offset + size)
        for part in parts
        for offset, size in zip(part.offsets, part.sizes, strict=True)
    )
    start, end = places[0]
    for next_start, next_end in places:
        if next_start > end + MAX_GAP_BYTES:
            yield ByteRange(start, end)
            start = next_start
        end = max(end, next_end)
    yield ByteRange(start, end)


class _Layout:
    """Where bytes of the recording lie in the excerpt: its ranges one after the other, from a position on."""

    def __init__(self, ranges: Sequence[ByteRange], position: int) -> None:
        self._starts = [each.start for each in ranges]
        self._positions = list(accumulate((each.size for each in ranges), initial=position))

    def place(self, offset: int) -> int:
        """Where the byte at an offset of the recording lies."""
        at = bisect_right(self._starts, offset) - 1
        return self._positions[at] + offset - self._starts[at]


def _index(parts: Sequence[Samples], start: float, layout: _Layout) -> bytes:
    """The ``moov`` box."""
    pauses = [round((part.start - start) * MOVIE_TIMESCALE) for part in parts]
    lengths = [round(_ticks(part) * MOVIE_TIMESCALE / part.track.timescale) for part in parts]
    duration = max(pause + length for pause, length in zip(pauses, lengths, strict=True))
    header = struct.pack(">4I", 0, 0, MOVIE_TIMESCALE, duration)
    rate_and_volume = struct.pack(">ih10x", 0x10000, 0x100)
    next_track = struct.pack(">24xI", len(parts) + 1)
    return box(
        b"moov",
        full_box(b"mvhd", header, rate_and_volume, UNITY, next_track),
        *(
            _track(number, part, pause, length, layout)
            for number, (part, pause, length) in enumerate(zip(parts, pauses, lengths, strict=True), start=1)
        ),
    )


def _ticks(part: Samples) -> int:
    """How long the samples last, from the first one shown."""
    return max(shown + step for shown, step in zip(part.shown, part.steps, strict=True)) - min(part.shown)


def _track(number: int, part: Samples, pause: int, length: int, layout: _Layout) -> bytes:
    """The ``trak`` box; ``pause`` and ``length`` in ticks of the movie."""
    track = part.track
    edits = [struct.pack(">IiI", length, min(part.shown) - part.times[0], 0x10000)]
    if pause:
        edits.insert(0, struct.pack(">IiI", pause, NOTHING, 0x10000))
    look = track.header[-60:]  # layer, volume, matrix, size: the end of any version
    media_header = struct.pack(">4I", 0, 0, track.timescale, sum(part.steps)) + track.media_header[-4:]
    header = full_box(b"vmhd", bytes(8), flags=1) if track.is_picture else full_box(b"smhd", bytes(4))
    return box(
        b"trak",
        full_box(b"tkhd", struct.pack(">5I", 0, 0, number, 0, pause + length), look, flags=3),
        box(b"edts", full_box(b"elst", struct.pack(">I", len(edits)), *edits)),
        box(
            b"mdia",
            full_box(b"mdhd", media_header),
            track.handler,
            box(b"minf", header, DATA_INFORMATION, _tables(part, layout)),
        ),
    )


def _tables(part: Samples, layout: _Layout) -> bytes:
    """The ``stbl`` box: every sample is a chunk of its own."""
    shifts = [shown - time for shown, time in zip(part.shown, part.times, strict=True)]
    tables = [
        part.track.description,
        _table(b"stts", ">II", _runs(part.steps)),
        _table(b"ctts", ">II", _runs(shifts)),
        _table(b"stsc", ">III", [(1, 1, 1)]),
        full_box(b"stsz", struct.pack(f">2I{len(part.sizes)}I", 0, len(part.sizes), *part.sizes)),
        _table(b"co64", ">Q", [(layout.place(offset),) for offset in part.offsets]),
    ]
    if part.keyframes is not None:
        tables.append(_table(b"stss", ">I", [(place + 1,) for place in part.keyframes]))
    return box(b"stbl", *tables)


def _runs(values: Iterable[int]) -> list[tuple[int, int]]:
    """How often each value comes one after the other, and the value."""
    return [(len(list(same)), value) for value, same in groupby(values)]


def _table(kind: bytes, form: str, rows: Sequence[tuple[int, ...]]) -> bytes:
    row = struct.Struct(form)
    return full_box(kind, struct.pack(">I", len(rows)), *(row.pack(*each) for each in rows))
