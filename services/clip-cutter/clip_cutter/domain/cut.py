"""How a clip is cut, where its first frame is, and what counts as a good clip."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from clip_cutter.domain.media import Media, Span, Video, skew_ms, span_of
from clip_cutter.domain.policy import Window
from clip_shared.events import CutMode

# What every browser plays in MP4; and, for the mode "copy", what MP4 can hold at all.
WEB_VIDEO = frozenset({"h264"})
WEB_PIXELS = frozenset({"yuv420p", "yuvj420p"})
WEB_AUDIO = frozenset({"aac"})
MP4_VIDEO = frozenset({"h264", "hevc", "av1", "vp9"})

# How far before the start reading begins: one after the other, until a keyframe was caught. MPEG-TS has no
# index, so a seek lands anywhere. The others land on the keyframe, or a little late where the index is poor.
UNINDEXED = frozenset({"mpegts"})
UNINDEXED_LEADS = (6.0, 20.0, 60.0)
INDEXED_LEADS = (0.0, 2.0, *UNINDEXED_LEADS)

# How far the start may be moved back, to the frame on screen; the sound is kept for as long before it.
MARGIN_SECONDS = 0.25
# Containers round: Matroska and FLV to milliseconds.
ROUNDING_SECONDS = 0.001
# The first frame may come so much later than asked for, in frames of the usual length.
FRAMES_LATE = 1.5
SOUND_LATE_SECONDS = 0.1
# Hidden before the start: a player decodes all of it before it shows a picture; and what is not even decoded.
MAX_HIDDEN_SECONDS = 15.0
MAX_EXCESS = 0.1

COPY_TOLERANCE_SECONDS = 0.2
MAX_SKEW_MS = 40.0
MIN_CLIP_BYTES = 1024

# Bits a second: assumed of a source that does not say, and of a re-encode.
ASSUMED_BIT_RATE = 12_000_000


class BadClip(Exception):
    """A cut did not give a clip that may be stored. ``str()`` of it says why, for the receipt."""


class ModeChoice(StrEnum):
    """How clips are cut: ``auto`` copies what every browser plays, and re-encodes the rest."""

    AUTO = "auto"
    COPY = "copy"
    EXACT = "exact"


class Sound(StrEnum):
    """What becomes of the sound."""

    NONE = "none"
    COPY = "copy"
    ENCODE = "encode"


@dataclass(frozen=True)
class Plan:
    """How one clip is cut."""

    mode: CutMode
    sound: Sound


@dataclass(frozen=True)
class Placement:
    """Where the clip begins in what ffmpeg wrote, in seconds on that file's time line.

    Before ``start``, ``hidden`` must stay (its keyframe) and ``excess`` need not. ``picture_late`` and
    ``sound_late`` are seconds after the start asked for, 0 where they are in time.
    """

    start: float
    hidden: float
    excess: float
    picture_late: float
    sound_late: float


def choose_plan(choice: ModeChoice, media: Media, window: Window) -> Plan:
    """How to cut a source: see :class:`ModeChoice`.

    ``copy`` copies whatever MP4 can hold, whether or not every browser plays it. Sound other than AAC is
    re-encoded, alone where the picture is copied. Sound that lies outside the window is left out.
    """
    copies = media.video is not None and _can_copy(choice, media.video)
    mode = CutMode.COPY if copies else CutMode.EXACT
    if media.audio is None or not _overlap(span_of(media.audio, media), window):
        return Plan(mode, Sound.NONE)
    return Plan(mode, Sound.COPY if copies and media.audio.codec in WEB_AUDIO else Sound.ENCODE)


def _can_copy(choice: ModeChoice, video: Video) -> bool:
    if choice is ModeChoice.AUTO:
        return video.codec in WEB_VIDEO and video.pixel_format in WEB_PIXELS
    return choice is ModeChoice.COPY and video.codec in MP4_VIDEO


def _overlap(span: Span, window: Window) -> bool:
    return span.start < window.end and (span.end is None or span.end > window.start)


def re_encoded(plan: Plan) -> Plan:
    """The plan to fall back to when a copy is not good enough."""
    return Plan(CutMode.EXACT, Sound.NONE if plan.sound is Sound.NONE else Sound.ENCODE)


def seeks(container: str, start: float) -> list[float]:
    """Where to begin reading for a start: one after the other, each further back, while that helps."""
    steps = UNINDEXED_LEADS if container in UNINDEXED else INDEXED_LEADS
    found = [start - lead for lead in steps if lead < start]
    return found if len(found) == len(steps) else [*found, 0.0]


def place(
    *,
    asked: float,
    frame_seconds: float,
    frames: Sequence[float],
    keyframes: Sequence[float],
    sound_start: float | None,
    earliest: float,
) -> Placement:
    """Find the clip's first frame in what ffmpeg wrote.

    It is the first one at or after the start asked for; where a variable frame rate leaves a gap there, the
    one that is on screen at that moment.

    Args:
        asked: the start asked for, on the file's time line.
        frame_seconds: the usual length of a frame.
        frames: when each frame is shown, in any order.
        keyframes: those of them that can be decoded alone.
        sound_start: when the sound begins, if there is any.
        earliest: how far back the start can be placed.
    """
    first_keyframe = min(keyframes, default=math.inf)
    # What comes before the first keyframe refers to pictures that the file does not have.
    possible = [time for time in frames if time >= max(earliest, first_keyframe) - ROUNDING_SECONDS]
    if not any(time >= asked - ROUNDING_SECONDS for time in possible):
        return Placement(asked, 0.0, 0.0, picture_late=math.inf, sound_late=0.0)
    tolerance = FRAMES_LATE * frame_seconds
    start = _first_frame(possible, asked, tolerance)
    keyframe = max(time for time in keyframes if time <= start + ROUNDING_SECONDS)
    sound_late = 0.0 if sound_start is None else sound_start - start
    return Placement(
        start=start,
        hidden=max(start - keyframe, 0.0),
        excess=keyframe - first_keyframe,
        picture_late=start - asked if first_keyframe > asked + tolerance else 0.0,
        sound_late=sound_late if sound_late > SOUND_LATE_SECONDS else 0.0,
    )


def _first_frame(frames: Sequence[float], asked: float, tolerance: float) -> float:
    following = min(time for time in frames if time >= asked - ROUNDING_SECONDS)
    on_screen = max((time for time in frames if time < asked - ROUNDING_SECONDS), default=-math.inf)
    has_gap = following - asked > tolerance and asked - on_screen <= MARGIN_SECONDS
    return on_screen if has_gap else following


def starts_well(now: Placement, before: Placement | None) -> bool:
    """Whether reading from further back cannot help.

    Sound that was as late when reading began later is late in the VOD itself.
    """
    if now.picture_late or not now.sound_late:
        return not now.picture_late
    return before is not None and abs(before.sound_late - now.sound_late) <= SOUND_LATE_SECONDS


def check_placement(plan: Plan, placement: Placement, window: Window, min_seconds: float) -> None:
    """Refuse a cut whose picture begins too late, or hangs from a keyframe too far away.

    Raises:
        BadClip: why.
    """
    if window.seconds - placement.picture_late < min_seconds:
        raise BadClip("there is no picture where the clip should begin")
    if plan.mode is CutMode.COPY and placement.hidden > MAX_HIDDEN_SECONDS:
        raise BadClip(f"the keyframe before the start is {placement.hidden:.1f} s away")


def is_wasteful(placement: Placement, window: Window) -> bool:
    """Whether a cut holds so much that nobody can see that it is worth copying once more."""
    return placement.excess > MAX_EXCESS * window.seconds


@dataclass(frozen=True)
class Findings:
    """What a finished file turned out to be: its probe, its size, and when its first picture is shown."""

    clip: Media
    size_bytes: int
    first_picture: float


def check_clip(found: Findings, plan: Plan, *, expected_seconds: float | None, sound_late: float) -> None:
    """Refuse a finished file that is not the clip asked for.

    Args:
        found: what it is.
        plan: how it was cut.
        expected_seconds: its length; None where the VOD does not say where it ends.
        sound_late: by how much the sound begins late in the VOD itself.

    Raises:
        BadClip: what is wrong with it.
    """
    clip = found.clip
    if found.size_bytes < MIN_CLIP_BYTES or clip.video is None or clip.seconds is None:
        raise BadClip(f"it has no picture ({found.size_bytes} bytes)")
    if found.first_picture > clip.video.frame_seconds:
        raise BadClip(f"its first picture is shown after {found.first_picture:.2f} s")
    if plan.sound is not Sound.NONE and clip.audio is None:
        raise BadClip("its sound is missing")
    tolerance = (
        COPY_TOLERANCE_SECONDS if plan.mode is CutMode.COPY else FRAMES_LATE * clip.video.frame_seconds
    )
    if expected_seconds is not None and abs(clip.seconds - expected_seconds) > tolerance:
        raise BadClip(f"it lasts {clip.seconds:.2f} s instead of {expected_seconds:.2f} s")
    skew = skew_ms(clip)
    if skew is not None and abs(skew) > MAX_SKEW_MS + 1000 * sound_late:
        raise BadClip(f"its sound begins {skew:.0f} ms after its picture")


def estimate_bytes(media: Media, plan: Plan, window: Window) -> int:
    """How large a cut may become."""
    rate = media.bit_rate or ASSUMED_BIT_RATE
    if plan.mode is CutMode.EXACT:
        rate = max(rate, ASSUMED_BIT_RATE)
    return int((window.seconds + UNINDEXED_LEADS[0]) * rate / 8)
