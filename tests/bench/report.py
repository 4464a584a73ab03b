"""Make the figures, the table and the JSON from the cutter's runs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from tests.bench.cases import LONG, SHORT, BenchmarkCase
from tests.bench.run import About, Spread, mebibytes, shown, table

CUTTER, BARE, MOVIEPY = "cutter", "ffmpeg", "moviepy"
HEADER = (
    "mode", "picture", "source", "clip", "runs", "cutter", "ffmpeg + upload", "ratio (least, most)",
    "with the bus", "CPU ratio", "faster than MoviePy", "clips/s per core", "peak RSS", "pulled ÷ stored",
)  # fmt: skip


@dataclass(frozen=True)
class CutRun:
    """One clip by one contender. The cutter's ``seconds`` count from the event's arrival.

    ``seconds_with_bus`` count from when it was published.
    """

    seconds: float
    cpu_seconds: float
    seconds_with_bus: float | None = None
    peak_rss_bytes: int | None = None


@dataclass(frozen=True)
class Traffic:
    """The bytes that a job of the cutter read and wrote."""

    pulled_bytes: int
    stored_bytes: int


@dataclass(frozen=True)
class CaseFigures:
    """A case and all its runs; the n-th run of each contender belongs to the n-th round."""

    case: BenchmarkCase
    runs: Mapping[str, Sequence[CutRun]]
    traffic: Traffic

    def seconds(self, contender: str) -> float | None:
        """Return the median of a contender's seconds."""
        found = Spread.of(run.seconds for run in self.runs[contender])
        return found.median if found else None

    @property
    def ratio(self) -> Spread | None:
        """The cutter's time divided by bare ffmpeg's, pair by pair."""
        return self._over_bare(lambda run: run.seconds)

    @property
    def ratio_with_bus(self) -> Spread | None:
        """The same from when the event was published."""
        return self._over_bare(lambda run: run.seconds_with_bus or run.seconds)

    @property
    def cpu_ratio(self) -> Spread | None:
        """The cutter's CPU time divided by bare ffmpeg's, pair by pair."""
        return Spread.of(ours.cpu_seconds / bare.cpu_seconds for ours, bare in self._pairs())

    @property
    def times_faster_than_moviepy(self) -> Spread | None:
        """MoviePy's time divided by the cutter's, pair by pair."""
        pairs = zip(self.runs[CUTTER], self.runs[MOVIEPY], strict=False)
        return Spread.of(moviepy.seconds / ours.seconds for ours, moviepy in pairs)

    @property
    def clips_per_second_and_core(self) -> float:
        """The number of clips for a second of CPU time."""
        return 1 / median(run.cpu_seconds for run in self.runs[CUTTER])

    @property
    def peak_rss_bytes(self) -> int:
        """The peak of the worker's resident memory, without ffmpeg, in bytes."""
        return max(run.peak_rss_bytes or 0 for run in self.runs[CUTTER])

    @property
    def pulled_per_stored(self) -> float:
        """The bytes that were read for each stored byte."""
        return self.traffic.pulled_bytes / self.traffic.stored_bytes

    def _over_bare(self, seconds: Any) -> Spread | None:
        return Spread.of(seconds(ours) / bare.seconds for ours, bare in self._pairs())

    def _pairs(self) -> Sequence[tuple[CutRun, CutRun]]:
        """Return both runs of each round; empty when bare ffmpeg was not measured."""
        return [] if self.case.far else list(zip(self.runs[CUTTER], self.runs[BARE], strict=True))


def long_over_short(results: Sequence[CaseFigures]) -> dict[str, Spread]:
    """Return the cost of a clip of the long VOD divided by the same clip of the short one, round by round."""
    found = {}
    for result in results:
        twin = next((each for each in results if _is_twin(each.case, result.case)), None)
        if twin is not None:
            pairs = zip(result.runs[CUTTER], twin.runs[CUTTER], strict=False)
            spread = Spread.of(long.seconds / short.seconds for long, short in pairs)
            if spread is not None:
                found[result.case.name.replace(f" {LONG}", "")] = spread
    return found


def _is_twin(short: BenchmarkCase, long: BenchmarkCase) -> bool:
    same = replace(short, source=LONG, moviepy=long.moviepy) == long
    return same and (short.source, long.source) == (SHORT, LONG)


def summary(results: Sequence[CaseFigures], about: About) -> str:
    """Return the text for the documentation: command, machine, figures, and cost by the VOD's length."""
    long = ", ".join(f"{name} {shown(spread, 2)}" for name, spread in long_over_short(results).items())
    return "\n\n".join(
        [
            about.sentence(),
            table(HEADER, *map(_row, results), texts=4),
            *([f"6 hours ÷ 10 minutes, the cutter's time: {long}."] if long else []),
        ]
    )


def _row(result: CaseFigures) -> tuple[str, ...]:
    case = result.case
    moviepy = result.times_faster_than_moviepy
    return (
        *(str(case.mode), case.picture, case.source, case.clip),
        str(len(result.runs[CUTTER])),
        *(_seconds(result.seconds(CUTTER)), _seconds(result.seconds(BARE))),
        *(shown(result.ratio, 2), _median(result.ratio_with_bus), _median(result.cpu_ratio)),
        "" if moviepy is None else f"{moviepy.median:.0f} times",
        f"{result.clips_per_second_and_core:.2f}",
        mebibytes(result.peak_rss_bytes),
        f"{result.pulled_per_stored:.2f}",
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


def _median(spread: Spread | None) -> str:
    return "" if spread is None else f"{spread.median:.2f}"


def as_dict(results: Sequence[CaseFigures]) -> dict[str, Any]:
    """Return every run and the figures of the table, for the JSON."""
    cases = [
        {
            "case": asdict(result.case),
            "runs": {name: [asdict(run) for run in runs] for name, runs in result.runs.items()},
            "traffic": asdict(result.traffic),
            "ratio": _maybe(result.ratio),
            "ratio_with_bus": _maybe(result.ratio_with_bus),
            "cpu_ratio": _maybe(result.cpu_ratio),
            "times_faster_than_moviepy": _maybe(result.times_faster_than_moviepy),
            "clips_per_second_and_core": result.clips_per_second_and_core,
            "peak_rss_bytes": result.peak_rss_bytes,
            "pulled_per_stored": result.pulled_per_stored,
        }
        for result in results
    ]
    long = {name: asdict(spread) for name, spread in long_over_short(results).items()}
    return {"cases": cases, "long_over_short": long}


def _maybe(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else asdict(spread)
