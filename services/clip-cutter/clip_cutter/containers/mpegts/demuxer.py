"""Reads a part of an MPEG-TS from front to end: transport packets, PES packets, samples."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO

from clip_cutter.containers.model import Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.mpegts import packets
from clip_cutter.containers.mpegts.audio import TransportAudioSamples
from clip_cutter.containers.mpegts.packets import HEAD, PACKET, SYNC, TransportPacket
from clip_cutter.containers.mpegts.pes import PesHeader
from clip_cutter.containers.mpegts.pes_assembler import ANY, PesAssembler
from clip_cutter.containers.mpegts.tables import PAT_PID, Program, ProgramTables
from clip_cutter.containers.mpegts.video import ParameterSets, TransportVideoSamples
from clip_cutter.containers.timeline import Timeline

# By the fourth byte of a packet: 1 if the packet is payload only, else 0.
_PAYLOAD_ONLY = bytes(flags & 0xF0 == packets.PAYLOAD for flags in range(256))
MAX_IN_ROW = 64
MAX_SKIPPED_BYTES = 4 * 1024 * 1024
MAX_PES_PACKETS = 16 * 1024 * 1024 // PACKET


class TransportDemuxer:
    """See :class:`~clip_cutter.containers.stream.Demuxer`."""

    def __init__(
        self, output: IO[bytes], offset: int, timeline: Timeline, heads: Sequence[bytes], *, stride: int
    ) -> None:
        self._timeline = timeline
        self._stride = stride
        self._heads = heads
        self._video, self._audio = (
            TransportVideoSamples(output, self._find_sets),
            TransportAudioSamples(output),
        )
        self._tables = ProgramTables()
        self._program: Program | None = None
        self._assemblers: dict[int, PesAssembler] = {}
        self._table_counter = ANY  # of the next packet with a PAT
        self._position = offset  # in the file, of the first byte that is not read yet
        self._rest = b""
        self._skipped = 0  # bytes
        self._is_lost = True  # the position of the next packet is not known
        for head in heads:
            self._learn(head)
        self._follow()

    @property
    def reached(self) -> Mapping[TrackKind, float]:
        """See :class:`~clip_cutter.containers.stream.Demuxer`."""
        return {TrackKind.VIDEO: self._video.reached, TrackKind.AUDIO: self._audio.reached}

    def feed(self, data: bytes) -> None:
        """See :class:`~clip_cutter.containers.stream.Demuxer`."""
        data = self._rest + data
        at = 0
        while not self._is_lost or (at := self._find_step(data, at)) + self._stride <= len(data):
            count = self._count(data, at)
            self._read(data, range(at, at + count * self._stride, self._stride))
            at += count * self._stride
            if len(data) - at < self._stride:
                break
            self._is_lost = data[at] != SYNC
        self._rest = data[at:]
        self._position += at
        if any(len(assembler.parts) > MAX_PES_PACKETS for assembler in self._assemblers.values()):
            raise UnsupportedMedia(
                f"MPEG-TS: a PES packet has more than {MAX_PES_PACKETS} packets, it does not end"
            )

    def finish(self) -> None:
        """See :class:`~clip_cutter.containers.stream.Demuxer`."""
        if len(self._rest) >= PACKET and self._rest[0] == SYNC:  # without the gap to the next packet
            self._read(self._rest, range(0, PACKET, PACKET))
        for assembler in self._assemblers.values():
            assembler.complete()
        self._video.finish()

    def tracks(self, media: Path) -> list[Track]:
        """See :class:`~clip_cutter.containers.stream.Demuxer`."""
        tracks = [track for each in (self._video, self._audio) if (track := each.track(media)) is not None]
        if not tracks:
            raise UnsupportedMedia("MPEG-TS: neither H.264 nor AAC after the start of the window")
        return tracks

    def _find_step(self, data: bytes, at: int) -> int:
        """Return the position of the next packet at or after ``at``; the end of the data if there is none."""
        found = packets.find_sync(data, self._stride, at)
        if found < 0:
            found = len(data)
        self._is_lost = len(data) - found < packets.CHECKED * self._stride
        self._skipped += max(found - at, 0)
        if self._skipped > MAX_SKIPPED_BYTES:
            raise UnsupportedMedia(f"MPEG-TS: more than {MAX_SKIPPED_BYTES} bytes are no packets")
        if found > at:
            for assembler in self._assemblers.values():
                assembler.lose("bytes between packets are no packets")
        return found

    def _count(self, data: bytes, at: int) -> int:
        """Return the number of whole packets in a row."""
        column = data[at :: self._stride]
        in_row = len(column) - len(column.lstrip(b"\x47"))
        return min(in_row, (len(data) - at) // self._stride)

    def _read(self, data: bytes, run: range) -> None:
        """Read packets in a row; those in the middle of a PES packet are read many at a time."""
        high, low, flags = (data[run.start + each : run.stop : run.step] for each in (1, 2, 3))
        payload_only = flags.translate(_PAYLOAD_ONLY)
        place = 0
        while place < len(run):
            at, pid = run[place], (high[place] & packets.PID) << 8 | low[place]
            assembler = self._assemblers.get(pid)
            if assembler is None:
                self._read_other(pid, data[at : at + PACKET])
                place += 1
                continue
            count = _in_row(payload_only, place, b"\1")
            count = min(
                _in_row(low, place, low[place : place + 1], count),
                _in_row(high, place, bytes([pid >> 8]), count),
            )
            if count and flags[place : place + count] == assembler.expected_flags(count):
                assembler.take([data[each + HEAD : each + PACKET] for each in run[place : place + count]])
                place += count
            else:
                assembler.add(data[at : at + PACKET], self._position + at)
                place += 1

    def _read_other(self, pid: int, data: bytes) -> None:
        """Read a packet that belongs to no track."""
        if pid in self._tables.pids:
            self._add_table(pid, data)
        elif self._program is not None and pid in self._program.private and data[1] & packets.START:
            _check_private(data)

    def _learn(self, head: bytes) -> None:
        """Read the tables in bytes before the part."""
        for run in packets.runs(head, self._stride):
            for at in run:
                if (pid := packets.pid_of(head, at + 1)) in self._tables.pids:
                    packet = TransportPacket.read(head[at : at + PACKET])
                    if packet is not None:
                        self._tables.feed(pid, packet)
        self._tables.forget_begun()

    def _find_sets(self) -> ParameterSets:
        """Return the latest parameter sets before the part."""
        found: ParameterSets = {}
        for head in self._heads:
            with BytesIO() as nowhere:
                earlier = TransportDemuxer(nowhere, 0, self._timeline, (), stride=self._stride)
                earlier._learn(head)
                earlier._follow()
                with suppress(UnsupportedMedia):
                    earlier.feed(head)
                    earlier.finish()
            found = earlier._video.sets or found
        return found

    def _add_table(self, pid: int, data: bytes) -> None:
        packet = TransportPacket.read(data)
        if packet is None:
            return
        if pid == PAT_PID:
            if packet.counter != self._table_counter != ANY:
                # The counter begins again where a stream was appended to another: so do those of the tracks.
                for assembler in self._assemblers.values():
                    assembler.forget_counter()
            self._table_counter = (packet.counter + 1) & packets.COUNTER
        self._tables.feed(pid, packet)
        self._follow()

    def _follow(self) -> None:
        """Update the tracks that are read to those of the latest tables."""
        program = self._tables.program
        if program is None or program == self._program:
            return
        self._program = program
        named = {each.pid: each for each in program.tracks}
        for pid in list(self._assemblers):
            if named.get(pid) != self._assemblers[pid].track:
                self._assemblers.pop(pid).complete()
        for pid, track in named.items():
            if pid not in self._assemblers:
                sink = self._video if track.kind == TrackKind.VIDEO else self._audio
                self._assemblers[pid] = PesAssembler(track, sink, self._timeline)


def _in_row(column: bytes, place: int, value: bytes, limit: int = MAX_IN_ROW) -> int:
    """Return how often a value is repeated in a column, from position ``place`` on, up to ``limit``."""
    part = column[place : place + limit]
    return len(part) - len(part.lstrip(value))


def _check_private(data: bytes) -> None:
    """Check that a private track without a descriptor has neither video nor audio.

    Raises:
        UnsupportedMedia: a PES packet of video or audio starts in the packet.
    """
    packet = TransportPacket.read(data)
    if packet is not None and PesHeader.read(packet.payload) is not None:
        raise UnsupportedMedia(
            f"MPEG-TS PID {packets.pid_of(data)}: a private track with video or audio of unknown codec"
        )
