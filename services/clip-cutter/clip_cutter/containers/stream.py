"""Streams: containers without an index (MPEG-TS, FLV), and the interface that they have in common.

:mod:`clip_cutter.containers.window_search` finds a window by reading a few places of the file. It asks
:meth:`Stream.sample_starts` what starts at a place, and needs no knowledge of the bytes before it. A
:class:`Demuxer` then reads the window from front to end: it writes the samples to a file and keeps only their
times and offsets in memory.

Times are ticks of the stream's own clock until a :class:`~clip_cutter.containers.timeline.Timeline` converts
them to times of the VOD. The module of a container offers a class with ``read(head: bytes) -> Stream``. It
recognizes the container by the first bytes of a file, and raises UnsupportedMedia if the file is another one.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from clip_cutter.containers.model import Sample, Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.timeline import Timeline

MAX_SAMPLES = 250_000  # of a track, around a window: without a limit, tiny samples fill the memory


def check_sample_count(samples: Sequence[object]) -> None:
    """Check that one more sample may be added to a track.

    Raises:
        UnsupportedMedia: the track has 250,000 samples already.
    """
    if len(samples) >= MAX_SAMPLES:
        raise UnsupportedMedia(f"stream: more than {MAX_SAMPLES} samples around a window")


class SampleStart(NamedTuple):
    """Where in the file a picture, or a packet of audio, starts, and its time stamps.

    Args:
        offset: of the packet or tag in the file.
        kind: video or audio.
        track: tells tracks of the same kind apart: the PID in MPEG-TS, 0 in FLV.
        decoded, shown: decode time and presentation time, in ticks of the stream's clock.
        is_keyframe: whether decoding can probably begin here.
    """

    offset: int
    kind: TrackKind
    track: int
    decoded: int
    shown: int
    is_keyframe: bool


class Demuxer(Protocol):
    """Reads a part of a stream from front to end, and writes its samples to a file."""

    @property
    def reached(self) -> Mapping[TrackKind, float]:
        """Return the latest time of each kind of track, in seconds of the VOD; negative before any sample."""
        ...

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the file. ``data`` may end anywhere, also within a packet.

        Raises:
            UnsupportedMedia: the codec is not H.264 or AAC, or the data is too damaged to be read.
        """
        ...

    def finish(self) -> None:
        """Write the samples that wait for more data: none follows. Raises as :meth:`feed`."""
        ...

    def tracks(self, media: Path) -> list[Track]:
        """Return the tracks that were read, video first.

        A track's ``origin`` is 0: tick 0 is the start of the VOD. Samples are in decoding order. The length
        of a picture lasts until the next picture is shown, also across a gap. Lost or broken data is in
        ``damages``.

        Args:
            media: path of the file that the samples were written to.

        Raises:
            UnsupportedMedia: the part of the stream has neither H.264 nor AAC.
        """
        ...


class ConfigurationHistory(Protocol):
    """Collects decoder configurations that a stream sends only once; it reads the file from its start."""

    @property
    def reached(self) -> int:
        """Return the number of bytes of the file that were read."""
        ...

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the file.

        Raises:
            UnsupportedMedia: the configuration changes too often.
        """
        ...

    def heads(self, offset: int) -> Sequence[bytes]:
        """Return the configurations that are valid at an offset, as pieces of the file."""
        ...


class Stream(Protocol):
    """A container that was recognized. It has no state: results depend on the arguments alone."""

    @property
    def timescale(self) -> int:
        """Return the ticks per second of the stream's clock."""
        ...

    @property
    def wrap(self) -> int:
        """Return the number of ticks after which the clock begins again with 0."""
        ...

    def sample_starts(self, data: bytes, offset: int) -> list[SampleStart]:
        """Return the samples that start in ``data``, in the order of the file. Never raises.

        Args:
            data: any part of the file; bytes that are not understood are skipped.
            offset: of ``data`` in the file.
        """
        ...

    def history(self) -> ConfigurationHistory | None:
        """Return a new history of the configurations; None if the stream repeats them all the time."""
        ...

    def demuxer(self, output: IO[bytes], offset: int, timeline: Timeline, heads: Sequence[bytes]) -> Demuxer:
        """Return a demuxer that reads the file from ``offset`` on.

        Args:
            output: file that the samples are written to, from its offset 0 on.
            offset: where a sample starts in the file.
            timeline: converts the stream's times to times of the VOD.
            heads: parts of the file before ``offset``, in order: the first bytes of the file or of the time
                line's segment, and the bytes right before ``offset``. They may begin and end anywhere. Only
                configurations and tables are read from them, never samples; the latest one is valid.
        """
        ...


def with_lengths(samples: Sequence[Sample], last: int) -> list[Sample]:
    """Return the samples with lengths: each sample lasts until the next sample is shown.

    Args:
        samples: in decoding order.
        last: length of the sample that is shown last, in ticks.
    """
    order = sorted(range(len(samples)), key=lambda place: samples[place].shown)
    lengths = [last] * len(samples)
    for place, following in pairwise(order):
        lengths[place] = samples[following].shown - samples[place].shown
    return [each._replace(length=length) for each, length in zip(samples, lengths, strict=True)]
