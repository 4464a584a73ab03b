"""The targets of the cutter's figures, and its figures before it wrote MP4 itself."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from tests.bench.cases import LONG
from tests.bench.report import CUTTER, CaseFigures, long_over_short
from tests.bench.run import MEBIBYTE, Bound, Spread

# The cutter's time divided by the time of bare ffmpeg and upload: the target, and the figure of 2026-11-23.
RATIOS = {
    "copy 720p60 10 min 1 s": (1.2, 2.17),
    "copy 720p60 10 min 10 s": (0.9, 1.58),
    "copy 720p60 10 min 30 s": (0.8, 1.40),
    "copy 720p60 10 min 60 s": (0.8, 1.47),
    "copy 720p60 10 min 120 s": (0.8, 1.38),
    "copy 1080p60 10 min 1 s": (1.2, 2.89),
    "copy 1080p60 10 min 10 s": (0.9, 1.64),
    "copy 1080p60 10 min 30 s": (0.8, 1.46),
    "copy 1080p60 10 min 60 s": (0.8, 1.36),
    "copy 1080p60 10 min 120 s": (0.8, 1.25),
    "copy 720p60 10 min MPEG-TS 30 s": (0.9, 1.34),
    "copy 720p60 10 min FLV 30 s": (0.8, 0.82),
    "copy 720p60 10 min 30 s, first": (1.0, 2.00),
    "copy 720p60 6 h 30 s, first": (0.5, 0.95),
    "exact 720p60 10 min 30 s": (1.03, 1.03),
}
# The same for CPU time.
CPU_RATIOS = {"copy 720p60 10 min 30 s": (1.0, 1.97), "copy 1080p60 10 min 30 s": (1.0, 2.00)}
LONG_OVER_SHORT = {"copy 720p60 30 s": (1.3, 1.05), "copy 720p60 30 s, first": (1.3, 1.72)}
FASTER_THAN_MOVIEPY = {"copy 720p60 10 min 30 s": (50, 198)}
FAR_SECONDS = 2.0
PEAK_RSS_MEBIBYTES = (110, 109)


def targets(results: Sequence[CaseFigures]) -> list[Bound]:
    """Return the targets of the cases that were measured, and of the worker's memory."""
    memory = max((each.peak_rss_bytes for each in results), default=None)
    bound, before = PEAK_RSS_MEBIBYTES
    return [
        *_of(results, RATIOS, "cutter ÷ ffmpeg + upload", lambda each: each.ratio),
        *_of(results, CPU_RATIOS, "CPU, cutter ÷ ffmpeg + upload", lambda each: each.cpu_ratio),
        *_of_far(results),
        *_of_long(results),
        *_of(
            results,
            FASTER_THAN_MOVIEPY,
            "MoviePy ÷ cutter",
            lambda each: each.times_faster_than_moviepy,
            at_least=True,
        ),
        Bound("the worker's peak RSS, MiB", bound, memory / MEBIBYTE if memory else None, before=before),
    ]


def _of(
    results: Sequence[CaseFigures],
    bounds: Mapping[str, tuple[float, float]],
    what: str,
    figure: Callable[[CaseFigures], Spread | None],
    *,
    at_least: bool = False,
) -> Iterator[Bound]:
    for each in results:
        if (spread := figure(each)) is not None and each.case.name in bounds:
            bound, before = bounds[each.case.name]
            yield Bound(f"{each.case.name}, {what}", bound, spread.median, at_least, before)


def _of_far(results: Sequence[CaseFigures]) -> Iterator[Bound]:
    for each in results:
        if each.case.far:
            yield Bound(f"{each.case.name}, seconds", FAR_SECONDS, each.seconds(CUTTER))


def _of_long(results: Sequence[CaseFigures]) -> Iterator[Bound]:
    for name, spread in long_over_short(results).items():
        if name in LONG_OVER_SHORT:
            bound, before = LONG_OVER_SHORT[name]
            yield Bound(f"{name}, from {LONG} ÷ from 10 min", bound, spread.median, before=before)
