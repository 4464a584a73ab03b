"""Boxes, of which an MP4 consists (ISO/IEC 14496-12 §4.2): a size, a type of four letters, the content.

All functions read through a callable ``read(offset, size)``. It returns up to ``size`` bytes at ``offset``;
fewer at the end of the file.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from clip_cutter.containers.model import UnsupportedMedia

Read = Callable[[int, int], bytes]

HEAD = struct.Struct(">I4s")
WIDE_SIZE = struct.Struct(">Q")  # follows the type if the size is 1
WIDE_HEAD_BYTES = HEAD.size + WIDE_SIZE.size
MAX_BOXES = 1000  # in a box
MAX_SMALL_BOX = 64 * 1024


@dataclass(frozen=True)
class Box:
    """A box: its head begins at offset ``head``; its content is between offsets ``start`` and ``end``."""

    kind: bytes
    head: int
    start: int
    end: int

    @property
    def size(self) -> int:
        """Return the number of bytes of the box, with its head."""
        return self.end - self.head


def walk(read: Read, start: int, end: int) -> Iterator[Box]:
    """Iterate over consecutive boxes between two offsets. The last box may claim to end after ``end``.

    Raises:
        UnsupportedMedia: the head of a box is truncated, or a box is smaller than its head.
    """
    while start < end:
        head = read(start, WIDE_HEAD_BYTES)
        if len(head) < HEAD.size:
            raise UnsupportedMedia(
                f"offset {start}: the head of a box is cut off: {len(head)} of {HEAD.size} bytes"
            )
        size, kind = HEAD.unpack_from(head)
        content = start + HEAD.size
        if size == 1 and len(head) == WIDE_HEAD_BYTES:
            (size,) = WIDE_SIZE.unpack_from(head, HEAD.size)
            content += WIDE_SIZE.size
        elif size == 0:  # the box ends where the file ends
            size = end - start
        if start + size < content:
            raise UnsupportedMedia(f"{_name(kind)} at {start}: {size} bytes, less than its head")
        yield Box(kind, start, content, start + size)
        start += size


def children(
    read: Read, parent: Box, visit: Callable[[Box], None] = lambda _: None
) -> dict[bytes, list[Box]]:
    """Return the boxes in a box, by kind. ``visit`` is called with each box before the next box is read.

    Raises:
        UnsupportedMedia: a box ends after its parent, or the parent has more than 1000 boxes.
    """
    found: dict[bytes, list[Box]] = {}
    for number, box in enumerate(walk(read, parent.start, parent.end)):
        if box.end > parent.end:
            raise UnsupportedMedia(
                f"{_name(box.kind)}: too large: ends at {box.end}, its parent at {parent.end}"
            )
        if number >= MAX_BOXES:
            raise UnsupportedMedia(f"{_name(parent.kind)}: too many boxes, the limit is {MAX_BOXES}")
        found.setdefault(box.kind, []).append(box)
        visit(box)
    return found


def child(read: Read, parent: Box, *path: bytes) -> Box:
    """Return the box at the end of a path of kinds below a box.

    Raises:
        UnsupportedMedia: a box on the path is missing, or stands several times.
    """
    for kind in path:
        match children(read, parent).get(kind, []):
            case [parent]:
                pass
            case found:
                raise UnsupportedMedia(f"{_name(parent.kind)}: {len(found)} boxes {_name(kind)} instead of 1")
    return parent


def content(read: Read, box: Box) -> bytes:
    """Return the content of a small box.

    Raises:
        UnsupportedMedia: the content is larger than 64 KiB, or truncated.
    """
    size = box.end - box.start
    if size > MAX_SMALL_BOX:
        raise UnsupportedMedia(f"{_name(box.kind)}: {size} bytes, the limit is {MAX_SMALL_BOX}")
    found = read(box.start, size)
    if len(found) != size:
        raise UnsupportedMedia(f"{_name(box.kind)}: cut off after {len(found)} of {size} bytes")
    return found


def _name(kind: bytes) -> str:
    """Return a box's kind for a message; the file may hold any four bytes."""
    return kind.decode("latin-1") if kind.isalnum() else repr(kind)
