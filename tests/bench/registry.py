"""The registry's benchmark: ``make bench-registry``.

The registry and a bare loop of the same client libraries take turns at the same backlog of clip-created
events. Then single events come at a fixed pace, and highlights through the cutter; and then queries run on a
small and on a large table. What was measured is written down after each part, so that an interrupted run
keeps it.
"""

import asyncio
import json
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from time import time
from typing import Annotated, Any

import typer
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from clip_shared.contracts.events import (
    ClipCreated,
    CutMode,
    CutReceipt,
    Event,
    HighlightDetected,
    HighlightKind,
    PosterObject,
    SourceObject,
    StoredObject,
    clip_id_for,
)
from local_stack.client import Client
from local_stack.processes.process import stop_together
from local_stack.stack import CLIPS_BUCKET, SOURCE_BUCKET, SOURCE_PROFILE, LocalStack, temporary_stack
from tests.bench import bare_loop, queries
from tests.bench.platform import BenchmarkPlatform
from tests.bench.queries import LARGE, SMALL, QueryTiming, QueryTimings
from tests.bench.run import (
    FIGURES,
    ROOT,
    About,
    Bound,
    Spread,
    publish,
    running,
    say,
    shown,
    table,
    targets_table,
)
from tests.bench.sources import encode_loop, lengthen, move_to_storage
from tests.bench.usage import cpu_seconds

LOOK_SECONDS = 0.2
PATIENCE_SECONDS = 600.0
ACCOUNTS = 200
VOD, VOD_SECONDS = "vod.mp4", 600


@dataclass(frozen=True)
class RegistryLoad:
    """How much is measured. ``paces``: clip-created events per second, each for ``pace_seconds``; then comes
    a highlight each second for ``highlight_seconds``.
    """

    events: int
    rounds: int
    paces: tuple[int, ...]
    pace_seconds: int
    highlight_seconds: int
    large: int
    runs: int


FULL = RegistryLoad(
    events=20_000, rounds=5, paces=(10, 100), pace_seconds=30, highlight_seconds=120, large=LARGE, runs=1000
)
QUICK = RegistryLoad(
    events=500, rounds=2, paces=(20,), pace_seconds=3, highlight_seconds=3, large=20_000, runs=20
)


@dataclass(frozen=True)
class RegistryRun:
    """The registry's rates for a backlog: events per second into the store, out of the outbox, and from
    the first event in to the last one out; CPU seconds of the process for each event.
    """

    stored: float
    relayed: float
    through: float
    cpu_seconds: float


@dataclass(frozen=True)
class Bare:
    """The bare loop's rate: events per second into the store, and CPU seconds for each event."""

    stored: float
    cpu_seconds: float


@dataclass
class RegistryFigures:
    """The figures so far. ``latencies``: seconds by the kind of event and its rate."""

    rounds: list[tuple[RegistryRun, Bare]] = field(default_factory=list)
    latencies: dict[str, list[float]] = field(default_factory=dict)
    queries: QueryTimings = field(default_factory=QueryTimings)

    def ours(self, figure: Callable[[RegistryRun], float]) -> Spread | None:
        """Return a figure of the registry, over the rounds."""
        return Spread.of(figure(run) for run, _ in self.rounds)

    def bare(self, figure: Callable[[Bare], float]) -> Spread | None:
        """Return a figure of the bare loop, over the rounds."""
        return Spread.of(figure(bare) for _, bare in self.rounds)

    def ratio(self, figure: Callable[[RegistryRun], float]) -> Spread | None:
        """Return a rate of the registry divided by the bare loop's, round by round."""
        return Spread.of(figure(run) / bare.stored for run, bare in self.rounds)


def main(
    *,
    smoke: Annotated[
        bool, typer.Option("--quick", help="Run for less than a minute, and do not write the documentation.")
    ] = False,
) -> None:
    """Measure the registry against a bare loop of the same client libraries, side by side."""
    about, results, size = About("registry"), RegistryFigures(), QUICK if smoke else FULL

    def note() -> None:
        if results.rounds and not smoke:
            _publish(about, results)

    try:
        with temporary_stack() as stack:
            stop_together(tuple(stack.services.values()))
            asyncio.run(_measure_events(stack, size, results, note))
            url = stack.environment["DATABASE_URL"]
            queries.measure(url, results.queries, large=size.large, runs=size.runs)
    finally:
        typer.echo(summary(about, results))
        note()


def _publish(about: About, results: RegistryFigures) -> None:
    publish(about, summary(about, results), _as_dict(results))
    from tests.bench.service_plots import draw_registry  # noqa: PLC0415 - installed for benchmarks only

    draw_registry(results.rounds, results.latencies, results.queries.queries, FIGURES / "registry.png")
    plans = [
        f"-- {query.name}, {rows:,} rows\n{plan}"
        for query in results.queries.queries
        for rows, plan in query.plans.items()
    ]
    if plans:
        (FIGURES / "registry-plans.txt").write_text("\n\n".join(plans) + "\n")


async def _measure_events(
    stack: LocalStack, size: RegistryLoad, results: RegistryFigures, note: Callable[[], None]
) -> None:
    async with BenchmarkPlatform.running(stack) as platform:
        await platform.database.execute(bare_loop.CREATE_TABLE)
        for number in range(size.rounds):
            await _round(platform, size.events, results, registry_first=number % 2 == 0)
            run, bare = results.rounds[-1]
            say(
                f"round {number + 1} of {size.rounds}: registry {run.stored:.0f} events/s in,"
                f" {run.through:.0f} through; bare loop {bare.stored:.0f} in"
            )
            note()
        async with running(stack.registry):
            for pace in size.paces:
                say(f"clip-created, {pace} a second, for {size.pace_seconds} s")
                seconds = await _latencies(platform, clip_created, pace, size.pace_seconds)
                results.latencies[f"clip-created, {pace} a second"] = seconds
                note()
            await asyncio.to_thread(_store_vod, stack)
            async with running(stack.cutter):
                say(f"highlight-detected, 1 a second, for {size.highlight_seconds} s")
                seconds = await _latencies(platform, highlight_detected, 1, size.highlight_seconds)
                results.latencies["highlight-detected, 1 a second"] = seconds
                note()


async def _round(
    platform: BenchmarkPlatform, events: int, results: RegistryFigures, *, registry_first: bool
) -> None:
    """Let registry and bare loop handle the same backlog, one after the other."""
    await platform.database.execute(f"TRUNCATE generated_clips, outbox, {bare_loop.TABLE}")
    backlog = [clip_created() for _ in range(events)]
    await platform.publish(backlog)
    if registry_first:
        run = await _by_registry(platform, backlog)
        results.rounds.append((run, await _by_bare_loop(platform, events)))
    else:
        bare = await _by_bare_loop(platform, events)
        results.rounds.append((await _by_registry(platform, backlog), bare))


async def _by_registry(platform: BenchmarkPlatform, backlog: Sequence[Event[ClipCreated]]) -> RegistryRun:
    """Start the registry, and stop it when its outbox is empty."""
    awaited = {str(event.data.clip_id).encode() for event in backlog}
    async with platform.listening() as announced:
        first = {place: await announced.position(place) for place in announced.assignment()}
        async with running(platform.stack.registry) as pid:
            cpu = cpu_seconds(pid)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while sum((await announced.end_offsets(list(first))).values()) < sum(first.values()) + len(
                    backlog
                ):
                    await asyncio.sleep(LOOK_SECONDS)
            cpu = cpu_seconds(pid) - cpu
        records = await _read(announced, awaited)
    times = sorted(record.timestamp / 1000 for record in records)
    stored = await platform.database.fetch(
        "SELECT extract(epoch FROM created_at)::float AS at, count(*) AS clips FROM generated_clips"
        " GROUP BY created_at ORDER BY created_at"
    )
    begin, end = stored[0]["at"], stored[-1]["at"]
    return RegistryRun(
        # Only the start of the last transaction is known.
        stored=(len(backlog) - stored[-1]["clips"]) / (end - begin),
        relayed=(len(times) - 1) / (times[-1] - times[0]),
        through=len(backlog) / (times[-1] - begin),
        cpu_seconds=cpu / len(backlog),
    )


async def _read(consumer: AIOKafkaConsumer, awaited: set[bytes]) -> list[ConsumerRecord]:
    """Yield the registry's events until every awaited clip was announced."""
    records: list[ConsumerRecord] = []
    missing = set(awaited)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while missing:
            record = await consumer.getone()
            records.append(record)
            missing.discard(record.key)
    return records


async def _by_bare_loop(platform: BenchmarkPlatform, events: int) -> Bare:
    environment = {
        **os.environ,
        "DATABASE_URL": platform.database_url,
        "KAFKA_BOOTSTRAP_SERVERS": platform.stack.environment["KAFKA_BOOTSTRAP_SERVERS"],
    }
    command = [sys.executable, "-m", bare_loop.__name__, str(events)]
    loop = await asyncio.create_subprocess_exec(
        *command, env=environment, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            answer, _ = await loop.communicate()
    finally:
        if loop.returncode is None:
            loop.kill()
            await loop.wait()
    found = json.loads(answer)
    return Bare(events / found["seconds"], found["cpu_seconds"] / events)


def _store_vod(stack: LocalStack) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        vod = Path(folder) / VOD
        lengthen(encode_loop(Path(folder), "720p60"), VOD_SECONDS, vod)
        move_to_storage(vod, Client(stack.environment).s3, SOURCE_BUCKET, VOD)


async def _latencies(
    platform: BenchmarkPlatform, make: Callable[[], Event[Any]], pace: int, seconds: int
) -> list[float]:
    """Seconds from publishing an event to the arrival of the clip's ``clip.available``, event by event.

    Those of the first second are not counted.
    """
    sent: dict[bytes, float] = {}
    arrived: dict[bytes, float] = {}
    number = pace * (seconds + 1)

    async def send(delay: float) -> None:
        await asyncio.sleep(delay)
        event = make()
        sent[str(clip_id_for(event.data.stream_highlight_id)).encode()] = time()
        await platform.publish([event])

    async def receive(consumer: AIOKafkaConsumer) -> None:
        while len(arrived) < number:
            record = await consumer.getone()
            arrived.setdefault(record.key, time())

    async with (
        platform.listening() as consumer,
        asyncio.timeout(PATIENCE_SECONDS),
        asyncio.TaskGroup() as group,
    ):
        group.create_task(receive(consumer))
        for each in range(number):
            group.create_task(send(each / pace))
    return [arrived[key] - sent[key] for key in list(sent)[pace:]]


def highlight_detected() -> Event[HighlightDetected]:
    """Return a highlight of half a minute that starts midway between two keyframes."""
    data = HighlightDetected(
        stream_highlight_id=uuid.uuid4().hex,
        twitch_account_id=f"streamer-{uuid.uuid4().int % ACCOUNTS}",
        source_vod_id="vod-1",
        source=SourceObject(profile=SOURCE_PROFILE, bucket=SOURCE_BUCKET, key=VOD),
        start_seconds=VOD_SECONDS / 2 + 1,
        end_seconds=VOD_SECONDS / 2 + 31,
        kind=HighlightKind.REFINED,
        title="What a save",
    )
    return Event.new(data, source="bench")


def clip_created() -> Event[ClipCreated]:
    """Return the event of a clip of a new highlight."""
    highlight = uuid.uuid4().hex
    account = f"streamer-{uuid.uuid4().int % ACCOUNTS}"
    clip_id, cause = clip_id_for(highlight), str(uuid.uuid4())
    key = f"clips/{account}/{clip_id}/{cause}"
    data = ClipCreated(
        stream_highlight_id=highlight,
        twitch_account_id=account,
        source_vod_id="vod-1",
        kind=HighlightKind.REFINED,
        highlight_event_id=cause,
        highlight_detected_at=datetime.now(UTC),
        clip_id=clip_id,
        title="What a save",
        score=0.5,
        object=StoredObject(bucket=CLIPS_BUCKET, key=f"{key}.mp4", size_bytes=10_000_000),
        poster=PosterObject(bucket=CLIPS_BUCKET, key=f"{key}.jpg"),
        duration_seconds=30,
        cut_receipt=CutReceipt(
            mode=CutMode.COPY,
            requested_start_seconds=10,
            requested_end_seconds=40,
            actual_start_seconds=10,
            actual_end_seconds=40,
            audio_video_skew_ms=1,
        ),
    )
    return Event.new(data, source="bench")


def percentile(seconds: Sequence[float], percent: int) -> float:
    """Return a percentile of the values."""
    return quantiles(seconds, n=100, method="inclusive")[percent - 1]


def summary(about: About, results: RegistryFigures) -> str:
    """Return the text for the documentation."""
    parts = [about.sentence()]
    if results.rounds:
        parts += [_rates(results), _paces(results)]
    if results.queries.queries:
        parts.append(_queries(results.queries))
    return "\n\n".join([*parts, targets_table(targets(results))])


def _rates(results: RegistryFigures) -> str:
    rows = [
        ("into the store", lambda run: run.stored),
        ("out of the outbox", lambda run: run.relayed),
        ("in and out, first to last", lambda run: run.through),
    ]
    bare = shown(results.bare(lambda each: each.stored))
    cpu = results.ours(lambda run: run.cpu_seconds * 1e6), results.bare(lambda each: each.cpu_seconds * 1e6)
    return table(
        ("events per second and process", "registry", "bare loop", "ratio (least, most)"),
        *((name, shown(results.ours(get)), bare, shown(results.ratio(get), 2)) for name, get in rows),
        ("CPU µs for each event", shown(cpu[0]), shown(cpu[1]), ""),
    )


def _paces(results: RegistryFigures) -> str:
    return table(
        ("until clip.available", "events", "p50", "p99", "most"),
        *(
            (
                what,
                str(len(seconds)),
                *(f"{percentile(seconds, percent) * 1000:.0f} ms" for percent in (50, 99)),
                f"{max(seconds) * 1000:.0f} ms",
            )
            for what, seconds in results.latencies.items()
        ),
    )


def _queries(found: QueryTimings) -> str:
    def milliseconds(query: QueryTiming, rows: int) -> str:
        return shown(Spread.of(each * 1000 for each in query.seconds[rows]), 2, " ms")

    return table(
        (
            "query",
            "runs",
            f"{found.rows[SMALL]:,} rows",
            f"{found.rows[LARGE]:,} rows",
            "growth (least, most)",
        ),
        *(
            (
                query.name,
                str(len(query.seconds[SMALL])),
                *(milliseconds(query, rows) for rows in (SMALL, LARGE)),
                shown(query.growth, 2),
            )
            for query in found.queries
        ),
    )


def targets(results: RegistryFigures) -> list[Bound]:
    """Return the targets and their figures."""

    def median(spread: Spread | None) -> float | None:
        return None if spread is None else spread.median

    growth = [query.growth.median for query in results.queries.queries if query.growth]
    sequential = results.queries.sequential
    stored, through = results.ratio(lambda run: run.stored), results.ratio(lambda run: run.through)
    return [
        Bound("events per second into the store, registry ÷ bare loop", 0.5, median(stored), at_least=True),
        Bound("the same in and out, ÷ the bare loop's in alone", 0.5, median(through), at_least=True),
        Bound("the query that grows most", 1.5, max(growth, default=None)),
        Bound("served queries that scan generated_clips", 0, None if sequential is None else len(sequential)),
    ]


def _as_dict(results: RegistryFigures) -> dict[str, Any]:
    return {
        "rounds": [{"registry": asdict(run), "bare": asdict(bare)} for run, bare in results.rounds],
        "latencies": {what: {"seconds": sorted(seconds)} for what, seconds in results.latencies.items()},
        "queries": [query.as_dict() for query in results.queries.queries],
        "sequential_scans": results.queries.sequential,
    }


if __name__ == "__main__":
    typer.run(main)
