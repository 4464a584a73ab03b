"""Which highlights become clips."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_cutter.domain.policy import (
    Policy,
    Skipped,
    Window,
    check_policy,
    clock,
    place_window,
)
from clip_shared.contracts.events import SkipReason

POLICY = Policy(min_seconds=1, max_seconds=180, max_clips_per_vod=3)
seconds = st.floats(-1e7, 1e7)


def reason(start: float, end: float, length: float | None = 100) -> SkipReason:
    with pytest.raises(Skipped) as skip:
        place_window(start, end, length, POLICY)
    assert str(skip.value).endswith(".")
    return skip.value.reason


@pytest.mark.parametrize("rank", [None, 1, 3])
def test_clipable_highlights_within_the_cap_pass(rank: int | None) -> None:
    check_policy(POLICY, is_clipable=True, rank=rank)


@pytest.mark.parametrize(
    ("is_clipable", "rank", "expected"),
    [(False, 1, SkipReason.NOT_CLIPABLE), (True, 4, SkipReason.FAN_OUT_CAPPED)],
)
def test_others_do_not(is_clipable: bool, rank: int, expected: SkipReason) -> None:
    with pytest.raises(Skipped) as skip:
        check_policy(POLICY, is_clipable=is_clipable, rank=rank)
    assert skip.value.reason is expected


@pytest.mark.parametrize(
    ("asked", "placed"),
    [
        ((10, 20), (10, 20)),
        ((-5, 20), (0, 20)),
        ((90, 120), (90, 100)),
        ((99, 100), (99, 100)),
    ],
)
def test_a_window_is_clamped_into_the_vod(asked: tuple[float, float], placed: tuple[float, float]) -> None:
    assert place_window(*asked, 100, POLICY) == Window(*placed)


def test_a_long_window_is_trimmed_around_its_middle() -> None:
    assert place_window(100, 400, 1000, POLICY) == Window(160, 340)


def test_a_vod_of_unknown_length_clamps_nothing() -> None:
    assert place_window(1e6, 1e6 + 30, None, POLICY) == Window(1e6, 1e6 + 30)


@pytest.mark.parametrize("window", [(100, 130), (200, 230), (-30, 0), (-30, -5)])
def test_a_window_outside_the_vod_is_none(window: tuple[float, float]) -> None:
    assert reason(*window) is SkipReason.WINDOW_OUTSIDE_SOURCE


@pytest.mark.parametrize("window", [(10, 10.5), (99.5, 120), (20, 10), (10, 10)])
def test_a_window_with_too_little_in_it_is_too_short(window: tuple[float, float]) -> None:
    assert reason(*window) is SkipReason.TOO_SHORT


@given(seconds, seconds, st.none() | st.floats(0, 1e6))
def test_whatever_is_placed_lies_inside_and_has_a_good_length(
    start: float, end: float, length: float | None
) -> None:
    try:
        window = place_window(start, end, length, POLICY)
    except Skipped as skip:
        assert skip.reason in {SkipReason.WINDOW_OUTSIDE_SOURCE, SkipReason.TOO_SHORT}  # noqa: PT017 - either is right
    else:
        assert max(start, 0) <= window.start < window.end <= end
        assert length is None or window.end <= length
        assert 1 - 1e-6 <= window.seconds <= 180 + 1e-6


def test_times_are_written_as_people_read_them() -> None:
    assert [clock(each) for each in (0, 59.9, 3723, -61)] == ["0:00:00", "0:00:59", "1:02:03", "-0:01:01"]
    assert [clock(each) for each in (1e300, -1e300)] == ["9999:59:59", "-9999:59:59"]
