"""Edit lists (``elst``, ISO/IEC 14496-12 §8.6.6): which parts of a track's media are shown, and when."""

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from clip_cutter.containers.model import Damage, Sample, Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.mp4.boxes import Box, Read, child, children, content
from clip_cutter.containers.mp4.sample_entries import MAX_ENTRIES

NOTHING = -1  # the media time of an edit that shows nothing
NORMAL_SPEED = (1, 0)  # an integer and a fraction
ROUNDING_TICKS = 0.01
HEAD_BYTES = 8  # version, flags and the count of rows
NARROW, WIDE = struct.Struct(">Iihh"), struct.Struct(">Qqhh")


@dataclass(frozen=True)
class Edit:
    """A part of a track that is shown: from ``start`` to ``end`` of the movie's line, in seconds.

    ``media_time`` is what of the media stands at its start, in seconds of the media.
    """

    start: float
    end: float
    media_time: float

    @property
    def origin(self) -> float:
        """Return where the media's 0 would lie on the movie's line."""
        return self.start - self.media_time


UNEDITED = (Edit(0.0, math.inf, 0.0),)


def read_edits(read: Read, trak: Box, timescale: int, movie_timescale: int) -> tuple[Edit, ...]:
    """Return the parts of a track that are shown, in order.

    Raises:
        UnsupportedMedia: the list is damaged, shows nothing at all, or plays at another speed.
    """
    edits = children(read, trak).get(b"edts")
    if not edits or b"elst" not in children(read, edits[0]):
        return UNEDITED
    rows = read_elst(content(read, child(read, trak, b"edts", b"elst")))
    if not rows:
        return UNEDITED
    segments: list[Edit] = []
    start = 0
    for duration, media_time, *speed in rows:
        # A duration of 0 in the last row means: to the end of the media.
        end = start + duration if duration else math.inf
        if media_time != NOTHING:
            if tuple(speed) != NORMAL_SPEED or media_time < 0:
                raise UnsupportedMedia("an edit list that changes the speed")
            segments.append(Edit(start / movie_timescale, end / movie_timescale, media_time / timescale))
        start += duration
    if not segments:
        raise UnsupportedMedia("an edit list that shows nothing")
    if any(math.isinf(segment.end) for segment in segments[:-1]):
        raise UnsupportedMedia("an edit without a length")
    return tuple(_merged(segments, 1 / timescale))


def _merged(segments: Sequence[Edit], tick: float) -> list[Edit]:
    """Merge segments that go on where the one before them ends, of the line and of the media."""
    merged = [segments[0]]
    for segment in segments[1:]:
        last = merged[-1]
        if segment.start - last.end < tick and abs(segment.origin - last.origin) < tick:
            merged[-1] = Edit(last.start, segment.end, last.media_time)
        else:
            merged.append(segment)
    return merged


def read_elst(elst: bytes) -> list[tuple[int, ...]]:
    """Return the rows of an edit list: a duration in ticks of the movie, a media time, and the speed.

    Raises:
        UnsupportedMedia: the list is cut off.
    """
    if len(elst) < HEAD_BYTES:
        raise UnsupportedMedia("an edit list that is cut off")
    (count,) = struct.unpack_from(">4xI", elst)
    row = WIDE if elst[0] == 1 else NARROW
    data = elst[HEAD_BYTES : HEAD_BYTES + count * row.size]
    if len(data) != count * row.size:
        raise UnsupportedMedia("an edit list that is cut off")
    return list(row.iter_unpack(data))


@dataclass(frozen=True)
class SampleRange:
    """The samples ``first:after`` of a track, which show a segment from ``start`` to ``end`` (seconds)."""

    segment: Edit
    start: float
    end: float
    first: int
    after: int


class _EditedSamples(NamedTuple):
    """The samples of a part on the line of the first one; ticks from when and to when they may be seen."""

    samples: list[Sample]
    begin: int | None
    finish: int | None


def join(
    kind: TrackKind,
    timescale: int,
    parts: Sequence[tuple[SampleRange, Sequence[Sample]]],
    window_start: float,
) -> Track:
    """Put the parts of a track on one line: that of the first part's media.

    What an edit hides before the window's start keeps its time. What else an edit hides is needed by the
    decoder, but the one edit that a clip has cannot hide it: such video has a length of 0, and stands
    before or behind what is shown, a tick apart. Such audio is left out. Where parts meet, the track is
    damaged, so that it is re-encoded, and the format changes: each part can be decoded alone.

    Raises:
        UnsupportedMedia: an edit hides more samples than there are ticks before it.
    """
    origin = parts[0][0].segment.origin if parts else 0.0
    pieces = [
        _EditedSamples(
            _moved(samples, round((part.segment.origin - origin) * timescale), (number - 1) * MAX_ENTRIES),
            begin=_ticks(part.start - origin, timescale) if part.start > window_start else None,
            finish=_ticks(part.end - origin, timescale) if number < len(parts) else None,
        )
        for number, (part, samples) in enumerate(parts, start=1)
    ]
    joined = (
        _seen(pieces) if kind is TrackKind.VIDEO else [each for piece in pieces for each in _heard(piece)]
    )
    damages = tuple(Damage(part.start, "the VOD is edited here") for part, _ in parts[1:])
    return Track(kind, timescale, (), _in_order(joined), Path(), origin=origin, damages=damages)


def _moved(samples: Sequence[Sample], shift: int, formats: int) -> list[Sample]:
    """Return samples that are shown later by some ticks, and count their formats from a number on."""
    if shift == formats == 0:
        return list(samples)
    return [
        each._replace(decoded=each.decoded + shift, shown=each.shown + shift, format=each.format + formats)
        for each in samples
    ]


def _ticks(seconds: float, timescale: int) -> int:
    """Return the first tick that is not before a time."""
    return math.ceil(seconds * timescale - ROUNDING_TICKS)


def _heard(piece: _EditedSamples) -> list[Sample]:
    """Return those samples of audio of which at least half is heard."""
    return [
        sample
        for sample in piece.samples
        if (piece.begin is None or sample.shown + sample.length / 2 >= piece.begin)
        and (piece.finish is None or sample.shown + sample.length / 2 < piece.finish)
    ]


def _seen(pieces: Sequence[_EditedSamples]) -> list[Sample]:
    """Return the samples of video. Those that an edit hides stand before or behind it, a tick apart."""
    joined: list[Sample] = []
    for piece in pieces:
        begin = -math.inf if piece.begin is None else piece.begin
        finish = math.inf if piece.finish is None else piece.finish
        latest = max((each.shown for each in joined if each.length), default=-math.inf)
        samples = list(piece.samples)
        places = sorted(range(len(samples)), key=lambda place: samples[place].shown)
        early = [place for place in places if samples[place].shown < begin]
        if early and latest >= begin - len(early):
            raise UnsupportedMedia(f"an edit that hides {len(early)} pictures")
        _hide(samples, early, begin - len(early))
        _hide(samples, [place for place in places if samples[place].shown >= finish], finish)
        joined += samples
    return joined


def _hide(samples: list[Sample], places: Iterable[int], ticks: float) -> None:
    """Put the samples at some places a tick apart, from a time on; they are never seen."""
    for at, place in enumerate(places):
        samples[place] = samples[place]._replace(shown=int(ticks) + at, length=0)


def _in_order(samples: list[Sample]) -> list[Sample]:
    """Let each sample be decoded after the one before it."""
    for at in range(1, len(samples)):
        if samples[at].decoded < samples[at - 1].decoded:
            samples[at] = samples[at]._replace(decoded=samples[at - 1].decoded + 1)
    return samples
