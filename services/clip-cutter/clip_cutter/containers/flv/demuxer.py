"""Reads a part of an FLV from front to end."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

from clip_cutter.containers.flv.audio import FlvAudioSamples
from clip_cutter.containers.flv.configurations import Configurations
from clip_cutter.containers.flv.tag_body import MAX_HEAD, parse
from clip_cutter.containers.flv.tags import (
    AUDIO,
    HEAD_SIZE,
    VIDEO,
    FlvTag,
    find_tag,
    is_chained,
    skip_file_head,
    tag_at,
)
from clip_cutter.containers.flv.video import FlvVideoSamples
from clip_cutter.containers.model import Damage, Sample, Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.timeline import Timeline

MAX_SKIPPED_BYTES, MAX_HELD_BYTES = 4 * 1024 * 1024, 17 * 1024 * 1024  # the largest tag has 16 MiB
MAX_DAMAGES = 1000
MAX_MILLISECONDS = 2**40


class FlvDemuxer:
    """See :class:`~clip_cutter.containers.stream.Demuxer`."""

    def __init__(self, output: IO[bytes], offset: int, timeline: Timeline, known: Configurations) -> None:
        self._output = output
        self._timeline = timeline
        self._known = known
        self._video = FlvVideoSamples(known.formats[VIDEO])
        self._audio = FlvAudioSamples(known.formats[AUDIO])
        self._position = offset  # in the file, of the first byte that is held
        self._held = bytearray()
        self._written = 0
        self._damages: list[Damage] = []

    @property
    def reached(self) -> Mapping[TrackKind, float]:
        """See :class:`~clip_cutter.containers.stream.Demuxer`."""
        return {TrackKind.VIDEO: self._video.reached, TrackKind.AUDIO: self._audio.reached}

    def feed(self, data: bytes) -> None:
        """See :class:`~clip_cutter.containers.stream.Demuxer`."""
        self._held += data
        self._read(is_end=False)
        limit = MAX_SKIPPED_BYTES if tag_at(self._held, 0) is None else MAX_HELD_BYTES
        if len(self._held) > limit:
            raise UnsupportedMedia(f"FLV: no tag in {len(self._held)} bytes at offset {self._position}")

    def finish(self) -> None:
        """See :class:`~clip_cutter.containers.stream.Demuxer`."""
        self._read(is_end=True)
        self._held.clear()

    def tracks(self, media: Path) -> list[Track]:
        """See :class:`~clip_cutter.containers.stream.Demuxer`."""
        found = [each for each in (self._video.track(media), self._audio.track(media)) if each is not None]
        if not found:
            raise UnsupportedMedia("FLV: neither H.264 nor AAC after the start of the window")
        return [replace(each, damages=tuple(self._damages)) for each in found]

    def _read(self, *, is_end: bool) -> None:
        """Read all whole tags among the bytes that are held."""
        at = 0
        while (tag := self._next(at, is_end=is_end)) is not None:
            self._take(tag)
            at = tag.end
        del self._held[:at]
        self._position += at

    def _next(self, at: int, *, is_end: bool) -> FlvTag | None:
        """Return the next whole tag; bytes that are not tags are skipped. None if more data is needed."""
        at = skip_file_head(self._held, at)
        if len(self._held) - at < HEAD_SIZE:
            return None
        tag = tag_at(self._held, at)
        if tag is not None and tag.end > len(self._held) and not is_end:
            return None
        if tag is not None and tag.end <= len(self._held) and is_chained(self._held, tag):
            return tag
        if tag is not None and tag.end + HEAD_SIZE > len(self._held) and not is_end:
            return None  # the bytes behind it decide whether it is a tag
        return self._find(at)

    def _find(self, at: int) -> FlvTag | None:
        found = find_tag(self._held, at + 1)
        if found is None:
            return None
        if len(self._damages) < MAX_DAMAGES:
            self._damages.append(Damage(max(*self.reached.values(), 0.0), "bytes between tags are no tags"))
        return tag_at(self._held, found)

    def _take(self, tag: FlvTag) -> None:
        """Add a tag's sample, or its configuration."""
        with memoryview(self._held) as held:
            content = bytes(held[tag.body])
        body = parse(tag.type, content[:MAX_HEAD])
        if body is None or body.start >= len(content):
            return
        content = content[body.start :]
        if body.is_configuration:
            self._known.learn(tag.type, content)
            return
        time = self._timeline.ticks(self._position + tag.start, tag.time)
        if not -MAX_MILLISECONDS < time < MAX_MILLISECONDS:
            raise UnsupportedMedia(f"FLV tag at {self._position + tag.start}: time {time} ms")
        place = self._known.place(tag.type)
        if tag.type == AUDIO:
            self._audio.add(time, self._write(content), len(content), place)
        elif self._video.can_follow(place, is_keyframe=body.is_keyframe):
            offset = self._write(content)
            shown = time + body.shift
            self._video.add(Sample(time, shown, 0, offset, len(content), body.is_keyframe, place))

    def _write(self, content: bytes) -> int:
        """Write a sample; return its offset in the output."""
        self._output.write(content)
        self._written += len(content)
        return self._written - len(content)
