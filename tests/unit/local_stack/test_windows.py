import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_stack.demo.windows import (
    SHORTEST_SECONDS,
    BadWindow,
    DemoWindow,
    choose_windows,
    retention_seconds,
)


def test_the_first_window_is_the_given_one() -> None:
    first, second = choose_windows(100, 61.5, 75)
    assert first == DemoWindow(61.5, 75)
    assert second == DemoWindow(80.75, 94.25)


@pytest.mark.parametrize(
    ("start", "end", "second_start"),
    [(80, 90, 90), (85, 95, 37.5), (10, 95, 10)],
    ids=["room after", "room before", "no room"],
)
def test_the_second_window_is_elsewhere_where_there_is_room(
    start: float, end: float, second_start: float
) -> None:
    first, second = choose_windows(100, start, end)
    assert second == DemoWindow(second_start, second_start + first.seconds)


def test_a_missing_start_or_end_is_chosen() -> None:
    assert choose_windows(100, 30, None)[0] == DemoWindow(30, 40)
    assert choose_windows(100, None, 30)[0] == DemoWindow(20, 30)
    assert choose_windows(35, 30, None)[0] == DemoWindow(30, 35)


@given(st.floats(min_value=4, max_value=100_000))
def test_chosen_windows_are_inside_the_vod(vod_seconds: float) -> None:
    for window in choose_windows(vod_seconds, None, None):
        assert 0 <= window.start < window.end <= vod_seconds
        assert window.seconds >= SHORTEST_SECONDS - 1e-9


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (95, 101), (50, 50.5), (60, 50), (None, None)])
def test_the_error_has_the_length_of_the_vod(start: float | None, end: float | None) -> None:
    with pytest.raises(BadWindow, match=r"lasts 3\.000 s"):
        choose_windows(3, start, end)


def test_a_re_encode_gets_a_longer_retention() -> None:
    copied = retention_seconds("h264", "yuv420p", DemoWindow(0, 10))
    assert retention_seconds("hevc", "yuv420p", DemoWindow(0, 10)) > copied
    assert retention_seconds("h264", "yuv444p", DemoWindow(0, 10)) > copied
