"""The packets of one track become PES packets."""

from typing import Protocol

from clip_cutter.containers.model import TrackKind, UnsupportedMedia
from clip_cutter.containers.mpegts.packets import COUNTER, PAYLOAD, TransportPacket
from clip_cutter.containers.mpegts.pes import PesHeader, PesPacket
from clip_cutter.containers.mpegts.tables import AAC, H264, ElementaryStream
from clip_cutter.containers.timeline import Timeline

READ = {TrackKind.VIDEO: H264, TrackKind.AUDIO: AAC}
ANY = -1  # a counter may have any value
_USUAL = bytes(PAYLOAD | counter & COUNTER for counter in range(256))


class PesSink(Protocol):
    """What takes samples out of PES packets."""

    def add(self, pes: PesPacket) -> None:
        """Read on."""


class PesAssembler:
    """Gathers the packets of a track. ``parts`` is the payload of the PES packet that is being read."""

    def __init__(self, track: ElementaryStream, sink: PesSink, line: Timeline) -> None:
        self.track = track
        self.parts: list[bytes] = []
        self._sink = sink
        self._line = line
        self._counter = ANY  # of the next packet
        self._may_restart = False  # the counter, with the next packet that starts something
        self._restarted = False  # the counter, with the latest packet
        self._offset = -1  # where the PES packet began; below 0 where its beginning is not known
        self._is_random_access = False
        self._is_cut = False
        self._segment = -1  # of the clock, by the time at which it starts
        self._problem: str | None = None

    def usual(self, count: int) -> bytes:
        """Return the fourth bytes of the next packets, if all is well and they have nothing but payload."""
        return b"" if self._counter == ANY else _USUAL[self._counter :][:count]

    def take(self, payloads: list[bytes]) -> None:
        """Read packets whose fourth bytes are :meth:`usual`."""
        self.parts += payloads
        self._counter = (self._counter + len(payloads)) & COUNTER
        self._may_restart = False

    def add(self, data: bytes, offset: int) -> None:
        """Read a packet that lies at an offset of the file.

        Raises:
            UnsupportedMedia: the track is left to ffmpeg.
        """
        packet = TransportPacket.read(data)
        if packet is None:
            self.lose("a packet that is broken")
            return
        if not packet.payload or self._is_repeated(packet):
            return
        self._count(packet)
        if packet.starts:
            self.complete()
            self._begin(packet, offset)
        self.parts.append(packet.payload)

    def complete(self) -> None:
        """Hand over the PES packet that is being read."""
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
            problem = problem or "a packet is cut short"
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
        """Note that what is being read is damaged."""
        self._problem = self._problem or why

    def forget_counter(self) -> None:
        """Let the counter begin with any number where the next PES packet begins."""
        self._may_restart = True

    def _is_repeated(self, packet: TransportPacket) -> bool:
        """Whether a packet is sent for the second time (§2.4.3.3)."""
        return (
            self._counter != ANY
            and packet.counter == (self._counter - 1) & COUNTER
            and bool(self.parts)
            and self.parts[-1] == packet.payload
        )

    def _count(self, packet: TransportPacket) -> None:
        """Note what the counter says of packets before this one."""
        is_expected = self._counter in (ANY, packet.counter)
        self._restarted = not is_expected and self._may_begin_again(packet)
        if not is_expected and not self._restarted:
            self.lose("packets are missing")
        self._may_restart = False
        self._counter = (packet.counter + 1) & COUNTER

    def _may_begin_again(self, packet: TransportPacket) -> bool:
        """Whether the counter may have any value here, without anything being lost of what came before.

        It may where a packet says so. A recording that was appended begins with tables (see
        :meth:`forget_counter`), or with counters of 0. And audio says how long it is: if all of it is there,
        then whatever is missing is a hole.
        """
        if packet.is_discontinuity or not packet.starts:
            return packet.is_discontinuity
        is_beginning = packet.is_random_access and packet.counter == 0 and self.track.kind == TrackKind.VIDEO
        return self._may_restart or is_beginning or self._is_whole()

    def _is_whole(self) -> bool:
        """Whether all of the PES packet that is being read has come, as far as its head tells."""
        head = PesHeader.read(self.parts[0]) if self.parts and self._offset >= 0 else None
        return (
            head is not None and head.size is not None and sum(map(len, self.parts)) >= head.start + head.size
        )

    def _begin(self, packet: TransportPacket, offset: int) -> None:
        if READ[self.track.kind] != self.track.type:
            raise UnsupportedMedia(f"an MPEG-TS with {self.track.kind} of type {self.track.type:#04x}")
        self._offset = offset
        self._is_cut = self._restarted
        self._is_random_access = packet.is_random_access

    def _is_new_run(self, offset: int) -> bool:
        """Whether it is the first PES packet, or the clock has jumped since the last one."""
        before, self._segment = self._segment, self._line.segment(offset).start
        return before != self._segment

    def _place(self, offset: int, clock: int | None) -> int | None:
        return None if clock is None else self._line.ticks(offset, clock)
