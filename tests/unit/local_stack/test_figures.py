"""The values of the dashboards as text."""

import math

import pytest

from local_stack.figures import (
    dashboards,
    legend_of,
    write_bytes,
    write_count,
    write_seconds,
    write_whole,
    writer_of,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 s"),
        (0.0123, "12.3 ms"),
        (3.46, "3.5 s"),
        (90.0, "1.5 min"),
        (7200.0, "2 h"),
        (180_000.0, "2.1 d"),
        (math.nan, "- ms"),
    ],
)
def test_durations(value: float, text: str) -> None:
    assert write_seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0 B"), (1536.0, "1.5 KiB"), (3 * 2.0**30, "3 GiB"), (2.0**42, "4 TiB")]
)
def test_sizes(value: float, text: str) -> None:
    assert write_bytes(value) == text


def test_numbers() -> None:
    assert [write_count(each) for each in (3.0, 0.254, math.nan)] == ["3", "0.25", "-"]
    assert [write_whole(each) for each in (7.4, math.nan)] == ["7", "-"]


def test_names_of_series() -> None:
    assert legend_of("{{topic}}: {{reason}}", {"topic": "clip-created", "reason": "invalid"}) == (
        "clip-created: invalid"
    )
    assert legend_of("made", {"topic": "clip-created"}) == "made"


def test_every_panel_has_a_unit_that_can_be_written() -> None:
    for board in dashboards().values():
        for panel in board["panels"]:
            assert writer_of(panel)(1.0)
