import pytest

from clip_shared.backoff import backoff_seconds


@pytest.mark.parametrize(
    ("attempt", "pause"),
    [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (8, 30.0), (10**6, 30.0)],
)
def test_a_pause_doubles_up_to_the_longest_and_half_of_it_is_chance(attempt: int, pause: float) -> None:
    pauses = [backoff_seconds(attempt, first=0.5, longest=30) for _ in range(200)]
    assert all(pause / 2 <= each <= pause for each in pauses)
    assert max(pauses) - min(pauses) > pause / 4


def test_a_first_pause_above_the_longest_is_cut() -> None:
    assert backoff_seconds(1, first=60, longest=2) <= 2


def test_without_a_first_pause_there_is_no_waiting() -> None:
    assert backoff_seconds(3, first=0, longest=30) == 0
