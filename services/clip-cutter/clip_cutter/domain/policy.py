"""Which highlights become clips, what of them, and where clips are stored."""

from dataclasses import dataclass

from clip_shared.contracts.events import SkipReason
from clip_shared.errors import ClipsError

LATEST_SECONDS = 35_999_999
MEBIBYTE = 1024 * 1024


class Skipped(ClipsError):
    """The highlight becomes no clip. ``str()`` of it is a sentence for the streamer."""

    def __init__(self, reason: SkipReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def unreadable(why: str) -> Skipped:
    """The outcome for a source that no clip can be cut from; ``why`` completes the sentence."""
    return Skipped(SkipReason.SOURCE_UNREADABLE, f"The VOD cannot be read as a video: {why}.")


def no_video(window: "Window") -> Skipped:
    """The outcome for a window inside a VOD in which it shows nothing.

    That is the VOD's fault, so that the brake on skips counts it: a broken reader would say it of every VOD.
    """
    return Skipped(
        SkipReason.SOURCE_UNREADABLE,
        f"The VOD has no video between {clock(window.start)} and {clock(window.end)}.",
    )


def damaged(start: float, end: float) -> Skipped:
    """The outcome for a part of a VOD that nothing can be made of, in seconds of the VOD."""
    return Skipped(
        SkipReason.SOURCE_UNREADABLE,
        f"The VOD is damaged between {clock(start)} and {clock(end)}: no clip can be made of that part.",
    )


def interrupted(window: "Window") -> Skipped:
    """The outcome for a window in which the VOD's clock jumps, and nobody can say what was when."""
    return Skipped(
        SkipReason.SOURCE_UNREADABLE,
        f"The recording was interrupted between {clock(window.start)} and {clock(window.end)}:"
        " its clock jumps there.",
    )


def too_short(min_seconds: float, seconds: float) -> Skipped:
    """The outcome for a window of which the VOD has less than a clip needs."""
    return Skipped(
        SkipReason.TOO_SHORT,
        f"A clip needs at least {min_seconds:g} s, and this highlight has {seconds:.1f} s inside the VOD.",
    )


def too_large(size_bytes: int) -> Skipped:
    """The outcome for a clip that would have more bytes than the platform allows."""
    return Skipped(
        SkipReason.SOURCE_UNREADABLE,
        f"A clip of this part of the VOD would have {size_bytes // MEBIBYTE} MiB:"
        " more than this platform allows.",
    )


@dataclass(frozen=True)
class Policy:
    """Which highlights become clips. ``max_clips_per_vod``: None means all."""

    min_seconds: float
    max_seconds: float
    max_clips_per_vod: int | None


@dataclass(frozen=True)
class Window:
    """What a clip shows of its VOD."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start


def check_policy(policy: Policy, *, is_clipable: bool, rank: int | None) -> None:
    """Refuse what is not to become a clip. A highlight without a rank is never capped.

    Raises:
        Skipped: ``not_clipable`` or ``fan_out_capped``.
    """
    if not is_clipable:
        raise Skipped(SkipReason.NOT_CLIPABLE, "This highlight is marked as not suitable for a clip.")
    cap = policy.max_clips_per_vod
    if cap is not None and rank is not None and rank > cap:
        raise Skipped(
            SkipReason.FAN_OUT_CAPPED,
            f"Only the {cap} best highlights of a VOD become clips, and this one is number {rank}.",
        )


def place_window(start: float, end: float, source_seconds: float | None, policy: Policy) -> Window:
    """The window as it can be cut: inside the source, no longer than allowed.

    A window longer than ``max_seconds`` is trimmed around its middle: a detector's window closes in on
    the moment that matters from both sides.

    Raises:
        Skipped: ``window_outside_source`` or ``too_short``.
    """
    first, last = max(start, 0.0), end if source_seconds is None else min(end, source_seconds)
    if end > start and last <= first:
        vod = "" if source_seconds is None else f", but the VOD is only {clock(source_seconds)} long"
        raise Skipped(
            SkipReason.WINDOW_OUTSIDE_SOURCE,
            f"The highlight lies between {clock(start)} and {clock(end)}{vod}.",
        )
    if last - first < policy.min_seconds:
        raise too_short(policy.min_seconds, max(last - first, 0.0))
    spare = max(last - first - policy.max_seconds, 0.0) / 2
    return Window(first + spare, last - spare)


def clock(seconds: float) -> str:
    """A time for people: 1:02:03, with a minus before the VOD's start; 9999:59:59 at most."""
    whole = int(min(abs(seconds), LATEST_SECONDS))
    return f"{'-' if seconds < 0 else ''}{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
