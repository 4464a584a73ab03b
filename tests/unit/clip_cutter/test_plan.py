"""What a clip shows of an excerpt, and what becomes of each track."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from clip_cutter.containers.model import Damage, Excerpt, Format, Sample, Track, TrackKind
from clip_cutter.domain import plan as rules
from clip_cutter.domain.plan import OPEN_GOP, CutPlan, FittedExcerpt, ModeChoice
from clip_cutter.domain.policy import Skipped, Window
from clip_shared.contracts.events import CutMode, SkipReason, TrackFate

H264 = Format("h264", b"avc1", width=192, height=108, is_web=True)
AAC = Format("aac", b"mp4a", rate=48_000, channels=2, is_web=True)
NOWHERE = Path("media")
RATE, STEP = 90_000, 3_000  # 30 frames a second
PACKET = 1_920  # ticks: 1024 of 48,000 samples


def video(times: Iterable[int], *, keyframe_every: int = 60, formats: tuple[Format, ...] = (H264,)) -> Track:
    """Frames at these times, in frames of the usual length."""
    shown = [time * STEP for time in times]
    samples = [
        Sample(time, time, STEP, 100 * at, 100, is_keyframe=at % keyframe_every == 0)
        for at, time in enumerate(shown)
    ]
    return Track(TrackKind.VIDEO, RATE, formats, samples, NOWHERE)


def audio(start: float, end: float) -> Track:
    """Audio without a gap between two times, in seconds."""
    first, after = int(start * RATE / PACKET), int(end * RATE / PACKET)
    samples = [
        Sample(at * PACKET, at * PACKET, PACKET, 9 * at, 9, is_keyframe=True) for at in range(first, after)
    ]
    return Track(TrackKind.AUDIO, RATE, (AAC,), samples, NOWHERE)


def joined(one: Track, other: Track) -> Track:
    return replace(one, samples=[*one.samples, *other.samples])


def fit(excerpt: Excerpt, start: float, end: float) -> FittedExcerpt:
    return rules.fit(excerpt, Window(start, end), min_seconds=1.0)


def choose(fitted: FittedExcerpt, mode: str = "auto", *, idr: bool = True, has_audio: bool = True) -> CutPlan:
    return rules.choose(ModeChoice(mode), fitted, has_audio=has_audio, begins_with_idr=idr)


ORDINARY = Excerpt(video(range(360)), audio(0, 12))


def shown_seconds(track: Track) -> list[float]:
    return sorted(track.seconds(sample.shown) for sample in track.samples)


@pytest.mark.parametrize("start", [0.0, 4.0, 5.3, 5.29, 5.3009])
def test_a_clip_begins_with_the_first_frame_at_or_after_its_start(start: float) -> None:
    fitted = fit(ORDINARY, start, start + 3)
    first = next(time for time in shown_seconds(video(range(360))) if time >= start - 0.001)
    assert fitted.start == pytest.approx(first)
    assert fitted.video.samples[0].is_keyframe
    assert fitted.start - fitted.video.seconds(fitted.video.samples[0].shown) <= 2
    assert fitted.end == start + 3


def test_a_clip_ends_where_the_vod_does_if_nobody_knew_that_before() -> None:
    fitted = fit(replace(ORDINARY, end=11.5), 9.0, 15.0)
    assert (fitted.start, fitted.end) == (9.0, 11.5)
    assert max(shown_seconds(fitted.video)) < 11.5
    assert fit(replace(ORDINARY, end=11.5), 9.0, 11.0).end == 11.0


@pytest.mark.parametrize(("decoded", "end"), [(330, 12.0), (290, 290 / 30)])
def test_the_last_frame_before_damage_is_held_to_the_end_but_not_for_long(decoded: int, end: float) -> None:
    damaged = replace(video(range(360)), damages=(Damage(11.0, "packets are missing"),))
    fitted = fit(Excerpt(damaged, None), 9.0, 12.0)
    track = rules.hold_last_frame(video(range(270, decoded)), fitted)
    assert max(track.seconds(each.shown + each.length) for each in track.samples) == pytest.approx(end)


def test_it_needs_no_sample_behind_its_end_but_those_that_b_frames_refer_to() -> None:
    reordered = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11]
    samples = [
        Sample(at * STEP, (time + 2) * STEP, STEP, 0, 9, is_keyframe=at == 0)
        for at, time in enumerate(reordered)
    ]
    excerpt = Excerpt(Track(TrackKind.VIDEO, RATE, (H264,), samples, NOWHERE), None)
    fitted = rules.fit(excerpt, Window(2 / 30, 10 / 30), 0.1)
    # What is shown behind the end, and others refer to, is drawn near to it.
    assert [sample.shown // STEP - 2 for sample in fitted.video.samples] == [0, 3, 1, 2, 6, 4, 5, 8, 7]


def test_where_frames_are_far_apart_the_one_on_screen_is_held_from_the_start() -> None:
    screen = Excerpt(video([*range(90), *range(210, 225), *range(300, 360)]), None)
    fitted = fit(screen, 5.3, 8.3)
    assert fitted.start == 5.3
    on_screen = [time for time in shown_seconds(fitted.video) if time >= 5.3]
    assert on_screen[:2] == pytest.approx([5.3, 7.0])
    last = fitted.video.samples[-1]
    assert fitted.video.seconds(last.shown + last.length) == pytest.approx(8.3)


def test_a_window_without_any_new_frame_shows_the_one_on_screen() -> None:
    fitted = fit(Excerpt(video([*range(90), *range(210, 225)]), None), 4.0, 6.5)
    assert (fitted.start, fitted.end) == (4.0, 6.5)
    assert [time for time in shown_seconds(fitted.video) if time >= 4.0] == [4.0]


def test_a_window_before_the_first_frame_is_refused_with_what_is_so() -> None:
    with pytest.raises(Skipped, match="no video between 0:00:01 and 0:00:04") as refused:
        fit(Excerpt(video(range(240, 360)), audio(0, 12)), 1.0, 4.0)
    assert refused.value.reason is SkipReason.SOURCE_UNREADABLE


def test_a_window_with_too_little_video_says_how_much_there_is() -> None:
    with pytest.raises(Skipped, match=r"has 0\.8 s inside the VOD") as refused:
        fit(Excerpt(video(range(36, 360)), audio(0, 12)), 1.0, 2.0)
    assert refused.value.reason is SkipReason.TOO_SHORT


def test_frames_before_the_first_keyframe_are_not_shown() -> None:
    late = video(range(360))
    late = replace(
        late, samples=[each._replace(is_keyframe=at == 180) for at, each in enumerate(late.samples)]
    )
    fitted = fit(Excerpt(late, None), 5.0, 9.0)
    assert fitted.start == pytest.approx(6.0)


def test_an_ordinary_window_is_copied() -> None:
    plan = choose(fit(ORDINARY, 5.3, 8.3))
    assert (plan.mode, plan.video.fate, plan.audio.fate) == (CutMode.COPY, TrackFate.COPIED, TrackFate.COPIED)
    assert plan.fallback_reason is None


@pytest.mark.parametrize(
    ("heard", "why"),
    [
        (None, "the VOD has no audio"),
        (audio(0, 4), "the VOD has no audio in this part"),
    ],
)
def test_a_window_without_audio_becomes_a_clip_without_audio(heard: Track | None, why: str) -> None:
    plan = choose(fit(replace(ORDINARY, audio=heard), 5.3, 8.3), has_audio=heard is not None)
    assert (plan.video.fate, plan.audio.fate, plan.audio.reason) == (
        TrackFate.COPIED,
        TrackFate.LEFT_OUT,
        why,
    )


def test_audio_with_a_hole_is_re_encoded_alone() -> None:
    plan = choose(fit(replace(ORDINARY, audio=joined(audio(0, 6), audio(7, 12))), 5.3, 8.3))
    assert (plan.mode, plan.audio.fate) == (CutMode.COPY, TrackFate.RE_ENCODED)
    assert plan.audio.reason == "audio is missing before 0:00:06"


def test_many_small_gaps_are_a_large_one() -> None:
    heard = audio(0, 12)
    leaky = replace(heard, samples=[each for at, each in enumerate(heard.samples) if at % 20])
    assert choose(fit(replace(ORDINARY, audio=leaky), 5.3, 8.3)).audio.fate is TrackFate.RE_ENCODED


def test_a_single_lost_packet_of_audio_is_no_hole() -> None:
    heard = audio(0, 12)
    lossy = replace(heard, samples=[each for at, each in enumerate(heard.samples) if at != 300])
    assert choose(fit(replace(ORDINARY, audio=lossy), 5.3, 8.3)).audio.fate is TrackFate.COPIED


@pytest.mark.parametrize("kind", list(TrackKind))
def test_damage_in_the_window_re_encodes_its_track(kind: TrackKind) -> None:
    damages = (Damage(6.0, "packets are missing"),)
    tracks = {
        TrackKind.VIDEO: Excerpt(replace(video(range(360)), damages=damages), audio(0, 12)),
        TrackKind.AUDIO: Excerpt(video(range(360)), replace(audio(0, 12), damages=damages)),
    }
    plan = choose(fit(tracks[kind], 5.3, 8.3))
    fates = {TrackKind.VIDEO: plan.video, TrackKind.AUDIO: plan.audio}
    assert fates[kind].reason == "packets are missing (at 0:00:06)"
    assert [each for each in TrackKind if fates[each].fate is TrackFate.RE_ENCODED] == [kind]
    assert choose(fit(tracks[kind], 8.3, 11.3)).fallback_reason is None


def test_a_change_of_format_re_encodes_its_track() -> None:
    track = video(range(360), formats=(H264, replace(H264, entry=b"avc1 other")))
    track = replace(track, samples=[each._replace(format=at >= 180) for at, each in enumerate(track.samples)])
    assert (
        choose(fit(Excerpt(track, None), 5.3, 8.3)).fallback_reason
        == "the format of the video changes at 0:00:06"
    )
    assert choose(fit(Excerpt(track, None), 8.3, 11.3)).mode is CutMode.COPY


def test_what_not_every_browser_plays_is_re_encoded_unless_copies_are_wanted() -> None:
    hevc = replace(H264, codec="hevc", is_web=False)
    fitted = fit(Excerpt(video(range(360), formats=(hevc,)), None), 5.3, 8.3)
    assert choose(fitted).mode is CutMode.EXACT
    assert choose(fitted).fallback_reason is None
    assert choose(fitted, "copy").mode is CutMode.COPY
    assert choose(fit(ORDINARY, 5.3, 8.3), "exact").mode is CutMode.EXACT


def test_a_clip_that_would_hide_too_much_or_begins_in_an_open_group_is_re_encoded() -> None:
    far = fit(Excerpt(video(range(600), keyframe_every=600), None), 17.0, 19.0)
    assert choose(far).fallback_reason == "the keyframe before the start is 17.0 s away"
    assert choose(fit(ORDINARY, 5.3, 8.3), idr=False).fallback_reason == OPEN_GOP


def test_a_clip_of_few_frames_does_not_wait_for_the_next_one() -> None:
    slides = Excerpt(video(range(0, 1200, 300), keyframe_every=1), audio(0, 40))
    fitted = fit(slides, 12.0, 22.0)
    assert (fitted.start, fitted.end) == (12.0, 22.0)
    assert [time for time in shown_seconds(fitted.video) if time >= 12.0] == [12.0, 20.0]
