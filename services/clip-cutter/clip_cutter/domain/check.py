"""Compare a written clip, and a re-encoded track, with what was planned, sample by sample."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from clip_cutter.containers.model import Track, TrackKind
from clip_cutter.domain.plan import (
    MAX_GAP_SECONDS,
    MAX_HELD_SECONDS,
    BadClip,
    FittedExcerpt,
    frame_seconds,
    steady_rate,
)

MIN_CLIP_BYTES = 1024
# A time may differ by this much after it is written to an MP4, because the ticks there are coarser than a
# float.
TIME_TOLERANCE_SECONDS = 0.002
END_TOLERANCE_SECONDS = 0.05


def check_clip(
    written: Iterable[Track], planned: Sequence[Track], fitted: FittedExcerpt, *, size_bytes: int
) -> None:
    """Compare the tracks of a written clip, whose time line begins at 0, with the planned tracks.

    Raises:
        BadClip: a track is missing, or a sample differs in its time, size, format or keyframe flag.
    """
    found = {track.kind: track for track in written}
    if size_bytes < MIN_CLIP_BYTES:
        raise BadClip(f"the clip has {size_bytes} bytes; the least is {MIN_CLIP_BYTES}")
    for plan in planned:
        if plan.kind not in found:
            raise BadClip(f"the clip has no {plan.kind}")
        _check_samples(found[plan.kind], plan, fitted.start)
    video = found[TrackKind.VIDEO]
    _check_reach(video, fitted.seconds)
    if _first(video) > frame_seconds(video) + TIME_TOLERANCE_SECONDS:
        raise BadClip(f"the clip's first frame is shown after {_first(video):.2f} s")


def _check_samples(found: Track, plan: Track, start: float) -> None:
    if len(found.samples) != len(plan.samples):
        raise BadClip(
            f"the clip's {plan.kind} has {len(found.samples)} samples instead of {len(plan.samples)}"
        )
    for has, wanted in zip(found.samples, plan.samples, strict=True):
        late = found.seconds(has.shown) - (plan.seconds(wanted.shown) - start)
        place = f"the clip's {plan.kind} at {found.seconds(has.shown):.2f} s"
        if abs(late) > TIME_TOLERANCE_SECONDS or has.size != wanted.size:
            raise BadClip(f"{place}: the sample is {1000 * late:.0f} ms late, or its size is wrong")
        if found.formats[has.format].entry != plan.formats[wanted.format].entry:
            raise BadClip(f"{place}: the sample has another format")
        if has.is_keyframe != wanted.is_keyframe:
            raise BadClip(f"{place}: the sample differs in its keyframe flag")


def check_encoded(encoded: Iterable[Track], fitted: FittedExcerpt, wanted: Iterable[TrackKind]) -> None:
    """Compare the tracks that ffmpeg re-encoded, on the VOD's time line, with the samples that it was given.

    Video without signs of damage must keep each frame and its time. Audio must reach the end without a gap.

    Raises:
        BadClip: a track is missing, has a gap, or ends early; or a frame is missing.
    """
    found = {track.kind: track for track in encoded}
    for kind in wanted:
        if kind not in found:
            raise BadClip(f"the re-encoded clip has no {kind}")
    if TrackKind.VIDEO in found and not fitted.video.damages:
        _check_frames(found[TrackKind.VIDEO], fitted)
    if TrackKind.AUDIO in found:
        _check_audio(found[TrackKind.AUDIO], fitted)


def _check_frames(video: Track, fitted: FittedExcerpt) -> None:
    has = _shown_between(video, fitted.start, fitted.end)
    wanted = _shown_between(fitted.video, fitted.start, fitted.end)
    if steady_rate(fitted) is not None:
        _check_steady(has, fitted)
        return
    if len(has) != len(wanted):
        raise BadClip(f"the re-encoded clip has {len(has)} frames instead of {len(wanted)}")
    late = max((abs(a - b) for a, b in zip(has, wanted, strict=True)), default=0.0)
    if late > TIME_TOLERANCE_SECONDS:
        raise BadClip(f"a frame of the re-encoded clip is {1000 * late:.0f} ms early or late")


def _check_steady(has: Sequence[float], fitted: FittedExcerpt) -> None:
    """Check for gaps alone: frames that stayed on screen are repeated, so the clip has more frames."""
    gap = max((after - before for before, after in pairwise([*has, fitted.end])), default=fitted.seconds)
    if gap > MAX_HELD_SECONDS:
        raise BadClip(f"a frame of the re-encoded clip stays on screen for {gap:.1f} s")


def _shown_between(video: Track, start: float, end: float) -> list[float]:
    times = sorted(video.seconds(sample.shown) for sample in video.samples)
    return [time for time in times if start - TIME_TOLERANCE_SECONDS <= time < end - TIME_TOLERANCE_SECONDS]


def _check_audio(audio: Track, fitted: FittedExcerpt) -> None:
    samples = audio.samples
    gap = max((after.shown - before.shown - before.length for before, after in pairwise(samples)), default=0)
    reach = audio.seconds(samples[-1].shown + samples[-1].length)
    late = audio.seconds(samples[0].shown) - fitted.start
    if max(gap / audio.timescale, fitted.end - reach, late) > MAX_GAP_SECONDS:
        raise BadClip("the re-encoded clip lacks audio somewhere")


def _check_reach(video: Track, seconds: float) -> None:
    """Check that the video ends with the clip: players take the end of the last sample as the clip's end."""
    last = video.samples[-1]
    reach = video.seconds(max(last.shown + last.length, *(each.shown for each in video.samples)))
    if abs(reach - seconds) > END_TOLERANCE_SECONDS:
        raise BadClip(f"the clip's video ends at {reach:.2f} s instead of {seconds:.2f} s")


def _first(track: Track) -> float:
    """Return when the first visible frame is shown, in seconds of the clip."""
    return max(min(track.seconds(sample.shown) for sample in track.samples), 0.0)


def skew_ms(tracks: Iterable[Track], fitted: FittedExcerpt) -> float | None:
    """Return the start of the audio minus that of the video in the clip, in milliseconds; None: no audio."""
    audio = next((track for track in tracks if track.kind is TrackKind.AUDIO), None)
    if audio is None:
        return None
    first = min(audio.seconds(sample.shown) for sample in audio.samples)
    return round(max(first - fitted.start, 0.0) * 1000, 3)
