"""Recognizes an FLV, and finds the samples that start at any place of it."""

from collections.abc import Sequence
from typing import IO, Self

from clip_cutter.containers.flv.configurations import Configurations, FlvConfigurationHistory
from clip_cutter.containers.flv.demuxer import FlvDemuxer
from clip_cutter.containers.flv.tag_body import MAX_HEAD, parse
from clip_cutter.containers.flv.tags import KINDS, SIGNATURE, VIDEO, tags_in
from clip_cutter.containers.model import UnsupportedMedia
from clip_cutter.containers.stream import SampleStart
from clip_cutter.containers.timeline import Timeline

TIMESCALE = 1000
WRAP = 2**32


class FlvStream:
    """See :class:`~clip_cutter.containers.stream.Stream`."""

    timescale = TIMESCALE
    wrap = WRAP

    @classmethod
    def read(cls, head: bytes) -> Self:
        """Recognize an FLV by the first bytes of a file.

        Raises:
            UnsupportedMedia: the file is not an FLV, or does not begin with H.264, with or without AAC.
        """
        if not head.startswith(SIGNATURE):
            raise UnsupportedMedia("FLV: no signature at the start of the file")
        for tag in tags_in(head):
            body = parse(tag.type, head[tag.body][:MAX_HEAD])
            if tag.type == VIDEO and body and not body.is_configuration:
                Configurations([head[: tag.start]]).place(VIDEO)
                return cls()
        raise UnsupportedMedia(f"FLV: no video in the first {len(head)} bytes")

    def sample_starts(self, data: bytes, offset: int) -> list[SampleStart]:
        """See :class:`~clip_cutter.containers.stream.Stream`."""
        found = []
        for tag in tags_in(data):
            try:
                body = parse(tag.type, data[tag.body][:MAX_HEAD])
            except UnsupportedMedia:
                continue
            if body and not body.is_configuration:
                shown = (tag.time + body.shift) % WRAP
                found.append(
                    SampleStart(offset + tag.start, KINDS[tag.type], 0, tag.time, shown, body.is_keyframe)
                )
        return found

    def history(self) -> FlvConfigurationHistory:
        """See :class:`~clip_cutter.containers.stream.Stream`."""
        return FlvConfigurationHistory()

    def demuxer(
        self, output: IO[bytes], offset: int, timeline: Timeline, heads: Sequence[bytes]
    ) -> FlvDemuxer:
        """See :class:`~clip_cutter.containers.stream.Stream`."""
        return FlvDemuxer(output, offset, timeline, Configurations(heads))
