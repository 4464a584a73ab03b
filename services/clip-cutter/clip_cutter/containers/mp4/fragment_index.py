"""Where the fragments of a file lie: the segment index (``sidx``) before them, or ``mfra`` behind them.

Both are hints (ISO/IEC 14496-12 §8.8.9, §8.16.3): what a fragment says of itself counts.
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
    """When keyframes of a track are shown, in ticks, and the offsets of their fragments, in file order.

    Of both it has one more than there are fragments: the end of the last one. ``track`` is the ``track_ID``;
    ``timescale`` None means that of the track.
    """

    track: int
    timescale: int | None
    times: Sequence[int]
    offsets: Sequence[int]


def read_segment_index(sidx: bytes, end: int) -> FragmentIndex:
    """Read the content of a ``sidx`` box (§8.16.3) that ends at an offset of the file.

    Raises:
        UnsupportedMedia: it is damaged, or refers to other indexes.
    """
    try:
        is_wide = sidx[0] > 0
        track, timescale, start, first = struct.unpack_from(">IIQQ" if is_wide else ">4I", sidx, 4)
        at = 30 if is_wide else 22
        (count,) = struct.unpack_from(">H", sidx, at)
        rows = list(REFERENCE.iter_unpack(sidx[at + 2 : at + 2 + count * REFERENCE.size]))
    except (struct.error, IndexError) as error:
        raise UnsupportedMedia(f"a damaged segment index: {error}") from error
    if len(rows) != count or not timescale or any(row[0] >> 31 for row in rows):
        raise UnsupportedMedia("a segment index that is cut off, or of several levels")
    times = accumulate((row[1] for row in rows), initial=start)
    offsets = accumulate((row[0] for row in rows), initial=end + first)
    return FragmentIndex(track, timescale, list(times), list(offsets))


def read_mfro(tail: bytes) -> int | None:
    """Return the size of the ``mfra`` box that a file ends with, by its last 16 bytes (§8.8.11)."""
    if len(tail) != MFRO_BYTES or tail[:8] != b"\0\0\0\x10mfro":
        return None
    return int.from_bytes(tail[12:])


def read_random_access(read: Read, mfra: Box, end: int) -> Mapping[int, FragmentIndex]:
    """Read ``mfra`` (§8.8.9), an index for each track, of fragments that end at an offset of the file.

    Raises:
        UnsupportedMedia: it is damaged.
    """
    try:
        found = [
            _read_tfra(read(box.start, box.end - box.start), end)
            for box in children(read, mfra).get(b"tfra", [])
        ]
    except (struct.error, IndexError) as error:
        raise UnsupportedMedia(f"a damaged index of fragments: {error}") from error
    return {index.track: index for index in found}


def _read_tfra(tfra: bytes, end: int) -> FragmentIndex:
    """Read the content of a ``tfra`` box (§8.8.10). Entries of the same fragment are one."""
    track, lengths, count = struct.unpack_from(">3I", tfra, 4)
    numbers = sum((lengths >> shift & 3) + 1 for shift in (0, 2, 4))
    row = struct.Struct(f">{'QQ' if tfra[0] == 1 else 'II'}{numbers}x")
    if count > MAX_ENTRIES or len(tfra) < 16 + count * row.size:
        raise UnsupportedMedia("an index of fragments that is cut off")
    times, offsets = array("Q"), array("Q")
    for time, offset in row.iter_unpack(tfra[16 : 16 + count * row.size]):
        if not offsets or offset > offsets[-1]:
            times.append(time)
            offsets.append(offset)
        elif offset < offsets[-1]:
            raise UnsupportedMedia("an index of fragments that is out of order")
    if not offsets or offsets[-1] >= end:
        raise UnsupportedMedia("an index of fragments that the file does not have")
    times.append(times[-1])
    offsets.append(end)
    return FragmentIndex(track, None, times, offsets)
