"""Tags (§E.4.1), of which an FLV is a chain, each with its size before and behind it."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from clip_cutter.containers.model import TrackKind

SIGNATURE = b"FLV\1"
FILE_HEAD = 9  # as every writer makes it
AUDIO, VIDEO = 8, 9
KINDS = {AUDIO: TrackKind.AUDIO, VIDEO: TrackKind.VIDEO}
# Its type, its size, its time (three bytes, then the highest one), and a stream number that is always zero.
HEAD = re.compile(rb"(?=([\x08\x09\x12])(...)(...)(.)\0\0\0)", re.DOTALL)
HEAD_SIZE = 11
SIZE_BEHIND = 4


class FlvTag(NamedTuple):
    """A tag: where it begins, and where it ends with the number behind it. ``time`` is in milliseconds."""

    start: int
    end: int
    type: int
    time: int

    @property
    def body(self) -> slice:
        """Return where what it holds lies."""
        return slice(self.start + HEAD_SIZE, self.end - SIZE_BEHIND)


def tag_at(data: bytes | bytearray, at: int) -> FlvTag | None:
    """Return the tag whose head lies at an offset of ``data``; None if it is cut off, or not one."""
    if HEAD.match(data, at) is None:
        return None
    time = int.from_bytes(data[at + 4 : at + 7]) | data[at + 7] << 24
    end = at + HEAD_SIZE + int.from_bytes(data[at + 1 : at + 4]) + SIZE_BEHIND
    return FlvTag(at, end, data[at], time)


def is_chained(data: bytes | bytearray, tag: FlvTag) -> bool:
    """Return whether a tag that lies in ``data`` as a whole ends as it should.

    Its size stands behind it, or another tag does: some writers leave the size out.
    """
    size = int.from_bytes(data[tag.end - SIZE_BEHIND : tag.end])
    return size == tag.end - tag.start - SIZE_BEHIND or is_head(data, tag.end)


def is_head(data: bytes | bytearray, at: int) -> bool:
    """Return whether a tag's head, or a file's, lies at an offset."""
    return HEAD.match(data, at) is not None or data.startswith(SIGNATURE, at)


def find_tag(data: bytes | bytearray, at: int) -> int | None:
    """Return where the first tag begins at or behind an offset in the middle of anything.

    It lies in ``data`` as a whole, its size stands behind it, and then another tag does unless ``data`` ends.
    """
    for found in HEAD.finditer(data, at):
        tag = tag_at(data, found.start())
        if tag is None or tag.end > len(data):
            continue
        size = int.from_bytes(data[tag.end - SIZE_BEHIND : tag.end])
        is_followed = is_head(data, tag.end) or tag.end == len(data)
        if size == tag.end - tag.start - SIZE_BEHIND and is_followed:
            return tag.start
    return None


def skip_file_head(data: bytes | bytearray, at: int) -> int:
    """Return where tags begin behind a file's head (§E.2) at an offset, if there is one."""
    if not data.startswith(SIGNATURE, at):
        return at
    return at + FILE_HEAD + SIZE_BEHIND


def tags_in(data: bytes) -> Iterator[FlvTag]:
    """Yield the tags whose heads lie in a piece of a file that may begin and end anywhere.

    The last one may end behind ``data``. Bytes that are not tags are passed over.
    """
    at: int | None = skip_file_head(data, 0)
    is_in_step = bool(at)
    while at is not None and at < len(data):
        tag = tag_at(data, at)
        is_whole = tag is not None and tag.end <= len(data)
        if tag is not None and (is_chained(data, tag) if is_whole else is_in_step):
            yield tag
            at = skip_file_head(data, tag.end)
        else:
            at = find_tag(data, at)
        is_in_step = True
