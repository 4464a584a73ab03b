"""PES packets (§2.4.3.6): a part of a track, usually a picture or a few audio frames, with time stamps."""

from dataclasses import dataclass
from typing import NamedTuple, Self

from clip_cutter.containers.model import TrackKind

VIDEO_IDS, AUDIO_IDS = range(0xE0, 0xF0), range(0xC0, 0xE0)  # table 2-22
FLAGS, MARKED = 0xC0, 0x80  # the first bits of the seventh byte are 10
MARKERS = 0x0100010001  # marker bits of a time stamp, which are set
TICKS = 90_000  # per second
WRAP = 2**33
PREFIX = b"\0\0\1"
HEAD = 9
FIXED = 6  # bytes that PES_packet_length does not count
STAMP = 5
HAS_PTS, HAS_DTS = 0x80, 0x40  # PTS_DTS_flags


class PesHeader(NamedTuple):
    """The header of a PES packet.

    Args:
        kind: video or audio, by stream_id.
        size: bytes of data; None if the packet lasts until the next one (PES_packet_length 0).
        shown: PTS, in ticks of 90 kHz; None if the packet has no PTS.
        decoded: DTS, in ticks of 90 kHz; equal to ``shown`` if the packet has no DTS.
        start: position of the data in the packet.
    """

    kind: TrackKind
    size: int | None
    shown: int | None
    decoded: int | None
    start: int

    @classmethod
    def read(cls, payload: bytes) -> Self | None:
        """Parse the start of a PES packet; return None if it is not a packet of video or audio."""
        if len(payload) < HEAD or payload[:3] != PREFIX or payload[6] & FLAGS != MARKED:
            return None
        kind = _kind(payload[3])
        if kind is None:
            return None
        start = HEAD + payload[8]
        length = payload[4] << 8 | payload[5]
        size = max(length + FIXED - start, 0) if length else None
        shown = _stamp(payload, HEAD) if payload[7] & HAS_PTS else None
        decoded = _stamp(payload, HEAD + STAMP) if payload[7] & HAS_DTS and shown is not None else shown
        return cls(kind, size, shown, shown if decoded is None else decoded, start)


@dataclass(frozen=True)
class PesPacket:
    """A complete PES packet.

    Args:
        data: its payload.
        offset: of its first transport packet in the file.
        shown, decoded: PTS and DTS, in ticks of 90 kHz from the start of the VOD; None if it has no PTS.
        is_random_access: random_access_indicator of its first transport packet.
        is_cut: whether data before it may be missing: another stream was appended here, the track has
            another PID, or the clock jumps.
        problem: what is damaged in it; None if no damage is known.
    """

    data: bytes
    offset: int
    shown: int | None
    decoded: int | None
    is_random_access: bool
    is_cut: bool = False
    problem: str | None = None


def _kind(stream_id: int) -> TrackKind | None:
    if stream_id in VIDEO_IDS:
        return TrackKind.VIDEO
    return TrackKind.AUDIO if stream_id in AUDIO_IDS else None


def _stamp(payload: bytes, at: int) -> int | None:
    """Return a time stamp of 33 bits; None if it is truncated, or a marker bit is not set."""
    stamp = int.from_bytes(payload[at : at + STAMP])
    if at + STAMP > len(payload) or stamp & MARKERS != MARKERS:
        return None
    return stamp >> 3 & 0x1C0000000 | stamp >> 2 & 0x3FFF8000 | stamp >> 1 & 0x7FFF
