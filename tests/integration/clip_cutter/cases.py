"""The VODs of ``tests/cases``: what each shows and says, and the right result of each window."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from clip_shared.contracts.events import SkipReason, TrackFate
from tests.integration.clip_cutter.judge import Beep, JoinPoint, NumberedFrame, VodContent

FOLDER = Path(__file__).parents[2] / "cases"
PICTURE_SECONDS = 0.1
# In MPEG-TS and FLV the first packet of AAC, which only primes the decoder, comes before the first picture.
PRIMING = 1024 / 48_000
PRIMING_44 = 1024 / 44_100
COPIED, RE_ENCODED, LEFT_OUT = TrackFate.COPIED, TrackFate.RE_ENCODED, TrackFate.LEFT_OUT


def pictures(
    *spans: tuple[int, int], start: float = 0.0, each: float = PICTURE_SECONDS
) -> list[NumberedFrame]:
    """Pictures by their first and last number, each shown when its number says."""
    return [NumberedFrame(start + n * each, n) for first, last in spans for n in range(first, last + 1)]


def beeps(seconds: Iterable[int], start: float = 0.0) -> list[Beep]:
    """The beeps of these seconds."""
    return [Beep(start + second, 500 + 40 * second) for second in seconds]


def ordinary(seconds: int, start: float = 0.0, *, seam: JoinPoint | None = None) -> VodContent:
    """Video and audio of so many whole seconds."""
    shown = pictures((0, 10 * seconds - 1), start=start)
    return VodContent(shown, beeps(range(seconds), start), start + seconds, seam=seam)


@dataclass(frozen=True)
class ExpectedClip:
    """What comes of a window.

    Args:
        video, audio: what becomes of the tracks; None: either way is right.
        video_why, audio_why, remark: words that the receipt has of it.
        start: the start of the clip exactly; None: what is on screen at the asked start, or the next picture.
        earliest_end: of a VOD that breaks off: the least that is there.
        skipped: no clip comes of it, and why: the reason, and words of the sentence.
    """

    video: TrackFate | None = None
    audio: TrackFate | None = None
    video_why: str | None = None
    audio_why: str | None = None
    remark: str | None = None
    start: float | None = None
    earliest_end: float | None = None
    skipped: tuple[SkipReason, str] | None = None


@dataclass(frozen=True)
class VodCase:
    """A VOD, what it shows and says, and its windows with what is right.

    ``has_numbers``: whether its pictures carry them. ``is_interlaced``: each picture is two fields.
    """

    content: VodContent
    windows: dict[tuple[float, float], ExpectedClip]
    has_numbers: bool = True
    is_interlaced: bool = False


def bars(seconds: int) -> VodContent:
    """Bars of colour: no numbers, no audio."""
    return VodContent(pictures((0, 10 * seconds - 1)), (), seconds)


RESTART = JoinPoint(6.0 + PRIMING, 0.0, 0.06)
# The publisher's clock stepped back by 0.2 s there: what follows is placed behind it, or over its end.
STEP_BACK = JoinPoint(6.0 + PRIMING, -0.25, 0.06)
HELD = ((0, 29), (70, 75), (101, 119))
SILENT = ExpectedClip(audio=LEFT_OUT, audio_why="no audio")
BLACK = [NumberedFrame(n / 10, 0 if 40 <= n <= 65 else n) for n in range(120)]

CASES: dict[str, VodCase] = {
    "hole-in-picture.ts": VodCase(
        VodContent(
            pictures((0, 19), (140, 169), start=PRIMING),
            beeps(range(17), PRIMING),
            17 + PRIMING,
            unclear=[(13.8, 14.1)],
        ),
        {(1.3, 16.3): ExpectedClip()},
    ),
    "hole-in-sound.ts": VodCase(
        VodContent(pictures((0, 169), start=PRIMING), beeps([0, 1, 2, 14, 15, 16], PRIMING), 17 + PRIMING),
        {(1.3, 16.3): ExpectedClip(video=COPIED, audio=RE_ENCODED, audio_why="")},
    ),
    "muted.ts": VodCase(VodContent(pictures((0, 169)), (), 17), {(5.3, 8.3): SILENT}),
    "muted-part.ts": VodCase(
        VodContent(pictures((0, 169), start=PRIMING), beeps([0, 1, 2, 3, 14, 15, 16], PRIMING), 17 + PRIMING),
        {(6.3, 9.3): SILENT},
    ),
    "ts-sound-leaves.ts": VodCase(
        VodContent(pictures((0, 119), start=PRIMING), beeps(range(6), PRIMING), 12 + PRIMING, seam=STEP_BACK),
        {(8.3, 11.3): SILENT},
    ),
    "ts-other-pids.ts": VodCase(
        ordinary(12, PRIMING, seam=STEP_BACK), {(8.3, 11.3): ExpectedClip(), (4.3, 8.3): ExpectedClip()}
    ),
    "flv-second-avc-header.flv": VodCase(
        ordinary(12, PRIMING, seam=STEP_BACK), {(8.3, 11.3): ExpectedClip()}
    ),
    "flv-second-aac-header.flv": VodCase(
        ordinary(12, PRIMING_44, seam=STEP_BACK),
        {(8.3, 11.3): ExpectedClip(), (4.5, 8.5): ExpectedClip(audio=RE_ENCODED)},
    ),
    "ts-other-rate.ts": VodCase(
        ordinary(12, PRIMING_44, seam=STEP_BACK),
        {(4.3, 8.3): ExpectedClip(audio=RE_ENCODED), (8.3, 11.3): ExpectedClip()},
    ),
    "lost-packets.ts": VodCase(
        VodContent(
            pictures((0, 119), start=PRIMING), beeps(range(12), PRIMING), 12 + PRIMING, unclear=[(4.7, 5.8)]
        ),
        {(2.3, 10.3): ExpectedClip(video=RE_ENCODED, video_why="")},
    ),
    "held-picture.mp4": VodCase(
        VodContent(pictures(*HELD), beeps(range(12)), 12),
        {(5.3, 8.3): ExpectedClip(start=5.3), (4.0, 6.5): ExpectedClip(start=4.0)},
    ),
    "held-picture.ts": VodCase(
        VodContent(pictures(*HELD, start=PRIMING), beeps(range(12), PRIMING), 12 + PRIMING),
        {(5.3, 8.3): ExpectedClip(start=5.3), (4.0, 6.5): ExpectedClip(start=4.0)},
    ),
    "ts-clock-jumps.ts": VodCase(ordinary(12, PRIMING, seam=RESTART), {(4.3, 8.3): ExpectedClip()}),
    "ts-clock-restarts.ts": VodCase(
        ordinary(12, PRIMING, seam=RESTART), {(3.3, 5.3): ExpectedClip(), (8.0, 10.0): ExpectedClip()}
    ),
    "two-edits.mp4": VodCase(
        VodContent(
            [*pictures((10, 39), start=-1.0), *pictures((70, 119), start=-4.0)],
            [*beeps(range(1, 4), -1.0), *beeps(range(7, 12), -4.0)],
            8,
        ),
        {(1.5, 5.5): ExpectedClip()},
    ),
    "fragmented-crash.mp4": VodCase(
        VodContent(pictures((0, 99)), beeps(range(9)), 10),
        {(7.0, 11.0): ExpectedClip(earliest_end=9.0, remark="")},
    ),
    "rgb.mp4": VodCase(
        bars(12), {(3.3, 6.3): ExpectedClip(video=RE_ENCODED, video_why="")}, has_numbers=False
    ),
    "hdr-pq.mp4": VodCase(
        bars(8), {(3.3, 6.3): ExpectedClip(video=RE_ENCODED, video_why="")}, has_numbers=False
    ),
    "interlaced.ts": VodCase(
        VodContent(
            pictures((0, 249), start=PRIMING, each=0.02), beeps(range(5), PRIMING), 5 + PRIMING, near=2
        ),
        {
            (1.3, 4.3): ExpectedClip(video=RE_ENCODED, video_why=""),
            (5.3, 8.3): ExpectedClip(skipped=(SkipReason.WINDOW_OUTSIDE_SOURCE, "0:00:05")),
        },
        is_interlaced=True,
    ),
    "anamorphic.mp4": VodCase(
        VodContent(pictures((0, 29), each=0.2), beeps(range(6)), 6),
        {(1.3, 4.3): ExpectedClip(), (5.3, 8.3): ExpectedClip(skipped=(SkipReason.TOO_SHORT, ""))},
    ),
    # Its encoder left the packet that primes the decoder in place.
    "gstreamer.mkv": VodCase(
        VodContent(pictures((0, 119)), beeps(range(12), PRIMING), 12),
        {
            (5.3, 8.3): ExpectedClip(video=COPIED, audio=COPIED),
            (9.5, 14.0): ExpectedClip(video=COPIED, audio=COPIED),
        },
    ),
    "black-first.mp4": VodCase(VodContent(BLACK, beeps(range(12)), 12), {(5.3, 8.3): ExpectedClip()}),
}


class CaseWindow(NamedTuple):
    """A window of a VOD."""

    name: str
    start: float
    end: float

    @property
    def case(self) -> VodCase:
        return CASES[self.name]

    @property
    def right(self) -> ExpectedClip:
        return self.case.windows[self.start, self.end]

    @property
    def path(self) -> Path:
        return FOLDER / self.name

    def __str__(self) -> str:
        return f"{self.name}-{self.start:g}-{self.end:g}"


ROWS = [CaseWindow(name, *window) for name, case in CASES.items() for window in case.windows]
CLIPS = [row for row in ROWS if row.right.skipped is None]
SKIPS = [row for row in ROWS if row.right.skipped is not None]


def row_of(name: str) -> CaseWindow:
    """The first window of a VOD."""
    return next(row for row in ROWS if row.name == name)


# Red, green, blue, magenta, cyan, yellow, white, grey: which of red, green and blue each bar has.
BARS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1), (1, 1, 0), (1, 1, 1))
GREY, FULL = 128, 255
BRIGHT, NEUTRAL = 150, 12

Colour = tuple[int, int, int]


def apart(one: Colour, other: Colour) -> int:
    """How far two colours are apart."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def bar_problems(name: str, found: Sequence[Colour], tolerance: int) -> Iterator[str]:
    """What is wrong with the bars of ``rgb.mp4`` or ``hdr-pq.mp4``.

    The former are known. How bright tone mapping makes the latter is a matter of taste, but each is bright
    and has only a trace of what its colour does not have: without tone mapping all are greyish.
    """
    exact = [(red * FULL, green * FULL, blue * FULL) for red, green, blue in BARS] + [(GREY, GREY, GREY)]
    for bar, colour, right in zip((*BARS, BARS[-1]), found, exact, strict=True):
        if name == "rgb.mp4" and apart(colour, right) > tolerance:
            yield f"{colour} instead of {right}"
        if name == "hdr-pq.mp4" and right[0] != GREY:
            lit = min(level for level, has in zip(colour, bar, strict=True) if has)
            dark = max((level for level, has in zip(colour, bar, strict=True) if not has), default=0)
            if lit < BRIGHT or dark > lit / 4 or (all(bar) and max(colour) - lit > NEUTRAL):
                yield f"{colour} instead of about {right}"
