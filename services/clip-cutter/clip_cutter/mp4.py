"""The edit lists of a clip: which of its samples are shown, set to the frame.

A copied clip holds more than it shows: it begins with the keyframe before its start, and it ends with
pictures that its last B-frames refer to. The edit list (``elst``, ISO/IEC 14496-12 §8.6.6) hides both.
ffmpeg sets its start to the time asked for, which lies between two frames, and leaves its end open. This
module reads when each sample is shown and then sets both ends in place: no sample is moved or copied.

Only files that our own ffmpeg just wrote come here: one ``moov``, no fragments, an edit list in each track.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, chain, repeat
from pathlib import Path
from typing import Self

MAX_HEADER_BYTES = 64 * 1024 * 1024
MAX_SAMPLES = 1_000_000
BOX_HEAD = struct.Struct(">I4s")
NOTHING = -1  # the media time of an edit that shows nothing: the track starts late
ROUNDING_SECONDS = 0.001
KINDS = {b"vide": "video", b"soun": "audio"}


class MalformedClip(Exception):
    """The file is not an MP4 as our own ffmpeg writes it."""


@dataclass(frozen=True)
class Track:
    """When the samples of a track are shown: seconds on the clip's time line, in decoding order.

    What is negative is hidden before the start. ``earliest_start`` is how far back the start can be moved.
    """

    kind: str  # video or audio
    times: tuple[float, ...]
    keyframes: tuple[float, ...]
    end: float
    earliest_start: float


@dataclass(frozen=True)
class Shown:
    """What is shown of a track, in seconds on the clip's time line.

    ``first``: when its first sample is; infinite where none is. ``first_keyframe``: the first one that can be
    decoded alone.
    """

    first: float
    first_keyframe: float | None


class Movie:
    """The header of an MP4, in memory: look at its tracks, then choose what is shown."""

    def __init__(self, path: Path, offset: int, moov: bytearray) -> None:
        self._path = path
        self._offset = offset
        self._moov = moov
        root = _Box(moov, BOX_HEAD.size, len(moov))
        self._header = root.child(b"mvhd")
        traks = list(root.children(b"trak"))
        if not traks:
            raise MalformedClip("no tracks")
        self._tables = [_Tables(trak, self._header.timescale) for trak in traks if _has_samples(trak)]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the header of the file at ``path``.

        Raises:
            MalformedClip: it has none, or a damaged one.
        """
        try:
            return cls(path, *_read_header(path))
        except (struct.error, IndexError, ZeroDivisionError, ValueError) as error:
            raise MalformedClip(f"a damaged header: {error}") from error

    def track(self, kind: str) -> Track | None:
        """The track of a kind, ``video`` or ``audio``, if there is one with any samples."""
        return next((tables.track() for tables in self._tables if tables.kind == kind), None)

    def shown(self, kind: str) -> Shown:
        """What is shown of the track of a kind."""
        track = self.track(kind)
        times, keyframes = (track.times, track.keyframes) if track else ((), ())
        return Shown(
            first=min((time for time in times if time >= -ROUNDING_SECONDS), default=math.inf),
            first_keyframe=min((time for time in keyframes if time >= -ROUNDING_SECONDS), default=None),
        )

    def show(self, start: float, end: float) -> None:
        """Show only what lies between two times of the present time line, and save: ``start`` becomes zero.

        Raises:
            MalformedClip: a track cannot be moved that far back.
        """
        self._header.write_duration(max((tables.show(start, end) for tables in self._tables), default=0))
        with self._path.open("r+b") as file:
            file.seek(self._offset)
            file.write(self._moov)


def _read_header(path: Path) -> tuple[int, bytearray]:
    """The offset and the bytes of the ``moov`` box."""
    offset = 0
    with path.open("rb") as file:
        while len(head := file.read(2 * BOX_HEAD.size)) >= BOX_HEAD.size:
            size, kind = BOX_HEAD.unpack_from(head)
            if size == 1:  # a 64-bit size follows
                (size,) = struct.unpack_from(">Q", head, BOX_HEAD.size)
            if size < BOX_HEAD.size or (kind == b"moov" and size > MAX_HEADER_BYTES):
                break
            file.seek(offset)
            if kind == b"moov":
                return offset, bytearray(file.read(size))
            offset += size
            file.seek(offset)
    raise MalformedClip("no header")


class _Box:
    """A box of the header; its content is ``data[start:end]`` and begins with a version and flags."""

    def __init__(self, data: bytearray, start: int, end: int) -> None:
        if end > len(data):
            raise MalformedClip("a box reaches beyond the header")
        self.data, self.start, self.end = data, start, end

    @property
    def is_wide(self) -> bool:
        """Whether its times take 64 bits (version 1)."""
        return self.data[self.start] == 1

    @property
    def timescale(self) -> int:
        """Ticks a second (``mvhd``, ``mdhd``): after version and two dates."""
        return int(struct.unpack_from(">I", self.data, self.start + (20 if self.is_wide else 12))[0])

    def write_duration(self, ticks: int) -> None:
        """Set the duration (``mvhd``: after the time scale; ``tkhd``: after the track's id and a gap)."""
        spare = 4 if self.data[self.start - 4 : self.start] == b"mvhd" else 8
        at = self.start + (20 if self.is_wide else 12) + spare
        struct.pack_into(">Q" if self.is_wide else ">I", self.data, at, ticks)

    def children(self, kind: bytes) -> Iterator["_Box"]:
        """The boxes of a kind in this one (which has no version of its own)."""
        offset = self.start
        while offset < self.end:
            size, found = BOX_HEAD.unpack_from(self.data, offset)
            if size < BOX_HEAD.size:
                raise MalformedClip("a box without a size")
            if found == kind:
                yield _Box(self.data, offset + BOX_HEAD.size, offset + size)
            offset += size

    def find(self, *path: bytes) -> "_Box | None":
        """The first box at the end of a path of kinds."""
        box: _Box | None = self
        for kind in path:
            box = next(box.children(kind), None) if box is not None else None
        return box

    def child(self, *path: bytes) -> "_Box":
        """As :meth:`find`, of a box that must be there."""
        if (box := self.find(*path)) is None:
            raise MalformedClip(f"no {path[-1].decode()}")
        return box

    def rows(self, form: str) -> Iterator[tuple[int, ...]]:
        """The rows of a table: after version and flags a count, then the rows."""
        (count,) = struct.unpack_from(">I", self.data, self.start + 4)
        size = struct.calcsize(form)
        return struct.iter_unpack(form, self.data[self.start + 8 : self.start + 8 + count * size])


class _Tables:
    """The tables of one track that say when its samples are shown. Times are ticks of the track's media."""

    def __init__(self, trak: _Box, movie_timescale: int) -> None:
        handler = trak.child(b"mdia", b"hdlr")
        self.kind = KINDS.get(bytes(trak.data[handler.start + 8 : handler.start + 12]), "other")
        self._header = trak.child(b"tkhd")
        self._scale = trak.child(b"mdia", b"mdhd").timescale
        self._movie_scale = movie_timescale
        self._shown, self._end, self._keys = _read_samples(trak.child(b"mdia", b"minf", b"stbl"))
        self._edits = trak.child(b"edts", b"elst")
        self._edit_form = ">Qqhh" if self._edits.is_wide else ">Iihh"
        self._zero, self._starts_late = self._read_edits()

    def _read_edits(self) -> tuple[float, bool]:
        """The media time that stands at the movie's zero, and whether there is room for a late start."""
        match list(self._edits.rows(self._edit_form)):
            case [(_, media_time, *_)] if media_time >= 0:
                return media_time, False
            case [(pause, nothing, *_), (_, media_time, *_)] if nothing == NOTHING and media_time >= 0:
                return media_time - pause * self._scale / self._movie_scale, True
        raise MalformedClip("an edit list of another shape")

    def track(self) -> Track:
        """What is known of the track, in seconds."""
        earliest = -math.inf if self._starts_late else self._seconds(min(self._shown))
        return Track(
            kind=self.kind,
            times=tuple(map(self._seconds, self._shown)),
            keyframes=tuple(map(self._seconds, self._keys)),
            end=self._seconds(self._end),
            earliest_start=earliest,
        )

    def _seconds(self, ticks: float) -> float:
        return (ticks - self._zero) / self._scale

    def show(self, start: float, end: float) -> int:
        """Rewrite the edit list for a new start and end; returns the track's new duration in movie ticks."""
        zero = self._zero + start * self._scale
        late = min(self._shown) - zero
        pause = self._movie_ticks(late) if late > 1 else 0
        media_time = max(round(zero), min(self._shown))
        duration = max(self._movie_ticks(min(self._end, zero + (end - start) * self._scale) - zero), pause)
        self._write_edits(pause, duration - pause, media_time)
        self._zero = zero
        self._header.write_duration(duration)
        return duration

    def _movie_ticks(self, media_ticks: float) -> int:
        return round(media_ticks * self._movie_scale / self._scale)

    def _write_edits(self, pause: int, duration: int, media_time: int) -> None:
        rows = [(duration, media_time, 1, 0)]
        if pause > 0:
            rows.insert(0, (pause, NOTHING, 1, 0))
        if len(rows) > 1 + self._starts_late:
            raise MalformedClip("a track cannot start that late")
        row = struct.Struct(self._edit_form)
        data, start = self._edits.data, self._edits.start
        if len(rows) == 1 and self._starts_late:
            # One edit fewer: what it took becomes a free box, so that nothing after it moves.
            BOX_HEAD.pack_into(data, start - BOX_HEAD.size, BOX_HEAD.size + 8 + row.size, b"elst")
            BOX_HEAD.pack_into(data, start + 8 + row.size, row.size, b"free")
            self._starts_late = False
        struct.pack_into(">I", data, start + 4, len(rows))
        for index, each in enumerate(rows):
            row.pack_into(data, start + 8 + index * row.size, *each)


def _has_samples(trak: _Box) -> bool:
    return any(True for _ in trak.child(b"mdia", b"minf", b"stbl", b"stts").rows(">II"))


def _read_samples(samples: _Box) -> tuple[list[int], int, list[int]]:
    """When each sample is shown, when the last one ends, and the keyframes among them."""
    steps = _expand(samples.child(b"stts"), ">II")
    offsets = samples.find(b"ctts")
    shifts = _expand(offsets, ">Ii") if offsets else [0] * len(steps)
    shown = [at + shift for at, shift, _ in zip(accumulate(steps, initial=0), shifts, steps, strict=False)]
    end = max(at + step for at, step in zip(shown, steps, strict=True))
    sync = samples.find(b"stss")
    keys = [shown[number - 1] for (number,) in sync.rows(">I")] if sync else shown
    return shown, end, keys


def _expand(table: _Box, form: str) -> list[int]:
    """The value of each sample, from a table of runs: how often, and which value."""
    runs = list(table.rows(form))
    if sum(count for count, _ in runs) > MAX_SAMPLES:
        raise MalformedClip("more samples than a clip can have")
    return list(chain.from_iterable(repeat(value, count) for count, value in runs))
