"""Transport packets (§2.4.3.2), and how they lie in a file."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, Self

from clip_cutter.containers.model import UnsupportedMedia

SYNC = 0x47
PACKET = 188
HEAD = 4
# Packets lie one behind the other; with a time before each (M2TS of Blu-ray); with a checksum behind each.
STRIDES = (188, 192, 204)
CHECKED = 5  # packets in a row before their place is believed

ERROR, START, SCRAMBLED, ADAPTATION, PAYLOAD = 0x80, 0x40, 0xC0, 0x20, 0x10
COUNTER = 0x0F
DISCONTINUITY, RANDOM_ACCESS = 0x80, 0x40
PID = 0x1F


class TransportPacket(NamedTuple):
    """What a packet holds. ``counter`` counts the packets of its PID that have a payload."""

    starts: bool
    is_discontinuity: bool
    is_random_access: bool
    counter: int
    payload: bytes

    @classmethod
    def read(cls, packet: bytes) -> Self | None:
        """Read one; None where it is known to be broken, or scrambled."""
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
    """Return the packet identifier in the two bytes at ``at``."""
    return (packet[at] & PID) << 8 | packet[at + 1]


def stride_of(head: bytes) -> int:
    """Return how far apart packets lie in a file that begins with ``head``.

    Raises:
        UnsupportedMedia: it is no MPEG-TS.
    """
    for stride in STRIDES:
        if len(head) >= PACKET and 0 <= find_sync(head[: CHECKED * stride + stride], stride) < stride:
            return stride
    raise UnsupportedMedia("no MPEG-TS")


def is_transport_stream(head: bytes) -> bool:
    """Return whether a file that begins with ``head`` is an MPEG-TS. It may begin within a packet."""
    try:
        return stride_of(head) > 0
    except UnsupportedMedia:
        return False


def find_sync(data: bytes, stride: int, at: int = 0) -> int:
    """Return where the next packet begins at or behind ``at``; -1 where none does.

    Near the end of the data fewer packets in a row have to do.
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
    """Return what finds the first one of packets in a row."""
    following = b".{%d}\x47" % (stride - 1)
    return re.compile(rb"\x47(?=" + following * (CHECKED - 1) + b")", re.DOTALL)


def runs(data: bytes, stride: int) -> Iterator[range]:
    """Yield where whole packets begin, those that lie in a row together; what lies between is passed over."""
    at = find_sync(data, stride)
    while at >= 0:
        column = data[at::stride]
        count = len(column) - len(column.lstrip(b"\x47"))
        end = at + count * stride
        whole = range(at, min(end, len(data) - PACKET + 1), stride)
        if whole:
            yield whole
        at = find_sync(data, stride, end - stride + 1)
