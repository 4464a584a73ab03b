import pytest

from local_stack.demo.vod import COLUMNS, ROWS, _draw, read_frame_number


def grey(frame: bytes) -> bytes:
    return bytes(sum(frame[3 * pixel : 3 * pixel + 3]) // 3 for pixel in range(COLUMNS * ROWS))


@pytest.mark.parametrize("number", [0, 1, 29, 30, 1799, 3599, 65535])
def test_a_frame_shows_its_number(number: int) -> None:
    assert read_frame_number(grey(_draw(number, 30))) == number


def test_neighbours_differ() -> None:
    frames = [_draw(number, 30) for number in range(120)]
    assert len(set(frames)) == len(frames)
