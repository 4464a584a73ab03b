"""Recognizes an MPEG-TS, and finds the samples that start at any place of it."""

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
    """See :class:`~clip_cutter.containers.stream.Stream`. ``stride``: distance of packets, in bytes."""

    stride: int
    timescale: int = pes.TICKS
    wrap: int = pes.WRAP

    @classmethod
    def read(cls, head: bytes) -> Self:
        """Recognize an MPEG-TS by the first bytes of a file.

        Raises:
            UnsupportedMedia: the file is not an MPEG-TS.
        """
        return cls(packets.stride_of(head))

    def sample_starts(self, data: bytes, offset: int) -> list[SampleStart]:
        """See :class:`~clip_cutter.containers.stream.Stream`. Tracks are told apart by PID."""
        return [
            sample
            for run in packets.runs(data, self.stride)
            for at, high in zip(run, data[run.start + 1 : run.stop : run.step], strict=False)
            if high & packets.START
            and (sample := _sample_start(data[at : at + PACKET], offset + at)) is not None
        ]

    def history(self) -> None:
        """Return None: tables and parameter sets are repeated many times a second."""

    def demuxer(
        self, output: IO[bytes], offset: int, timeline: Timeline, heads: Sequence[bytes]
    ) -> TransportDemuxer:
        """See :class:`~clip_cutter.containers.stream.Stream`."""
        return TransportDemuxer(output, offset, timeline, heads, stride=self.stride)


def _sample_start(data: bytes, offset: int) -> SampleStart | None:
    """Return the sample that starts in a packet; None if the packet has no time stamp."""
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
    """Return whether an IDR picture or a sequence parameter set begins in a packet."""
    return any(unit[0] & avc.TYPE in ENTRIES for unit in payload.split(avc.START_CODE)[2:] if unit)
