"""What a clip should show and say, and how what was seen and heard of it differs from that.

A VOD is known by when each picture appears (its number), and when each beep begins (its pitch). Of a clip the
same is seen by decoding it, or by playing it. Each ``*_problems`` returns sentences; a good clip has none.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

HERTZ_APART = 12.0
# A beep that the start or the end of a clip cuts into may be heard, or not.
EDGE_SECONDS = 0.1
# Where VODs were joined a beep may lose its beginning; behind, audio is in time within half a packet.
JOINT_SECONDS, JOINED_SECONDS = 0.05, 0.012
UNCLEAR = -1


class NumberedFrame(NamedTuple):
    """A picture's number, and when it appears. It stays until the next one."""

    time: float
    number: int


class Beep(NamedTuple):
    """When a beep begins, and its pitch."""

    time: float
    hertz: float


class HeardBeep(NamedTuple):
    """A beep in a player: when in the clip, its pitch, and the number of the picture on screen then."""

    time: float
    hertz: float
    number: int | None


@dataclass(frozen=True)
class JoinPoint:
    """Where two VODs were joined: what follows may lie ``earliest`` to ``latest`` seconds late.

    Players differ in where they put it. In the clip, video and audio of each side fit together all the same.
    """

    time: float
    earliest: float
    latest: float


@dataclass(frozen=True)
class VodContent:
    """What a VOD shows and says, in seconds of its line.

    Args:
        pictures, beeps: in order.
        end: where its video ends.
        unclear: spans in which nobody can say which picture is to be seen.
        seam: see :class:`JoinPoint`.
        joint: where the seam was put. A beep there may lose its beginning.
        near: how far a picture's number may be from the right one.
    """

    pictures: Sequence[NumberedFrame]
    beeps: Sequence[Beep]
    end: float
    unclear: Sequence[tuple[float, float]] = ()
    seam: JoinPoint | None = None
    joint: float | None = None
    near: int = 0

    def shown(self, time: float) -> int:
        """Return the number of the picture on screen at a time; UNCLEAR where that cannot be said."""
        if any(start <= time < end for start, end in self.unclear):
            return UNCLEAR
        place = bisect_right(self.pictures, time, key=lambda picture: picture.time) - 1
        return self.pictures[max(place, 0)].number

    def shown_between(self, start: float, end: float) -> set[int]:
        """Return the numbers of all pictures that are on screen in a span."""
        return {self.shown(start), *(each.number for each in self.pictures if start < each.time <= end)}

    def has(self, number: int, start: float, end: float) -> bool:
        """Whether a picture may be seen some time in a span."""
        numbers = self.shown_between(start, end)
        unclear = any(first < end and start < last for first, last in self.unclear)
        return unclear or any(abs(number - each) <= self.near for each in numbers)

    def looseness(self, time: float) -> float:
        """Return how far a beep may be from its place because of a seam."""
        if self.joint is None or time < self.joint - JOINT_SECONDS:
            return 0.0
        return JOINT_SECONDS if time < self.joint + JOINT_SECONDS else JOINED_SECONDS

    def within(self, start: float, end: float) -> "VodContent":
        """Return what a clip of it shows and says, in seconds of the clip's line."""
        first = NumberedFrame(start, self.shown(start))
        pictures = [first, *(each for each in self.pictures if start < each.time < end)]
        return replace(
            self,
            pictures=[NumberedFrame(each.time - start, each.number) for each in pictures],
            beeps=[Beep(each.time - start, each.hertz) for each in self.beeps if start - 1 < each.time < end],
            end=min(self.end, end) - start,
            unclear=[(first - start, last - start) for first, last in self.unclear],
            seam=self.seam and replace(self.seam, time=self.seam.time - start),
        )

    def joined(self, seen: Sequence[NumberedFrame]) -> "VodContent":
        """Return it with what follows its seam in the place that a clip has chosen, as far as it may."""
        seam = self.seam
        if seam is None:
            return self
        placed = {picture.number: picture.time for picture in reversed(seen)}
        late = [
            placed[each.number] - each.time
            for each in self.pictures
            if each.time > seam.time and placed.get(each.number, 0.0) > 0
        ]
        shift = min(max(median(late or [0.0]), seam.earliest), seam.latest)
        edge = (seam.time + seam.earliest, seam.time + seam.latest)
        moved = [each.time + (shift if each.time >= seam.time else 0.0) for each in self.pictures]
        pictures = sorted(
            NumberedFrame(time, each.number) for time, each in zip(moved, self.pictures, strict=True)
        )
        beeps = [
            Beep(each.time + (shift if each.time >= seam.time else 0.0), each.hertz) for each in self.beeps
        ]
        return replace(
            self,
            pictures=pictures,
            beeps=beeps,
            unclear=[*self.unclear, edge],
            seam=None,
            joint=seam.time + shift,
        )


def beep_problems(
    right: VodContent, heard: Sequence[Beep], seconds: float, tolerance: float
) -> Iterator[str]:
    """Say which beeps are not heard when they should be, and which should not be heard at all."""
    left = list(heard)
    for beep in right.beeps:
        if beep.time > seconds - EDGE_SECONDS:
            continue
        exactly = max(tolerance, right.looseness(beep.time))
        found = [
            each
            for each in left
            if abs(each.time - beep.time) < exactly and abs(each.hertz - beep.hertz) < HERTZ_APART
        ]
        left = [each for each in left if each not in found]
        if not found and beep.time > EDGE_SECONDS:
            yield f"no beep of {beep.hertz:.0f} Hz at {beep.time:.3f} s"
    for each in left:
        if EDGE_SECONDS < each.time < seconds - EDGE_SECONDS:
            yield f"a beep of {each.hertz:.0f} Hz at {each.time:.3f} s"


def picture_problems(
    right: VodContent, seen: Sequence[NumberedFrame], seconds: float, tolerance: float
) -> Iterator[str]:
    """Say where in a clip the wrong picture is on screen for longer than the tolerance."""
    if not seen:
        yield "no picture"
        return
    if seen[0].time > tolerance:
        yield f"the first picture at {seen[0].time:.3f} s"
    clip = VodContent(seen, (), seconds)
    edges = sorted({0.0, *(each.time for each in (*seen, *right.pictures))})
    edges = [each for each in edges if 0 <= each < seconds]
    wrong: tuple[float, float, int, int] | None = None
    for start, end in zip(edges, [*edges[1:], seconds], strict=True):
        middle = (start + end) / 2
        expected, found = right.shown(middle), clip.shown(middle)
        if expected == UNCLEAR or abs(expected - found) <= right.near:
            yield from _say(wrong, tolerance)
            wrong = None
        else:
            wrong = (wrong[0], end, wrong[2], wrong[3]) if wrong else (start, end, found, expected)
    yield from _say(wrong, tolerance)


def _say(wrong: tuple[float, float, int, int] | None, tolerance: float) -> Iterator[str]:
    if wrong and wrong[1] - wrong[0] > tolerance:
        start, end, found, expected = wrong
        yield f"from {start:.3f} to {end:.3f} s picture {found} … instead of {expected} …"


# How late a browser may say what it shows, and how late it may show it on a busy machine.
SAID_SECONDS, SHOWN_SECONDS = 0.15, 0.5
HEARD_SECONDS = 0.1
STEP_SECONDS = 0.1


def playing_problems(
    right: VodContent, seen: Sequence[NumberedFrame], heard: Sequence[HeardBeep], seconds: float
) -> Iterator[str]:
    """Say what a player of a clip shows or says at a wrong moment: every picture, and no standstill."""
    for time, number in seen:
        if not right.has(number, time - SAID_SECONDS, time + SAID_SECONDS):
            yield f"at {time:.3f} s picture {number} instead of {right.shown(time)}"
    clip = VodContent(seen, (), seconds)
    for step in range(int(seconds / STEP_SECONDS)):
        time = step * STEP_SECONDS
        if seen and not right.has(clip.shown(time), time - SHOWN_SECONDS, time + SAID_SECONDS):
            yield f"still picture {clip.shown(time)} at {time:.1f} s instead of {right.shown(time)}"
    yield from beep_problems(right, [Beep(*each[:2]) for each in heard], seconds, HEARD_SECONDS)
    for time, hertz, on_screen in heard:
        if on_screen is not None and not right.has(on_screen, time - SAID_SECONDS, time + SAID_SECONDS):
            yield f"picture {on_screen} while {hertz:.0f} Hz is heard at {time:.3f} s"
