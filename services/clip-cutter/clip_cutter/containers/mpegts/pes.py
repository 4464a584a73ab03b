"""PES packets (§2.4.3.6): a piece of a track, mostly one picture or a few frames of audio, with its times."""

from dataclasses import dataclass
from typing import NamedTuple, Self

from clip_cutter.containers.model import TrackKind

VIDEO_IDS, AUDIO_IDS = range(0xE0, 0xF0), range(0xC0, 0xE0)  # table 2-22
FLAGS, MARKED = 0xC0, 0x80  # of the seventh byte
MARKERS = 0x0100010001  # bits between those of a time stamp, which are set
TICKS = 90_000  # a second
WRAP = 2**33
PREFIX = b"\0\0\1"
HEAD = 9
FIXED = 6  # of the head, before what its length counts
STAMP = 5
SHOWN, DECODED = 0x80, 0x40


class PesHeader(NamedTuple):
    """The head of a PES packet.

    ``size``: bytes of its data, None where it goes on until the next one begins. ``shown`` and ``decoded``
    are in ticks of 90 kHz; None where the packet does not say. ``start``: where its data begins.
    """

    kind: TrackKind
    size: int | None
    shown: int | None
    decoded: int | None
    start: int

    @classmethod
    def read(cls, payload: bytes) -> Self | None:
        """Read what a packet that starts one has as payload; None where that is not of video or audio."""
        if len(payload) < HEAD or payload[:3] != PREFIX or payload[6] & FLAGS != MARKED:
            return None
        kind = _kind(payload[3])
        if kind is None:
            return None
        start = HEAD + payload[8]
        length = payload[4] << 8 | payload[5]
        size = max(length + FIXED - start, 0) if length else None
        shown = _stamp(payload, HEAD) if payload[7] & SHOWN else None
        decoded = _stamp(payload, HEAD + STAMP) if payload[7] & DECODED and shown is not None else shown
        return cls(kind, size, shown, shown if decoded is None else decoded, start)


@dataclass(frozen=True)
class PesPacket:
    """The data of a PES packet that has come to its end.

    Args:
        offset: where in the file it began.
        shown, decoded: on the VOD's line, in ticks of 90 kHz; None where the packet does not say.
        is_random_access: whether it is said that decoding can begin with it.
        is_cut: whether what came before it may be missing: a recording was appended here, its track
            has another PID, or the clock jumps.
        problem: what is wrong with it, if anything is known.
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
    """Return a time stamp, if it is whole and has its marker bits."""
    stamp = int.from_bytes(payload[at : at + STAMP])
    if at + STAMP > len(payload) or stamp & MARKERS != MARKERS:
        return None
    return stamp >> 3 & 0x1C0000000 | stamp >> 2 & 0x3FFF8000 | stamp >> 1 & 0x7FFF
