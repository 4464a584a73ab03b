"""A written clip is compared with its plan, sample by sample."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from clip_cutter.containers.model import Damage, Sample, Track, TrackKind
from clip_cutter.domain.check import check_clip, check_encoded, skew_ms
from clip_cutter.domain.plan import BadClip, FittedExcerpt
from tests.unit.clip_cutter.test_plan import ORDINARY, audio, fit

PLANNED = fit(ORDINARY, 5.0, 8.0)
KINDS = {TrackKind.VIDEO, TrackKind.AUDIO}

Change = Callable[[Track], Track]


def tracks_of(fitted: FittedExcerpt) -> list[Track]:
    return [track for track in (fitted.video, fitted.audio) if track]


def written(track: Track) -> Track:
    """The track as it is read from the clip: its line begins at 0."""
    return replace(track, origin=track.origin - PLANNED.start)


def changed(track: Track, at: int, **fields: int) -> Track:
    samples = list(track.samples)
    samples[at] = Sample(**{**samples[at]._asdict(), **fields})
    return replace(track, samples=samples)


def check(*tracks: Track, size_bytes: int = 100_000) -> None:
    check_clip(tracks, tracks_of(PLANNED), PLANNED, size_bytes=size_bytes)


def test_the_planned_clip_passes() -> None:
    check(*map(written, tracks_of(PLANNED)))


@pytest.mark.parametrize(
    ("kind", "change", "why"),
    [
        (
            TrackKind.AUDIO,
            lambda track: changed(track, 70, shown=track.samples[70].shown + 900),
            "10 ms late",
        ),
        (
            TrackKind.VIDEO,
            lambda track: changed(track, 20, shown=track.samples[20].shown - 900),
            "-10 ms late",
        ),
        (TrackKind.AUDIO, lambda track: replace(track, samples=track.samples[:-1]), "samples instead of"),
        (TrackKind.VIDEO, lambda track: changed(track, 3, size=99), "0 ms late"),
        (TrackKind.VIDEO, lambda track: changed(track, 3, is_keyframe=True), "keyframe flag"),
        (
            TrackKind.AUDIO,
            lambda track: replace(track, formats=(replace(track.formats[0], entry=b"other"),)),
            "another format",
        ),
        (TrackKind.VIDEO, lambda track: changed(track, len(track.samples) - 1, length=45_000), "ends at"),
    ],
)
def test_a_track_that_differs_is_refused(kind: TrackKind, change: Change, why: str) -> None:
    tracks = [written(track) for track in tracks_of(PLANNED)]
    with pytest.raises(BadClip, match=why):
        check(*(change(track) if track.kind is kind else track for track in tracks))


def test_a_missing_track_or_an_empty_file_is_refused() -> None:
    video, audio = map(written, tracks_of(PLANNED))
    with pytest.raises(BadClip, match="the clip has no audio"):
        check(video)
    with pytest.raises(BadClip, match="100 bytes"):
        check(video, audio, size_bytes=100)


def without(track: Track, first: int, after: int) -> Track:
    return replace(track, samples=[*track.samples[:first], *track.samples[after:]])


def test_a_re_encode_keeps_every_frame_and_its_audio() -> None:
    video, audio = tracks_of(PLANNED)
    check_encoded([video, audio], PLANNED, KINDS)
    with pytest.raises(BadClip, match="89 frames instead of 90"):
        check_encoded([without(video, 50, 51), audio], PLANNED, KINDS)
    with pytest.raises(BadClip, match="lacks audio"):
        check_encoded([video, without(audio, 20, 30)], PLANNED, KINDS)
    with pytest.raises(BadClip, match="no audio"):
        check_encoded([video], PLANNED, KINDS)


def test_damaged_video_may_lose_frames_in_a_re_encode() -> None:
    damaged = replace(PLANNED, video=replace(PLANNED.video, damages=(Damage(6.0, "packets are missing"),)))
    video, audio = tracks_of(PLANNED)
    check_encoded([without(video, 50, 55), audio], damaged, KINDS)


def test_skew_is_how_late_the_audio_begins() -> None:
    late = FittedExcerpt(PLANNED.video, audio(5.5, 8.0), PLANNED.start, PLANNED.end)
    assert skew_ms(tracks_of(PLANNED), PLANNED) == 0
    assert skew_ms(tracks_of(late), late) == pytest.approx(500, abs=25)
    assert skew_ms([late.video], late) is None
