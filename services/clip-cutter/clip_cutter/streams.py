"""Streams, which have no index (MPEG-TS, ISO/IEC 13818-1, and FLV): windows are found by looking around.

ffmpeg looks for it too, but reads far more than it needs: seconds before and after in MPEG-TS, everything
before in FLV. Only where pictures begin and when they are shown is read here. What that leads to is a part of
the recording that begins before a keyframe; it is cut as any other file.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from clip_cutter.domain.cut import MAX_HIDDEN_SECONDS
from clip_cutter.domain.media import ByteRange, Media, NotPlain

BLOCK_BYTES = 32 * 1024
MAX_BLOCKS = 128  # without a picture; a keyframe of 4 MiB is none
BACK_BYTES = 256 * 1024
MAX_HELD_BYTES = 16 * 1024 * 1024
MAX_LOOKS = 32
INTERPOLATIONS = 8  # then it is halved: a bit rate may vary as it likes
ROUNDING_SECONDS = 0.001
# Sound lies beside the picture that it belongs to, but not exactly.
SOUND_BEFORE_SECONDS = 0.5
SOUND_AFTER_SECONDS = 1.0

Peek = Callable[[ByteRange], Awaitable[bytes]]


@dataclass(frozen=True)
class Mark:
    """Where a picture begins in the file, and when it is shown, in seconds from the start of the VOD."""

    offset: int
    seconds: float
    is_keyframe: bool


class Stream(Protocol):
    """A format without an index."""

    @property
    def preamble(self) -> bytes:
        """What must stand before a part of the file."""
        ...

    def marks(self, data: bytes, offset: int) -> list[Mark]:
        """The pictures that begin in ``data``, which lies at ``offset`` of the file."""
        ...

    def offset_of(self, part: Media) -> float:
        """How many seconds after the VOD's the time line of a part of it begins."""
        ...


PACKET = 188
SYNC = 0x47
TICKS = 90_000
PES_HEAD = 14  # up to the time stamp's end
SECTION_HEAD = 3
WRAP_SECONDS = 2**33 / TICKS
EARLY_SECONDS = 10.0
TS_VIDEO = frozenset({0x01, 0x02, 0x10, 0x1B, 0x24})  # stream types: MPEG-1, MPEG-2, MPEG-4, H.264, HEVC


@dataclass(frozen=True)
class TransportStream:
    """An MPEG-TS with one program. ``start``: the time stamp that the VOD begins with, in seconds."""

    preamble: bytes
    picture: int
    start: float

    @classmethod
    def read(cls, head: bytes, media: Media) -> Self:
        """Recognize one by its first bytes.

        Raises:
            NotPlain: it is none, or one of several programs.
        """
        packets = [head[at : at + PACKET] for at in range(0, len(head) - PACKET + 1, PACKET)]
        if not packets or any(packet[0] != SYNC for packet in packets):
            raise NotPlain("no MPEG-TS of plain packets")
        association = _first(packets, 0)
        programs = [entry for entry in _entries(_section(association), 8, 4) if entry[:2] != b"\0\0"]
        if len(programs) != 1:
            raise NotPlain(f"{len(programs)} programs")
        map_packet = _first(packets, _pid(programs[0][2:]))
        section = _section(map_packet)
        streams, at = [], 12 + _length(section, 10)
        while at + 5 <= len(section) - 4:
            streams.append((section[at], _pid(section[at + 1 :])))
            at += 5 + _length(section, at + 3)
        pictures = [pid for kind, pid in streams if kind in TS_VIDEO]
        if len(pictures) != 1:
            raise NotPlain(f"{len(pictures)} pictures")
        return cls(association + map_packet, pictures[0], media.start)

    def marks(self, data: bytes, offset: int) -> list[Mark]:
        """See :class:`Stream`."""
        found = []
        for at in range(-offset % PACKET, len(data) - PACKET + 1, PACKET):
            starts = data[at] == SYNC and data[at + 1] & 0x40 and _pid(data[at + 1 : at + 3]) == self.picture
            if starts and (mark := self._mark(data[at : at + PACKET], offset + at)):
                found.append(mark)
        return found

    def _mark(self, packet: bytes, offset: int) -> Mark | None:
        """The picture that begins in a packet, if its time stamp (§2.4.3.6) is there."""
        has_field, field = bool(packet[3] & 0x20), packet[4]
        payload = packet[5 + field :] if has_field else packet[4:]
        if len(payload) < PES_HEAD or payload[:3] != b"\0\0\1" or not payload[7] & 0x80:
            return None
        ticks = (payload[9] & 0x0E) << 29 | (payload[10] << 8 | payload[11] & 0xFE) << 14
        ticks |= payload[12] << 7 | payload[13] >> 1
        is_keyframe = has_field and field > 0 and bool(packet[5] & 0x40)
        return Mark(offset, self._since_start(ticks / TICKS), is_keyframe)

    def _since_start(self, stamp: float) -> float:
        """Time stamps begin anywhere, and begin again after 26.5 hours."""
        return (stamp - self.start + EARLY_SECONDS) % WRAP_SECONDS - EARLY_SECONDS

    def offset_of(self, part: Media) -> float:
        """See :class:`Stream`."""
        return self._since_start(part.start)


def _first(packets: Sequence[bytes], pid: int) -> bytes:
    for packet in packets:
        if _pid(packet[1:3]) == pid and packet[1] & 0x40:
            return packet
    raise NotPlain("tables that do not come at once")


def _pid(two: bytes) -> int:
    return (two[0] & 0x1F) << 8 | two[1]


def _section(packet: bytes) -> bytes:
    """The table in a packet (§2.4.4)."""
    payload = packet[5 + packet[4] :] if packet[3] & 0x20 else packet[4:]
    section = payload[1 + payload[0] :] if payload else b""
    if len(section) < SECTION_HEAD or len(section) < SECTION_HEAD + _length(section, 1):
        raise NotPlain("tables of several packets")
    return section[: SECTION_HEAD + _length(section, 1)]


def _length(section: bytes, at: int) -> int:
    if at + 2 > len(section):
        raise NotPlain("a table that is cut off")
    return (section[at] & 0x0F) << 8 | section[at + 1]


def _entries(section: bytes, first: int, size: int) -> list[bytes]:
    return [section[at : at + size] for at in range(first, len(section) - 4 - size + 1, size)]


FLV_SIGNATURE = b"FLV\1"
FLV_HEADER = 13
TAG_HEAD = 11
SOUND_TAG, PICTURE_TAG = 8, 9
# A tag: its kind, its size, its time in milliseconds, and a stream number that is always zero.
TAG = re.compile(rb"(?=([\x08\x09\x12])(...)(...)(.)\0\0\0)", re.DOTALL)
AVC, AAC = 7, 10
CONFIGURATION, CODED = 0, 1


@dataclass(frozen=True)
class FlashVideo:
    """An FLV with H.264. ``start``: the time that the VOD begins with, in seconds."""

    preamble: bytes
    start: float

    @classmethod
    def read(cls, head: bytes, media: Media) -> Self:
        """Recognize one by its first bytes.

        Raises:
            NotPlain: it is none, or not with H.264.
        """
        if not head.startswith(FLV_SIGNATURE):
            raise NotPlain("no FLV")
        preamble, at = head[:FLV_HEADER], FLV_HEADER
        while at + TAG_HEAD + 2 <= len(head):
            end = _tag_end(head, at)
            tag = head[at:end]
            if _is_coded_picture(tag):
                return cls(preamble, media.start)
            if _is_configuration(tag):
                preamble += tag
            at = end
        raise NotPlain("no H.264 at the beginning")

    def marks(self, data: bytes, offset: int) -> list[Mark]:
        """See :class:`Stream`."""
        at = next((found.start() for found in TAG.finditer(data) if _is_tag(data, found.start())), len(data))
        found = []
        while at + TAG_HEAD + 5 <= len(data):
            if not TAG.match(data, at):
                break
            if _is_coded_picture(data[at : at + TAG_HEAD + 5]):
                stamp = int.from_bytes(data[at + 7 : at + 8] + data[at + 4 : at + 7])
                late = int.from_bytes(data[at + TAG_HEAD + 2 : at + TAG_HEAD + 5], signed=True)
                is_keyframe = data[at + TAG_HEAD] >> 4 == 1
                found.append(Mark(offset + at, (stamp + late) / 1000 - self.start, is_keyframe))
            at = _tag_end(data, at)
        return found

    def offset_of(self, part: Media) -> float:
        """See :class:`Stream`."""
        return part.start - self.start


def _tag_end(data: bytes, at: int) -> int:
    """Where a tag ends, with the number after it that repeats its size."""
    if at + TAG_HEAD > len(data):
        return len(data) + 1
    return at + TAG_HEAD + int.from_bytes(data[at + 1 : at + 4]) + 4


def _is_tag(data: bytes, at: int) -> bool:
    """Whether what looks like a tag ends as one, and is followed by what looks like one."""
    end = _tag_end(data, at)
    return data[end - 4 : end] == (end - at - 4).to_bytes(4) and TAG.match(data, end) is not None


def _is_coded_picture(tag: bytes) -> bool:
    return tag[0] == PICTURE_TAG and _codec(tag, 0x8F) == (AVC, CODED)


def _is_configuration(tag: bytes) -> bool:
    """Whether a tag says how pictures or sounds are coded."""
    if tag[0] == PICTURE_TAG:
        return _codec(tag, 0x8F) == (AVC, CONFIGURATION)
    return tag[0] == SOUND_TAG and _codec(tag, 0xF0) == (AAC << 4, CONFIGURATION)


def _codec(tag: bytes, mask: int) -> tuple[int, int]:
    """The bits of a tag's first byte that name the codec, and its second byte."""
    first, second = (tag[TAG_HEAD : TAG_HEAD + 2] + b"\xff\xff")[:2]
    return first & mask, second


@dataclass(frozen=True)
class Block:
    """Bytes of a stream, and the pictures that begin in them."""

    offset: int
    data: bytes
    marks: list[Mark]

    @property
    def end(self) -> int:
        """Where they end."""
        return self.offset + len(self.data)


@dataclass(frozen=True)
class Part:
    """A part of a stream: ``data``, which was read while it was looked for, and then ``rest``."""

    data: bytes
    rest: ByteRange


class Search:
    """Looks for a window in a stream of ``size`` bytes and ``seconds``."""

    def __init__(self, stream: Stream, peek: Peek, *, size: int, seconds: float) -> None:
        self._stream = stream
        self._peek = peek
        self._size = size
        self._seconds = seconds

    async def find(self, start: float, end: float) -> Part:
        """What a clip from ``start`` to ``end`` needs: from a keyframe before it, with the sound around it.

        Raises:
            NotPlain: there is no keyframe near, or no order in the times.
        """
        around = await self._look_for(start, Mark(0, 0.0, is_keyframe=False))
        last = await self._look_for(end + SOUND_AFTER_SECONDS, around.marks[0])
        after = [mark.offset for mark in last.marks if mark.seconds >= end + SOUND_AFTER_SECONDS]
        stop = after[0] if after else self._size
        if stop < around.end:
            raise NotPlain("times that run backwards, or hardly anything")
        return Part(await self._from_keyframe(start, around), ByteRange(around.end, stop))

    async def _from_keyframe(self, start: float, around: Block) -> bytes:
        """From the sound that belongs to the last keyframe shown by ``start`` on, up to ``around``'s end."""
        data, marks = around.data, around.marks
        while True:
            offset = around.end - len(data)
            keyframes = [m.seconds for m in marks if m.is_keyframe and m.seconds <= start + ROUNDING_SECONDS]
            before = [
                m.offset for m in marks if keyframes and m.seconds <= keyframes[-1] - SOUND_BEFORE_SECONDS
            ]
            if before:
                return data[before[-1] - offset :]
            if offset == 0:
                return data
            if (
                marks[0].seconds < start - MAX_HIDDEN_SECONDS - SOUND_BEFORE_SECONDS
                or len(data) > MAX_HELD_BYTES
            ):
                raise NotPlain("no keyframe near the start")
            step = max(BACK_BYTES, len(data) // 2)
            earlier = await self._peek(ByteRange(max(offset - step, 0), offset))
            # A picture may begin in one block and have its time stamp in the next.
            data = earlier + data
            marks = self._stream.marks(data, around.end - len(data))

    async def _look_for(self, seconds: float, low: Mark) -> Block:
        """Pictures around a time after ``low``, or at the end that is nearer to it."""
        high = Mark(self._size, self._seconds, is_keyframe=False)
        for look in range(MAX_LOOKS):
            at = self._guess(low, high, seconds, halve=look >= INTERPOLATIONS)
            found = await self._next_pictures(at)
            marks = found.marks
            if marks and marks[-1].seconds < seconds and marks[-1].offset > low.offset:
                low = marks[-1]
            elif at > low.offset and (not marks or marks[0].seconds > seconds):
                high = Mark(at, marks[0].seconds if marks else high.seconds, is_keyframe=False)
            elif marks:
                return found
            else:
                break
            if high.offset - low.offset <= BLOCK_BYTES:
                nearest = await self._next_pictures(low.offset)
                return nearest if nearest.marks else found
        raise NotPlain("no pictures where they should be")

    @staticmethod
    def _guess(low: Mark, high: Mark, seconds: float, *, halve: bool) -> int:
        share = 0.5
        if not halve and high.seconds > low.seconds:
            share = min(max((seconds - low.seconds) / (high.seconds - low.seconds), 0.0), 1.0)
        guess = low.offset + int((high.offset - low.offset) * share) - BLOCK_BYTES // 2
        return min(max(guess, low.offset), max(high.offset - BLOCK_BYTES, low.offset))

    async def _next_pictures(self, at: int) -> Block:
        """A block at an offset that goes on until a picture begins in it, or to the end."""
        data = b""
        for _ in range(MAX_BLOCKS):
            wanted = ByteRange(at + len(data), min(at + len(data) + BLOCK_BYTES, self._size))
            if wanted.size <= 0:
                break
            data += await self._peek(wanted)
            if marks := self._stream.marks(data, at):
                return Block(at, data, marks)
        return Block(at, data, [])
