"""Joins the transport packets of a track to PES packets, and detects lost packets."""

from typing import Protocol

from clip_cutter.containers.model import TrackKind, UnsupportedMedia
from clip_cutter.containers.mpegts.packets import COUNTER, PAYLOAD, TransportPacket
from clip_cutter.containers.mpegts.pes import PesHeader, PesPacket
from clip_cutter.containers.mpegts.tables import AAC, H264, ElementaryStream
from clip_cutter.containers.timeline import Timeline

SUPPORTED_TYPES = {TrackKind.VIDEO: H264, TrackKind.AUDIO: AAC}
ANY = -1  # the next continuity_counter may have any value
_PAYLOAD_ONLY = bytes(PAYLOAD | counter & COUNTER for counter in range(256))


class PesSink(Protocol):
    """Takes samples out of PES packets."""

    def add(self, pes: PesPacket) -> None:
        """Take the next PES packet of the track."""


class PesAssembler:
    """Joins the transport packets of one track.

    Args:
        track: the track.
        sink: takes the PES packets.
        timeline: converts time stamps to times of the VOD.

    Attributes:
        parts: payloads of the PES packet that is not complete yet.
    """

    def __init__(self, track: ElementaryStream, sink: PesSink, timeline: Timeline) -> None:
        self.track = track
        self.parts: list[bytes] = []
        self._sink = sink
        self._timeline = timeline
        self._counter = ANY  # of the next packet
        self._may_restart = False  # the counter, at the start of the next PES packet
        self._restarted = False  # the counter, at the latest packet
        self._offset = -1  # of the PES packet; below 0 if its start was not read
        self._is_random_access = False
        self._is_cut = False
        self._segment = -1  # of the time line, by its start
        self._problem: str | None = None

    def expected_flags(self, count: int) -> bytes:
        """Return the fourth bytes that the next packets have if none is lost and all are payload only."""
        return b"" if self._counter == ANY else _PAYLOAD_ONLY[self._counter :][:count]

    def take(self, payloads: list[bytes]) -> None:
        """Take the payloads of packets whose fourth bytes are those of :meth:`expected_flags`."""
        self.parts += payloads
        self._counter = (self._counter + len(payloads)) & COUNTER
        self._may_restart = False

    def add(self, data: bytes, offset: int) -> None:
        """Take a packet, which is at an offset of the file.

        Raises:
            UnsupportedMedia: the track is not H.264 or AAC; or as the sink raises.
        """
        packet = TransportPacket.read(data)
        if packet is None:
            self.lose("a transport packet is broken")
            return
        if not packet.payload or self._is_repeated(packet):
            return
        self._count(packet)
        if packet.starts:
            self.complete()
            self._begin(packet, offset)
        self.parts.append(packet.payload)

    def complete(self) -> None:
        """Pass the PES packet to the sink: no more packets of it follow."""
        parts, self.parts = self.parts, []
        offset, self._offset = self._offset, -1
        problem, self._problem = self._problem, None
        if offset < 0 or not parts:
            return
        data = b"".join(parts)
        is_cut = self._is_new_run(offset) or self._is_cut
        head = PesHeader.read(data)
        if head is None or head.kind != self.track.kind:
            return
        data = data[head.start :] if head.size is None else data[head.start : head.start + head.size]
        if head.size is not None and len(data) < head.size:
            problem = problem or f"a PES packet is cut off: {len(data)} of {head.size} bytes"
        self._sink.add(
            PesPacket(
                data,
                offset,
                self._place(offset, head.shown),
                self._place(offset, head.decoded),
                self._is_random_access,
                is_cut,
                problem,
            )
        )

    def lose(self, why: str) -> None:
        """Record that the current PES packet is damaged; ``why`` is for people."""
        self._problem = self._problem or why

    def forget_counter(self) -> None:
        """Accept any counter at the start of the next PES packet."""
        self._may_restart = True

    def _is_repeated(self, packet: TransportPacket) -> bool:
        """Return whether a packet is a duplicate of the packet before it (§2.4.3.3)."""
        return (
            self._counter != ANY
            and packet.counter == (self._counter - 1) & COUNTER
            and bool(self.parts)
            and self.parts[-1] == packet.payload
        )

    def _count(self, packet: TransportPacket) -> None:
        """Compare the counter with the expected one; record lost packets."""
        is_expected = self._counter in (ANY, packet.counter)
        self._restarted = not is_expected and self._may_begin_again(packet)
        if not is_expected and not self._restarted:
            self.lose("packets are missing")
        self._may_restart = False
        self._counter = (packet.counter + 1) & COUNTER

    def _may_begin_again(self, packet: TransportPacket) -> bool:
        """Return whether the counter may have any value here, with no packet lost before.

        It may if the packet has a discontinuity_indicator. A stream that was appended begins with tables (see
        :meth:`forget_counter`), or with counters of 0. And if the current PES packet has all bytes of its
        length, the lost packets are whole PES packets.
        """
        if packet.is_discontinuity or not packet.starts:
            return packet.is_discontinuity
        is_beginning = packet.is_random_access and packet.counter == 0 and self.track.kind == TrackKind.VIDEO
        return self._may_restart or is_beginning or self._is_whole()

    def _is_whole(self) -> bool:
        """Return whether the current PES packet has all bytes of its length."""
        head = PesHeader.read(self.parts[0]) if self.parts and self._offset >= 0 else None
        return (
            head is not None and head.size is not None and sum(map(len, self.parts)) >= head.start + head.size
        )

    def _begin(self, packet: TransportPacket, offset: int) -> None:
        if SUPPORTED_TYPES[self.track.kind] != self.track.type:
            raise UnsupportedMedia(
                f"MPEG-TS PID {self.track.pid}: {self.track.kind} of stream type {self.track.type:#04x},"
                f" {SUPPORTED_TYPES[self.track.kind]:#04x} is supported"
            )
        self._offset = offset
        self._is_cut = self._restarted
        self._is_random_access = packet.is_random_access

    def _is_new_run(self, offset: int) -> bool:
        """Return whether this is the first PES packet, or the clock jumped since the last one."""
        before, self._segment = self._segment, self._timeline.segment(offset).start
        return before != self._segment

    def _place(self, offset: int, clock: int | None) -> int | None:
        return None if clock is None else self._timeline.ticks(offset, clock)
