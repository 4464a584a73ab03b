"""The index of an MP4 recording (``moov``, ISO/IEC 14496-12 §8): which bytes of it hold a window.

An index has an entry for each picture and each bit of sound: that of six hours has 30 MB. ffmpeg and ffprobe
each read all of it before anything else; a clip needs a thousandth. So it is fetched once for all highlights
of a VOD, and looked up here, block by block and never as a whole: memory stays flat.

Whatever is unusual about an index is left to ffmpeg, which has seen everything: see :class:`NotPlain`.
"""

import math
import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Self

from clip_cutter.boxes import Box, BoxReader, Malformed, walk
from clip_cutter.domain.media import NotPlain
from clip_cutter.mp4_tables import REORDERED, SampleTables

PICTURE, SOUND = b"vide", b"soun"
NOTHING = -1  # the media time of an edit that shows nothing: the track starts late
ROUNDING_SECONDS = 0.001
MAX_SAMPLE_BYTES = 32 * 1024 * 1024
MAX_SAMPLES = 500_000  # of a window
KEYFRAMES_TRIED = 3  # from the last one back: when a keyframe is shown is another table's business
SELF_CONTAINED = 1


@dataclass(frozen=True)
class Samples:
    """Consecutive samples of a track. ``times`` are when each is decoded, ``shown`` when it is shown.

    Both in ticks of the media, of which there are ``track.timescale`` a second.
    """

    track: "Track"
    times: Sequence[int]
    steps: Sequence[int]
    shown: Sequence[int]
    keyframes: Sequence[int] | None  # their places in this sequence; None: all are
    sizes: Sequence[int]
    offsets: Sequence[int]

    @property
    def start(self) -> float:
        """When the first one is shown, in seconds of the file's time line."""
        return self.track.seconds(min(self.shown))


class Index:
    """The index of an MP4, in an open file that holds its ``moov`` box, and maybe the rest of it."""

    def __init__(self, picture: "Track", sound: "Track | None") -> None:
        self._picture = picture
        self._sound = sound
        # ffmpeg, and so everybody, counts from where the first track begins.
        self._zero = min(track.starts_at for track in (picture, sound) if track)

    @classmethod
    def read(cls, file: IO[bytes]) -> Self:
        """Read an index. The file must stay open.

        Raises:
            NotPlain: see there.
        """
        try:
            return cls(*_read_tracks(BoxReader(file)))
        except (Malformed, struct.error, IndexError, ZeroDivisionError, OverflowError) as error:
            raise NotPlain(f"a damaged index: {error}") from error

    @property
    def seconds(self) -> float:
        """How far the picture reaches, in seconds from the start of the VOD."""
        return self._picture.ends_at - self._zero

    def keyframe(self, seconds: float) -> tuple[bytes, bytes]:
        """The keyframe that the picture at a time hangs from, where the file has the media too.

        Returns:
            the description of its format (``stsd``), and the keyframe.

        Raises:
            NotPlain: see there.
        """
        try:
            return self._picture.description, self._picture.sample(
                self._picture.keyframe_before(seconds + self._zero)
            )
        except (struct.error, IndexError, ValueError) as error:
            raise NotPlain(f"a damaged index: {error}") from error

    def select(self, start: float, end: float) -> tuple[list[Samples], float]:
        """What a clip from ``start`` to ``end`` needs: from the keyframe before it, and its sound.

        Returns:
            the samples of the picture, and of the sound if there is any in the window; and where the file's
            time line has the start of the VOD.

        Raises:
            NotPlain: see there.
        """
        try:
            return self._select(start + self._zero, end + self._zero), self._zero
        except (struct.error, IndexError, ValueError) as error:
            raise NotPlain(f"a damaged index: {error}") from error

    def _select(self, start: float, end: float) -> list[Samples]:
        picture = self._picture.samples(self._picture.keyframe_before(start), self._picture.first_after(end))
        if picture is None:
            raise NotPlain("no picture in the window")
        if self._sound is None:
            return [picture]
        sound = self._sound.samples(self._sound.last_before(picture.start), self._sound.first_after(end))
        return [picture, sound] if sound else [picture]


def _read_tracks(read: BoxReader) -> tuple["Track", "Track | None"]:
    """The only picture, and the only sound or none."""
    moov = next((found for found in walk(read, 0, read.size) if found.kind == b"moov"), None)
    if moov is None or moov.end > read.size:
        raise Malformed("it is cut off")
    parts = read.children(moov)
    if b"mvex" in parts:
        raise NotPlain("a fragmented file")
    movie_scale = _timescale(read.content(read.child(moov, b"mvhd")))
    tracks: dict[bytes, Track] = {}
    for trak in parts.get(b"trak", []):
        kind = read.content(read.child(trak, b"mdia", b"hdlr"))[8:12]
        if kind in (PICTURE, SOUND):
            if kind in tracks:
                raise NotPlain(f"several tracks {kind!r}")
            tracks[kind] = Track(read, trak, movie_scale)
    if PICTURE not in tracks:
        raise NotPlain("no picture")
    return tracks[PICTURE], tracks.get(SOUND)


def _timescale(header: bytes) -> int:
    """Ticks a second (``mvhd``, ``mdhd``): after version, flags and two dates."""
    return int(struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)[0])


class Track:
    """One track of an index. Times are ticks of its media, seconds those of the file's time line."""

    def __init__(self, read: BoxReader, trak: Box, movie_scale: int) -> None:
        self._read = read
        media = read.child(trak, b"mdia")
        information = read.child(media, b"minf")
        tables = read.child(information, b"stbl")
        _check_reference(read, information)
        self.header = read.content(read.child(trak, b"tkhd"))
        self.media_header = read.content(read.child(media, b"mdhd"))
        self.handler = read.whole(read.child(media, b"hdlr"))
        self.is_picture = self.handler[16:20] == PICTURE
        self.description = read.whole(read.child(tables, b"stsd"))
        self.timescale = _timescale(self.media_header)
        if self.description[12:16] != b"\0\0\0\1":
            raise NotPlain("a track that changes its format")
        self._tables = SampleTables(read, tables)
        self._zero, self._from, self._to = _read_edits(read, trak, self.timescale, movie_scale)

    def seconds(self, ticks: float) -> float:
        """A time of the media on the file's time line."""
        return ticks / self.timescale - self._zero

    def _ticks(self, seconds: float) -> int:
        return math.ceil((seconds + self._zero) * self.timescale)

    @cached_property
    def starts_at(self) -> float:
        """When its first sample is shown."""
        return max(self._from, self.seconds(min(self._tables.shown(0, REORDERED))))

    @cached_property
    def ends_at(self) -> float:
        """When its last sample ends."""
        return min(self._to, self.seconds(self._tables.end))

    def keyframe_before(self, seconds: float) -> int:
        """The number of the last sample that can be decoded alone and is shown by then, else of the first."""
        wanted = self._ticks(seconds + ROUNDING_SECONDS)
        keyframes = self._tables.keyframes
        latest = self._tables.last_before(wanted)
        if keyframes is None:
            return latest
        after = bisect_right(keyframes, latest + 1)
        numbers = [keyframes[at] - 1 for at in range(after - 1, max(after - 1 - KEYFRAMES_TRIED, -1), -1)]
        for number in numbers:
            if self._tables.shown(number, number + 1)[0] <= wanted:
                return number
        return numbers[-1] if numbers else 0

    def last_before(self, seconds: float) -> int:
        """The number of the last sample to be decoded by then, else of the first."""
        return self._tables.last_before(self._ticks(seconds))

    def first_after(self, seconds: float) -> int:
        """The number after the last sample that is decoded before then."""
        return self._tables.first_after(self._ticks(seconds))

    def sample(self, number: int) -> bytes:
        """The media of one sample.

        Raises:
            NotPlain: it is larger than any.
        """
        sizes, offsets = self._tables.places(number, number + 1)
        if sizes[0] > MAX_SAMPLE_BYTES:
            raise NotPlain(f"a sample of {sizes[0]} bytes")
        return self._read(offsets[0], sizes[0])

    def samples(self, first: int, after: int) -> Samples | None:
        """The samples from one number up to another; None: there are none."""
        if first >= after:
            return None
        if after - first > MAX_SAMPLES:
            raise NotPlain(f"{after - first} samples in the window")
        times, steps = self._tables.times(first, after)
        shown = self._tables.shown(first, after)
        if len(times) != len(shown) or min(shown) < times[0]:
            raise NotPlain("times that run backwards")
        sizes, offsets = self._tables.places(first, after)
        keyframes = self._tables.keyframes_between(first, after)
        return Samples(self, times, steps, shown, keyframes, sizes, offsets)


def _check_reference(read: BoxReader, information: Box) -> None:
    """Its samples must be in the file itself, not in another one that it names."""
    reference = read.content(read.child(information, b"dinf", b"dref"))
    count, _, _, flags = struct.unpack_from(">II4sI", reference, 4)
    if count != 1 or flags != SELF_CONTAINED:
        raise NotPlain("media in another file")


def _read_edits(read: BoxReader, trak: Box, timescale: int, movie_scale: int) -> tuple[float, float, float]:
    """What the edit list says (``elst``): all in seconds.

    Returns:
        the media time that stands at zero of the time line, and from when to when anything is shown.
    """
    if b"edts" not in read.children(trak):
        return 0.0, 0.0, math.inf
    edits = read.content(read.child(trak, b"edts", b"elst"))
    (count,) = struct.unpack_from(">I", edits, 4)
    form = struct.Struct(">Qqhh" if edits[0] == 1 else ">Iihh")
    rows = list(form.iter_unpack(edits[8 : 8 + count * form.size]))
    if len(rows) != count:
        raise Malformed("an edit list that is cut off")
    pause = 0
    if rows and rows[0][1] == NOTHING:
        pause = rows.pop(0)[0]
    if len(rows) != 1 or rows[0][1] < 0 or rows[0][2:] != (1, 0) or (pause and rows[0][1] > timescale):
        raise NotPlain("an edit list that does more than place the start and the end")
    duration, media_time = rows[0][:2]
    start = pause / movie_scale
    return media_time / timescale - start, start, start + duration / movie_scale if duration else math.inf
