"""Movie fragments (``moof``, ISO/IEC 14496-12 §8.8): an MP4 that was written while a stream was live.

The header (``moov``) describes the tracks, and has defaults for their samples (``trex``, §8.8.3). Each
fragment lists the samples after it; what it leaves out is taken from the defaults.
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
MAX_HEADER_SAMPLES = 50_000  # of a track, listed in the header
MAX_SAMPLE_BYTES = 32 * 1024 * 1024
MAX_TRACKS = 64
# A ``moof`` begins with its head, and with an ``mfhd`` of 16 bytes (§8.8.5).
MOOF_HEAD_BYTES = 24
MOOF = re.compile(rb"moof\0\0\0\x10mfhd", re.DOTALL)
SIZE_BYTES = 4
HANDLERS = {b"vide": TrackKind.VIDEO, b"soun": TrackKind.AUDIO}
ENABLED = 1  # flag of a track header (§8.3.2)
DISPLAY_BYTES = 44  # matrix and size, at the end of a track header (§8.3.2)
# Flags of ``tfhd`` (§8.8.7.1) and ``trun`` (§8.8.8.1): the fields that are present.
BASE_OFFSET, DESCRIPTION, DURATION, SIZE, FLAGS = 0x1, 0x2, 0x8, 0x10, 0x20
DEFAULT_BASE_IS_MOOF = 0x020000
DATA_OFFSET, FIRST_FLAGS = 0x1, 0x4
SAMPLE_DURATION, SAMPLE_SIZE, SAMPLE_FLAGS, SAMPLE_SHIFT = 0x100, 0x200, 0x400, 0x800
COLUMNS = (SAMPLE_DURATION, SAMPLE_SIZE, SAMPLE_FLAGS, SAMPLE_SHIFT)
# Sample flags (§8.8.3.1): the sample is no sync sample, or depends on other samples.
NON_SYNC, DEPENDS = 0x10000, 0x1000000


class SampleDefaults(NamedTuple):
    """Values for the samples of a track that a fragment does not give (``trex``, §8.8.3).

    Args:
        format: index of the sample entry, from 1.
        duration: in ticks of the track.
        size: in bytes.
        flags: sample flags (§8.8.3.1).
    """

    format: int
    duration: int
    size: int
    flags: int


@dataclass(frozen=True)
class FragmentedTrack:
    """A track of a fragmented file.

    Args:
        number: its track_ID.
        kind: video or audio.
        timescale: ticks per second.
        formats: its sample entries.
        display: of video, matrix and size from the track header.
        origin: time of tick 0 by the edit list, in seconds of the movie.
        shows_from: time at which a player begins to show the track, in seconds of the movie.
        samples: the samples that the header lists.
        is_enabled: whether players choose the track.
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
        """Convert a time of the track to seconds of the movie."""
        return self.origin + ticks / self.timescale


@dataclass(frozen=True)
class Header:
    """The header of a fragmented file: the tracks for a clip, and the sample defaults of all tracks."""

    video: FragmentedTrack
    audio: FragmentedTrack | None
    defaults: Mapping[int, SampleDefaults]

    @property
    def tracks(self) -> list[FragmentedTrack]:
        """Return the tracks, video first."""
        return [track for track in (self.video, self.audio) if track]

    @property
    def listed(self) -> int:
        """Return the number of samples that the header lists."""
        return sum(len(track.samples) for track in self.tracks)

    @property
    def signature(self) -> Sequence[object]:
        """Return the facts that must be equal in two headers, for their fragments to continue each other."""
        return [(each.number, each.kind, each.timescale, each.origin, each.formats) for each in self.tracks]


@dataclass(frozen=True)
class TrackFragment:
    """The samples of a track in a fragment (``traf``, §8.8.6).

    Args:
        track: the track_ID.
        decode_time: of the first sample, in ticks (``tfdt``); None if the box is missing: times then begin at
            0.
        samples: in decoding order.
    """

    track: int
    decode_time: int | None
    samples: Sequence[Sample]

    @property
    def start(self) -> int:
        """Return the decode time of the first sample."""
        return self.samples[0].decoded

    @property
    def end(self) -> int:
        """Return the decode time of the last sample plus its length."""
        return self.samples[-1].decoded + self.samples[-1].length

    def shifted(self, ticks: int) -> "TrackFragment":
        """Return the same samples, ``ticks`` later."""
        moved = [
            each._replace(decoded=each.decoded + ticks, shown=each.shown + ticks) for each in self.samples
        ]
        return TrackFragment(self.track, self.start + ticks, moved)


@dataclass(frozen=True)
class Fragment:
    """A movie fragment.

    Args:
        offset, end: of its ``moof`` box in the file.
        sequence: its sequence_number (``mfhd``, §8.8.5).
        trafs: its track fragments with at least one sample, of tracks in the header.
    """

    offset: int
    end: int
    sequence: int
    trafs: tuple[TrackFragment, ...]


def read_header(read: Read, moov: Box, file_size: int) -> Header:
    """Read the header of a fragmented file.

    Args:
        read: reads the file.
        moov: the box.
        file_size: in bytes; samples after the end of the file are left out.

    Raises:
        UnsupportedMedia: the file is not fragmented or has no video, or the header is damaged.
    """
    try:
        return _read_header(read, moov, file_size)
    except (struct.error, IndexError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise UnsupportedMedia(f"moov: damaged: {error}") from error


def _read_header(read: Read, moov: Box, file_size: int) -> Header:
    boxes = children(read, moov)
    if b"mvex" not in boxes:
        raise UnsupportedMedia("moov: the file has no fragments (mvex)")
    traks = boxes.get(b"trak", [])
    if len(traks) > MAX_TRACKS:
        raise UnsupportedMedia(f"moov: {len(traks)} tracks, the limit is {MAX_TRACKS}")
    movie_timescale = _timescale(content(read, child(read, moov, b"mvhd")))
    tracks: list[FragmentedTrack] = []
    for trak in traks:
        kind = HANDLERS.get(content(read, child(read, trak, b"mdia", b"hdlr"))[8:12])
        if kind is None:
            continue
        track = _read_track(read, trak, kind, movie_timescale, file_size)
        if not is_cover_art(track.formats[0]):
            tracks.append(track)
        # A table with one row may list any number of samples: the size of the header limits nothing.
        if sum(len(track.samples) for track in tracks) > 2 * MAX_HEADER_SAMPLES:
            raise UnsupportedMedia(f"moov: more than {2 * MAX_HEADER_SAMPLES} samples before the fragments")
    # A player chooses the first enabled track of each kind.
    tracks.sort(key=lambda track: not track.is_enabled)
    video = next((track for track in tracks if track.kind is TrackKind.VIDEO), None)
    if video is None:
        raise UnsupportedMedia("moov: no video track")
    audio = next((track for track in tracks if track.kind is TrackKind.AUDIO), None)
    return Header(video, audio, _read_defaults(read, boxes[b"mvex"][0]))


def _read_track(
    read: Read, trak: Box, kind: TrackKind, movie_timescale: int, file_size: int
) -> FragmentedTrack:
    header = content(read, child(read, trak, b"tkhd"))
    (number,) = struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)
    timescale = _timescale(content(read, child(read, trak, b"mdia", b"mdhd")))
    tables = child(read, trak, b"mdia", b"minf", b"stbl")
    # The end of the edit is ignored: it was written before the duration of the stream was known.
    edits = read_edits(read, trak, timescale, movie_timescale)
    if len(edits) != 1:
        raise UnsupportedMedia(f"elst: {len(edits)} edits in a fragmented file, 1 is supported")
    return FragmentedTrack(
        number,
        kind,
        timescale,
        read_entries(read, child(read, tables, b"stsd"), kind),
        header[-DISPLAY_BYTES:] if kind is TrackKind.VIDEO else b"",
        edits[0].origin,
        -math.inf if edits is UNEDITED else edits[0].start,
        _header_samples(read, tables, file_size),
        bool(header[3] & ENABLED),
    )


def _timescale(header: bytes) -> int:
    """Return the timescale of ``mvhd`` or ``mdhd``: it follows version, flags and two dates."""
    (ticks,) = struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)
    if not ticks:
        raise UnsupportedMedia("mdhd: timescale 0")
    return int(ticks)


def _header_samples(read: Read, tables: Box, file_size: int) -> tuple[Sample, ...]:
    """Return the samples that the header lists: some writers do so for the first few seconds."""
    times = child(read, tables, b"stts")
    if read(times.start + 4, 4) == bytes(4):
        return ()
    listed = SampleTables(read, tables, file_size)
    if listed.count > MAX_HEADER_SAMPLES:
        raise UnsupportedMedia(
            f"moov: {listed.count} samples before the fragments, the limit is {MAX_HEADER_SAMPLES}"
        )
    if not listed.count:
        return ()
    every = 0, listed.count
    return tuple(
        Sample(decoded, shown, length, location.offset, location.size, bool(is_keyframe), location.entry)
        for decoded, shown, length, location, is_keyframe in zip(
            listed.decoded(*every),
            listed.shown(*every),
            listed.durations(*every),
            listed.locations(*every),
            listed.are_keyframes(*every),
            strict=True,
        )
    )


def _read_defaults(read: Read, mvex: Box) -> dict[int, SampleDefaults]:
    """Return the sample defaults of each track by its track_ID (``trex``, §8.8.3)."""
    rows = (struct.unpack_from(">5I", content(read, box), 4) for box in children(read, mvex).get(b"trex", []))
    return {number: SampleDefaults(*values) for number, *values in rows}


def find_moofs(data: bytes) -> Iterator[int]:
    """Yield the positions in ``data`` at which a ``moof`` may begin; it must be read to be sure."""
    for found in MOOF.finditer(data):
        at = found.start() - SIZE_BYTES
        if at >= 0 and MOOF_HEAD_BYTES <= int.from_bytes(data[at : at + SIZE_BYTES]) <= MAX_MOOF_BYTES:
            yield at


def read_fragment(data: bytes, offset: int, header: Header) -> Fragment:
    """Read a ``moof`` box.

    Args:
        data: the whole box.
        offset: of the box in the file.
        header: the file's header.

    Raises:
        UnsupportedMedia: the box is damaged, or has a track or a sample entry that the header does not have.
    """
    try:
        return _read_fragment(data, offset, header)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise UnsupportedMedia(f"moof at {offset}: damaged: {error}") from error


def _read_fragment(data: bytes, offset: int, header: Header) -> Fragment:
    def read(at: int, size: int) -> bytes:
        return data[max(at - offset, 0) : max(at - offset, 0) + size]

    moof = next(walk(read, offset, offset + len(data)))
    if moof.kind != b"moof" or moof.end != offset + len(data):
        raise UnsupportedMedia(
            f"moof at {offset}: a box {moof.kind!r} of {moof.size} bytes in {len(data)} bytes"
        )
    (sequence,) = struct.unpack_from(">I", content(read, child(read, moof, b"mfhd")), 4)
    boxes = children(read, moof).get(b"traf", [])
    trafs = _read_trafs(read, boxes, offset, header.defaults)
    if any(_overlaps(traf, moof) for traf in trafs):
        # An index was inserted before the fragment, and the fragment's offsets were not updated.
        trafs = _read_trafs(read, boxes, offset, header.defaults, is_moved=True)
    formats = {track.number: len(track.formats) for track in header.tracks}
    found = tuple(traf for traf in trafs if traf.samples and traf.track in formats)
    if any(not 0 <= traf.samples[0].format < formats[traf.track] for traf in found):
        raise UnsupportedMedia(f"moof at {offset}: a sample entry that the header does not have")
    return Fragment(offset, moof.end, sequence, found)


def _overlaps(traf: TrackFragment, moof: Box) -> bool:
    """Return whether samples claim to be inside the fragment's ``moof`` box."""
    return bool(traf.samples) and moof.head <= traf.samples[0].offset < moof.end


def _read_trafs(
    read: Read,
    boxes: Sequence[Box],
    moof: int,
    defaults: Mapping[int, SampleDefaults],
    *,
    is_moved: bool = False,
) -> list[TrackFragment]:
    """Read the track fragments of a fragment.

    ``is_moved``: whether offsets count from the ``moof`` box, also if the box gives another base.
    """
    trafs: list[TrackFragment] = []
    position = moof
    for box in boxes:
        traf, position = _read_traf(read, box, moof, position, defaults, is_moved=is_moved)
        trafs.append(traf)
        # A row of a run may have no bytes at all: the size of the box limits nothing.
        if sum(len(traf.samples) for traf in trafs) > MAX_SAMPLES:
            raise UnsupportedMedia(f"moof at {moof}: more than {MAX_SAMPLES} samples")
    return trafs


def _read_traf(
    read: Read, box: Box, moof: int, position: int, defaults: Mapping[int, SampleDefaults], *, is_moved: bool
) -> tuple[TrackFragment, int]:
    """Read a ``traf``; return it, and the offset at which its data ends.

    ``position``: the offset at which the data of the track fragment before ends.
    """
    boxes = children(read, box)
    if len(boxes.get(b"tfhd", [])) != 1:
        raise UnsupportedMedia(
            f"moof at {moof}: {len(boxes.get(b'tfhd', []))} boxes tfhd in a traf instead of 1"
        )
    number, base, common = _read_track_header(_bytes_of(read, boxes[b"tfhd"][0]), moof, position, defaults)
    base = moof if is_moved else base
    decode_time = _decode_time(_bytes_of(read, boxes[b"tfdt"][0])) if b"tfdt" in boxes else None
    samples: list[Sample] = []
    time, position = decode_time or 0, base
    for trun in boxes.get(b"trun", []):
        samples += (run := _read_run(_bytes_of(read, trun), base, position, time, common))
        if len(samples) > MAX_SAMPLES:
            raise UnsupportedMedia(f"moof at {moof}: more than {MAX_SAMPLES} samples")
        if run:
            time, position = run[-1].decoded + run[-1].length, run[-1].offset + run[-1].size
    return TrackFragment(number, decode_time, samples), position


def _bytes_of(read: Read, box: Box) -> bytes:
    return read(box.start, box.end - box.start)


def _read_track_header(
    tfhd: bytes, moof: int, position: int, defaults: Mapping[int, SampleDefaults]
) -> tuple[int, int, SampleDefaults]:
    """Read ``tfhd`` (§8.8.7).

    Returns:
        The track_ID, the offset from which data offsets count, and the defaults for the samples.
    """
    flags, number = struct.unpack_from(">II", tfhd)
    if number not in defaults:
        raise UnsupportedMedia(f"tfhd: track {number} has no trex in the header")
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
    """Return the baseMediaDecodeTime of a ``tfdt`` box (§8.8.12)."""
    (time,) = struct.unpack_from(">Q" if tfdt[0] == 1 else ">I", tfdt, 4)
    return int(time)


def _read_run(trun: bytes, base: int, position: int, time: int, common: SampleDefaults) -> list[Sample]:
    """Read a run of samples (``trun``, §8.8.8).

    Args:
        trun: the content of the box.
        base: offset in the file from which its data_offset counts.
        position: offset of its data if it has no data_offset.
        time: decode time of the first sample.
        common: values for its samples that it does not give.
    """
    flags, count = struct.unpack_from(">II", trun)
    if count > MAX_SAMPLES:
        raise UnsupportedMedia(f"trun: {count} samples, the limit is {MAX_SAMPLES}")
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
        raise UnsupportedMedia(f"trun: data at {position}, or a sample of more than {MAX_SAMPLE_BYTES} bytes")
    decoded = accumulate(durations, initial=time)
    offsets = accumulate(sizes, initial=position)
    return [
        Sample(time, time + shift, length, offset, size, not each & (NON_SYNC | DEPENDS), common.format - 1)
        for time, shift, length, offset, size, each in zip(
            decoded, shifts, durations, offsets, sizes, sample_flags, strict=False
        )
    ]


def _columns(trun: bytes, at: int, flags: int, count: int, common: SampleDefaults) -> list[Sequence[int]]:
    """Return four columns: duration, size, flags and composition offset of each sample."""
    present = [column for column in COLUMNS if flags & column]
    # Composition offsets are signed in version 1; writers put signed numbers in version 0 too.
    letters = "".join("i" if column == SAMPLE_SHIFT else "I" for column in present)
    row = struct.Struct(">" + letters)
    if len(trun) - at < count * row.size:
        raise UnsupportedMedia(f"trun: cut off: {count} rows do not fit into {len(trun)} bytes")
    rows = list(row.iter_unpack(trun[at : at + count * row.size])) if present else []
    columns = dict(zip(present, zip(*rows, strict=True), strict=True)) if rows else {}
    defaults_of = dict(zip(COLUMNS, (common.duration, common.size, common.flags, 0), strict=True))
    return [columns.get(column, (defaults_of[column],) * count) for column in COLUMNS]
