"""Recognizes an FLV, and finds what begins at a place of it."""

from collections.abc import Sequence
from typing import IO, Self

from clip_cutter.containers.flv.body import MAX_HEAD, parse
from clip_cutter.containers.flv.configurations import Configurations, History
from clip_cutter.containers.flv.demuxer import FlvDemuxer
from clip_cutter.containers.flv.tags import KINDS, SIGNATURE, VIDEO, tags_in
from clip_cutter.containers.line import Line
from clip_cutter.containers.model import NotPlain
from clip_cutter.containers.stream import Mark

TIMESCALE = 1000
WRAP = 2**32


class Flv:
    """See :class:`~clip_cutter.containers.stream.Stream`."""

    timescale = TIMESCALE
    wrap = WRAP

    @classmethod
    def read(cls, head: bytes) -> Self:
        """Recognize one by the first bytes of a file.

        Raises:
            NotPlain: it is not an FLV, or does not begin with H.264 and perhaps AAC.
        """
        if not head.startswith(SIGNATURE):
            raise NotPlain("no FLV")
        for tag in tags_in(head):
            body = parse(tag.type, head[tag.body][:MAX_HEAD])
            if tag.type == VIDEO and body and not body.is_configuration:
                Configurations([head[: tag.start]]).place(VIDEO)
                return cls()
        raise NotPlain("an FLV that does not begin with video")

    def marks(self, data: bytes, offset: int) -> list[Mark]:
        """See :class:`~clip_cutter.containers.stream.Stream`."""
        found = []
        for tag in tags_in(data):
            try:
                body = parse(tag.type, data[tag.body][:MAX_HEAD])
            except NotPlain:
                continue
            if body and not body.is_configuration:
                shown = (tag.time + body.shift) % WRAP
                found.append(Mark(offset + tag.start, KINDS[tag.type], 0, tag.time, shown, body.is_keyframe))
        return found

    def history(self) -> History:
        """Return what reads on from the file's start to learn which configurations hold at a window."""
        return History()

    def demuxer(self, output: IO[bytes], offset: int, line: Line, heads: Sequence[bytes]) -> FlvDemuxer:
        """See :class:`~clip_cutter.containers.stream.Stream`."""
        return FlvDemuxer(output, offset, line, Configurations(heads))
