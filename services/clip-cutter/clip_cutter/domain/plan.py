"""Choose which samples of an excerpt a clip holds, and whether each track is copied, re-encoded or left out.

:func:`fit` chooses the first frame and the samples. :func:`choose` decides by the samples in the window, not
by what the header of the file says.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise
from statistics import median

from clip_cutter.containers.model import ROUNDING_SECONDS, Excerpt, Format, Sample, Track, TrackKind
from clip_cutter.domain.media import MAX_PIXELS
from clip_cutter.domain.policy import Window, clock, no_video, too_short, unreadable
from clip_shared.contracts.events import CutMode, TrackFate
from clip_shared.errors import ClipsError

MP4_VIDEO = frozenset({"h264", "hevc", "av1", "vp9"})

# The first frame may come this much later than the requested start, in frames of the usual length.
FRAMES_LATE = 1.5
# And never later than this: with a frame every few seconds, 1.5 frames would be half of the clip.
MAX_LATE_SECONDS = 0.25
DEFAULT_FRAME_SECONDS = 1 / 30
# Video before the clip's start that a player must decode before it shows the first frame.
MAX_HIDDEN_SECONDS = 15.0
# Audio that is kept before the clip's start: decoders need the packet before the first one that is heard.
AUDIO_LEAD_SECONDS = 0.1
# A gap in the audio, or a sum of small gaps, at which a viewer sees that lips and voice do not match
# (ITU-R BT.1359: 45 to 125 ms).
MAX_GAP_SECONDS = 0.1
# Chromium chooses frames by an average length, which a frame that stays on screen for long distorts: after a
# frame of 12 s, the next frames came up to 1.2 s too early.
MAX_HELD_SECONDS = 2.0
FASTEST_RATE = 60
MAX_FORMATS = 8  # of one track in one window
# The video has open groups of pictures, or is refreshed gradually (intra refresh).
OPEN_GOP = "the keyframe before the start is not an IDR picture, and browsers cannot start with it"


class BadClip(ClipsError):
    """A clip differs from its plan and must not be stored. ``str()`` of it says why, for the cut receipt."""


class EncodingNeeded(ClipsError):
    """The video must be re-encoded, which this lane does not do. ``str()`` of it says why."""


class ModeChoice(StrEnum):
    """The values of CUT_MODE. ``auto`` copies what every browser plays, and re-encodes the rest."""

    AUTO = "auto"
    COPY = "copy"
    EXACT = "exact"


@dataclass(frozen=True)
class TrackPlan:
    """Whether a track is copied, re-encoded or left out, and the ``reason`` if it is not copied.

    ``is_fallback``: the track's format could be copied, but something is wrong with the samples of this
    window.
    """

    kind: TrackKind
    fate: TrackFate
    reason: str | None = None
    is_fallback: bool = False


@dataclass(frozen=True)
class FittedExcerpt:
    """The samples that a clip holds of each track, and its start and end, in seconds of the VOD."""

    video: Track
    audio: Track | None
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class CutPlan:
    """What is done to the video and to the audio of a clip."""

    video: TrackPlan
    audio: TrackPlan

    @property
    def mode(self) -> CutMode:
        """The mode that the cut receipt names: ``exact`` if the video is re-encoded."""
        return CutMode.EXACT if self.video.fate is TrackFate.RE_ENCODED else CutMode.COPY

    @property
    def fallback_reason(self) -> str | None:
        """Why video that could be copied elsewhere is re-encoded; None if it is copied, or never could be."""
        return self.video.reason if self.video.is_fallback else None


def fit(excerpt: Excerpt, window: Window, min_seconds: float) -> FittedExcerpt:
    """Choose the first frame of a clip, and the samples that the clip needs.

    The clip begins with the first frame at or after the window's start. If that frame is more than
    ``FRAMES_LATE`` frames away, the clip begins at the window's start, with the frame that is on screen then.

    Raises:
        Skipped: the window holds no video, or less than ``min_seconds`` of it; or its frames are too large.
    """
    video, audio = excerpt.video, excerpt.audio
    if video is None or not video.samples:
        raise no_video(window)
    _check_size(video)
    samples = _from_first_keyframe(video)
    frame = frame_seconds(video)
    times = sorted(video.seconds(sample.shown) for sample in samples)
    start = _first_frame_time(times, window, frame)
    end = window.end if excerpt.end is None else min(window.end, excerpt.end)
    if start >= end:
        raise no_video(window)
    if end - start < min(min_seconds, window.seconds - frame):
        raise too_short(min_seconds, end - start)
    held = _hold(video, _needed(video, samples, start, end), start, end)
    return FittedExcerpt(replace(video, samples=held), _audible(audio, start, end), start, end)


def _check_size(video: Track) -> None:
    for each in video.formats:
        if each.width * each.height > MAX_PIXELS:
            raise unreadable(f"its frames have {each.width} by {each.height} pixels")


def frame_seconds(video: Track) -> float:
    """Return the median length of a frame, in seconds."""
    shown = sorted(sample.shown for sample in video.samples)
    steps = [after - before for before, after in pairwise(shown) if after > before]
    return median(steps) / video.timescale if steps else DEFAULT_FRAME_SECONDS


def _from_first_keyframe(video: Track) -> Sequence[Sample]:
    """Leave out the samples that refer to samples before the first keyframe."""
    first = next((at for at, sample in enumerate(video.samples) if sample.is_keyframe), None)
    if first is None:
        return []
    earliest = video.samples[first].shown
    return [sample for sample in video.samples[first:] if sample.shown >= earliest]


def _first_frame_time(times: Sequence[float], window: Window, frame: float) -> float:
    following = min((time for time in times if time >= window.start - ROUNDING_SECONDS), default=math.inf)
    is_on_screen = any(time < window.start - ROUNDING_SECONDS for time in times)
    if is_on_screen and following - window.start > min(FRAMES_LATE * frame, MAX_LATE_SECONDS):
        return window.start
    return following


def _needed(video: Track, samples: Sequence[Sample], start: float, end: float) -> list[Sample]:
    """Return the samples from the keyframe that the first frame needs to the last frame before the end."""
    tolerance = ROUNDING_SECONDS / 10
    first = max(
        at
        for at, sample in enumerate(samples)
        if sample.is_keyframe and (at == 0 or video.seconds(sample.shown) <= start + tolerance)
    )
    last = max(at for at, sample in enumerate(samples) if video.seconds(sample.shown) < end - tolerance)
    return list(samples[first : last + 1])


def _hold(video: Track, samples: list[Sample], start: float, end: float) -> list[Sample]:
    """Show the frame that is on screen at the start from the start on, and the last frame up to the end."""
    begin, finish = video.ticks(start), video.ticks(end)
    on_screen = _latest(samples, begin + 1)
    first = samples[on_screen]
    if first.shown < begin:
        held = max(first.length - (begin - first.shown), 1)
        samples[on_screen] = first._replace(shown=begin, length=held)
    last = _latest(samples, finish)
    reach = finish - samples[last].shown
    samples[last] = samples[last]._replace(length=max(samples[last].length, reach))
    return _move_to_end(samples, finish)


def _move_to_end(samples: list[Sample], end: int) -> list[Sample]:
    """Move samples that are shown far behind the end, and that other samples refer to, right behind the end.

    They are not shown, but Chromium takes their time for the end of the clip.
    """
    behind = sorted(
        (at for at, each in enumerate(samples) if each.shown >= end), key=lambda at: samples[at].shown
    )
    for rank, at in enumerate(behind):
        samples[at] = samples[at]._replace(shown=end + rank, length=1)
    return samples


def hold_last_frame(encoded: Track, fitted: FittedExcerpt) -> Track:
    """Return re-encoded video of a damaged VOD, whose last frame stays on screen to the clip's end.

    The frame is held for at most ``MAX_HELD_SECONDS``. Audio, and video without damage, is returned
    unchanged.
    """
    if encoded.kind is not TrackKind.VIDEO or not fitted.video.damages:
        return encoded
    samples, finish = list(encoded.samples), encoded.ticks(fitted.end)
    last = _latest(samples, finish)
    reach = finish - samples[last].shown
    if reach <= MAX_HELD_SECONDS * encoded.timescale:
        samples[last] = samples[last]._replace(length=max(samples[last].length, reach))
    return replace(encoded, samples=samples)


def _latest(samples: Sequence[Sample], before: int) -> int:
    """Return the index of the sample that is shown last before a time, in ticks."""
    return max(
        (at for at, sample in enumerate(samples) if sample.shown < before), key=lambda at: samples[at].shown
    )


def _audible(audio: Track | None, start: float, end: float) -> Track | None:
    """Return the audio between two times, with the packets that its decoder needs before; None: silence."""
    if audio is None:
        return None
    begin, finish = audio.ticks(start - AUDIO_LEAD_SECONDS), audio.ticks(end)
    samples = [each for each in audio.samples if each.shown + each.length > begin and each.shown < finish]
    heard = any(each.shown + each.length > audio.ticks(start) for each in samples)
    return replace(audio, samples=samples) if heard else None


def choose(choice: ModeChoice, fitted: FittedExcerpt, *, has_audio: bool, begins_with_idr: bool) -> CutPlan:
    """Decide whether each track is copied, re-encoded or left out.

    Args:
        choice: the setting CUT_MODE.
        fitted: the samples of the clip.
        has_audio: whether the VOD has an audio track.
        begins_with_idr: whether decoding can begin with the first sample of the video.
    """
    return CutPlan(
        _plan_video(choice, fitted, begins_with_idr=begins_with_idr),
        _plan_audio(choice, fitted, has_audio=has_audio),
    )


def re_encoded(plan: CutPlan, why: str) -> CutPlan:
    """Return the plan with all that was copied re-encoded, because of ``why``."""
    audio = plan.audio
    if audio.fate is TrackFate.COPIED:
        audio = TrackPlan(TrackKind.AUDIO, TrackFate.RE_ENCODED, why, is_fallback=True)
    return CutPlan(TrackPlan(TrackKind.VIDEO, TrackFate.RE_ENCODED, why, is_fallback=True), audio)


def _plan_video(choice: ModeChoice, fitted: FittedExcerpt, *, begins_with_idr: bool) -> TrackPlan:
    video = fitted.video
    codecs = {each.codec for each in formats_of(video)}
    if choice is ModeChoice.EXACT:
        return TrackPlan(TrackKind.VIDEO, TrackFate.RE_ENCODED, "every clip is re-encoded here (CUT_MODE)")
    if choice is ModeChoice.AUTO and not all(each.is_web for each in formats_of(video)):
        return TrackPlan(
            TrackKind.VIDEO, TrackFate.RE_ENCODED, f"not every browser plays such {_names(codecs)}"
        )
    if not codecs <= MP4_VIDEO:
        return TrackPlan(TrackKind.VIDEO, TrackFate.RE_ENCODED, f"a clip cannot hold {_names(codecs)}")
    if fault := _video_fault(fitted) or (None if begins_with_idr else OPEN_GOP):
        return TrackPlan(TrackKind.VIDEO, TrackFate.RE_ENCODED, fault, is_fallback=True)
    return TrackPlan(TrackKind.VIDEO, TrackFate.COPIED)


def _video_fault(fitted: FittedExcerpt) -> str | None:
    """Return why the samples of this window cannot be copied; None if they can."""
    video = fitted.video
    before = sum(video.seconds(sample.shown) < fitted.start - ROUNDING_SECONDS for sample in video.samples)
    hidden = before * frame_seconds(video)  # decoded before the first frame is shown, at the usual rate
    if hidden > MAX_HIDDEN_SECONDS:
        return f"the keyframe before the start is {hidden:.1f} s away"
    held = longest_held(fitted)
    if held > MAX_HELD_SECONDS:
        return f"a frame stays on screen for {held:.1f} s, and browsers show the next frames too early"
    return _damage(video, fitted) or _change(video)


def longest_held(fitted: FittedExcerpt) -> float:
    """Return the longest time between two frames of the clip, in seconds."""
    video = fitted.video
    times = sorted(video.seconds(sample.shown) for sample in video.samples)
    shown = [time for time in times if fitted.start - ROUNDING_SECONDS <= time < fitted.end]
    return max((after - before for before, after in pairwise(shown)), default=0.0)


def steady_rate(fitted: FittedExcerpt) -> Fraction | None:
    """Return the rate at which a re-encode repeats frames that stay on screen; None: no frame stays long."""
    if longest_held(fitted) <= MAX_HELD_SECONDS:
        return None
    rate = Fraction(1 / frame_seconds(fitted.video)).limit_denominator(1001)
    return min(rate, Fraction(FASTEST_RATE))


def _damage(track: Track, fitted: FittedExcerpt) -> str | None:
    """Describe the first sign of damage in the clip's part of a track; None: there is no damage."""
    begin = track.seconds(track.samples[0].decoded)
    damage = next((each for each in track.damages if begin <= each.seconds < fitted.end), None)
    return f"{damage.why} (at {clock(damage.seconds)})" if damage else None


def _change(track: Track) -> str | None:
    """Describe the first change of a track's format; None: the format does not change."""
    for before, after in pairwise(track.samples):
        if before.format != after.format:
            return f"the format of the {track.kind} changes at {clock(track.seconds(after.shown))}"
    return None


def _plan_audio(choice: ModeChoice, fitted: FittedExcerpt, *, has_audio: bool) -> TrackPlan:
    audio = fitted.audio
    if audio is None:
        why = "the VOD has no audio in this part" if has_audio else "the VOD has no audio"
        return TrackPlan(TrackKind.AUDIO, TrackFate.LEFT_OUT, why)
    if choice is ModeChoice.EXACT:
        return TrackPlan(TrackKind.AUDIO, TrackFate.RE_ENCODED, "every clip is re-encoded here (CUT_MODE)")
    if not all(each.is_web for each in formats_of(audio)):
        codecs = {each.codec for each in formats_of(audio)}
        return TrackPlan(TrackKind.AUDIO, TrackFate.RE_ENCODED, f"not every browser plays {_names(codecs)}")
    if fault := _damage(audio, fitted) or _change(audio) or _gap(audio):
        return TrackPlan(TrackKind.AUDIO, TrackFate.RE_ENCODED, fault, is_fallback=True)
    return TrackPlan(TrackKind.AUDIO, TrackFate.COPIED)


def _gap(audio: Track) -> str | None:
    """Describe where audio is missing: a large gap, or the last of many small ones; None: no gap."""
    missing = 0.0
    for before, after in pairwise(audio.samples):
        missing += max(after.shown - before.shown - before.length, 0) / audio.timescale
        if missing > MAX_GAP_SECONDS:
            return f"audio is missing before {clock(audio.seconds(after.shown))}"
    return None


def formats_of(track: Track) -> list[Format]:
    """Return the formats that are used by the samples of a track."""
    return [track.formats[number] for number in sorted({sample.format for sample in track.samples})]


def _names(codecs: set[str]) -> str:
    return ", ".join(sorted(codecs))
