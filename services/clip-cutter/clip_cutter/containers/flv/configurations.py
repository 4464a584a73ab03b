"""Decoder configurations (sequence headers), and the parts of a file for which they are valid.

A publisher sends them when it connects. The configuration of a window may be hours before the window, in the
middle of the file: to find it, all tags before the window are read.
"""

from collections.abc import Sequence
from typing import NamedTuple

from clip_cutter.containers import aac, avc
from clip_cutter.containers.flv.tag_body import MAX_HEAD, parse
from clip_cutter.containers.flv.tags import (
    AUDIO,
    HEAD_SIZE,
    VIDEO,
    FlvTag,
    find_tag,
    is_head,
    skip_file_head,
    tag_at,
    tags_in,
)
from clip_cutter.containers.model import Format, UnsupportedMedia

MAX_FORMATS = 64
MAX_CHANGES = 10_000
MAX_CONFIGURATION = 64 * 1024
KEPT_WHEN_LOST = 512 * 1024
SHORTEST = HEAD_SIZE + MAX_HEAD
READERS = {AUDIO: aac.format_of, VIDEO: avc.format_of}


class Configurations:
    """The configurations that are valid at an offset of a file, and all formats before it.

    Attributes:
        formats: the formats of audio and of video, by the type of the tag.
    """

    def __init__(self, heads: Sequence[bytes] = ()) -> None:
        """Take configurations from parts of a file, in order; those of other codecs are ignored."""
        self.formats: dict[int, list[Format]] = {AUDIO: [], VIDEO: []}
        self._latest: dict[int, bytes] = {}
        self._places: dict[tuple[int, bytes], int] = {}
        for head in heads:
            for tag in tags_in(head):
                if tag.end <= len(head) and (found := _configuration(head, tag)) is not None:
                    self.learn(tag.type, found)

    def learn(self, type_: int, configuration: bytes) -> None:
        """Set the configuration for the next tags of a type."""
        self._latest[type_] = configuration

    def place(self, type_: int) -> int:
        """Return the index in ``formats[type_]`` of the current format of tags of a type.

        Raises:
            UnsupportedMedia: no configuration was found, it is not valid, or the file has more than 64.
        """
        if type_ not in self._latest:
            raise UnsupportedMedia(f"FLV tag of type {type_}: no configuration before the first sample")
        key = type_, self._latest[type_]
        if key not in self._places:
            self._places[key] = self._add(type_, READERS[type_](self._latest[type_]))
        return self._places[key]

    def _add(self, type_: int, found: Format) -> int:
        formats = self.formats[type_]
        if found not in formats:
            formats.append(found)
        if len(self._places) == MAX_FORMATS:
            raise UnsupportedMedia(f"FLV: more than {MAX_FORMATS} configurations")
        return formats.index(found)


class _ConfigurationChange(NamedTuple):
    """A change: from ``offset`` on the configurations in ``tags`` are valid; one whole tag of each type."""

    offset: int
    tags: bytes


class FlvConfigurationHistory:
    """Reads a file from its start, and records the offsets at which its configurations change.

    Attributes:
        reached: number of bytes of the file that were read.
    """

    def __init__(self) -> None:
        self.reached = 0
        self._rest = b""
        self._next = 0  # offset of the next tag in the file: in ``_rest``, or after the bytes that were read
        self._latest: dict[int, bytes] = {}
        self._changes: list[_ConfigurationChange] = []

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the file, which begin at offset ``reached``.

        Raises:
            UnsupportedMedia: the configurations change more than 10,000 times.
        """
        self.reached += len(data)
        data = self._rest + data
        start = self.reached - len(data)
        at = self._walk(data, max(self._next - start, 0), start)
        self._next = start + at
        self._rest = data[at:]

    def heads(self, offset: int) -> list[bytes]:
        """Return the configurations that are valid at an offset, as parts of a file."""
        earlier = [change.tags for change in self._changes if change.offset <= offset]
        return earlier[-1:]

    def _walk(self, data: bytes, at: int, start: int) -> int:
        """Record the changes in ``data``, at offset ``start``; return the position of the next tag."""
        while at + SHORTEST <= len(data):
            at = skip_file_head(data, at)
            tag = tag_at(data, at)
            if tag is None or (tag.end + HEAD_SIZE <= len(data) and not is_head(data, tag.end)):
                found = find_tag(data, at + 1)
                if found is None:
                    return max(at, len(data) - KEPT_WHEN_LOST)
                at = found
                continue
            configuration = _configuration(data, tag)
            if configuration is not None and tag.end <= len(data):
                self._note(start + tag.start, tag.type, data[tag.start : tag.end])
            elif configuration is not None and tag.end - tag.start < MAX_CONFIGURATION:
                break
            at = tag.end
        return at

    def _note(self, offset: int, type_: int, tag: bytes) -> None:
        if _without_time(self._latest.get(type_, b"")) == _without_time(tag):
            return
        self._latest[type_] = tag
        self._changes.append(_ConfigurationChange(offset, b"".join(self._latest.values())))
        if len(self._changes) > MAX_CHANGES:
            raise UnsupportedMedia(f"FLV: configurations change more than {MAX_CHANGES} times")


def _configuration(data: bytes, tag: FlvTag) -> bytes | None:
    """Return the configuration in a tag, or its first bytes; None if the tag has no configuration."""
    head = data[tag.start + HEAD_SIZE : min(tag.start + SHORTEST, tag.end)]
    try:
        body = parse(tag.type, head)
    except UnsupportedMedia:
        return None
    return data[tag.body][body.start :] if body and body.is_configuration else None


def _without_time(tag: bytes) -> bytes:
    return tag[:4] + tag[8:]
