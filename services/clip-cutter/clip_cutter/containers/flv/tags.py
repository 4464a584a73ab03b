"""Tags (§E.4.1), of which an FLV consists; a tag has its size before and after it."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from clip_cutter.containers.model import TrackKind

SIGNATURE = b"FLV\1"
FILE_HEAD = 9  # bytes, in files of every known writer
AUDIO, VIDEO = 8, 9
KINDS = {AUDIO: TrackKind.AUDIO, VIDEO: TrackKind.VIDEO}
# TagType, DataSize, Timestamp (lower 24 bits), TimestampExtended (upper 8 bits), and StreamID, which is 0.
HEAD = re.compile(rb"(?=([\x08\x09\x12])(...)(...)(.)\0\0\0)", re.DOTALL)
HEAD_SIZE = 11
SIZE_BEHIND = 4


class FlvTag(NamedTuple):
    """A tag.

    Args:
        start, end: its positions in the data, with the PreviousTagSize after it.
        type: TagType: 8 is audio, 9 is video.
        time: Timestamp, in milliseconds.
    """

    start: int
    end: int
    type: int
    time: int

    @property
    def body(self) -> slice:
        """Return the positions of the tag's body."""
        return slice(self.start + HEAD_SIZE, self.end - SIZE_BEHIND)


def tag_at(data: bytes | bytearray, at: int) -> FlvTag | None:
    """Return the tag whose head is at position ``at``; None if no whole tag head is there."""
    if HEAD.match(data, at) is None:
        return None
    time = int.from_bytes(data[at + 4 : at + 7]) | data[at + 7] << 24
    end = at + HEAD_SIZE + int.from_bytes(data[at + 1 : at + 4]) + SIZE_BEHIND
    return FlvTag(at, end, data[at], time)


def is_chained(data: bytes | bytearray, tag: FlvTag) -> bool:
    """Return whether the end of a whole tag in ``data`` is valid.

    Its size follows, or another tag does: some writers do not fill in the size.
    """
    size = int.from_bytes(data[tag.end - SIZE_BEHIND : tag.end])
    return size == tag.end - tag.start - SIZE_BEHIND or is_head(data, tag.end)


def is_head(data: bytes | bytearray, at: int) -> bool:
    """Return whether the head of a tag, or of a file, is at position ``at``."""
    return HEAD.match(data, at) is not None or data.startswith(SIGNATURE, at)


def find_tag(data: bytes | bytearray, at: int) -> int | None:
    """Return the position of the first whole tag at or after position ``at``; None if there is no tag.

    To be taken for a tag, it must be whole, its size must follow it, and then another tag or the end of
    ``data``.
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
    """Return the position after a file's head (§E.2) at position ``at``; ``at`` itself without a head."""
    if not data.startswith(SIGNATURE, at):
        return at
    return at + FILE_HEAD + SIZE_BEHIND


def tags_in(data: bytes) -> Iterator[FlvTag]:
    """Yield the tags whose heads are in a part of a file, which may begin and end anywhere.

    The last tag may end after ``data``. Bytes that are not tags are skipped.
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
