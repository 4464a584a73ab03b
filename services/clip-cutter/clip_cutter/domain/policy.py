"""Which highlights become clips, which window of the VOD they show, and why the others are skipped.

The messages of :class:`Skipped` are read by streamers: they say what is wrong and what the streamer can do.
"""

from dataclasses import dataclass

from clip_shared.contracts.events import SkipReason
from clip_shared.errors import ClipsError

LATEST_SECONDS = 35_999_999
MEBIBYTE = 1024 * 1024


class Skipped(ClipsError):
    """The highlight becomes no clip. ``str()`` of it is the message for the streamer."""

    def __init__(self, reason: SkipReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def unreadable(why: str) -> Skipped:
    """Return the skip for a VOD that cannot be read; ``why`` is a clause that stands after a colon."""
    return Skipped(
        SkipReason.SOURCE_UNREADABLE,
        f"The VOD cannot be read as a video: {why}. Please check that it plays.",
    )


def no_video(window: "Window") -> Skipped:
    """Return the skip for a window inside a VOD in which there is no video.

    Its reason is one that the skip limit counts: a broken reader would find no video in any VOD.
    """
    return Skipped(
        SkipReason.SOURCE_UNREADABLE,
        f"The VOD has no video between {clock(window.start)} and {clock(window.end)},"
        " so no clip can be cut there.",
    )


def damaged(start: float, end: float) -> Skipped:
    """Return the skip for a damaged part of a VOD; ``start`` and ``end`` are in seconds of the VOD."""
    return Skipped(
        SkipReason.SOURCE_UNREADABLE,
        f"The VOD is damaged between {clock(start)} and {clock(end)}, so no clip can be cut there."
        " Highlights in other parts of it are not affected.",
    )


def interrupted(window: "Window") -> Skipped:
    """Return the skip for a window in which the VOD's clock jumps: the times in it are not known."""
    return Skipped(
        SkipReason.SOURCE_UNREADABLE,
        f"The stream was interrupted between {clock(window.start)} and {clock(window.end)}, so no clip can be"
        " cut there. Highlights in other parts of the VOD are not affected.",
    )


def too_short(min_seconds: float, seconds: float) -> Skipped:
    """Return the skip for a window with only ``seconds`` inside the VOD, fewer than ``min_seconds``."""
    return Skipped(
        SkipReason.TOO_SHORT,
        f"A clip needs at least {min_seconds:g} s, and this highlight has {seconds:.1f} s inside the VOD.",
    )


def too_large(size_bytes: int) -> Skipped:
    """Return the skip for a clip of ``size_bytes``, which is more than MAX_CLIP_MEBIBYTES."""
    return Skipped(
        SkipReason.SOURCE_UNREADABLE,
        f"A clip of this highlight would have {size_bytes // MEBIBYTE} MiB, more than this platform allows."
        " A shorter highlight may fit.",
    )


@dataclass(frozen=True)
class Policy:
    """Which highlights become clips. ``max_clips_per_vod`` None: the rank does not matter."""

    min_seconds: float
    max_seconds: float
    max_clips_per_vod: int | None


@dataclass(frozen=True)
class Window:
    """The part of a VOD that a clip shows, in seconds of the VOD."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


def check_policy(policy: Policy, *, is_clipable: bool, rank: int | None) -> None:
    """Skip a highlight that is marked as not clipable, or whose rank is beyond ``max_clips_per_vod``.

    A highlight without a rank always passes the second rule.

    Raises:
        Skipped: with the reason ``not_clipable`` or ``fan_out_capped``.
    """
    if not is_clipable:
        raise Skipped(SkipReason.NOT_CLIPABLE, "This highlight is marked as not suitable for a clip.")
    cap = policy.max_clips_per_vod
    if cap is not None and rank is not None and rank > cap:
        raise Skipped(
            SkipReason.FAN_OUT_CAPPED,
            f"Only the {cap} best highlights of a VOD become clips, and this highlight is number {rank}.",
        )


def place_window(start: float, end: float, source_seconds: float | None, policy: Policy) -> Window:
    """Return the part of a window that can be cut: inside the VOD, and no longer than ``max_seconds``.

    A longer window is trimmed by the same time at both ends, because a detector places the highlight in the
    middle. ``source_seconds`` is the length of the VOD; None: unknown.

    Raises:
        Skipped: with the reason ``window_outside_source`` or ``too_short``.
    """
    first, last = max(start, 0.0), end if source_seconds is None else min(end, source_seconds)
    if end > start and last <= first:
        vod = "" if source_seconds is None else f", but the VOD is only {clock(source_seconds)} long"
        raise Skipped(
            SkipReason.WINDOW_OUTSIDE_SOURCE,
            f"This highlight lies between {clock(start)} and {clock(end)}{vod}.",
        )
    if last - first < policy.min_seconds:
        raise too_short(policy.min_seconds, max(last - first, 0.0))
    spare = max(last - first - policy.max_seconds, 0.0) / 2
    return Window(first + spare, last - spare)


def clock(seconds: float) -> str:
    """Format a time as 1:02:03, with a minus if it is negative; 9999:59:59 at most."""
    whole = int(min(abs(seconds), LATEST_SECONDS))
    return f"{'-' if seconds < 0 else ''}{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
