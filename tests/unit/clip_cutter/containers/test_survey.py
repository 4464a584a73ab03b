"""A survey finds the clock jumps and the duration of a stream by reading little of it."""

from collections.abc import Callable

import pytest

from clip_cutter.containers.model import ByteRange, TrackKind, UnsupportedMedia
from clip_cutter.containers.mpegts import TransportStream
from clip_cutter.containers.stream import SampleStart
from clip_cutter.containers.stream_clock import StreamClock
from clip_cutter.containers.survey import HEAD_BYTES, WHOLE_FILE_BYTES, StreamSurvey, StreamSurveyor
from clip_cutter.containers.window_search import WindowSearch
from tests.unit.clip_cutter.containers.streams import SECOND_BYTES, LongStream

HOUR = 3600
HEAD = 5 * 188  # tables and audio, before the first picture of a second
CLOCK = StreamClock(1000, 2**20)


async def survey(stream: LongStream) -> StreamSurvey:
    size = stream.size_bytes
    head = stream.bytes_of(ByteRange(0, size if size <= WHOLE_FILE_BYTES else HEAD_BYTES))
    return await StreamSurveyor(TransportStream.read(head), stream.peek_all, size, head).survey()


async def test_an_even_clock_is_one_segment() -> None:
    stream = LongStream(6 * HOUR, lambda second: second + 1000)
    found = await survey(stream)
    assert len(found.timeline.segments) == 1
    assert found.seconds == pytest.approx(6 * HOUR)
    assert stream.rounds == 1
    assert sum(each.size for each in stream.reads) < 4 * 1024 * 1024


JUMPS: dict[str, tuple[Callable[[int], float], list[float]]] = {
    "restarts": (lambda second: second % HOUR, [HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR, 5 * HOUR]),
    "restarts soon": (lambda second: second - 400 if second >= 400 else second, [400]),
    "jumps ahead": (lambda second: second + 20 * HOUR * (second >= 2 * HOUR), [2 * HOUR]),
    "jumps ahead by half an hour": (lambda second: second + HOUR / 2 * (second >= 12345), [12345]),
    "steps back": (lambda second: second - HOUR / 4 * (second >= 17000), [17000]),
    "passes its end": (lambda second: second + 2**33 / 90_000 - HOUR, []),
}


@pytest.mark.parametrize("name", JUMPS)
async def test_jumps_are_found(name: str) -> None:
    clock, expected = JUMPS[name]
    stream = LongStream(6 * HOUR, clock)
    found = await survey(stream)
    assert [each.offset // SECOND_BYTES for each in found.timeline.segments[1:]] == expected
    assert [each.start / 90_000 for each in found.timeline.segments[1:]] == pytest.approx(expected)
    assert found.seconds == pytest.approx(6 * HOUR)
    assert len(stream.reads) < 160
    assert stream.rounds < 40


@pytest.mark.parametrize("clock", [lambda _: 0, lambda second: second * 7919 % 20_000])
async def test_a_clock_without_order_is_refused(clock: Callable[[int], float]) -> None:
    stream = LongStream(6 * HOUR, clock)
    with pytest.raises(UnsupportedMedia):
        await survey(stream)
    assert len(stream.reads) <= 200


@pytest.mark.parametrize("start", [0.0, 0.3, 17.5, 3599.97, 3600.0, 3600.5, 15_000.2, 21_599.5])
async def test_reading_begins_with_the_keyframe_before_a_window(start: float) -> None:
    stream = LongStream(6 * HOUR, lambda second: second % HOUR)
    found = await survey(stream)
    stream.rounds = 0
    search = WindowSearch(TransportStream(188), found, stream.peek_all, stream.size_bytes)
    begin = await search.find(start)
    keyframe = int(start + 0.001) * SECOND_BYTES
    assert keyframe - 2 * SECOND_BYTES <= begin.offset <= keyframe + HEAD
    assert stream.bytes_of(ByteRange(begin.offset, begin.offset + len(begin.data))) == begin.data
    assert stream.bytes_of(ByteRange(begin.offset - len(begin.before), begin.offset)) == begin.before
    assert begin.before or begin.offset < 1000
    assert stream.rounds <= 4


def samples(*rows: tuple[str, int]) -> list[SampleStart]:
    """Make samples with consecutive offsets from kinds and times."""
    kinds = {"v": TrackKind.VIDEO, "a": TrackKind.AUDIO}
    return [SampleStart(place, kinds[kind], 0, time, time, False) for place, (kind, time) in enumerate(rows)]


def every(kind: str, step: int, start: int, end: int) -> list[tuple[str, int]]:
    return [(kind, time) for time in range(start, end, step)]


def test_a_gap_that_another_track_covers_is_no_clock_jump() -> None:
    assert CLOCK.jumps(samples(("v", 0), *every("a", 500, 0, 30_000), ("v", 30_000), ("a", 30_000))) == []


def test_a_gap_of_all_tracks_is_a_jump() -> None:
    (jump,) = CLOCK.jumps(samples(*every("v", 100, 0, 1000), *every("v", 100, 20_000, 21_000)))
    assert (jump.offset, jump.end, jump.clock) == (10, 1000, 20_000)
    assert CLOCK.jumps(samples(*every("v", 100, 0, 1000), *every("v", 100, 10_000, 11_000))) == []


def test_a_small_overlap_of_audio_is_no_second_jump() -> None:
    joined = samples(
        *every("v", 100, 0, 1000), *every("a", 100, 0, 1300), ("v", 1000), ("a", 1000), ("v", 1100)
    )
    assert CLOCK.jumps(joined) == []


def test_after_a_jump_video_continues_without_a_gap() -> None:
    before = [*every("a", 100, 0, 1300), *every("v", 100, 100, 1000)]
    (jump,) = CLOCK.jumps(samples(*before, ("v", 50), ("a", 0), ("v", 150)))
    assert (jump.end, jump.clock) == (1000, 50)


def test_after_a_jump_no_audio_is_repeated_if_video_ended_long_before() -> None:
    before = [*every("v", 100, 0, 1000), *every("a", 100, 0, 5000)]
    (jump,) = CLOCK.jumps(samples(*before, ("a", 0), ("v", 50), ("a", 100), ("v", 150)))
    assert (jump.end, jump.clock) == (5000, 0)
