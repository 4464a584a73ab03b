"""Edit lists: which parts of a track's media are shown, and when."""

import math
import struct
from pathlib import Path

import pytest

from clip_cutter.containers.model import Damage, Sample, TrackKind, UnsupportedMedia
from clip_cutter.containers.mp4.boxes import Box
from clip_cutter.containers.mp4.edit_list import UNEDITED, Edit, SampleRange, join, read_edits, read_elst
from tests.unit.clip_cutter.containers.mp4_file import box, full_box, reader, table

PAUSE = -1


def segments(*edits: tuple[int, int], speed: tuple[int, int] = (1, 0)) -> list[tuple[float, float, float]]:
    """Read a list whose durations count milliseconds, and its media times too."""
    trak = box(b"trak", box(b"edts", table(b"elst", "Iihh", [(*edit, *speed) for edit in edits])))
    found = read_edits(reader(trak), Box(b"trak", 0, 8, len(trak)), 1000, 1000)
    return [(each.start, each.end, each.media_time) for each in found]


def test_a_track_without_a_list_is_shown_as_it_is() -> None:
    trak = box(b"trak")
    assert read_edits(reader(trak), Box(b"trak", 0, 8, 8), 1000, 1000) == UNEDITED
    assert segments() == [(0, math.inf, 0)]
    empty = box(b"trak", box(b"edts"))
    assert read_edits(reader(empty), Box(b"trak", 0, 8, len(empty)), 1000, 1000) == UNEDITED


def test_an_edit_places_the_start_and_the_end() -> None:
    assert segments((5000, 1024)) == [(0, 5, 1.024)]
    assert segments((0, 1024)) == [(0, math.inf, 1.024)]


def test_a_track_may_begin_late_and_pause() -> None:
    assert segments((1500, PAUSE), (2000, 0), (500, PAUSE), (1000, 7000)) == [(1.5, 3.5, 0), (4, 5, 7)]


def test_adjoining_edits_are_merged() -> None:
    assert segments((1000, 200), (2000, 1200)) == [(0, 3, 0.2)]
    assert segments((1000, 200), (2000, 1300)) == [(0, 1, 0.2), (1, 3, 1.3)]


@pytest.mark.parametrize("speed", [(2, 0), (0, 0), (1, 1), (-1, 0)])
def test_another_speed_is_refused(speed: tuple[int, int]) -> None:
    with pytest.raises(UnsupportedMedia, match="speed"):
        segments((1000, 0), speed=speed)


def test_a_list_that_shows_nothing_is_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="shows nothing"):
        segments((1000, PAUSE))
    with pytest.raises(UnsupportedMedia, match="without a length"):
        segments((0, 100), (1000, 0))


def test_a_list_may_have_64_bits() -> None:
    wide = full_box(b"elst", struct.pack(">I", 1), struct.pack(">Qqhh", 2**33, 2**34, 1, 0), version=1)
    assert read_elst(wide[8:]) == [(2**33, 2**34, 1, 0)]


@pytest.mark.parametrize("size", [0, 7, 8, 19])
def test_a_list_that_is_cut_off_is_refused(size: int) -> None:
    with pytest.raises(UnsupportedMedia, match="cut off"):
        read_elst(table(b"elst", "Iihh", [(1, 1, 1, 0)])[8 : 8 + size])


def samples(first: int, after: int, keyframes: frozenset[int] = frozenset({0, 5})) -> list[Sample]:
    """Pictures that are 100 ticks long each."""
    return [
        Sample(100 * number, 100 * number, 100, number, 1, number in keyframes)
        for number in range(first, after)
    ]


def test_a_single_edit_keeps_its_times() -> None:
    part = SampleRange(Edit(0.0, 0.8, 0.2), 0.1, 0.5, 0, 8)
    track = join(TrackKind.VIDEO, 1000, [(part, samples(0, 8))], window_start=0.1)
    assert (list(track.samples), track.origin, track.damages) == (samples(0, 8), -0.2, ())
    assert track.media == Path()


def test_hidden_pictures_stand_before_the_edit_with_length_0() -> None:
    """Shown are 0 to 0.3 s, then 0.7 to 1 s, whose keyframe is at 0.5 s."""
    first = SampleRange(Edit(0.0, 0.3, 0.0), 0.0, 0.3, 0, 3)
    second = SampleRange(Edit(0.3, 0.6, 0.7), 0.3, 0.6, 5, 10)
    track = join(TrackKind.VIDEO, 1000, [(first, samples(0, 3)), (second, samples(5, 10))], window_start=0.0)
    assert [(each.shown, each.length) for each in track.samples] == [
        *((0, 100), (100, 100), (200, 100)),
        *((298, 0), (299, 0)),
        *((300, 100), (400, 100), (500, 100)),
    ]
    decoded = [each.decoded for each in track.samples]
    assert decoded == sorted(set(decoded))
    assert track.damages == (Damage(0.3, "the VOD is edited here"),)
    assert len({each.format for each in track.samples[:3]}) == 1
    assert {each.format for each in track.samples[:3]} & {each.format for each in track.samples[3:]} == set()


def test_pictures_shown_after_an_edit_stand_behind_it() -> None:
    reordered = [
        Sample(0, 100, 100, 0, 1, is_keyframe=True),
        Sample(100, 400, 100, 1, 1, is_keyframe=False),  # is shown after the edit
        Sample(200, 200, 100, 2, 1, is_keyframe=False),
    ]
    first = SampleRange(Edit(0.0, 0.3, 0.1), 0.0, 0.3, 0, 3)
    second = SampleRange(Edit(0.3, 0.6, 0.5), 0.3, 0.6, 5, 8)
    track = join(TrackKind.VIDEO, 1000, [(first, reordered), (second, samples(5, 8))], window_start=0.0)
    hidden = [each for each in track.samples if not each.length]
    assert [each.offset for each in hidden] == [1]
    assert track.seconds(hidden[0].shown) == pytest.approx(0.3)


def test_more_hidden_pictures_than_ticks_are_refused() -> None:
    first = SampleRange(Edit(0.0, 0.001, 0.0), 0.0, 0.001, 0, 1)
    second = SampleRange(Edit(0.001, 0.6, 0.9), 0.001, 0.6, 0, 15)
    with pytest.raises(UnsupportedMedia, match="hides 9 pictures"):
        join(TrackKind.VIDEO, 1000, [(first, samples(0, 1)), (second, samples(0, 15))], window_start=0.0)


def test_audio_at_an_edit_is_kept_if_half_of_it_is_inside() -> None:
    first = SampleRange(Edit(0.0, 0.26, 0.0), 0.0, 0.26, 0, 4)
    second = SampleRange(Edit(0.26, 0.6, 0.56), 0.26, 0.6, 5, 9)
    track = join(TrackKind.AUDIO, 1000, [(first, samples(0, 4)), (second, samples(5, 9))], window_start=0.0)
    assert [each.offset for each in track.samples] == [0, 1, 2, 6, 7, 8]
    assert [each.shown for each in track.samples] == [0, 100, 200, 300, 400, 500]


def test_a_track_that_begins_late_shows_nothing_before() -> None:
    late = SampleRange(Edit(1.0, 1.5, 0.2), 1.0, 1.5, 0, 7)
    video = join(TrackKind.VIDEO, 1000, [(late, samples(0, 7))], window_start=0.0)
    assert [video.seconds(each.shown) for each in video.samples[:3]] == pytest.approx([0.998, 0.999, 1.0])
    audio = join(TrackKind.AUDIO, 1000, [(late, samples(0, 7))], window_start=0.0)
    assert audio.seconds(audio.samples[0].shown) == pytest.approx(1.0)
