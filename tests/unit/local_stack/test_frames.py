from local_stack.demo.frames import SIMILAR, SMALL, VodFrame, find, shown_at

PIXELS = SMALL[0] * SMALL[1]


def frame(seconds: float, grey: int, digest: str = "") -> VodFrame:
    return VodFrame(seconds, digest or f"{seconds}", bytes([grey]) * PIXELS)


STRIP = [frame(1.0, 10), frame(1.033, 60), frame(1.067, 110), frame(1.5, 160)]


def test_a_cut_may_begin_with_the_frame_on_screen_or_the_next() -> None:
    assert shown_at(STRIP, 1.033) == [STRIP[1]]
    assert shown_at(STRIP, 1.0334) == [STRIP[1]]  # rounded by the container
    assert shown_at(STRIP, 1.05) == [STRIP[1], STRIP[2]]
    assert shown_at(STRIP, 1.2) == [STRIP[2], STRIP[3]]
    assert shown_at(STRIP, 0.5) == [STRIP[0]]
    assert shown_at(STRIP, 2.0) == [STRIP[3]]


def test_an_identical_frame_is_found() -> None:
    match = find(frame(0.0, 110, digest="1.067"), STRIP, near=1.0)
    assert (match.frame, match.difference) == (STRIP[2], 0.0)


def test_of_equal_frames_the_nearest_is_found() -> None:
    still = [frame(second, 50, digest="still") for second in (1.0, 2.0, 3.0)]
    assert find(frame(0.0, 50, digest="still"), still, near=2.1).frame == still[1]


def test_a_re_encoded_frame_is_found_but_never_called_identical() -> None:
    match = find(frame(0.0, 62), STRIP, near=1.0)
    assert match.frame == STRIP[1]
    assert 0 < match.difference < SIMILAR
    assert find(frame(0.0, 60), STRIP, near=1.0).difference > 0


def test_a_different_frame_is_not_similar() -> None:
    assert find(frame(0.0, 250), STRIP, near=1.0).difference > SIMILAR
