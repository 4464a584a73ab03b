"""Choose the windows of a VOD that the demo cuts, and the retention of its clips. Pure functions."""

from dataclasses import dataclass

USUAL_SECONDS = 10.0
# The cutter's default of MIN_CLIP_SECONDS.
SHORTEST_SECONDS = 1.0
# Before a clip expires, the demo lists, downloads, probes and compares two clips: two or three seconds on a
# small machine.
_RETENTION_SECONDS = 12.0
# A re-encode can take several times the clip's length, and the first clip waits for the second.
_REENCODE_FACTOR = 4.0
_COPIED_VIDEO, _COPIED_PIXELS = "h264", {"yuv420p", "yuvj420p"}


class BadWindow(Exception):
    """The window is outside the VOD, or too short. The message has the VOD's length."""


@dataclass(frozen=True)
class DemoWindow:
    """A window of a VOD, in seconds from its start."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """The window's length."""
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.start:g} s to {self.end:g} s"


def choose_windows(
    vod_seconds: float, start: float | None, end: float | None
) -> tuple[DemoWindow, DemoWindow]:
    """Choose two windows of a VOD that lasts ``vod_seconds``.

    The first window has the given start and end; a missing one is chosen. The second window has the same
    length and is after the first; where there is no room, before it; else it is the same window.

    Raises:
        BadWindow: the first window is not inside the VOD, or too short to be cut.
    """
    first = _first(vod_seconds, start, end)
    if first.start < 0 or first.end > vod_seconds or first.seconds < SHORTEST_SECONDS:
        raise BadWindow(
            f"{first} is not a window of at least {SHORTEST_SECONDS:g} s inside the VOD,"
            f" which lasts {vod_seconds:.3f} s; choose another --start and --end"
        )
    return first, _second(vod_seconds, first)


def _first(vod_seconds: float, start: float | None, end: float | None) -> DemoWindow:
    length = min(USUAL_SECONDS, vod_seconds / 4)
    if start is None and end is None:
        start = round(vod_seconds / 5, 1)
        # Not at full seconds: keyframes are often there, where a cut is too easy to show anything.
        start += 0.5 if start == int(start) and start + 0.5 + length <= vod_seconds else 0.0
    elif start is None:
        start = max(0.0, (end or 0.0) - length)
    return DemoWindow(start, end if end is not None else min(start + length, vod_seconds))


def _second(vod_seconds: float, first: DemoWindow) -> DemoWindow:
    room_after, room_before = vod_seconds - first.end, first.start
    if room_after >= first.seconds:
        start = first.end + (room_after - first.seconds) / 2
    elif room_before >= first.seconds:
        start = (room_before - first.seconds) / 2
    else:
        return first
    # Rounded down, so that the window stays inside the VOD.
    start = int(start * 1000) / 1000
    return DemoWindow(start, start + first.seconds)


def retention_seconds(video: str, pixels: str, window: DemoWindow) -> float:
    """Return a retention for the demo's clips: short, but longer than the demo needs to compare them."""
    is_copied = video == _COPIED_VIDEO and pixels in _COPIED_PIXELS
    return _RETENTION_SECONDS + (0.0 if is_copied else _REENCODE_FACTOR * window.seconds)
