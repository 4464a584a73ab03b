"""An MP4 of any length that nobody has to store: a few seconds of it, played again and again.

Its index is real and lists every sample of every repetition. The media is made up where it is read.
"""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.integration.clip_cutter.media import ffmpeg, h264, record

LOOP_SECONDS = 8  # 240 frames at 30 a second, and 375 whole frames of AAC: picture and sound stay together
CONTAINERS = frozenset({b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl"})
WIDE_HEAD = 16


class LongVod:
    """The bytes of an MP4: its length, and slices of it. ``index_bytes``: what of it is the index."""

    def __init__(self, loop: Path, times: int) -> None:
        boxes = dict(_boxes(loop.read_bytes()))
        file_type, media, index = (boxes[kind] for kind in (b"ftyp", b"mdat", b"moov"))
        media_start = loop.read_bytes().index(b"mdat") + 4
        self._media, self._times = memoryview(media), times
        self._head = _box(b"ftyp", file_type) + struct.pack(
            ">I4sQ", 1, b"mdat", WIDE_HEAD + times * len(media)
        )
        shift = len(self._head) - media_start
        places = [shift + number * len(media) for number in range(times)]
        self._index = _box(b"moov", _repeat(index, places, {}))
        self.index_bytes = len(self._index)

    def __len__(self) -> int:
        return len(self._head) + self._times * len(self._media) + len(self._index)

    def __getitem__(self, wanted: slice) -> bytes:
        position, stop, _ = wanted.indices(len(self))
        found = bytearray()
        while position < stop:
            found += self._from(position)[: stop - position]
            position = wanted.start + len(found)
        return bytes(found)

    def _from(self, position: int) -> memoryview:
        """Some bytes from a position on, at least one."""
        at = position - len(self._head)
        if at < 0:
            return memoryview(self._head)[position:]
        if at < self._times * len(self._media):
            return self._media[at % len(self._media) :]
        return memoryview(self._index)[at - self._times * len(self._media) :]


def record_loop(folder: Path) -> Path:
    """Record what can be repeated: some 5 Mbit/s, with B-frames."""
    noise = ("-vf", "noise=alls=40:allf=t", *h264(open_gop=False), "-qp", "12")
    recorded, loop = record(folder / "recorded.mp4", *noise, seconds=LOOP_SECONDS), folder / "loop.mp4"
    # AAC begins a frame before its time: the last one would be one too many.
    without_last = ("-t", str(LOOP_SECONDS - 0.03), "-i", str(recorded))
    streams = ("-map", "0:v", "-map", "1:a", "-c", "copy")
    ffmpeg("-i", str(recorded), *without_last, *streams, "-movie_timescale", "1000", str(loop))
    return loop


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position < len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        yield kind, data[position + 8 : position + size]
        position += size


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def _repeat(content: bytes, places: list[int], counts: dict[bytes, int]) -> bytes:
    """Repeat everything that a container says of its samples; each time they lie at another place."""
    boxes = dict(_boxes(content))
    # How many samples and chunks the track has: what follows a table's version and flags.
    counts = counts | {
        kind: int.from_bytes(boxes[kind][at : at + 4])
        for kind, at in ((b"stsz", 8), (b"stco", 4))
        if kind in boxes
    }
    written = b""
    for kind, inner in _boxes(content):
        if kind in CONTAINERS:
            written += _box(kind, _repeat(inner, places, counts))
        elif kind == b"stco":
            written += _box(b"co64", _chunk_offsets(inner, places))
        elif kind in REPEATED:
            written += _box(kind, REPEATED[kind](inner, len(places), counts))
        elif kind not in LEFT_OUT:
            written += _box(kind, inner)
    return written


Repeat = Callable[[bytes, int, dict[bytes, int]], bytes]
LEFT_OUT = frozenset({b"sgpd", b"sbgp", b"sdtp", b"udta"})


def _duration(at: int) -> Repeat:
    """A box with a duration at some byte (version 0)."""

    def repeat(content: bytes, times: int, _: dict[bytes, int]) -> bytes:
        (duration,) = struct.unpack_from(">I", content, at)
        return content[:at] + struct.pack(">I", duration * times) + content[at + 4 :]

    return repeat


def _table(at: int) -> Repeat:
    """A table whose number of entries stands at some byte, and whose entries hold for every repetition."""

    def repeat(content: bytes, times: int, _: dict[bytes, int]) -> bytes:
        (entries,) = struct.unpack_from(">I", content, at)
        return content[:at] + struct.pack(">I", entries * times) + content[at + 4 :] * times

    return repeat


def _numbered(counted: bytes, fields: int) -> Repeat:
    """A table whose entries begin with the number of a sample or chunk, of which ``counted`` has how many."""

    def repeat(content: bytes, times: int, counts: dict[bytes, int]) -> bytes:
        (entries,) = struct.unpack_from(">I", content, 4)
        values = struct.unpack_from(f">{entries * fields}I", content, 8)
        shifted = [
            value + (number * counts[counted] if at % fields == 0 else 0)
            for number in range(times)
            for at, value in enumerate(values)
        ]
        return content[:4] + struct.pack(f">I{len(shifted)}I", entries * times, *shifted)

    return repeat


def _chunk_offsets(content: bytes, places: list[int]) -> bytes:
    (entries,) = struct.unpack_from(">I", content, 4)
    offsets = struct.unpack_from(f">{entries}I", content, 8)
    moved = [place + offset for place in places for offset in offsets]
    return content[:4] + struct.pack(f">I{len(moved)}Q", len(moved), *moved)


REPEATED: dict[bytes, Repeat] = {
    b"mvhd": _duration(16),
    b"tkhd": _duration(20),
    b"mdhd": _duration(16),
    b"elst": _duration(8),
    b"stts": _table(4),
    b"ctts": _table(4),
    b"stsz": _table(8),
    b"stss": _numbered(b"stsz", 1),
    b"stsc": _numbered(b"stco", 3),
}
