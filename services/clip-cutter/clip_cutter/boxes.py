"""Boxes, of which MP4 files consist (ISO/IEC 14496-12 §4.2): a size, a kind of four letters, the content."""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from clip_cutter.domain.media import NotPlain

HEAD = struct.Struct(">I4s")
WIDE_SIZE = struct.Struct(">Q")  # follows a head whose size says 1
MAX_BOXES = 1000  # in another one
MAX_SMALL_BOX = 64 * 1024


class Malformed(ValueError):
    """What should be boxes is none."""


@dataclass(frozen=True)
class Box:
    """A box: its content is ``start:end``, its head begins at ``head``."""

    kind: bytes
    head: int
    start: int
    end: int


def walk(read: Callable[[int, int], bytes], start: int, end: int) -> Iterator[Box]:
    """The boxes that lie one after the other between two offsets.

    Args:
        read: the bytes at an offset, so many of them, or fewer at the end.
        start: where the first box begins.
        end: where they end. A box may claim to reach beyond it; it is the last.

    Raises:
        Malformed: a box without a kind, or smaller than its own head.
    """
    while start < end:
        head = read(start, HEAD.size + WIDE_SIZE.size)
        if len(head) < HEAD.size:
            raise Malformed("a box is cut off")
        size, kind = HEAD.unpack_from(head)
        content = start + HEAD.size
        if size == 1 and len(head) == HEAD.size + WIDE_SIZE.size:
            (size,) = WIDE_SIZE.unpack_from(head, HEAD.size)
            content += WIDE_SIZE.size
        elif size == 0:  # to the end
            size = end - start
        if start + size < content:
            raise Malformed("a box without a size")
        yield Box(kind, start, content, start + size)
        start += size


def box(kind: bytes, *content: bytes) -> bytes:
    """The bytes of a box."""
    body = b"".join(content)
    return HEAD.pack(HEAD.size + len(body), kind) + body


def full_box(kind: bytes, *content: bytes, version: int = 0, flags: int = 0) -> bytes:
    """The bytes of a box that begins with a version and flags (a "full box")."""
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


class BoxReader:
    """Reads at offsets of a file, from several threads if need be."""

    def __init__(self, file: IO[bytes]) -> None:
        self._descriptor = file.fileno()
        self.size = os.fstat(self._descriptor).st_size

    def __call__(self, offset: int, size: int) -> bytes:
        """The bytes at an offset, so many of them, or fewer at the end."""
        return os.pread(self._descriptor, size, offset)

    def children(self, parent: Box) -> dict[bytes, list[Box]]:
        """The boxes in a box, by kind."""
        found: dict[bytes, list[Box]] = {}
        for number, child in enumerate(walk(self, parent.start, parent.end)):
            if child.end > parent.end or number > MAX_BOXES:
                raise Malformed("a box that is too large, or of too many parts")
            found.setdefault(child.kind, []).append(child)
        return found

    def child(self, parent: Box, *path: bytes) -> Box:
        """The one box at the end of a path of kinds."""
        for kind in path:
            match self.children(parent).get(kind, []):
                case [parent]:
                    pass
                case found:
                    raise NotPlain(f"{len(found)} boxes {kind!r}")
        return parent

    def content(self, box: Box) -> bytes:
        """The content of a small box."""
        if box.end - box.start > MAX_SMALL_BOX:
            raise NotPlain(f"a box {box.kind!r} of {box.end - box.start} bytes")
        return self(box.start, box.end - box.start)

    def whole(self, box: Box) -> bytes:
        """A small box with its head."""
        self.content(box)
        return self(box.head, box.end - box.head)
