"""Indexes of the fragments of a file: ``sidx`` before the fragments, or ``mfra`` after them.

Both are only hints (ISO/IEC 14496-12 §8.8.9, §8.16.3): a fragment's own times and sizes are the truth.
"""

import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from clip_cutter.containers.model import UnsupportedMedia
from clip_cutter.containers.mp4.boxes import Box, Read, children

MAX_ENTRIES = 1_000_000
MFRO_BYTES = 16
REFERENCE = struct.Struct(">III")


@dataclass(frozen=True)
class FragmentIndex:
    """Times and offsets of the fragments of a track, in the order of the file.

    Args:
        track: its track_ID.
        timescale: ticks per second of the times; None if they are in ticks of the track.
        times: start of each fragment, and as last number the end of the last fragment, in ticks.
        offsets: of each fragment in the file, and as last number the end of the last fragment.
    """

    track: int
    timescale: int | None
    times: Sequence[int]
    offsets: Sequence[int]


def read_segment_index(sidx: bytes, end: int) -> FragmentIndex:
    """Read a segment index (§8.16.3).

    Args:
        sidx: the content of the box.
        end: offset at which the box ends in the file.

    Raises:
        UnsupportedMedia: the box is damaged, or refers to other ``sidx`` boxes.
    """
    try:
        is_wide = sidx[0] > 0
        track, timescale, start, first = struct.unpack_from(">IIQQ" if is_wide else ">4I", sidx, 4)
        at = 30 if is_wide else 22
        (count,) = struct.unpack_from(">H", sidx, at)
        rows = list(REFERENCE.iter_unpack(sidx[at + 2 : at + 2 + count * REFERENCE.size]))
    except (struct.error, IndexError) as error:
        raise UnsupportedMedia(f"sidx: damaged: {error}") from error
    if len(rows) != count or not timescale:
        raise UnsupportedMedia(f"sidx: {len(rows)} of {count} references, timescale {timescale}")
    if any(row[0] >> 31 for row in rows):
        raise UnsupportedMedia("sidx: an index of several levels is not supported")
    times = accumulate((row[1] for row in rows), initial=start)
    offsets = accumulate((row[0] for row in rows), initial=end + first)
    return FragmentIndex(track, timescale, list(times), list(offsets))


def read_mfro(tail: bytes) -> int | None:
    """Return the size of the ``mfra`` box at the end of a file, by the last 16 bytes (``mfro``, §8.8.11)."""
    if len(tail) != MFRO_BYTES or tail[:8] != b"\0\0\0\x10mfro":
        return None
    return int.from_bytes(tail[12:])


def read_random_access(read: Read, mfra: Box, end: int) -> Mapping[int, FragmentIndex]:
    """Read the ``mfra`` box (§8.8.9); return the index of each track by its track_ID.

    Args:
        read: reads the file.
        mfra: the box.
        end: offset at which the last fragment ends.

    Raises:
        UnsupportedMedia: the box is damaged.
    """
    try:
        found = [
            _read_tfra(read(box.start, box.end - box.start), end)
            for box in children(read, mfra).get(b"tfra", [])
        ]
    except (struct.error, IndexError) as error:
        raise UnsupportedMedia(f"mfra: damaged: {error}") from error
    return {index.track: index for index in found}


def _read_tfra(tfra: bytes, end: int) -> FragmentIndex:
    """Read the content of a ``tfra`` box (§8.8.10); several entries for a fragment count once."""
    track, lengths, count = struct.unpack_from(">3I", tfra, 4)
    numbers = sum((lengths >> shift & 3) + 1 for shift in (0, 2, 4))
    row = struct.Struct(f">{'QQ' if tfra[0] == 1 else 'II'}{numbers}x")
    if count > MAX_ENTRIES or len(tfra) < 16 + count * row.size:
        raise UnsupportedMedia(f"tfra: cut off: {count} entries do not fit into {len(tfra)} bytes")
    times, offsets = array("Q"), array("Q")
    for time, offset in row.iter_unpack(tfra[16 : 16 + count * row.size]):
        if not offsets or offset > offsets[-1]:
            times.append(time)
            offsets.append(offset)
        elif offset < offsets[-1]:
            raise UnsupportedMedia(f"tfra: out of order: offset {offset} after {offsets[-1]}")
    if not offsets or offsets[-1] >= end:
        raise UnsupportedMedia(f"tfra: {len(offsets)} fragments, the last does not begin before {end}")
    times.append(times[-1])
    offsets.append(end)
    return FragmentIndex(track, None, times, offsets)
