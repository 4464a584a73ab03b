"""The clock of fragments: where it jumps, and how jumps are detected."""

import pytest

from clip_cutter.containers.model import UnsupportedMedia
from clip_cutter.containers.mp4.fragment_clock import (
    FragmentClock,
    FragmentFollower,
    FragmentJump,
    FragmentPoint,
    FragmentStatistics,
    is_behind,
)
from clip_cutter.containers.mp4.fragments import Fragment, read_fragment
from tests.unit.clip_cutter.containers.mp4.test_fragments import HEADER
from tests.unit.clip_cutter.fragmented_file import fragment, seconds_of


def parsed(data: bytes) -> Fragment:
    return read_fragment(data[: int.from_bytes(data[:4])], 0, HEADER)


def second(number: int, *, offset: int | None = None, sequence: int | None = None) -> FragmentPoint:
    """A fragment of a second, of 1000 bytes."""
    at = 1000 * number if offset is None else offset
    return FragmentPoint(at, at + 1000, number if sequence is None else sequence, number, number + 1, 2)


def jumps(*fragments: bytes) -> list[float]:
    follower = FragmentFollower(HEADER)
    return [round(follower.follow(parsed(each)), 1) for each in fragments]


def test_fragments_that_follow_each_other_are_no_jump() -> None:
    assert jumps(*map(seconds_of, range(5))) == [0] * 5


def test_a_gap_of_up_to_ten_seconds_is_no_jump() -> None:
    assert jumps(seconds_of(0), seconds_of(10)) == [0, 0]


def test_a_larger_gap_is_taken_out() -> None:
    assert jumps(seconds_of(0), seconds_of(100), seconds_of(101)) == [0, -99, 0]


def test_a_gap_that_another_track_covers_is_no_jump() -> None:
    silent = [fragment(number, video=(30 * number, 30 * number + 30)) for number in range(1, 30)]
    assert set(jumps(seconds_of(0), *silent, seconds_of(30))) == {0}


def test_a_step_back_is_a_jump() -> None:
    assert jumps(*map(seconds_of, (0, 1, 2, 0, 1))) == [0, 0, 0, 3, 0]


def test_a_step_back_that_is_rounding_is_no_jump() -> None:
    assert jumps(fragment(0, video=(0, 30)), fragment(1, video=(29, 59))) == [0, 0]


def test_tracks_that_take_turns_do_not_step_back() -> None:
    assert set(
        jumps(fragment(0, video=(0, 150)), fragment(1, audio=(0, 235)), fragment(2, video=(150, 300)))
    ) == {0}


def test_times_without_tfdt_follow_the_fragment_before() -> None:
    follower = FragmentFollower(HEADER, {1: 1000})
    timed = follower.with_times(parsed(fragment(1, video=(0, 2), timed=False)))
    assert [sample.decoded for sample in timed.trafs[0].samples] == [1000, 1512]
    with pytest.raises(UnsupportedMedia):
        follower.with_times(parsed(fragment(1, audio=(0, 2), timed=False)))


def test_the_time_line_has_no_gap_at_a_jump() -> None:
    clock = FragmentClock(2.0, (FragmentJump(1000, 50.0), FragmentJump(3000, -20.0)))
    assert [clock.shift(offset) for offset in (0, 999, 1000, 3000)] == [-2, -2, 48, 28]
    assert clock.start(second(3)) == 31
    assert (clock.has_jump(1000), clock.has_jump(1001)) == (True, False)


PACE = FragmentStatistics.of([second(number) for number in (0, 1, 50, 100)], 2)


def test_statistics_are_those_of_the_fragments() -> None:
    assert (PACE.shortest, PACE.longest, PACE.smallest) == (1, 1, 1000)
    assert PACE.rate == pytest.approx(0.001)


def test_time_that_fits_the_fragments_is_steady() -> None:
    assert PACE.is_steady(second(10), second(500))
    assert not PACE.is_slow(second(10), second(500))


@pytest.mark.parametrize(
    "high",
    [
        second(5, offset=500_000, sequence=500),  # the clock steps back
        second(600, offset=500_000, sequence=500),  # 100 s too much
        second(400, offset=500_000, sequence=500),  # 100 s too little
        second(500, sequence=3),  # its numbers begin again
        second(200, offset=500_000, sequence=200),  # too little for its bytes
        second(5000, offset=500_000),  # more fragments than fit
    ],
)
def test_time_that_does_not_fit_the_fragments_is_not_steady(high: FragmentPoint) -> None:
    assert not PACE.is_steady(second(10), high)


def test_neighbours_are_compared_with_each_other() -> None:
    assert PACE.is_steady(second(10), second(11))
    assert PACE.is_steady(second(10), second(20, offset=11_000))
    assert not PACE.is_steady(second(10), second(30, offset=11_000))
    assert not PACE.is_steady(second(10), second(3, offset=11_000))


def test_equal_sequence_numbers_are_ignored() -> None:
    assert PACE.is_steady(second(10, sequence=0), second(500, sequence=0))
    assert is_behind(second(10, sequence=0), second(3, sequence=0))


def test_far_more_time_than_the_bytes_predict_is_slow() -> None:
    assert PACE.is_slow(second(10), second(500, offset=60_000))
