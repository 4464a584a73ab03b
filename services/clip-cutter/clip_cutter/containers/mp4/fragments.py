"""Movie fragments (``moof``, ISO/IEC 14496-12 §8.8): an MP4 written while its recording went on.

The header (``moov``) says what the tracks are, and what their samples have in common (``trex``, §8.8.3); each
fragment lists the samples that follow it. Numbers that a fragment leaves out are taken from there.
"""

import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from clip_cutter.containers.model import Format, Sample, TrackKind, UnsupportedMedia
from clip_cutter.containers.mp4.boxes import Box, Read, child, children, content, walk
from clip_cutter.containers.mp4.edit_list import UNEDITED, read_edits
from clip_cutter.containers.mp4.sample_entries import is_cover_art, read_entries
from clip_cutter.containers.mp4.sample_tables import SampleTables

MAX_MOOF_BYTES = 16 * 1024 * 1024
MAX_SAMPLES = 200_000  # of all tracks in a fragment
MAX_LISTED = 50_000  # of a track, by the header itself
MAX_SAMPLE_BYTES = 32 * 1024 * 1024
MAX_TRACKS = 64
# The head of a ``moof``, and of the ``mfhd`` that it begins with (§8.8.5), which has 16 bytes.
MOOF_HEAD_BYTES = 24
MOOF = re.compile(rb"moof\0\0\0\x10mfhd", re.DOTALL)
SIZE_BYTES = 4
HANDLERS = {b"vide": TrackKind.VIDEO, b"soun": TrackKind.AUDIO}
ENABLED = 1  # a flag of a track (§8.3.2)
DISPLAY_BYTES = 44  # of the track header: the matrix and the size (§8.3.2)
# Of ``tfhd`` (§8.8.7.1) and ``trun`` (§8.8.8.1): which fields follow.
BASE_OFFSET, DESCRIPTION, DURATION, SIZE, FLAGS = 0x1, 0x2, 0x8, 0x10, 0x20
DEFAULT_BASE_IS_MOOF = 0x020000
DATA_OFFSET, FIRST_FLAGS = 0x1, 0x4
SAMPLE_DURATION, SAMPLE_SIZE, SAMPLE_FLAGS, SAMPLE_SHIFT = 0x100, 0x200, 0x400, 0x800
COLUMNS = (SAMPLE_DURATION, SAMPLE_SIZE, SAMPLE_FLAGS, SAMPLE_SHIFT)
# Of a sample (§8.8.3.1): that it is no sync sample, or depends on others.
NON_SYNC, DEPENDS = 0x10000, 0x1000000


class SampleDefaults(NamedTuple):
    """What the samples of a track have unless a fragment says otherwise; ``format`` counts from 1."""

    format: int
    duration: int
    size: int
    flags: int


@dataclass(frozen=True)
class FragmentedTrack:
    """A track of a fragmented file.

    Args:
        number: its ``track_ID``.
        origin: where tick 0 lies on the movie's line, in seconds: what the edit list shifts.
        shows_from: when it begins to be shown, on that line; whatever lies before is hidden.
        samples: those that the header itself lists.
    """

    number: int
    kind: TrackKind
    timescale: int
    formats: tuple[Format, ...]
    display: bytes
    origin: float
    shows_from: float
    samples: tuple[Sample, ...]
    is_enabled: bool

    def seconds(self, ticks: float) -> float:
        """Return where a time of the track lies on the movie's line."""
        return self.origin + ticks / self.timescale


@dataclass(frozen=True)
class Header:
    """The header of a fragmented file: the tracks that a clip is made of, and the defaults of all tracks."""

    video: FragmentedTrack
    audio: FragmentedTrack | None
    defaults: Mapping[int, SampleDefaults]

    @property
    def tracks(self) -> list[FragmentedTrack]:
        """Return its tracks, video first."""
        return [track for track in (self.video, self.audio) if track]

    @property
    def listed(self) -> int:
        """Return how many samples it lists itself."""
        return sum(len(track.samples) for track in self.tracks)

    @property
    def signature(self) -> Sequence[object]:
        """Return what two headers have in common if fragments of both can follow each other."""
        return [(each.number, each.kind, each.timescale, each.origin, each.formats) for each in self.tracks]


@dataclass(frozen=True)
class TrackFragment:
    """Samples of a track in a fragment (``traf``, §8.8.6), in decoding order.

    ``decode_time``: when the first one is decoded; None where the file does not say (then their times count
    from 0).
    """

    track: int
    decode_time: int | None
    samples: Sequence[Sample]

    @property
    def start(self) -> int:
        """Return when the first sample is decoded."""
        return self.samples[0].decoded

    @property
    def end(self) -> int:
        """Return when the last sample has been decoded for as long as it is shown."""
        return self.samples[-1].decoded + self.samples[-1].length

    def shifted(self, ticks: int) -> "TrackFragment":
        """Return the same samples, decoded from another time on."""
        moved = [
            each._replace(decoded=each.decoded + ticks, shown=each.shown + ticks) for each in self.samples
        ]
        return TrackFragment(self.track, self.start + ticks, moved)


@dataclass(frozen=True)
class Fragment:
    """A fragment: its ``moof`` is ``offset:end``. Its ``trafs`` hold at least one sample each."""

    offset: int
    end: int
    sequence: int
    trafs: tuple[TrackFragment, ...]


def read_header(read: Read, moov: Box, file_size: int) -> Header:
    """Read the header of a fragmented file.

    Raises:
        UnsupportedMedia: it has no fragments or no video, or is damaged.
    """
    try:
        return _read_header(read, moov, file_size)
    except (struct.error, IndexError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise UnsupportedMedia(f"a damaged header: {error}") from error


def _read_header(read: Read, moov: Box, file_size: int) -> Header:
    parts = children(read, moov)
    if b"mvex" not in parts:
        raise UnsupportedMedia("a file without fragments")
    if len(parts.get(b"trak", [])) > MAX_TRACKS:
        raise UnsupportedMedia(f"more than {MAX_TRACKS} tracks")
    movie_timescale = _timescale(content(read, child(read, moov, b"mvhd")))
    tracks: list[FragmentedTrack] = []
    for trak in parts.get(b"trak", []):
        kind = HANDLERS.get(content(read, child(read, trak, b"mdia", b"hdlr"))[8:12])
        if kind is None:
            continue
        track = _read_track(read, trak, kind, movie_timescale, file_size)
        if not is_cover_art(track.formats[0]):
            tracks.append(track)
        # A table of one row lists as many as it likes.
        if sum(len(each.samples) for each in tracks) > 2 * MAX_LISTED:
            raise UnsupportedMedia(f"more than {2 * MAX_LISTED} samples before the fragments")
    # A player chooses the first one that is enabled of each kind.
    tracks.sort(key=lambda track: not track.is_enabled)
    video = next((track for track in tracks if track.kind is TrackKind.VIDEO), None)
    if video is None:
        raise UnsupportedMedia("no video")
    audio = next((track for track in tracks if track.kind is TrackKind.AUDIO), None)
    return Header(video, audio, _read_defaults(read, parts[b"mvex"][0]))


def _read_track(
    read: Read, trak: Box, kind: TrackKind, movie_timescale: int, file_size: int
) -> FragmentedTrack:
    header = content(read, child(read, trak, b"tkhd"))
    (number,) = struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)
    timescale = _timescale(content(read, child(read, trak, b"mdia", b"mdhd")))
    tables = child(read, trak, b"mdia", b"minf", b"stbl")
    # An edit's end is not taken for one: it was written before anybody knew how long the recording would be.
    edits = read_edits(read, trak, timescale, movie_timescale)
    if len(edits) != 1:
        raise UnsupportedMedia(f"{len(edits)} edits in a fragmented file")
    return FragmentedTrack(
        number,
        kind,
        timescale,
        read_entries(read, child(read, tables, b"stsd"), kind),
        header[-DISPLAY_BYTES:] if kind is TrackKind.VIDEO else b"",
        edits[0].origin,
        -math.inf if edits is UNEDITED else edits[0].start,
        _listed_samples(read, tables, file_size),
        bool(header[3] & ENABLED),
    )


def _timescale(header: bytes) -> int:
    """Return the ticks a second (``mvhd``, ``mdhd``): after version, flags and two dates."""
    (ticks,) = struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)
    if not ticks:
        raise UnsupportedMedia("a timescale of 0")
    return int(ticks)


def _listed_samples(read: Read, tables: Box, file_size: int) -> tuple[Sample, ...]:
    """Return the samples that the header lists itself: some writers do so for the first few seconds."""
    times = child(read, tables, b"stts")
    if read(times.start + 4, 4) == bytes(4):
        return ()
    listed = SampleTables(read, tables, file_size)
    if listed.count > MAX_LISTED:
        raise UnsupportedMedia(f"{listed.count} samples before the fragments")
    if not listed.count:
        return ()
    every = 0, listed.count
    return tuple(
        Sample(decoded, shown, length, place.offset, place.size, bool(is_keyframe), place.entry)
        for decoded, shown, length, place, is_keyframe in zip(
            listed.decoded(*every),
            listed.shown(*every),
            listed.steps(*every),
            listed.places(*every),
            listed.are_keyframes(*every),
            strict=True,
        )
    )


def _read_defaults(read: Read, mvex: Box) -> dict[int, SampleDefaults]:
    """Return what each track's samples have in common (``trex``, §8.8.3)."""
    rows = (struct.unpack_from(">5I", content(read, box), 4) for box in children(read, mvex).get(b"trex", []))
    return {number: SampleDefaults(*values) for number, *values in rows}


def find_moofs(data: bytes) -> Iterator[int]:
    """Return where in some bytes a ``moof`` may begin; only reading it tells."""
    for found in MOOF.finditer(data):
        at = found.start() - SIZE_BYTES
        if at >= 0 and MOOF_HEAD_BYTES <= int.from_bytes(data[at : at + SIZE_BYTES]) <= MAX_MOOF_BYTES:
            yield at


def read_fragment(data: bytes, offset: int, header: Header) -> Fragment:
    """Read a whole ``moof`` box, which lies at an offset of the file.

    Raises:
        UnsupportedMedia: it is damaged, or names a track that the header does not.
    """
    try:
        return _read_fragment(data, offset, header)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise UnsupportedMedia(f"a damaged fragment: {error}") from error


def _read_fragment(data: bytes, offset: int, header: Header) -> Fragment:
    def read(at: int, size: int) -> bytes:
        return data[max(at - offset, 0) : max(at - offset, 0) + size]

    moof = next(walk(read, offset, offset + len(data)))
    if moof.kind != b"moof" or moof.end != offset + len(data):
        raise UnsupportedMedia("what should be a fragment is not")
    (sequence,) = struct.unpack_from(">I", content(read, child(read, moof, b"mfhd")), 4)
    trafs = children(read, moof).get(b"traf", [])
    parts = _read_parts(read, trafs, offset, header.defaults)
    if any(_overlaps(part, moof) for part in parts):  # an index was put before it, and nobody counted anew
        parts = _read_parts(read, trafs, offset, header.defaults, is_moved=True)
    formats = {track.number: len(track.formats) for track in header.tracks}
    found = tuple(part for part in parts if part.samples and part.track in formats)
    if any(not 0 <= part.samples[0].format < formats[part.track] for part in found):
        raise UnsupportedMedia("a fragment of a format that the header does not list")
    return Fragment(offset, moof.end, sequence, found)


def _overlaps(part: TrackFragment, moof: Box) -> bool:
    """Tell whether samples claim to lie in the fragment's own header."""
    return bool(part.samples) and moof.head <= part.samples[0].offset < moof.end


def _read_parts(
    read: Read,
    trafs: Sequence[Box],
    moof: int,
    defaults: Mapping[int, SampleDefaults],
    *,
    is_moved: bool = False,
) -> list[TrackFragment]:
    """Read the parts of a fragment. ``is_moved``: offsets are right within the fragment, not in the file."""
    parts: list[TrackFragment] = []
    position = moof
    for traf in trafs:
        part, position = _read_part(read, traf, moof, position, defaults, is_moved=is_moved)
        parts.append(part)
        # A row of a run may take no bytes at all: the size of the box bounds nothing.
        if sum(len(each.samples) for each in parts) > MAX_SAMPLES:
            raise UnsupportedMedia(f"a fragment of more than {MAX_SAMPLES} samples")
    return parts


def _read_part(
    read: Read, traf: Box, moof: int, position: int, defaults: Mapping[int, SampleDefaults], *, is_moved: bool
) -> tuple[TrackFragment, int]:
    """Read a ``traf``, and return where its data end. ``position``: where those of the one before ended."""
    boxes = children(read, traf)
    if len(boxes.get(b"tfhd", [])) != 1:
        raise UnsupportedMedia("a fragment of a track without a header")
    number, base, common = _read_track_header(_whole(read, boxes[b"tfhd"][0]), moof, position, defaults)
    base = moof if is_moved else base
    decode_time = _decode_time(_whole(read, boxes[b"tfdt"][0])) if b"tfdt" in boxes else None
    samples: list[Sample] = []
    time, position = decode_time or 0, base
    for trun in boxes.get(b"trun", []):
        samples += (run := _read_run(_whole(read, trun), base, position, time, common))
        if len(samples) > MAX_SAMPLES:
            raise UnsupportedMedia(f"a fragment of more than {MAX_SAMPLES} samples")
        if run:
            time, position = run[-1].decoded + run[-1].length, run[-1].offset + run[-1].size
    return TrackFragment(number, decode_time, samples), position


def _whole(read: Read, box: Box) -> bytes:
    return read(box.start, box.end - box.start)


def _read_track_header(
    tfhd: bytes, moof: int, position: int, defaults: Mapping[int, SampleDefaults]
) -> tuple[int, int, SampleDefaults]:
    """Read ``tfhd`` (§8.8.7).

    Returns:
        the track, what its data offsets count from, and what its samples have in common.
    """
    flags, number = struct.unpack_from(">II", tfhd)
    if number not in defaults:
        raise UnsupportedMedia(f"a fragment of track {number}, of which the header says nothing")
    at = 8
    base = moof if flags & DEFAULT_BASE_IS_MOOF else position
    if flags & BASE_OFFSET:
        (base,) = struct.unpack_from(">Q", tfhd, at)
        at += 8
    values = list(defaults[number])
    for field, flag in enumerate((DESCRIPTION, DURATION, SIZE, FLAGS)):
        if flags & flag:
            (values[field],) = struct.unpack_from(">I", tfhd, at)
            at += 4
    return number, base, SampleDefaults(*values)


def _decode_time(tfdt: bytes) -> int:
    """Read ``tfdt`` (§8.8.12)."""
    (time,) = struct.unpack_from(">Q" if tfdt[0] == 1 else ">I", tfdt, 4)
    return int(time)


def _read_run(trun: bytes, base: int, position: int, time: int, common: SampleDefaults) -> list[Sample]:
    """Read a run of samples (``trun``, §8.8.8).

    Args:
        trun: the content of its box.
        base: what its data offset counts from.
        position: where its data lie if it has no data offset.
        time: when its first sample is decoded.
        common: what its samples have unless it says otherwise.
    """
    flags, count = struct.unpack_from(">II", trun)
    if count > MAX_SAMPLES:
        raise UnsupportedMedia(f"a run of {count} samples")
    at = 8
    if flags & DATA_OFFSET:
        position = base + struct.unpack_from(">i", trun, at)[0]
        at += 4
    first_flags = None
    if flags & FIRST_FLAGS:
        (first_flags,) = struct.unpack_from(">I", trun, at)
        at += 4
    durations, sizes, sample_flags, shifts = _columns(trun, at, flags, count, common)
    if count and first_flags is not None:
        sample_flags = [first_flags, *sample_flags[1:]]
    if position < 0 or any(size > MAX_SAMPLE_BYTES for size in sizes):
        raise UnsupportedMedia("a sample larger than any, or before the file")
    decoded = accumulate(durations, initial=time)
    offsets = accumulate(sizes, initial=position)
    return [
        Sample(time, time + shift, length, offset, size, not each & (NON_SYNC | DEPENDS), common.format - 1)
        for time, shift, length, offset, size, each in zip(
            decoded, shifts, durations, offsets, sizes, sample_flags, strict=False
        )
    ]


def _columns(trun: bytes, at: int, flags: int, count: int, common: SampleDefaults) -> list[Sequence[int]]:
    """Return the duration, size, flags and shift (of presentation against decoding) of each sample."""
    there = [column for column in COLUMNS if flags & column]
    # Shifts are signed in version 1; in version 0 writers put signed ones too.
    letters = "".join("i" if column == SAMPLE_SHIFT else "I" for column in there)
    row = struct.Struct(">" + letters)
    if len(trun) - at < count * row.size:
        raise UnsupportedMedia("a run of samples that is cut off")
    rows = list(row.iter_unpack(trun[at : at + count * row.size])) if there else []
    columns = dict(zip(there, zip(*rows, strict=True), strict=True)) if rows else {}
    usual = dict(zip(COLUMNS, (common.duration, common.size, common.flags, 0), strict=True))
    return [columns.get(column, (usual[column],) * count) for column in COLUMNS]
