"""The cutter's benchmark: ``make bench-cutter``.

Contenders take turns within each round, and the first one changes from round to round, so that other load on
the machine affects all of them equally. Before the timed runs of a clip, other runs warm the caches and count
the bytes that are read. An interrupted run keeps the figures of its finished rounds.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clip_cutter.domain.policy import Window
from clip_shared.bus.admin import create_topics
from clip_shared.bus.settings import KafkaSettings
from clip_shared.storage import s3_client
from local_stack.servers.servers import temporary_servers
from local_stack.stack import SOURCE_BUCKET
from tests.bench import report, traced
from tests.bench.cases import FRAGMENTED, SOURCE_SECONDS, SUFFIXES, BenchmarkCase, full, quick
from tests.bench.contenders import COUNTED, DIRECT, FAR, NEW, ClipToCut, CutterProcess, Rivals
from tests.bench.plot import draw
from tests.bench.proxy import CountingProxy
from tests.bench.report import BARE, CUTTER, MOVIEPY, CaseFigures, CutRun, Traffic
from tests.bench.run import FIGURES, About, publish, say, targets_table
from tests.bench.sources import LOOP_SECONDS, encode_loop, lengthen, move_to_storage
from tests.bench.targets import targets

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Midway between two keyframes, like an average highlight, and on the same frames of every VOD.
START_SHARE, START_OFFSET = 0.5, 1.0
FAR_SECONDS = 0.02  # added to each request to a distant storage


@dataclass
class CaseInProgress:
    """A case during the benchmark: the clip, bare ffmpeg's command, and the figures so far."""

    case: BenchmarkCase
    clip: ClipToCut
    command: list[str]
    traffic: Traffic
    profile: str = ""
    runs: dict[str, list[CutRun]] = field(default_factory=lambda: {CUTTER: [], BARE: [], MOVIEPY: []})

    def result(self) -> CaseFigures:
        """The figures of the case."""
        return CaseFigures(self.case, self.runs, self.traffic)


def main(
    *,
    smoke: Annotated[
        bool, typer.Option("--quick", help="Run for less than a minute, and do not write the documentation.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--every", help="Also re-encode clips of 60 and 120 s, in 15 more minutes.")
    ] = False,
    moviepy: Annotated[bool, typer.Option(help="Also measure MoviePy, in one or two more minutes.")] = True,
    only: Annotated[
        str,
        typer.Option(
            help="Only clips with this text in their name, as 'exact 720p60'; writes no documentation."
        ),
    ] = "",
    rounds: Annotated[
        int, typer.Option(min=0, max=len(NEW), help="Rounds of each clip; 0: the default.")
    ] = 0,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Show the time of each step of the jobs; writes no documentation."),
    ] = False,
) -> None:
    """Measure the cutter against bare ffmpeg and MoviePy, side by side."""
    about = About("cutter")
    cases = quick(moviepy=moviepy) if smoke else full(moviepy=moviepy, every=every)
    cases = [replace(case, rounds=rounds or case.rounds) for case in cases if only in case.name]
    if not cases:
        raise typer.BadParameter(f"no clip has {only!r} in its name", param_hint="--only")
    entries: list[CaseInProgress] = []
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            asyncio.run(_measure(cases, Path(folder), entries, profile=profile))
    finally:
        results = [entry.result() for entry in entries if entry.runs[CUTTER]]
        figures = f"{report.summary(results, about)}\n\n{targets_table(targets(results))}"
        typer.echo(figures)
        for entry in entries:
            if entry.profile:
                typer.echo(f"\n{entry.case.name}, step by step:\n\n{entry.profile}")
        if results and not (smoke or only or profile):
            publish(about, figures, report.as_dict(results))
            draw(results, FIGURES / "cutter.png")


async def _measure(
    cases: Sequence[BenchmarkCase], folder: Path, entries: list[CaseInProgress], *, profile: bool
) -> None:
    with temporary_servers() as servers:
        addresses = servers.addresses
        bus = KafkaSettings(kafka_bootstrap_servers=addresses.kafka_bootstrap_servers)
        await create_topics(bus, replication_factor=1)
        s3 = s3_client(
            endpoint=addresses.s3_endpoint_url,
            region=addresses.s3_region,
            access_key=addresses.s3_access_key,
            secret_key=addresses.s3_secret_key,
            read_timeout_seconds=120,
        )
        await asyncio.to_thread(_store_sources, cases, s3, folder)
        rivals = Rivals(s3, folder)
        proxies = (
            CountingProxy(addresses.s3_endpoint_url),
            CountingProxy(addresses.s3_endpoint_url, delay_seconds=FAR_SECONDS),
        )
        for mode, group in groupby(cases, key=lambda case: case.mode):
            async with proxies[0].running(), proxies[1].running():
                endpoints = proxies[0].endpoint, proxies[1].endpoint
                async with CutterProcess.running(addresses, *endpoints, mode) as cutter:
                    these = [await _prepare(case, cutter, rivals, proxies[0]) for case in group]
                    entries += these
                    await _run_rounds(these, cutter, rivals)
                for entry in these if profile else ():
                    trace = folder / "trace"
                    async with CutterProcess.running(addresses, *endpoints, mode, trace=trace) as cutter:
                        await _profile(entry, cutter, trace)


async def _profile(entry: CaseInProgress, cutter: CutterProcess, trace: Path) -> None:
    """Cut a clip as often as before, with the time of each step."""
    say(f"profiling: {entry.case.name}")
    await cutter.cut(_opening(entry.clip))  # loads modules and opens connections
    if not entry.case.first:
        await cutter.cut(entry.clip)
    traced.forget(trace)
    for number in range(entry.case.rounds):
        await cutter.cut(entry.clip, profile=_profile_of(entry.case, number))
    entry.profile = traced.profile(trace)


def _store_sources(cases: Sequence[BenchmarkCase], s3: "S3Client", folder: Path) -> None:
    for picture in sorted({case.picture for case in cases}):
        loop = encode_loop(folder, picture)
        for source in sorted({case.source for case in cases if case.picture == picture}):
            say(f"generating a VOD: {picture}, {source}")
            vod = folder / f"vod{SUFFIXES[source]}"
            lengthen(loop, SOURCE_SECONDS[source], vod, fragmented=source == FRAGMENTED)
            move_to_storage(vod, s3, SOURCE_BUCKET, _key(picture, source))
        loop.unlink()


async def _run_rounds(entries: Sequence[CaseInProgress], cutter: CutterProcess, rivals: Rivals) -> None:
    for number in range(max(entry.case.rounds for entry in entries)):
        for entry in entries:
            if number < entry.case.rounds:
                await _round(entry, number, cutter, rivals)


async def _prepare(
    case: BenchmarkCase, cutter: CutterProcess, rivals: Rivals, proxy: CountingProxy
) -> CaseInProgress:
    """Warm up, and count the bytes that a cut reads, without those that open the VOD."""
    say(f"warming up: {case.name}")
    clip = _clip(case)
    for profile in (DIRECT, COUNTED):
        await cutter.cut(_opening(clip), profile=profile)
    proxy.pulled_bytes = 0
    _, stored_bytes = await cutter.cut(clip, profile=COUNTED)
    traffic = Traffic(proxy.pulled_bytes, stored_bytes)
    return CaseInProgress(case, clip, rivals.command(clip), traffic)


async def _round(entry: CaseInProgress, number: int, cutter: CutterProcess, rivals: Rivals) -> None:
    if not entry.case.first:  # the cutter remembers the last few VODs, and must remember this one
        await cutter.cut(_opening(entry.clip))
    taken: dict[str, CutRun] = {}
    for name in (CUTTER, BARE) if number % 2 == 0 else (BARE, CUTTER):
        if name == CUTTER:
            taken[name], _ = await cutter.cut(entry.clip, profile=_profile_of(entry.case, number))
        elif not entry.case.far:
            taken[name] = await rivals.bare(entry.command)
    if number < entry.case.moviepy:
        taken[MOVIEPY] = await rivals.moviepy(entry.clip)
    for name, run in taken.items():  # only whole rounds: ratios are of pairs
        entry.runs[name].append(run)
    times = ", ".join(f"{name} {run.seconds:.2f} s" for name, run in sorted(taken.items()))
    say(f"round {number + 1} of {entry.case.rounds}: {entry.case.name}: {times}")


def _profile_of(case: BenchmarkCase, number: int) -> str:
    """Return the source profile of a clip in a round."""
    if case.far:
        return FAR[number]
    return NEW[number] if case.first else DIRECT


def _clip(case: BenchmarkCase) -> ClipToCut:
    middle = SOURCE_SECONDS[case.source] * START_SHARE // LOOP_SECONDS * LOOP_SECONDS
    start = middle + START_OFFSET
    return ClipToCut(_key(*case.vod), Window(start, start + case.seconds), case.mode)


def _opening(clip: ClipToCut) -> ClipToCut:
    """Return the shortest clip of the same VOD."""
    return replace(clip, window=Window(clip.window.start, clip.window.start + 1))


def _key(picture: str, source: str) -> str:
    return f"{picture}-{source.replace(' ', '-')}{SUFFIXES[source]}"


if __name__ == "__main__":
    typer.run(main)
