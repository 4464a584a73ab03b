"""Reads a stretch of an MPEG-TS from front to end: packets become PES packets, and those become samples."""

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
from clip_cutter.containers.mpegts.tables import ASSOCIATION_PID, Program, ProgramTables
from clip_cutter.containers.mpegts.video import ParameterSets, TransportVideoSamples
from clip_cutter.containers.timeline import Timeline

# The fourth byte of a packet: 1 where it has nothing but payload, 0 otherwise.
_PLAIN = bytes(flags & 0xF0 == packets.PAYLOAD for flags in range(256))
MAX_IN_ROW = 64
MAX_PASSED_OVER = 4 * 1024 * 1024
MAX_PES_PACKETS = 16 * 1024 * 1024 // PACKET


class TransportDemuxer:
    """See :class:`~clip_cutter.containers.stream.Demuxer`."""

    def __init__(
        self, output: IO[bytes], offset: int, line: Timeline, heads: Sequence[bytes], *, stride: int
    ) -> None:
        self._line = line
        self._stride = stride
        self._heads = heads
        self._video, self._audio = (
            TransportVideoSamples(output, self._find_sets),
            TransportAudioSamples(output),
        )
        self._tables = ProgramTables()
        self._program: Program | None = None
        self._pipes: dict[int, PesAssembler] = {}
        self._table_counter = ANY  # of the next packet with the first table
        self._position = offset  # in the file, of the first byte of what is still to be read
        self._rest = b""
        self._passed_over = 0  # bytes
        self._is_lost = True  # where packets begin has to be found
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
        if any(len(pipe.parts) > MAX_PES_PACKETS for pipe in self._pipes.values()):
            raise UnsupportedMedia("an MPEG-TS with a packet that does not end")

    def finish(self) -> None:
        """See :class:`~clip_cutter.containers.stream.Demuxer`."""
        if len(self._rest) >= PACKET and self._rest[0] == SYNC:  # without what separates it from the next one
            self._read(self._rest, range(0, PACKET, PACKET))
        for pipe in self._pipes.values():
            pipe.complete()
        self._video.finish()

    def tracks(self, media: Path) -> list[Track]:
        """See :class:`~clip_cutter.containers.stream.Demuxer`."""
        tracks = [track for each in (self._video, self._audio) if (track := each.track(media)) is not None]
        if not tracks:
            raise UnsupportedMedia("an MPEG-TS without video or audio that we read")
        return tracks

    def _find_step(self, data: bytes, at: int) -> int:
        """Return where packets begin at or behind ``at``; the end of the data where none do."""
        found = packets.find_sync(data, self._stride, at)
        if found < 0:
            found = len(data)
        self._is_lost = len(data) - found < packets.CHECKED * self._stride
        self._passed_over += max(found - at, 0)
        if self._passed_over > MAX_PASSED_OVER:
            raise UnsupportedMedia("an MPEG-TS with too many bytes that are no packets")
        if found > at:
            for pipe in self._pipes.values():
                pipe.lose("bytes that are no packets")
        return found

    def _count(self, data: bytes, at: int) -> int:
        """Return how many whole packets lie in a row."""
        column = data[at :: self._stride]
        in_row = len(column) - len(column.lstrip(b"\x47"))
        return min(in_row, (len(data) - at) // self._stride)

    def _read(self, data: bytes, run: range) -> None:
        """Read packets that lie in a row: those in the middle of a PES packet many at a time."""
        high, low, flags = (data[run.start + each : run.stop : run.step] for each in (1, 2, 3))
        plain = flags.translate(_PLAIN)
        place = 0
        while place < len(run):
            at, pid = run[place], (high[place] & packets.PID) << 8 | low[place]
            pipe = self._pipes.get(pid)
            if pipe is None:
                self._read_other(pid, data[at : at + PACKET])
                place += 1
                continue
            count = _in_row(plain, place, b"\1")
            count = min(
                _in_row(low, place, low[place : place + 1], count),
                _in_row(high, place, bytes([pid >> 8]), count),
            )
            if count and flags[place : place + count] == pipe.usual(count):
                pipe.take([data[each + HEAD : each + PACKET] for each in run[place : place + count]])
                place += count
            else:
                pipe.add(data[at : at + PACKET], self._position + at)
                place += 1

    def _read_other(self, pid: int, data: bytes) -> None:
        """Read a packet that is not of a track."""
        if pid in self._tables.pids:
            self._add_table(pid, data)
        elif self._program is not None and pid in self._program.private and data[1] & packets.START:
            _check_private(data)

    def _learn(self, head: bytes) -> None:
        """Take the tables out of what lies before the stretch."""
        for run in packets.runs(head, self._stride):
            for at in run:
                if (pid := packets.pid_of(head, at + 1)) in self._tables.pids:
                    packet = TransportPacket.read(head[at : at + PACKET])
                    if packet is not None:
                        self._tables.feed(pid, packet)
        self._tables.forget_begun()

    def _find_sets(self) -> ParameterSets:
        """Return the latest parameter sets that were sent before the stretch."""
        found: ParameterSets = {}
        for head in self._heads:
            with BytesIO() as nowhere:
                earlier = TransportDemuxer(nowhere, 0, self._line, (), stride=self._stride)
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
        if pid == ASSOCIATION_PID:
            if packet.counter != self._table_counter != ANY:
                # Its counter begins again where one recording was appended to another: so do those of others.
                for pipe in self._pipes.values():
                    pipe.forget_counter()
            self._table_counter = (packet.counter + 1) & packets.COUNTER
        self._tables.feed(pid, packet)
        self._follow()

    def _follow(self) -> None:
        """Read the tracks that the tables name now."""
        program = self._tables.program
        if program is None or program == self._program:
            return
        self._program = program
        named = {each.pid: each for each in program.tracks}
        for pid in list(self._pipes):
            if named.get(pid) != self._pipes[pid].track:
                self._pipes.pop(pid).complete()
        for pid, track in named.items():
            if pid not in self._pipes:
                sink = self._video if track.kind == TrackKind.VIDEO else self._audio
                self._pipes[pid] = PesAssembler(track, sink, self._line)


def _in_row(column: bytes, place: int, value: bytes, limit: int = MAX_IN_ROW) -> int:
    """Return how many times in a row a value stands in a column, from a place on."""
    part = column[place : place + limit]
    return len(part) - len(part.lstrip(value))


def _check_private(data: bytes) -> None:
    """See that a track of which nothing is said has neither video nor audio."""
    packet = TransportPacket.read(data)
    if packet is not None and PesHeader.read(packet.payload) is not None:
        raise UnsupportedMedia("an MPEG-TS with a track that does not say what it is")
