"""An MPEG-TS: recognized by its first bytes, and searched at any place of the file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Self

from clip_cutter.containers import avc
from clip_cutter.containers.model import TrackKind, UnsupportedMedia
from clip_cutter.containers.mpegts import packets, pes
from clip_cutter.containers.mpegts.demuxer import TransportDemuxer
from clip_cutter.containers.mpegts.packets import PACKET, TransportPacket
from clip_cutter.containers.stream import SampleStart
from clip_cutter.containers.timeline import Timeline

ENTRIES = frozenset({avc.IDR, avc.SPS})


@dataclass(frozen=True)
class TransportStream:
    """See :class:`~clip_cutter.containers.stream.Stream`. ``stride``: how far apart packets lie."""

    stride: int
    timescale: int = pes.TICKS
    wrap: int = pes.WRAP

    @classmethod
    def read(cls, head: bytes) -> Self:
        """Recognize an MPEG-TS by its first bytes.

        Raises:
            UnsupportedMedia: it is no MPEG-TS.
        """
        return cls(packets.stride_of(head))

    def sample_starts(self, data: bytes, offset: int) -> list[SampleStart]:
        """See :class:`~clip_cutter.containers.stream.Stream`. Tracks are told apart without tables."""
        return [
            mark
            for run in packets.runs(data, self.stride)
            for at, high in zip(run, data[run.start + 1 : run.stop : run.step], strict=False)
            if high & packets.START and (mark := _mark(data[at : at + PACKET], offset + at)) is not None
        ]

    def history(self) -> None:
        """See :class:`~clip_cutter.containers.stream.Stream`: tables come many times a second."""

    def demuxer(
        self, output: IO[bytes], offset: int, line: Timeline, heads: Sequence[bytes]
    ) -> TransportDemuxer:
        """See :class:`~clip_cutter.containers.stream.Stream`."""
        return TransportDemuxer(output, offset, line, heads, stride=self.stride)


def _mark(data: bytes, offset: int) -> SampleStart | None:
    """Return what begins in a packet, if it has a time."""
    try:
        packet = TransportPacket.read(data)
    except UnsupportedMedia:
        return None
    head = pes.PesHeader.read(packet.payload) if packet is not None else None
    if packet is None or head is None or head.shown is None or head.decoded is None:
        return None
    is_keyframe = head.kind == TrackKind.VIDEO and (packet.is_random_access or _is_entry(packet.payload))
    return SampleStart(offset, head.kind, packets.pid_of(data), head.decoded, head.shown, is_keyframe)


def _is_entry(payload: bytes) -> bool:
    """Whether units begin in a packet with which a decoder is set up."""
    return any(unit[0] & avc.TYPE in ENTRIES for unit in payload.split(avc.START_CODE)[2:] if unit)
