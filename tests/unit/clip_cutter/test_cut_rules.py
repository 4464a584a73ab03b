"""How a clip is cut, where it begins, and what counts as a good one."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_cutter.domain.cut import (
    BadClip,
    Findings,
    ModeChoice,
    Placement,
    Plan,
    Sound,
    check_clip,
    check_placement,
    choose_plan,
    estimate_bytes,
    is_wasteful,
    place,
    re_encoded,
    seeks,
    starts_well,
)
from clip_cutter.domain.media import Audio, Media, Video, picture_end, picture_of, skew_ms
from clip_cutter.domain.policy import Skipped, Window
from clip_shared.events import CutMode

VIDEO = Video(0, "h264", "yuv420p", 1280, 720, 1 / 30, 0.0, 60.0)
AUDIO = Audio(1, "aac", 0.0, 60.0)
MEDIA = Media("mov", 0.0, 60.0, 4_000_000, VIDEO, AUDIO)
WINDOW = Window(10, 20)
COPY = Plan(CutMode.COPY, Sound.COPY)
EXACT = Plan(CutMode.EXACT, Sound.ENCODE)
GOOD = Placement(start=0.25, hidden=1.0, excess=0.0, picture_late=0.0, sound_late=0.0)


class TestPlan:
    @pytest.mark.parametrize(
        ("choice", "codec", "pixels", "mode"),
        [
            ("auto", "h264", "yuv420p", "copy"),
            ("auto", "h264", "yuvj420p", "copy"),
            ("auto", "h264", "yuv420p10le", "exact"),
            ("auto", "h264", "yuv444p", "exact"),
            ("auto", "hevc", "yuv420p", "exact"),
            ("auto", "vp9", "yuv420p", "exact"),
            ("copy", "hevc", "yuv420p10le", "copy"),
            ("copy", "mpeg2video", "yuv420p", "exact"),
            ("exact", "h264", "yuv420p", "exact"),
        ],
    )
    def test_the_picture_decides_the_mode(self, choice: str, codec: str, pixels: str, mode: str) -> None:
        media = replace(MEDIA, video=replace(VIDEO, codec=codec, pixel_format=pixels))
        assert choose_plan(ModeChoice(choice), media, WINDOW).mode == mode

    @pytest.mark.parametrize(("codec", "sound"), [("aac", Sound.COPY), ("mp3", Sound.ENCODE)])
    def test_sound_that_browsers_do_not_play_is_re_encoded_alone(self, codec: str, sound: Sound) -> None:
        media = replace(MEDIA, audio=replace(AUDIO, codec=codec))
        assert choose_plan(ModeChoice.AUTO, media, WINDOW) == Plan(CutMode.COPY, sound)

    @pytest.mark.parametrize("audio", [None, replace(AUDIO, start=20.0), replace(AUDIO, seconds=10.0)])
    def test_without_sound_in_the_window_there_is_none(self, audio: Audio | None) -> None:
        plan = choose_plan(ModeChoice.AUTO, replace(MEDIA, audio=audio), WINDOW)
        assert plan.sound is Sound.NONE
        assert re_encoded(plan) == Plan(CutMode.EXACT, Sound.NONE)

    def test_sound_of_unknown_length_is_expected(self) -> None:
        media = replace(MEDIA, audio=replace(AUDIO, seconds=None))
        assert choose_plan(ModeChoice.AUTO, media, WINDOW) == COPY
        assert re_encoded(COPY) == EXACT


class TestSeeks:
    def test_an_index_is_trusted_first(self) -> None:
        assert seeks("mov", 100.0) == [100, 98, 94, 80, 40]

    def test_without_an_index_reading_begins_earlier(self) -> None:
        assert seeks("mpegts", 100.0) == [94, 80, 40]

    def test_the_beginning_is_the_last_resort(self) -> None:
        assert seeks("mpegts", 10.0) == [4, 0]
        assert seeks("mov", 0.0) == [0]

    @given(st.sampled_from(["mov", "mpegts", "flv"]), st.floats(0, 1e6))
    def test_each_reads_from_further_back(self, container: str, start: float) -> None:
        found = seeks(container, start)
        assert all(0 <= later < earlier <= start for earlier, later in pairwise(found))


def placed(frames: list[float], **changes: Any) -> Placement:
    facts: dict[str, Any] = {
        "asked": 1.0,
        "frame_seconds": 1 / 30,
        "frames": frames,
        "keyframes": frames[:1],
        "sound_start": None,
        "earliest": -math.inf,
    }
    return place(**{**facts, **changes})


STEADY = [number / 30 for number in range(-30, 120)]


class TestPlacement:
    @pytest.mark.parametrize("asked", [1.0, 1.0005, 1.0 - 0.02, 1.0 - 1 / 30 + 0.002])
    def test_the_first_frame_at_or_after_the_start_comes_first(self, asked: float) -> None:
        assert placed(STEADY, asked=asked).start == pytest.approx(1.0)

    def test_what_a_container_rounded_away_is_forgiven(self) -> None:
        frames = [round(number / 30, 3) for number in range(120)]
        for number in range(30, 60):
            assert placed(frames, asked=number / 30).start == frames[number]

    def test_in_a_gap_the_frame_on_screen_comes_first(self) -> None:
        assert placed([0.0, 0.9, 1.2, 1.3]).start == 0.9

    def test_a_gap_wider_than_the_margin_is_left_out(self) -> None:
        found = placed([0.0, 0.5, 1.4, 1.5])
        assert (found.start, found.picture_late) == (1.4, 0.0)

    def test_frames_that_lack_what_they_refer_to_do_not_count(self) -> None:
        frames = [1.1, 1.0, 1.05, 1.2]  # an open GOP: shown before its keyframe, decoded after it
        found = placed(frames, keyframes=[1.1])
        assert found.start == 1.1
        assert found.picture_late == pytest.approx(0.1)

    def test_no_start_before_what_the_sound_allows(self) -> None:
        assert placed([0.0, 0.9, 1.2], earliest=0.95).start == 1.2

    def test_a_missed_keyframe_makes_the_picture_late(self) -> None:
        assert placed([3.0, 3.1]).picture_late == pytest.approx(2.0)

    def test_no_picture_at_all_is_as_late_as_can_be(self) -> None:
        assert placed([]).picture_late == math.inf
        assert placed([0.0, 0.5]).picture_late == math.inf

    def test_hidden_is_what_the_keyframe_needs_and_excess_the_rest(self) -> None:
        found = placed(STEADY, keyframes=[-1.0, 0.0, 0.5, 2.0])
        assert found.hidden == pytest.approx(0.5)
        assert found.excess == pytest.approx(1.5)

    @pytest.mark.parametrize(("sound", "late"), [(-0.5, 0.0), (1.05, 0.0), (1.5, 0.5)])
    def test_sound_may_be_late_by_a_moment(self, sound: float, late: float) -> None:
        assert placed(STEADY, sound_start=sound).sound_late == pytest.approx(late)

    @given(st.floats(0, 3), st.sampled_from([24, 25, 30, 60]))
    def test_a_steady_picture_begins_within_a_frame(self, asked: float, rate: int) -> None:
        frames = [number / rate for number in range(-rate, 5 * rate)]
        found = placed(frames, asked=asked, frame_seconds=1 / rate)
        assert abs(found.start - asked) <= 1 / rate + 0.001
        assert found.start in frames


class TestJudgement:
    def test_a_picture_in_time_needs_no_other_take(self) -> None:
        assert starts_well(GOOD, None)

    def test_a_late_picture_does(self) -> None:
        assert not starts_well(replace(GOOD, picture_late=0.5), None)

    def test_late_sound_does_until_it_stays_late(self) -> None:
        late = replace(GOOD, sound_late=0.5)
        assert not starts_well(late, None)
        assert not starts_well(late, replace(late, sound_late=2.0))
        assert starts_well(late, late)

    def test_too_little_picture_is_bad(self) -> None:
        with pytest.raises(BadClip, match="no picture"):
            check_placement(COPY, replace(GOOD, picture_late=9.5), WINDOW, 1)

    def test_only_a_copy_may_not_hide_too_much(self) -> None:
        far = replace(GOOD, hidden=16.0)
        check_placement(EXACT, far, WINDOW, 1)
        with pytest.raises(BadClip, match=r"16\.0 s away"):
            check_placement(COPY, far, WINDOW, 1)

    def test_much_excess_is_worth_another_copy(self) -> None:
        assert is_wasteful(replace(GOOD, excess=1.1), WINDOW)
        assert not is_wasteful(replace(GOOD, excess=0.9), WINDOW)


FOUND = Findings(replace(MEDIA, seconds=10.0), 100_000, 0.0)


def judge(found: Findings, plan: Plan = COPY, expected: float | None = 10.0, sound_late: float = 0.0) -> None:
    check_clip(found, plan, expected_seconds=expected, sound_late=sound_late)


class TestVerification:
    def test_a_good_clip_passes(self) -> None:
        judge(FOUND)
        judge(replace(FOUND, clip=replace(FOUND.clip, audio=None)), Plan(CutMode.COPY, Sound.NONE))

    @pytest.mark.parametrize(
        ("found", "why"),
        [
            (replace(FOUND, size_bytes=1000), "no picture"),
            (replace(FOUND, clip=replace(FOUND.clip, video=None)), "no picture"),
            (replace(FOUND, clip=replace(FOUND.clip, seconds=None)), "no picture"),
            (replace(FOUND, clip=replace(FOUND.clip, audio=None)), "sound is missing"),
            (replace(FOUND, clip=replace(FOUND.clip, seconds=9.7)), "9.70 s instead of 10.00 s"),
            (replace(FOUND, clip=replace(FOUND.clip, audio=replace(AUDIO, start=0.05))), "50 ms after"),
            (replace(FOUND, clip=replace(FOUND.clip, audio=replace(AUDIO, start=-0.05))), "-50 ms after"),
            (replace(FOUND, first_picture=0.5), "shown after 0.50 s"),
        ],
    )
    def test_others_do_not(self, found: Findings, why: str) -> None:
        with pytest.raises(BadClip, match=why):
            judge(found)

    def test_exact_is_exact_about_the_length(self) -> None:
        almost = replace(FOUND, clip=replace(FOUND.clip, seconds=9.9))
        judge(almost, COPY)
        with pytest.raises(BadClip):
            judge(almost, EXACT)

    def test_where_the_vod_ends_unknown_any_length_is_right(self) -> None:
        judge(replace(FOUND, clip=replace(FOUND.clip, seconds=3.0)), expected=None)

    def test_sound_may_be_as_late_as_in_the_vod(self) -> None:
        judge(replace(FOUND, clip=replace(FOUND.clip, audio=replace(AUDIO, start=0.5))), sound_late=0.5)


class TestMedia:
    def test_without_a_picture_there_is_no_clip(self) -> None:
        with pytest.raises(Skipped, match="it has no picture"):
            picture_of(replace(MEDIA, video=None))

    @pytest.mark.parametrize(("width", "height"), [(0, 720), (100_000, 100_000), (-1, 5)])
    def test_an_absurd_picture_is_refused(self, width: int, height: int) -> None:
        with pytest.raises(Skipped, match=f"{width} by {height}"):
            picture_of(replace(MEDIA, video=replace(VIDEO, width=width, height=height)))

    def test_the_picture_may_end_before_the_file(self) -> None:
        assert picture_end(MEDIA) == 60
        assert picture_end(
            replace(MEDIA, start=1.4, video=replace(VIDEO, start=1.5, seconds=50))
        ) == pytest.approx(50.1)
        assert picture_end(replace(MEDIA, video=replace(VIDEO, seconds=None))) == 60
        assert picture_end(replace(MEDIA, seconds=None, video=replace(VIDEO, seconds=None))) is None

    def test_skew_is_sound_minus_picture(self) -> None:
        assert skew_ms(replace(MEDIA, audio=replace(AUDIO, start=0.01))) == 10
        assert skew_ms(replace(MEDIA, audio=None)) is None

    def test_room_is_estimated_from_the_bit_rate(self) -> None:
        assert estimate_bytes(MEDIA, COPY, WINDOW) == 16 * 500_000
        assert estimate_bytes(MEDIA, EXACT, WINDOW) == 16 * 1_500_000
        assert estimate_bytes(replace(MEDIA, bit_rate=None), COPY, WINDOW) == 16 * 1_500_000
