"""What a clip shows of an excerpt, and what becomes of each track: copied, re-encoded, or left out.

Pure: from samples to samples. :func:`fit` chooses the first picture and the samples; :func:`choose` decides
on what is in the window, not on what the file's head promises.
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

# The first picture may come this much later than asked for, in pictures of the usual length.
FRAMES_LATE = 1.5
# And never by more than this: of a recording with a picture every few seconds that would be half the clip.
MAX_LATE_SECONDS = 0.25
DEFAULT_FRAME_SECONDS = 1 / 30
# Hidden before the start: a player decodes all of it before it shows a picture.
MAX_HIDDEN_SECONDS = 15.0
# Audio is kept for as long before the start: decoders need the packet before the first one that is heard.
AUDIO_LEAD_SECONDS = 0.1
# A gap in audio, or the sum of small ones, that a viewer sees on people's lips (ITU-R BT.1359: 45 to 125 ms).
MAX_GAP_SECONDS = 0.1
# Chromium chooses pictures by their usual length, which a picture that stays for long spoils: those after it
# came up to 1.2 s too early behind one of 12 s.
MAX_HELD_SECONDS = 2.0
FASTEST_RATE = 60
MAX_FORMATS = 8  # of one track in one window
# An open group of pictures, or one that is refreshed bit by bit.
OPEN_GOP = "its keyframe is no IDR picture, and browsers begin with no other"


class BadClip(ClipsError):
    """A cut did not give a clip that may be stored. ``str()`` of it says why, for the receipt."""


class EncodingNeeded(ClipsError):
    """The video of a clip has to be re-encoded, which is not done here. ``str()`` of it says why."""


class ModeChoice(StrEnum):
    """How clips are cut: ``auto`` copies what every browser plays, and re-encodes the rest."""

    AUTO = "auto"
    COPY = "copy"
    EXACT = "exact"


@dataclass(frozen=True)
class TrackPlan:
    """What becomes of one kind of track. ``reason``: why it is not copied; None where it is.

    ``is_fallback``: it would have been copied, but for something that is wrong in this window.
    """

    kind: TrackKind
    fate: TrackFate
    reason: str | None = None
    is_fallback: bool = False


@dataclass(frozen=True)
class FittedExcerpt:
    """What a clip shows: the samples of each track, and from when to when, in seconds of the VOD."""

    video: Track
    audio: Track | None
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Return how long it is."""
        return self.end - self.start


@dataclass(frozen=True)
class CutPlan:
    """What becomes of the video and of the audio of a clip."""

    video: TrackPlan
    audio: TrackPlan

    @property
    def mode(self) -> CutMode:
        """Return what the clip's receipt calls it."""
        return CutMode.EXACT if self.video.fate is TrackFate.RE_ENCODED else CutMode.COPY

    @property
    def fallback_reason(self) -> str | None:
        """Return why a copy was given up; None where it was not."""
        return self.video.reason if self.video.is_fallback else None


def fit(excerpt: Excerpt, window: Window, min_seconds: float) -> FittedExcerpt:
    """Choose the first picture of a clip, and the samples that it needs.

    It begins with the first picture at or after the window's start; where pictures are further apart, with
    the one that is on screen at that moment, held until the next.

    Raises:
        Skipped: there is no video in the window, or too little; or its pictures are too large.
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
            raise unreadable(f"its pictures claim to have {each.width} by {each.height} pixels")


def frame_seconds(video: Track) -> float:
    """Return the usual length of a picture, in seconds."""
    shown = sorted(sample.shown for sample in video.samples)
    steps = [after - before for before, after in pairwise(shown) if after > before]
    return median(steps) / video.timescale if steps else DEFAULT_FRAME_SECONDS


def _from_first_keyframe(video: Track) -> Sequence[Sample]:
    """Leave out what refers to pictures that are not there."""
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
    """Return the samples from the keyframe of the first picture to the last picture before the end."""
    tolerance = ROUNDING_SECONDS / 10
    first = max(
        at
        for at, sample in enumerate(samples)
        if sample.is_keyframe and (at == 0 or video.seconds(sample.shown) <= start + tolerance)
    )
    last = max(at for at, sample in enumerate(samples) if video.seconds(sample.shown) < end - tolerance)
    return list(samples[first : last + 1])


def _hold(video: Track, samples: list[Sample], start: float, end: float) -> list[Sample]:
    """Show the picture that is on screen at the start from there, and the last one up to the end."""
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
    """Move pictures that others refer to from far behind the end to right behind it.

    None of them is shown. But Chromium takes their time for the clip's length.
    """
    behind = sorted(
        (at for at, each in enumerate(samples) if each.shown >= end), key=lambda at: samples[at].shown
    )
    for rank, at in enumerate(behind):
        samples[at] = samples[at]._replace(shown=end + rank, length=1)
    return samples


def hold_last_frame(encoded: Track, fitted: FittedExcerpt) -> Track:
    """Return re-encoded video whose last picture stays on screen to the end: what follows was damaged."""
    if encoded.kind is not TrackKind.VIDEO or not fitted.video.damages:
        return encoded
    samples, finish = list(encoded.samples), encoded.ticks(fitted.end)
    last = _latest(samples, finish)
    reach = finish - samples[last].shown
    if reach <= MAX_HELD_SECONDS * encoded.timescale:
        samples[last] = samples[last]._replace(length=max(samples[last].length, reach))
    return replace(encoded, samples=samples)


def _latest(samples: Sequence[Sample], before: int) -> int:
    """Return the place of the sample that is shown last before a time."""
    return max(
        (at for at, sample in enumerate(samples) if sample.shown < before), key=lambda at: samples[at].shown
    )


def _audible(audio: Track | None, start: float, end: float) -> Track | None:
    """Return the audio that is heard between two times, with what its decoder needs before it."""
    if audio is None:
        return None
    begin, finish = audio.ticks(start - AUDIO_LEAD_SECONDS), audio.ticks(end)
    samples = [each for each in audio.samples if each.shown + each.length > begin and each.shown < finish]
    heard = any(each.shown + each.length > audio.ticks(start) for each in samples)
    return replace(audio, samples=samples) if heard else None


def choose(choice: ModeChoice, fitted: FittedExcerpt, *, has_audio: bool, begins_with_idr: bool) -> CutPlan:
    """Decide what becomes of each track.

    Args:
        choice: what is wanted.
        fitted: what the clip shows.
        has_audio: whether the VOD has audio at all.
        begins_with_idr: whether decoding can begin with the first sample whatever came before it.
    """
    return CutPlan(
        _plan_video(choice, fitted, begins_with_idr=begins_with_idr),
        _plan_audio(choice, fitted, has_audio=has_audio),
    )


def re_encoded(plan: CutPlan, why: str) -> CutPlan:
    """Return the plan to fall back to when a clip is not good enough."""
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
    """Return what keeps video from being copied that could be copied elsewhere."""
    video = fitted.video
    before = sum(video.seconds(sample.shown) < fitted.start - ROUNDING_SECONDS for sample in video.samples)
    hidden = before * frame_seconds(video)  # what a player decodes first, however long it was on screen
    if hidden > MAX_HIDDEN_SECONDS:
        return f"the keyframe before the start is {hidden:.1f} s away"
    held = longest_held(fitted)
    if held > MAX_HELD_SECONDS:
        return f"a picture stays on screen for {held:.1f} s, and browsers show the next ones too early"
    return _damage(video, fitted) or _change(video)


def longest_held(fitted: FittedExcerpt) -> float:
    """Return for how long a picture stays on screen until the next one, in seconds; at most."""
    video = fitted.video
    times = sorted(video.seconds(sample.shown) for sample in video.samples)
    shown = [time for time in times if fitted.start - ROUNDING_SECONDS <= time < fitted.end]
    return max((after - before for before, after in pairwise(shown)), default=0.0)


def steady_rate(fitted: FittedExcerpt) -> Fraction | None:
    """Return the rate at which pictures are repeated in a re-encode; None where none stays for long."""
    if longest_held(fitted) <= MAX_HELD_SECONDS:
        return None
    rate = Fraction(1 / frame_seconds(fitted.video)).limit_denominator(1001)
    return min(rate, Fraction(FASTEST_RATE))


def _damage(track: Track, fitted: FittedExcerpt) -> str | None:
    """Return the first sign of damage in what the clip holds of a track."""
    begin = track.seconds(track.samples[0].decoded)
    damage = next((each for each in track.damages if begin <= each.seconds < fitted.end), None)
    return f"{damage.why} (at {clock(damage.seconds)})" if damage else None


def _change(track: Track) -> str | None:
    """Return where the coding of a track changes."""
    for before, after in pairwise(track.samples):
        if before.format != after.format:
            return f"the coding of the {track.kind} changes at {clock(track.seconds(after.shown))}"
    return None


def _plan_audio(choice: ModeChoice, fitted: FittedExcerpt, *, has_audio: bool) -> TrackPlan:
    audio = fitted.audio
    if audio is None:
        why = "the VOD has no audio in this window" if has_audio else "the VOD has no audio"
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
    """Return where audio is missing between two packets, or where many small gaps have become a large one."""
    missing = 0.0
    for before, after in pairwise(audio.samples):
        missing += max(after.shown - before.shown - before.length, 0) / audio.timescale
        if missing > MAX_GAP_SECONDS:
            return f"audio is missing before {clock(audio.seconds(after.shown))}"
    return None


def formats_of(track: Track) -> list[Format]:
    """Return the formats that the samples of a track have."""
    return [track.formats[number] for number in sorted({sample.format for sample in track.samples})]


def _names(codecs: set[str]) -> str:
    return ", ".join(sorted(codecs))
