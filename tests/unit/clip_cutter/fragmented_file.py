"""Fragmented MP4 files, box by box: their samples are made up, and say which they are.

Video: 30 frames a second, a keyframe first in each fragment. Audio: frames of 1024 at 48 kHz.
"""

import asyncio
import struct
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import IO

from clip_cutter.containers.model import ByteRange
from clip_cutter.ffmpeg.input import FfmpegInput

VIDEO, AUDIO = 1, 2
VIDEO_SCALE, VIDEO_TICKS = 15360, 512
AUDIO_SCALE, AUDIO_TICKS = 48000, 1024
UNITY = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
NO_KEYFRAME, KEYFRAME = 0x01010000, 0x02000000


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, *content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


def avc1() -> bytes:
    sps, pps = (
        bytes.fromhex("6764000bacd9430ffbc044000003000400000300f03c50a658"),
        bytes.fromhex("68ef8fcb"),
    )
    record = bytes([1, 0x64, 0, 0x0B, 0xFF, 0xE1]) + struct.pack(">H", len(sps)) + sps
    record += b"\1" + struct.pack(">H", len(pps)) + pps + bytes([0xFD, 0xF8, 0xF8, 0])
    head = bytes(6) + struct.pack(">H", 1) + bytes(16) + struct.pack(">HH", 192, 108)
    head += struct.pack(">IIIH", 0x480000, 0x480000, 0, 1) + bytes(32) + struct.pack(">Hh", 24, -1)
    return box(b"avc1", head, box(b"avcC", record))


def mp4a() -> bytes:
    config = bytes([0x05, 2, 0x11, 0x90])
    decoder = bytes([0x04, 13 + len(config), 0x40, 0x15]) + bytes(11) + config
    stream = bytes([0x03, 3 + len(decoder) + 3]) + struct.pack(">HB", 2, 0) + decoder + bytes([0x06, 1, 2])
    head = bytes(6) + struct.pack(">H", 1) + bytes(8) + struct.pack(">HHII", 2, 16, 0, AUDIO_SCALE << 16)
    return box(b"mp4a", head, full_box(b"esds", stream))


def header(*, audio: bool = True, media_times: tuple[int, int] = (0, 0), extra: bytes = b"") -> bytes:
    """``ftyp`` and ``moov``; ``media_times`` are what the edit lists of both tracks begin with."""
    tracks = [_trak(VIDEO, b"vide", VIDEO_SCALE, avc1(), media_times[0])]
    defaults = [full_box(b"trex", struct.pack(">5I", VIDEO, 1, VIDEO_TICKS, 0, NO_KEYFRAME))]
    if audio:
        tracks.append(_trak(AUDIO, b"soun", AUDIO_SCALE, mp4a(), media_times[1]))
        defaults.append(full_box(b"trex", struct.pack(">5I", AUDIO, 1, AUDIO_TICKS, 0, KEYFRAME)))
    movie = struct.pack(">4I", 0, 0, 1000, 0) + struct.pack(">ih10x", 0x10000, 0x100) + UNITY
    movie += struct.pack(">24xI", 3)
    moov = box(b"moov", full_box(b"mvhd", movie), *tracks, box(b"mvex", *defaults), extra)
    return box(b"ftyp", b"iso5\0\0\2\0iso5iso6mp41") + moov


def _trak(number: int, handler: bytes, timescale: int, entry: bytes, media_time: int) -> bytes:
    look = UNITY + struct.pack(">II", 192 << 16, 108 << 16)
    edits = (
        [box(b"edts", full_box(b"elst", struct.pack(">IIiI", 1, 0, media_time, 0x10000)))]
        if media_time
        else []
    )
    empty = [
        full_box(b"stts", bytes(4)),
        full_box(b"stsc", bytes(4)),
        full_box(b"stsz", bytes(8)),
        full_box(b"stco", bytes(4)),
    ]
    tables = box(b"stbl", full_box(b"stsd", struct.pack(">I", 1), entry), *empty)
    reference = box(b"dinf", full_box(b"dref", struct.pack(">I", 1), full_box(b"url ", flags=1)))
    media = [
        full_box(b"mdhd", struct.pack(">4II", 0, 0, timescale, 0, 0x55C40000)),
        full_box(b"hdlr", bytes(4), handler, bytes(13)),
        box(b"minf", full_box(b"vmhd", bytes(8)), reference, tables),
    ]
    return box(
        b"trak",
        full_box(b"tkhd", struct.pack(">5I8x2h", 0, 0, number, 0, 0, 0, 0), bytes(4), look, flags=3),
        *edits,
        box(b"mdia", *media),
    )


def fragment(
    sequence: int,
    *,
    video: tuple[int, int] | None = None,
    audio: tuple[int, int] | None = None,
    timed: bool = True,
    size: int = 100,
    base: int | None = None,
    is_key: bool = True,
) -> bytes:
    """``moof`` and ``mdat``.

    Args:
        sequence: its number.
        video, audio: which samples it has, as numbers from the start: the first, and the one after the last.
        timed: whether it says when they are decoded.
        size: of each sample.
        base: where in the file it lies, if offsets are to count from the file's start.
        is_key: whether it begins with a keyframe.
    """
    parts = [(VIDEO, video, VIDEO_TICKS), (AUDIO, audio, AUDIO_TICKS)]
    there = [(track, samples, ticks) for track, samples, ticks in parts if samples]

    def build(offset: int) -> bytes:
        trafs = []
        for track, (first, after), ticks in there:
            first_flags = KEYFRAME if is_key or track == AUDIO else NO_KEYFRAME
            tfhd = struct.pack(">I", track)
            if base is not None:
                tfhd += struct.pack(">Q", base)
            tfhd += struct.pack(">I", size)
            tfdt = [full_box(b"tfdt", struct.pack(">Q", first * ticks), version=1)] if timed else []
            trun = struct.pack(">IiI", after - first, offset, first_flags)
            flags = 0x10 | (0x1 if base is not None else 0x020000)
            trafs.append(
                box(b"traf", full_box(b"tfhd", tfhd, flags=flags), *tfdt, full_box(b"trun", trun, flags=0x5))
            )
            offset += (after - first) * size
        return box(b"moof", full_box(b"mfhd", struct.pack(">I", sequence)), *trafs)

    moof = build(len(build(0)) + 8)
    media = [
        content(track, number, size) for track, (first, after), _ in there for number in range(first, after)
    ]
    return moof + box(b"mdat", *media)


def content(track: int, number: int, size: int) -> bytes:
    """A sample that says which it is."""
    return struct.pack(">II", track, number).ljust(size, b"\xee")[:size]


def number_of(sample: bytes) -> tuple[int, int]:
    """Which sample it is: its track and number."""
    track, number = struct.unpack(">II", sample[:8])
    return track, number


def seconds_of(second: int, count: int = 1, **options: object) -> bytes:
    """The fragment with some whole seconds of video, and the audio that begins in them."""
    audio = (_frame(second), _frame(second + count))
    return fragment(second + 1, video=(second * 30, (second + count) * 30), audio=audio, **options)  # type: ignore[arg-type]


def _frame(second: int) -> int:
    return -(-second * AUDIO_SCALE // AUDIO_TICKS)


class LongFile:
    """Fragments of a second that nobody has to store; they are of different sizes, as with any bit rate."""

    def __init__(self, seconds: int, mean_bytes: int, *, with_index: bool = False) -> None:
        self.start = header()
        plain = [len(seconds_of(second)) for second in range(seconds)]
        pads = [mean_bytes // 2 + (second * 7919 % 100) * mean_bytes // 100 for second in range(seconds)]
        self._pads = pads
        sizes = [size + pad for size, pad in zip(plain, pads, strict=True)]
        self.offsets = list(accumulate(sizes, initial=len(self.start)))
        self._index = _random_access(self.offsets[:-1]) if with_index else b""

    def __len__(self) -> int:
        return self.offsets[-1] + len(self._index)

    def read(self, start: int, end: int) -> bytes:
        found = bytearray()
        end = min(end, len(self))
        while (at := start + len(found)) < end:
            found += self._from(at)[: end - at]
        return bytes(found)

    def _from(self, at: int) -> bytes:
        if at < len(self.start):
            return self.start[at:]
        if at >= self.offsets[-1]:
            return self._index[at - self.offsets[-1] :]
        second = bisect_right(self.offsets, at) - 1
        inside = at - self.offsets[second]
        whole = _cached(second, self._pads[second])
        if inside < len(whole):
            return whole[inside:]
        return bytes(self.offsets[second + 1] - at)


def _random_access(offsets: Sequence[int]) -> bytes:
    entries = b"".join(
        struct.pack(">QQ3B", second * VIDEO_SCALE, offset, 1, 1, 1) for second, offset in enumerate(offsets)
    )
    tfra = full_box(b"tfra", struct.pack(">3I", VIDEO, 0, len(offsets)), entries, version=1)
    return box(b"mfra", tfra, full_box(b"mfro", struct.pack(">I", len(tfra) + 24)))


@lru_cache(maxsize=256)
def _cached(second: int, pad: int) -> bytes:
    """A fragment without the last bytes of its media, which nothing refers to."""
    whole = seconds_of(second)
    at = whole.index(b"mdat") - 4
    return whole[:at] + struct.pack(">I", len(whole) - at + pad) + whole[at + 4 :]


class Memory:
    """A source of bytes in memory, or of a long file; it counts requests, and takes its time for each."""

    input = FfmpegInput("memory")
    identity = "memory"

    def __init__(self, data: bytes | LongFile, delay: float = 0.0) -> None:
        self._data, self._delay = data, delay
        self.size_bytes = len(data)
        self.requests = 0
        self.bytes = 0

    async def peek(self, wanted: ByteRange) -> bytes:
        self.requests += 1
        self.bytes += wanted.size
        await asyncio.sleep(self._delay)
        if isinstance(self._data, LongFile):
            return self._data.read(wanted.start, wanted.end)
        return self._data[wanted.start : wanted.end]

    async def read(self, wanted: ByteRange, file: IO[bytes]) -> None:
        file.write(await self.peek(wanted))


def media_of(track: object) -> list[bytes]:
    """The bytes of every sample of a track."""
    data = Path(track.media).read_bytes()  # type: ignore[attr-defined]
    return [data[each.offset : each.offset + each.size] for each in track.samples]  # type: ignore[attr-defined]


def numbers_of(samples: Sequence[bytes]) -> list[int]:
    return [number_of(sample)[1] for sample in samples]
