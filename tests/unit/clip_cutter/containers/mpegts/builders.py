"""Builders of MPEG-TS files."""

from collections.abc import Iterable, Iterator

from clip_cutter.containers import avc
from tests.unit.clip_cutter.containers.test_avc import BASELINE, HIGH

VIDEO, AUDIO, MAP = 0x100, 0x101, 0x1000
H264, AAC = 0x1B, 0x0F
TICKS = 90_000
PICTURE_TICKS = 3000
SETS = {
    name: [*avc.AvcDecoderConfigurationRecord.read(r).sps, *avc.AvcDecoderConfigurationRecord.read(r).pps]
    for name, r in (("high", HIGH), ("base", BASELINE))
}
AUD = b"\x09\xf0"
IDR, INTRA, INTER = b"\x65\x88picture", b"\x41\x88picture", b"\x41\x9apicture"
FRAME = b"sound" * 10


def packet(
    pid: int,
    payload: bytes,
    counter: int,
    *,
    starts: bool = False,
    field: bytes | None = None,
) -> bytes:
    """A packet; ``field`` is what the adaptation field has behind its length, before stuffing."""
    missing = 184 - len(payload)
    head = bytes([0x47, starts << 6 | pid >> 8, pid & 0xFF])
    if not missing and field is None:
        return head + bytes([0x10 | counter]) + payload
    field = field if field is not None or missing == 1 else b"\0"
    field = b"" if field is None else field
    flags = 0x30 if payload else 0x20
    return head + bytes([flags | counter, missing - 1]) + field.ljust(missing - 1, b"\xff") + payload


def crc(section: bytes) -> bytes:
    register = 0xFFFFFFFF
    for bit in (byte >> shift & 1 for byte in section for shift in range(7, -1, -1)):
        register = (register << 1 & 0xFFFFFFFF) ^ (0x04C11DB7 if register >> 31 ^ bit else 0)
    return register.to_bytes(4)


def section(table: int, body: bytes) -> bytes:
    content = bytes([table]) + (0xB000 | len(body) + 9).to_bytes(2) + b"\0\1\xc1\0\0" + body
    return content + crc(content)


def association(*programs: tuple[int, int]) -> bytes:
    return section(0, b"".join(n.to_bytes(2) + (0xE000 | pid).to_bytes(2) for n, pid in programs))


def program_map(*tracks: tuple[int, int], descriptors: bytes = b"") -> bytes:
    each = len(descriptors).to_bytes(2) + descriptors
    body = b"".join(bytes([kind]) + (0xE000 | pid).to_bytes(2) + each for kind, pid in tracks)
    return section(2, b"\xe1\0\xf0\0" + body)


def stamp(ticks: int, prefix: int) -> bytes:
    ticks %= 2**33
    number = prefix << 36 | (ticks >> 30) << 33 | 1 << 32 | (ticks >> 15 & 0x7FFF) << 17 | 1 << 16
    return (number | (ticks & 0x7FFF) << 1 | 1).to_bytes(5)


def pes(
    stream_id: int, data: bytes, shown: int | None, decoded: int | None = None, *, sized: bool = False
) -> bytes:
    stamps, flags = b"", 0
    if shown is not None:
        stamps, flags = stamp(shown, 2 if decoded is None else 3), 0x80
        if decoded is not None:
            stamps, flags = stamps + stamp(decoded, 1), 0xC0
    rest = bytes([0x80, flags, len(stamps)]) + stamps + data
    return b"\0\0\1" + bytes([stream_id]) + (len(rest) if sized else 0).to_bytes(2) + rest


def units(*each: bytes) -> bytes:
    return b"".join(b"\0\0\0\1" + unit for unit in each)


def keyframe(sets: str = "high") -> bytes:
    return units(AUD, *SETS[sets], IDR)


def adts(frames: int = 1, *, rate: int = 3, channels: int = 2, content: bytes = FRAME) -> bytes:
    """Frames of AAC-LC; ``rate`` 3 is 48 kHz, 4 is 44.1 kHz."""
    head = 0xFFF1 << 40 | 1 << 38 | rate << 34 | channels << 30 | (len(content) + 7) << 13 | 0x7FF << 2
    return (head.to_bytes(7) + content) * frames


class Mux:
    """Writes consecutive packets, and counts them."""

    def __init__(self, *, video: int = VIDEO, audio: int = AUDIO) -> None:
        self.video, self.audio = video, audio
        self.counters: dict[int, int] = {}
        self.data = bytearray()

    def tables(self, *tracks: tuple[int, int], map_pid: int = MAP) -> "Mux":
        tracks = tracks or ((H264, self.video), (AAC, self.audio))
        self.payload(0, b"\0" + association((1, map_pid)), starts=True, stuffed=True)
        self.payload(map_pid, b"\0" + program_map(*tracks), starts=True, stuffed=True)
        return self

    def payload(
        self,
        pid: int,
        data: bytes,
        *,
        starts: bool = False,
        field: bytes | None = None,
        stuffed: bool = False,
    ) -> "Mux":
        """A payload in as many packets as it takes; ``field`` for the first one."""
        if stuffed:
            data = data.ljust(184, b"\xff")
        while data:
            counter = self.counters.get(pid, 0)
            size = 184 if field is None else 183 - len(field)
            self.data += packet(pid, data[:size], counter, starts=starts, field=field)
            self.counters[pid] = (counter + 1) % 16
            data, starts, field = data[size:], False, None
        return self

    def picture(
        self, data: bytes, shown: int, decoded: int | None = None, *, is_entry: bool = False, size: int = 400
    ) -> "Mux":
        data = data.ljust(size, b"x") if size > len(data) else data
        field = b"\x40" if is_entry else None
        return self.payload(self.video, pes(0xE0, data, shown, decoded), starts=True, field=field)

    def sound(self, data: bytes, shown: int) -> "Mux":
        return self.payload(self.audio, pes(0xC0, data, shown, sized=True), starts=True)

    def second(self, start: int = 0, *, keyframe_with: str = "high", pictures: int = 30) -> "Mux":
        """A second of video with a keyframe, and of audio, beginning at a time."""
        for number in range(pictures):
            time = start + number * PICTURE_TICKS
            if number % 5 == 0:
                self.tables()
                self.sound(
                    adts(47 // 6 + (number == 0)),
                    start + number // 5 * (47 // 6) * 1920 + (number > 0) * 1920,
                )
            data = keyframe(keyframe_with) if number == 0 else units(AUD, INTER)
            self.picture(data, time, is_entry=number == 0)
        return self


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def joined(parts: Iterable[bytes | bytearray]) -> bytes:
    return b"".join(parts)
