"""Builders of MP4 files, box by box: a test gives the content of each table."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby

from clip_cutter.containers.mp4.boxes import Read

MOVIE_TIMESCALE = 1000
ENABLED = 1
# What x264 and ffmpeg write.
AVC_RECORD = bytes.fromhex("014d400dffe10018674d400deca0a8cf3cd808800000030080000019078a14cb01000568ebe3cb20")
AAC_CONFIG = bytes.fromhex("1190")  # LC, 48 kHz, stereo


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, *content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


def table(kind: bytes, form: str, rows: Sequence[Sequence[int]], version: int = 0) -> bytes:
    packed = [struct.pack(f">{form}", *row) for row in rows]
    return full_box(kind, struct.pack(">I", len(rows)), *packed, version=version)


def runs(values: Sequence[int]) -> list[tuple[int, int]]:
    return [(len(list(same)), value) for value, same in groupby(values)]


def video_entry(kind: bytes = b"avc1", width: int = 192, height: int = 108, *boxes: bytes) -> bytes:
    head = struct.pack(">6xH16x2H50x", 1, width, height)
    return box(kind, head, *boxes)


def audio_entry(kind: bytes = b"mp4a", rate: int = 48_000, channels: int = 2, *boxes: bytes) -> bytes:
    return box(kind, struct.pack(">6xH8x2H4xI", 1, channels, 16, rate << 16), *boxes)


def descriptor(tag: int, *content: bytes) -> bytes:
    body = b"".join(content)
    return bytes([tag, 0x80, 0x80, 0x80, len(body)]) + body


def esds(object_type: int, config: bytes = b"") -> bytes:
    specific = descriptor(5, config) if config else b""
    decoder = descriptor(4, bytes([object_type, 0x15]), bytes(11), specific)
    return full_box(b"esds", descriptor(3, bytes(3), decoder, descriptor(6, b"\2")))


@dataclass
class TrackOf:
    """A track to be: ``chunks`` are the samples of each chunk, of which each is ``size`` bytes large.

    ``entry_of`` gives the number of the sample entry of each chunk, from 1; ``edits`` are rows of ``elst``.
    """

    handler: bytes = b"vide"
    timescale: int = 1000
    steps: Sequence[int] = (100,) * 10
    shifts: Sequence[int] | None = None
    size: int = 10
    chunks: Sequence[int] = (5, 5)
    entry_of: Sequence[int] = ()
    keyframes: Sequence[int] | None = (1, 6)
    edits: Sequence[tuple[int, int]] | None = None
    speed: tuple[int, int] = (1, 0)
    entries: Sequence[bytes] = field(default_factory=lambda: [video_entry()])
    flags: int = ENABLED
    extra: Sequence[bytes] = ()
    ctts_version: int = 1
    self_contained: int = 1

    def trak(self, number: int, offset: int) -> bytes:
        """Return the box; the chunks lie one after the other from an offset on."""
        edits = b""
        if self.edits is not None:
            rows = [(duration, at, *self.speed) for duration, at in self.edits]
            edits = box(b"edts", table(b"elst", "Iihh", rows))
        head = (
            struct.pack(">5I", 0, 0, number, 0, 0) + bytes(16) + bytes(36) + struct.pack(">2I", 192 << 16, 0)
        )
        reference = full_box(b"dref", struct.pack(">I", 1), full_box(b"url ", flags=self.self_contained))
        media = (
            full_box(b"mdhd", struct.pack(">4I4x", 0, 0, self.timescale, sum(self.steps))),
            full_box(b"hdlr", bytes(4), self.handler, bytes(13)),
            box(b"minf", box(b"dinf", reference), self._tables(offset)),
        )
        return box(b"trak", full_box(b"tkhd", head, flags=self.flags), edits, box(b"mdia", *media))

    def _tables(self, offset: int) -> bytes:
        entry_of = self.entry_of or [1] * len(self.chunks)
        places = accumulate((count * self.size for count in self.chunks[:-1]), initial=offset)
        parts = [
            full_box(b"stsd", struct.pack(">I", len(self.entries)), *self.entries),
            table(b"stts", "II", runs(self.steps)),
            table(
                b"stsc",
                "III",
                [
                    (at, count, entry)
                    for at, (count, entry) in enumerate(zip(self.chunks, entry_of, strict=True), 1)
                ],
            ),
            full_box(
                b"stsz",
                struct.pack(">2I", 0, len(self.steps)),
                struct.pack(">I", self.size) * len(self.steps),
            ),
            table(b"stco", "I", [(place,) for place in places] if self.chunks else []),
        ]
        if self.shifts is not None:
            parts.append(table(b"ctts", "Ii", runs(self.shifts), self.ctts_version))
        if self.keyframes is not None:
            parts.append(table(b"stss", "I", [(number,) for number in self.keyframes]))
        return box(b"stbl", *parts, *self.extra)


def movie_of(*tracks: TrackOf, extra: bytes = b"") -> bytes:
    """Return a file: its type, the media, the index."""
    sizes = [track.size * sum(track.chunks) for track in tracks]
    head = box(b"ftyp", b"isom", bytes(4))
    offsets = list(accumulate(sizes, initial=len(head) + 8))
    header = full_box(b"mvhd", struct.pack(">4I", 0, 0, MOVIE_TIMESCALE, 0), bytes(80))
    traks = [
        track.trak(number, offset)
        for number, (track, offset) in enumerate(zip(tracks, offsets, strict=False), 1)
    ]
    return head + box(b"mdat", bytes(sum(sizes))) + box(b"moov", header, *traks, extra)


def reader(data: bytes) -> Read:
    return lambda offset, size: data[offset : offset + size]
