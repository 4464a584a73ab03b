"""Streams: containers without an index (MPEG-TS, FLV), and what such a container has to offer to be cut.

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

MAX_SAMPLES = 250_000  # of a track, around a window: small ones would fill the memory


def check_sample_count(samples: Sequence[object]) -> None:
    """Refuse a track of too many samples.

    Raises:
        UnsupportedMedia: it has 250,000.
    """
    if len(samples) >= MAX_SAMPLES:
        raise UnsupportedMedia(f"a stream of {MAX_SAMPLES} samples around a window")


class SampleStart(NamedTuple):
    """A picture, or a piece of audio, that begins at an offset of the file.

    ``decoded`` and ``shown`` are what its own time stamps say, in ticks of the stream's clock. ``track``
    tells tracks of one kind apart (a PID of MPEG-TS; 0 in FLV). ``is_keyframe``: decoding can probably
    begin with it.
    """

    offset: int
    kind: TrackKind
    track: int
    decoded: int
    shown: int
    is_keyframe: bool


class Demuxer(Protocol):
    """Reads a stretch of a stream."""

    @property
    def reached(self) -> Mapping[TrackKind, float]:
        """Return how far the samples of each kind have come, in seconds of the VOD's line."""
        ...

    def feed(self, data: bytes) -> None:
        """Read on: ``data`` follows what was fed before. It may end anywhere.

        Raises:
            UnsupportedMedia: what it holds is left to ffmpeg.
        """
        ...

    def finish(self) -> None:
        """Write what is still held back: the stretch, or the file, ends here. Raises as :meth:`feed`."""
        ...

    def tracks(self, media: Path) -> list[Track]:
        """Return what was read, video first; ``media`` is the file it was written to.

        A track's ``origin`` is 0: its ticks count from the start of the VOD. Samples are in decoding order,
        each with the length for which it is shown: a picture until the next one, across a hole too. What was
        lost or broken is among ``damages``.

        Raises:
            UnsupportedMedia: there is no video or audio in it that we read.
        """
        ...


class ConfigurationHistory(Protocol):
    """Learns set-up that is said only once, and may hold for hours: it reads a file from its start on."""

    @property
    def reached(self) -> int:
        """Return how many bytes of the file it has read."""
        ...

    def feed(self, data: bytes) -> None:
        """Read on. Raises UnsupportedMedia where the set-up changes too often."""
        ...

    def heads(self, offset: int) -> Sequence[bytes]:
        """Return the set-up that holds at an offset, as pieces of a file."""
        ...


class Stream(Protocol):
    """A recognized container. It keeps nothing of what it reads, so that every place is read alike."""

    @property
    def timescale(self) -> int:
        """Return the ticks a second of its clock."""
        ...

    @property
    def wrap(self) -> int:
        """Return how many ticks its clock counts before it begins again with 0."""
        ...

    def sample_starts(self, data: bytes, offset: int) -> list[SampleStart]:
        """Return what begins in ``data``, in the order of the file.

        ``data`` lies at ``offset`` of the file, which may be in the middle of anything: what cannot be made
        sense of is passed over. It never raises.
        """
        ...

    def history(self) -> ConfigurationHistory | None:
        """Return what learns set-up from the file's start on; None where set-up is repeated all along."""
        ...

    def demuxer(self, output: IO[bytes], offset: int, line: Timeline, heads: Sequence[bytes]) -> Demuxer:
        """Return a reader of the stretch that begins at ``offset`` of the file.

        Args:
            output: where it writes the samples, one after the other, from its offset 0 on.
            offset: where a mark begins.
            line: puts the stream's times on the VOD's line, by the offset where a sample begins.
            heads: what was said before ``offset``, the later prevails: the first bytes of the file or of the
                clock's segment, and then what lies right before ``offset``. Each may begin and end anywhere.
                Only set-up (tables, configurations) is taken from them, never samples.
        """
        ...


def with_lengths(samples: Sequence[Sample], last: int) -> list[Sample]:
    """Return samples with the lengths for which they are shown, in ticks: each until the next one is.

    ``last``: how long the last one is.
    """
    order = sorted(range(len(samples)), key=lambda place: samples[place].shown)
    lengths = [last] * len(samples)
    for place, following in pairwise(order):
        lengths[place] = samples[following].shown - samples[place].shown
    return [each._replace(length=length) for each, length in zip(samples, lengths, strict=True)]
