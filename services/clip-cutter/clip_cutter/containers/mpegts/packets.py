"""Transport packets (§2.4.3.2), and their distance in a file."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, Self

from clip_cutter.containers.model import UnsupportedMedia

SYNC = 0x47
PACKET = 188
HEAD = 4
# Distance of packets: without gaps; with a time before each (M2TS of Blu-ray); with a checksum after each.
STRIDES = (188, 192, 204)
CHECKED = 5  # packets in a row that must have a sync byte

ERROR, START, SCRAMBLED, ADAPTATION, PAYLOAD = 0x80, 0x40, 0xC0, 0x20, 0x10
COUNTER = 0x0F
DISCONTINUITY, RANDOM_ACCESS = 0x80, 0x40
PID = 0x1F


class TransportPacket(NamedTuple):
    """A transport packet.

    Args:
        starts: payload_unit_start_indicator: a PES packet or a table section starts in it.
        is_discontinuity: discontinuity_indicator.
        is_random_access: random_access_indicator.
        counter: continuity_counter, which counts the packets of a PID that have a payload, modulo 16.
        payload: may be empty.
    """

    starts: bool
    is_discontinuity: bool
    is_random_access: bool
    counter: int
    payload: bytes

    @classmethod
    def read(cls, packet: bytes) -> Self | None:
        """Parse a packet; return None if it is marked as broken or scrambled, or its header is not valid."""
        if packet[1] & ERROR or packet[3] & SCRAMBLED:
            return None
        start, indicators = HEAD, 0
        if packet[3] & ADAPTATION:
            start += 1 + packet[4]
            indicators = packet[5] if packet[4] else 0
        if start > PACKET:
            return None
        payload = packet[start:] if packet[3] & PAYLOAD else b""
        return cls(
            bool(packet[1] & START),
            bool(indicators & DISCONTINUITY),
            bool(indicators & RANDOM_ACCESS),
            packet[3] & COUNTER,
            payload,
        )


def pid_of(packet: bytes, at: int = 1) -> int:
    """Return the PID in the two bytes at position ``at``."""
    return (packet[at] & PID) << 8 | packet[at + 1]


def stride_of(head: bytes) -> int:
    """Return the distance of packets, in bytes, in a file that begins with ``head``.

    Raises:
        UnsupportedMedia: the file is not an MPEG-TS.
    """
    for stride in STRIDES:
        if len(head) >= PACKET and 0 <= find_sync(head[: CHECKED * stride + stride], stride) < stride:
            return stride
    raise UnsupportedMedia(f"MPEG-TS: no packets in the first {len(head)} bytes")


def is_transport_stream(head: bytes) -> bool:
    """Return whether a file that begins with ``head`` is an MPEG-TS; it may begin within a packet."""
    try:
        return stride_of(head) > 0
    except UnsupportedMedia:
        return False


def find_sync(data: bytes, stride: int, at: int = 0) -> int:
    """Return the position of the next packet at or after ``at``; -1 if there is none.

    Near the end of the data, fewer packets in a row are required.
    """
    if (found := _in_row(stride).search(data, at)) is not None:
        return found.start()
    at = max(at, len(data) - CHECKED * stride)
    while (at := data.find(SYNC, at)) >= 0:
        column = data[at::stride]
        if column.count(SYNC) == len(column):
            return at
        at += 1
    return -1


@lru_cache(maxsize=len(STRIDES))
def _in_row(stride: int) -> re.Pattern[bytes]:
    """Return a pattern for the first of ``CHECKED`` packets in a row."""
    following = b".{%d}\x47" % (stride - 1)
    return re.compile(rb"\x47(?=" + following * (CHECKED - 1) + b")", re.DOTALL)


def runs(data: bytes, stride: int) -> Iterator[range]:
    """Yield the positions of whole packets, a range for each row of packets; other bytes are skipped."""
    at = find_sync(data, stride)
    while at >= 0:
        column = data[at::stride]
        count = len(column) - len(column.lstrip(b"\x47"))
        end = at + count * stride
        whole = range(at, min(end, len(data) - PACKET + 1), stride)
        if whole:
            yield whole
        at = find_sync(data, stride, end - stride + 1)
