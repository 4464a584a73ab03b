"""Program tables (§2.4.4): PAT and PMT, which list the tracks. They are repeated, and may change."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from clip_cutter.containers.model import TrackKind, UnsupportedMedia
from clip_cutter.containers.mpegts.packets import TransportPacket, pid_of

PAT_PID = 0
PAT, PMT = 0x00, 0x02  # table_id
HEAD = 3  # bytes of a section: table_id and section_length
PAT_HEAD = 8  # bytes of a PAT section before its entries
PMT_HEAD = 12  # bytes of a PMT section before the descriptors of the program
CRC = 4
MAX_SECTION = 1024
MAX_SECTIONS = 100_000
CURRENT = 0x01
STUFFING = 0xFF

# stream_type (table 2-34): those that we read, and those that ffmpeg has to read.
H264, AAC = 0x1B, 0x0F
VIDEO_TYPES = frozenset({0x01, 0x02, 0x10, H264, 0x20, 0x21, 0x24, 0x33, 0x42, 0xD1, 0xD2, 0xEA})
AUDIO_TYPES = frozenset({0x03, 0x04, AAC, 0x11, 0x1C, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87})
PRIVATE = 0x06
# Descriptors of private tracks: AC-3, E-AC-3, DTS, AAC (ETSI EN 300 468), and registered names.
AUDIO_DESCRIPTORS = frozenset({0x6A, 0x7A, 0x7B, 0x7C})
REGISTRATION = 0x05
REGISTERED = {
    b"AC-3": TrackKind.AUDIO,
    b"EAC3": TrackKind.AUDIO,
    b"Opus": TrackKind.AUDIO,
    b"DTS1": TrackKind.AUDIO,
    b"DTS2": TrackKind.AUDIO,
    b"DTS3": TrackKind.AUDIO,
    b"BSSD": TrackKind.AUDIO,
    b"HEVC": TrackKind.VIDEO,
    b"AV01": TrackKind.VIDEO,
    b"VC-1": TrackKind.VIDEO,
    b"drac": TrackKind.VIDEO,
}


@dataclass(frozen=True)
class ElementaryStream:
    """A track of a program: the PID of its packets, its stream_type (table 2-34), and its kind."""

    pid: int
    type: int
    kind: TrackKind


@dataclass(frozen=True)
class Program:
    """The tracks of a program.

    Args:
        tracks: its first video and its first audio, in the order of the PMT.
        private: PIDs of private tracks without a descriptor of their content.
    """

    tracks: tuple[ElementaryStream, ...]
    private: frozenset[int]

    @classmethod
    def read(cls, section: bytes) -> Self:
        """Parse a PMT section (§2.4.4.8)."""
        first: dict[TrackKind, ElementaryStream] = {}
        private = set()
        for pid, type_, kind in _elementary_streams(section):
            if kind is not None:
                first.setdefault(kind, ElementaryStream(pid, type_, kind))
            elif type_ == PRIVATE:
                private.add(pid)
        return cls(tuple(first.values()), frozenset(private))


class ProgramTables:
    """Reads the tables of a stream, packet by packet.

    Attributes:
        program: the program by the latest PMT; None before the first PMT.
    """

    def __init__(self) -> None:
        self.program: Program | None = None
        self._pmt_pid: int | None = None
        self._read = 0
        self._begun: dict[int, bytes] = {}  # the section that is not complete yet, by PID

    @property
    def pids(self) -> tuple[int, ...]:
        """Return the PIDs of packets with tables."""
        return (PAT_PID,) if self._pmt_pid is None else (PAT_PID, self._pmt_pid)

    def feed(self, pid: int, packet: TransportPacket) -> None:
        """Read a packet of one of the ``pids``.

        Raises:
            UnsupportedMedia: the stream has not exactly one program, or more than 100,000 table sections.
        """
        for section in self._sections(pid, packet):
            self._read += 1
            if self._read > MAX_SECTIONS:
                raise UnsupportedMedia(f"MPEG-TS: more than {MAX_SECTIONS} table sections")
            if pid == PAT_PID and section[0] == PAT:
                self._pmt_pid = _pmt_pid(section)
            elif pid == self._pmt_pid and section[0] == PMT:
                self.program = Program.read(section)

    def forget_begun(self) -> None:
        """Forget incomplete sections: the next packets do not continue them."""
        self._begun.clear()

    def _sections(self, pid: int, packet: TransportPacket) -> Iterator[bytes]:
        """Yield the current sections that end in a packet."""
        begun, data = self._begun.pop(pid, b""), packet.payload
        if packet.starts and data:
            pointer = 1 + data[0]
            yield from _whole(begun + data[1:pointer])[0] if begun else ()
            begun, data = b"", data[pointer:]
        elif not begun:
            return
        sections, rest = _whole(begun + data)
        yield from sections
        if rest:
            self._begun[pid] = rest


def _whole(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the whole, valid and current sections in ``data``, and the start of an incomplete one."""
    sections: list[bytes] = []
    while data and data[0] != STUFFING:
        if len(data) < HEAD:
            return sections, data
        size = HEAD + _length(data, 1)
        if size > MAX_SECTION:
            return sections, b""
        if len(data) < size:
            return sections, data
        section, data = data[:size], data[size:]
        if size > PAT_HEAD + CRC and section[5] & CURRENT and _crc(section) == 0:
            sections.append(section)
    return sections, b""


def _pmt_pid(pat: bytes) -> int:
    """Return the PID of the PMT of the only program, by the PAT (§2.4.4.3)."""
    entries = [pat[at : at + 4] for at in range(PAT_HEAD, len(pat) - CRC - 3, 4)]
    programs = [entry for entry in entries if entry[:2] != b"\0\0"]
    if len(programs) != 1:
        raise UnsupportedMedia(f"MPEG-TS PAT: {len(programs)} programs, 1 is supported")
    return pid_of(programs[0], 2)


def _elementary_streams(section: bytes) -> Iterator[tuple[int, int, TrackKind | None]]:
    """Yield the tracks of a PMT: PID, stream_type, and kind; None for an unknown kind."""
    end = len(section) - CRC
    at = PMT_HEAD + _length(section, PMT_HEAD - 2)
    while at + 5 <= end:
        descriptors = section[at + 5 : min(at + 5 + _length(section, at + 3), end)]
        yield pid_of(section, at + 1), section[at], _kind(section[at], descriptors)
        at += 5 + len(descriptors)


def _kind(type_: int, descriptors: bytes) -> TrackKind | None:
    if type_ in VIDEO_TYPES:
        return TrackKind.VIDEO
    if type_ in AUDIO_TYPES:
        return TrackKind.AUDIO
    if type_ != PRIVATE:
        return None
    at = 0
    while at + 2 <= len(descriptors):
        tag, content = descriptors[at], descriptors[at + 2 : at + 2 + descriptors[at + 1]]
        if tag in AUDIO_DESCRIPTORS:
            return TrackKind.AUDIO
        if tag == REGISTRATION and content[:4] in REGISTERED:
            return REGISTERED[content[:4]]
        at += 2 + descriptors[at + 1]
    return None


def _length(section: bytes, at: int) -> int:
    """Return a length of 12 bits; 0 if the section ends before it."""
    return (section[at] & 0x0F) << 8 | section[at + 1] if at + 2 <= len(section) else 0


@lru_cache(maxsize=64)  # the same few tables are repeated ten times a second
def _crc(section: bytes) -> int:
    """Return the CRC of annex A over a section with its CRC: 0 if the section is valid."""
    crc = 0xFFFFFFFF
    for byte in section:
        crc = (crc << 8 & 0xFFFFFFFF) ^ _CRC_TABLE[crc >> 24 ^ byte]
    return crc


def _crc_of(byte: int) -> int:
    crc = byte << 24
    for _ in range(8):
        crc = (crc << 1 & 0xFFFFFFFF) ^ (0x04C11DB7 if crc & 0x80000000 else 0)
    return crc


_CRC_TABLE = [_crc_of(byte) for byte in range(256)]
