"""Which parts of a recording the demo cuts, and how long it lets the clips live. Pure."""

from dataclasses import dataclass

USUAL_SECONDS = 10.0
# As the cutter has it by default.
SHORTEST_SECONDS = 1.0
# Between the moment that a clip is available and the one that it expires, the demo lists, fetches, probes and
# compares two clips: two or three seconds on a small machine.
_RETENTION_SECONDS = 12.0
# A re-encode can take a few times as long as the clip plays, and the first clip waits for the second.
_REENCODE_FACTOR = 4.0
_COPIED_VIDEO, _COPIED_PIXELS = "h264", {"yuv420p", "yuvj420p"}


class BadWindow(Exception):
    """The recording has no such part. The message says what it has."""


@dataclass(frozen=True)
class DemoWindow:
    """A part of a recording, in seconds from its start."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.start:g} s to {self.end:g} s"


def choose_windows(recorded: float, start: float | None, end: float | None) -> tuple[DemoWindow, DemoWindow]:
    """Two windows of a recording that lasts ``recorded`` seconds.

    The first is the one asked for, as far as it was asked for; the second is as long, and elsewhere if there
    is room: after it, else before it, else in the same place.

    Raises:
        BadWindow: what is asked for is not in the recording, or too short to be cut.
    """
    first = _first(recorded, start, end)
    if first.start < 0 or first.end > recorded or first.seconds < SHORTEST_SECONDS:
        raise BadWindow(
            f"{first} is not a part of the recording of at least {SHORTEST_SECONDS:g} s;"
            f" it has {recorded:.3f} s"
        )
    return first, _second(recorded, first)


def _first(recorded: float, start: float | None, end: float | None) -> DemoWindow:
    length = min(USUAL_SECONDS, recorded / 4)
    if start is None and end is None:
        start = round(recorded / 5, 1)
        # Not at full seconds, where keyframes like to be: those could be cut by anybody.
        start += 0.5 if start == int(start) and start + 0.5 + length <= recorded else 0.0
    elif start is None:
        start = max(0.0, (end or 0.0) - length)
    return DemoWindow(start, end if end is not None else min(start + length, recorded))


def _second(recorded: float, first: DemoWindow) -> DemoWindow:
    room_after, room_before = recorded - first.end, first.start
    if room_after >= first.seconds:
        start = first.end + (room_after - first.seconds) / 2
    elif room_before >= first.seconds:
        start = (room_before - first.seconds) / 2
    else:
        return first
    # Rounded down, so that it stays inside.
    start = int(start * 1000) / 1000
    return DemoWindow(start, start + first.seconds)


def retention_seconds(video: str, pixels: str, window: DemoWindow) -> float:
    """How long the clips of a demo live: short, but longer than what has to be done with them."""
    is_copied = video == _COPIED_VIDEO and pixels in _COPIED_PIXELS
    return _RETENTION_SECONDS + (0.0 if is_copied else _REENCODE_FACTOR * window.seconds)
