"""Edit lists (``elst``, ISO/IEC 14496-12 §8.6.6): which parts of a track's media a player shows, and when."""

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from clip_cutter.containers.model import Damage, Sample, Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.mp4.boxes import Box, Read, child, children, content
from clip_cutter.containers.mp4.sample_entries import MAX_ENTRIES

EMPTY_EDIT = -1  # the media_time of an edit that shows nothing
NORMAL_RATE = (1, 0)  # integer and fraction of media_rate
ROUNDING_TICKS = 0.01
HEAD_BYTES = 8  # version, flags and entry_count
NARROW, WIDE = struct.Struct(">Iihh"), struct.Struct(">Qqhh")


@dataclass(frozen=True)
class Edit:
    """A part of a track's media that a player shows.

    Args:
        start, end: when it is shown, in seconds of the movie.
        media_time: the media's time at ``start``, in seconds of the media.
    """

    start: float
    end: float
    media_time: float

    @property
    def origin(self) -> float:
        """Return the time of the media's 0, in seconds of the movie."""
        return self.start - self.media_time


UNEDITED = (Edit(0.0, math.inf, 0.0),)


def read_edits(read: Read, trak: Box, timescale: int, movie_timescale: int) -> tuple[Edit, ...]:
    """Return the edits of a track, in order; ``UNEDITED`` if it has no edit list. Adjoining edits are merged.

    Args:
        read: reads the file.
        trak: the track's box.
        timescale: ticks per second of the media.
        movie_timescale: ticks per second of the movie.

    Raises:
        UnsupportedMedia: the list is damaged, shows nothing, or changes the speed.
    """
    edts = children(read, trak).get(b"edts")
    if not edts or b"elst" not in children(read, edts[0]):
        return UNEDITED
    rows = read_elst(content(read, child(read, trak, b"edts", b"elst")))
    if not rows:
        return UNEDITED
    edits: list[Edit] = []
    start = 0
    for duration, media_time, *rate in rows:
        # A segment_duration of 0 in the last entry means: until the end of the media.
        end = start + duration if duration else math.inf
        if media_time != EMPTY_EDIT:
            if tuple(rate) != NORMAL_RATE or media_time < 0:
                raise UnsupportedMedia(
                    f"elst: an edit changes the speed: rate {rate}, media_time {media_time}"
                )
            edits.append(Edit(start / movie_timescale, end / movie_timescale, media_time / timescale))
        start += duration
    if not edits:
        raise UnsupportedMedia(f"elst: shows nothing: {len(rows)} entries are empty edits")
    if any(math.isinf(edit.end) for edit in edits[:-1]):
        raise UnsupportedMedia("elst: an edit without a length before the last edit")
    return tuple(_merged(edits, 1 / timescale))


def _merged(edits: Sequence[Edit], tick: float) -> list[Edit]:
    """Merge edits that continue the edit before them, in the movie and in the media."""
    merged = [edits[0]]
    for edit in edits[1:]:
        last = merged[-1]
        if edit.start - last.end < tick and abs(edit.origin - last.origin) < tick:
            merged[-1] = Edit(last.start, edit.end, last.media_time)
        else:
            merged.append(edit)
    return merged


def read_elst(elst: bytes) -> list[tuple[int, ...]]:
    """Return the entries of an ``elst`` box, by its content.

    Each entry is segment_duration (in ticks of the movie), media_time (in ticks of the media), and the
    integer and the fraction of media_rate.

    Raises:
        UnsupportedMedia: the box is truncated.
    """
    if len(elst) < HEAD_BYTES:
        raise UnsupportedMedia(f"elst: cut off after {len(elst)} of {HEAD_BYTES} bytes")
    (count,) = struct.unpack_from(">4xI", elst)
    row = WIDE if elst[0] == 1 else NARROW
    data = elst[HEAD_BYTES : HEAD_BYTES + count * row.size]
    if len(data) != count * row.size:
        raise UnsupportedMedia(f"elst: cut off after {len(data)} of {count * row.size} bytes")
    return list(row.iter_unpack(data))


@dataclass(frozen=True)
class SampleRange:
    """The samples that an edit needs between two times.

    Args:
        edit: the edit.
        start, end: the wanted part of the edit, in seconds of the movie.
        first, after: number of the first sample, and the number after the last sample.
    """

    edit: Edit
    start: float
    end: float
    first: int
    after: int


class _EditedSamples(NamedTuple):
    """The samples of one edit, with times of the first edit's media.

    Args:
        samples: in decoding order.
        begin, finish: when a player may show them, in ticks; None means no limit.
    """

    samples: list[Sample]
    begin: int | None
    finish: int | None


def join(
    kind: TrackKind,
    timescale: int,
    ranges: Sequence[tuple[SampleRange, Sequence[Sample]]],
    window_start: float,
) -> Track:
    """Join the samples of several edits to one track, with times of the first edit's media.

    A clip has one edit of its own, which hides the samples before the window's start: they keep their times.
    Other hidden pictures, which only the decoder needs, get a length of 0 and times one tick apart, before or
    after the shown pictures; other hidden audio is left out. Where two edits meet, the track gets a damage,
    so that it is re-encoded, and a new format, so that each edit is decoded alone.

    Args:
        kind: video or audio.
        timescale: ticks per second of the media.
        ranges: the sample ranges in order, with their samples.
        window_start: in seconds of the movie.

    Raises:
        UnsupportedMedia: an edit hides more pictures than there are free ticks before it.
    """
    origin = ranges[0][0].edit.origin if ranges else 0.0
    edited = [
        _EditedSamples(
            _moved(samples, round((wanted.edit.origin - origin) * timescale), (number - 1) * MAX_ENTRIES),
            begin=_ticks(wanted.start - origin, timescale) if wanted.start > window_start else None,
            finish=_ticks(wanted.end - origin, timescale) if number < len(ranges) else None,
        )
        for number, (wanted, samples) in enumerate(ranges, start=1)
    ]
    if kind is TrackKind.VIDEO:
        joined = _with_hidden(edited)
    else:
        joined = [sample for part in edited for sample in _audible(part)]
    damages = tuple(Damage(wanted.start, "the VOD is edited here") for wanted, _ in ranges[1:])
    return Track(kind, timescale, (), _in_order(joined), Path(), origin=origin, damages=damages)


def _moved(samples: Sequence[Sample], shift: int, formats: int) -> list[Sample]:
    """Return samples that are later by ``shift`` ticks, with ``formats`` added to their format numbers."""
    if shift == formats == 0:
        return list(samples)
    return [
        each._replace(decoded=each.decoded + shift, shown=each.shown + shift, format=each.format + formats)
        for each in samples
    ]


def _ticks(seconds: float, timescale: int) -> int:
    """Return the first tick at or after a time."""
    return math.ceil(seconds * timescale - ROUNDING_TICKS)


def _audible(part: _EditedSamples) -> list[Sample]:
    """Return the samples of audio of which at least half is between the limits of the edit."""
    return [
        sample
        for sample in part.samples
        if (part.begin is None or sample.shown + sample.length / 2 >= part.begin)
        and (part.finish is None or sample.shown + sample.length / 2 < part.finish)
    ]


def _with_hidden(edited: Sequence[_EditedSamples]) -> list[Sample]:
    """Return the samples of video; hidden pictures get times one tick apart, before or after the edit."""
    joined: list[Sample] = []
    for part in edited:
        begin = -math.inf if part.begin is None else part.begin
        finish = math.inf if part.finish is None else part.finish
        latest = max((each.shown for each in joined if each.length), default=-math.inf)
        samples = list(part.samples)
        places = sorted(range(len(samples)), key=lambda place: samples[place].shown)
        early = [place for place in places if samples[place].shown < begin]
        if early and latest >= begin - len(early):
            raise UnsupportedMedia(
                f"elst: an edit hides {len(early)} pictures, more than the ticks before it"
            )
        _hide(samples, early, begin - len(early))
        _hide(samples, [place for place in places if samples[place].shown >= finish], finish)
        joined += samples
    return joined


def _hide(samples: list[Sample], places: Iterable[int], ticks: float) -> None:
    """Give the samples at ``places`` times one tick apart, from ``ticks`` on, and a length of 0."""
    for at, place in enumerate(places):
        samples[place] = samples[place]._replace(shown=int(ticks) + at, length=0)


def _in_order(samples: list[Sample]) -> list[Sample]:
    """Make decode times increase: a sample that is too early is decoded one tick after the one before it."""
    for at in range(1, len(samples)):
        if samples[at].decoded < samples[at - 1].decoded:
            samples[at] = samples[at]._replace(decoded=samples[at - 1].decoded + 1)
    return samples
