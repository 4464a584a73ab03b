"""Run the fuzz tests: ``make fuzz [SECONDS=600] [SEED=n] [ARGS="--only flv --number 17"]``."""

import argparse
import logging
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom

import structlog

from tests.fuzz import readers
from tests.fuzz.mutations import MutatedFile, mutate
from tests.fuzz.pipeline import REFUSALS, CutterRig, opened_cutter_rig
from tests.fuzz.readers import Reader
from tests.fuzz.seeds import Seed, Seeds, make_seeds
from tests.fuzz.watch import Hang, ResourceWatch, deadline

FAILURES = Path(".local/fuzz")
MAX_FAILURES = 5  # of a target
MAX_REASON = 80
UNCHANGED = 0.02  # share of inputs without a mutation: they show that the harness cuts clips

Run = Callable[[Random, Seed, MutatedFile], None]


@dataclass(frozen=True)
class FuzzTarget:
    """A reader, or the whole cutter, and the files to mutate for it.

    Args:
        name: chooses the target with ``--only``.
        run: reads an input; raises one of ``REFUSALS`` if the input is refused.
        seeds: the files to mutate.
        share: share of the time, relative to the other targets.
        seconds, mebibytes: limits for an input.
    """

    name: str
    run: Run
    seeds: Sequence[Seed]
    share: float
    seconds: float = 5.0
    mebibytes: int = 64


@dataclass
class FuzzResult:
    """Counts of a target's inputs."""

    inputs: int = 0
    slowest: tuple[float, int] = 0.0, 0
    refusals: Counter[str] = field(default_factory=Counter)
    failures: int = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all targets; return 1 if any target failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument(
        "--seed",
        type=int,
        default=SystemRandom().randrange(10**6),
        help="seed of the run; repeats an earlier run",
    )
    parser.add_argument("--only", default="", help="targets, separated by commas")
    parser.add_argument("--number", type=int, help="run only the input with this number")
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, opened_cutter_rig(Path(folder)) as rig:
        _say(f"seed {options.seed}")
        targets = _targets(make_seeds(Path(folder)), rig)
        chosen = [
            each for each in targets if each.name in (options.only.split(",") if options.only else each.name)
        ]
        shares = sum(each.share for each in chosen)
        results = [
            try_target(each, options.seed, options.seconds * each.share / shares, options.number)
            for each in chosen
        ]
    failed = sum(result.failures > 0 for result in results)
    _say(f"{len(chosen) - failed} passed, {failed} failed")
    return int(failed > 0)


def _targets(seeds: Seeds, rig: CutterRig) -> list[FuzzTarget]:
    mp4, ts, flv = seeds.having(".mp4"), seeds.having(".ts"), seeds.having(".flv")
    return [
        FuzzTarget("avc", _alone(readers.read_avc), seeds.records, 0.03),
        FuzzTarget("annex-b", _alone(readers.read_annex_b), seeds.byte_streams, 0.02),
        FuzzTarget("aac", _alone(readers.read_aac), seeds.configurations, 0.02),
        FuzzTarget("adts", _alone(readers.read_adts), seeds.adts, 0.02),
        FuzzTarget("flv", _alone(readers.read_flv), flv, 0.08),
        FuzzTarget("ts", _alone(readers.read_transport_stream), ts, 0.1),
        FuzzTarget("index", _alone(readers.read_index), mp4, 0.1),
        FuzzTarget("fragments", _alone(readers.read_fragments), mp4, 0.08),
        FuzzTarget("read", rig.read, [*mp4, *ts, *flv], 0.25, seconds=20),
        FuzzTarget("cut", rig.cut, seeds.files, 0.3, seconds=90),
    ]


def _alone(reader: Reader) -> Run:
    return lambda random, _, made: reader(random, made.data)


def try_target(target: FuzzTarget, seed: int, seconds: float, number: int | None = None) -> FuzzResult:
    """Run inputs for some seconds, or only the input with a number."""
    result, watch, until = FuzzResult(), ResourceWatch(target.mebibytes), time.monotonic() + seconds
    for place in _numbers(number, until):
        if result.failures == MAX_FAILURES:
            break
        _try_input(target, seed, place, watch, result)
    _say(
        f"{target.name}: {result.inputs} inputs, {result.failures} failed;"
        f" the slowest took {result.slowest[0]:.2f} s (number {result.slowest[1]})"
    )
    for reason, count in result.refusals.most_common(8):
        _say(f"  {count:7} {reason}")
    return result


def _numbers(number: int | None, until: float) -> Iterator[int]:
    """Yield the numbers of the inputs: the given number, or all numbers until the time is over."""
    place = 0 if number is None else number
    while number is None or place == number:
        yield place
        place += 1
        if time.monotonic() > until:
            break


def _try_input(target: FuzzTarget, seed: int, number: int, watch: ResourceWatch, result: FuzzResult) -> None:
    """Make an input from the seed and its number, and run it."""
    random = Random(f"{seed} {target.name} {number}")  # noqa: S311 - to be repeated
    chosen = random.choice(target.seeds)
    others = [each.data for each in target.seeds]
    made = (
        MutatedFile(chosen.data)
        if random.random() < UNCHANGED
        else mutate(random, chosen.data, chosen.suffix, others)
    )
    start = time.monotonic()
    try:
        with deadline(target.seconds):
            target.run(random, chosen, made)
        result.refusals["read"] += 1
    except REFUSALS as refusal:
        result.refusals[f"{type(refusal).__name__}: {refusal}"[:MAX_REASON]] += 1
    except (Exception, Hang):  # noqa: BLE001 - the failures that the fuzz tests look for
        result.failures += 1
        _tell(target, seed, number, chosen, made)
    try:
        watch.check()
    except AssertionError:
        result.failures += 1
        _tell(target, seed, number, chosen, made)
    result.inputs += 1
    result.slowest = max(result.slowest, (time.monotonic() - start, number))


def _tell(target: FuzzTarget, seed: int, number: int, chosen: Seed, made: MutatedFile) -> None:
    """Print what failed and the command that repeats it; keep the file."""
    FAILURES.mkdir(parents=True, exist_ok=True)
    path = FAILURES / f"{target.name}-{seed}-{number}{chosen.suffix}"
    path.write_bytes(made.data)
    _say(f"FAILED {target.name} on {chosen.name}: {', '.join(made.changes) or 'unchanged'}; kept as {path}")
    _say(f'again: make fuzz SEED={seed} ARGS="--only {target.name} --number {number}"')
    _say(traceback.format_exc(limit=-8))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
