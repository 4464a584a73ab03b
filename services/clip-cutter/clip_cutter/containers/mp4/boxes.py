"""Boxes, of which MP4 files consist (ISO/IEC 14496-12 §4.2): a size, a kind of four letters, the content.

Everything is read through a callable ``read(offset, size)``, which returns up to ``size`` bytes at
``offset``, and fewer at the end of the file.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from clip_cutter.containers.model import UnsupportedMedia

Read = Callable[[int, int], bytes]

HEAD = struct.Struct(">I4s")
WIDE_SIZE = struct.Struct(">Q")  # follows a head whose size says 1
WIDE_HEAD_BYTES = HEAD.size + WIDE_SIZE.size
MAX_BOXES = 1000  # in another one
MAX_SMALL_BOX = 64 * 1024


@dataclass(frozen=True)
class Box:
    """A box: its head begins at ``head``, its content is ``start:end``."""

    kind: bytes
    head: int
    start: int
    end: int

    @property
    def size(self) -> int:
        """Return the number of its bytes, with its head."""
        return self.end - self.head


def walk(read: Read, start: int, end: int) -> Iterator[Box]:
    """Iterate over the boxes that lie one after the other between two offsets.

    The last box may claim to reach beyond ``end``.

    Raises:
        UnsupportedMedia: a box has no kind, or is smaller than its own head.
    """
    while start < end:
        head = read(start, WIDE_HEAD_BYTES)
        if len(head) < HEAD.size:
            raise UnsupportedMedia("the head of a box is cut off")
        size, kind = HEAD.unpack_from(head)
        content = start + HEAD.size
        if size == 1 and len(head) == WIDE_HEAD_BYTES:
            (size,) = WIDE_SIZE.unpack_from(head, HEAD.size)
            content += WIDE_SIZE.size
        elif size == 0:  # to the end of the file
            size = end - start
        if start + size < content:
            raise UnsupportedMedia(f"a box of {size} bytes, which is less than its head")
        yield Box(kind, start, content, start + size)
        start += size


def children(
    read: Read, parent: Box, visit: Callable[[Box], None] = lambda _: None
) -> dict[bytes, list[Box]]:
    """Return the boxes in a box, by kind; ``visit`` is called for each before the next one is read.

    Raises:
        UnsupportedMedia: they reach beyond it, or are more than 1000.
    """
    found: dict[bytes, list[Box]] = {}
    for number, box in enumerate(walk(read, parent.start, parent.end)):
        if box.end > parent.end or number >= MAX_BOXES:
            raise UnsupportedMedia("a box that is too large, or has too many parts")
        found.setdefault(box.kind, []).append(box)
        visit(box)
    return found


def child(read: Read, parent: Box, *path: bytes) -> Box:
    """Return the box at the end of a path of kinds.

    Raises:
        UnsupportedMedia: a box on the path is missing, or not the only one of its kind.
    """
    for kind in path:
        match children(read, parent).get(kind, []):
            case [parent]:
                pass
            case found:
                raise UnsupportedMedia(f"{len(found)} boxes {kind!r}")
    return parent


def content(read: Read, box: Box) -> bytes:
    """Return the content of a small box.

    Raises:
        UnsupportedMedia: it is larger than 64 KiB, or cut off.
    """
    size = box.end - box.start
    if size > MAX_SMALL_BOX:
        raise UnsupportedMedia(f"a box {box.kind!r} of {size} bytes")
    found = read(box.start, size)
    if len(found) != size:
        raise UnsupportedMedia(f"a box {box.kind!r} is cut off")
    return found
