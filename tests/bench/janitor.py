"""The janitor's benchmark: ``make bench-janitor``.

First the janitor and a bare ``DeleteObjects`` loop take turns to delete released objects. Then follows a
whole purge, from the tick until every row is purged and every object deleted, between two halves of a bare
loop over as many objects. The figures are written after each part, so that an interrupted run keeps them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import httpx
import psutil
import typer
from prometheus_client.parser import text_string_to_metric_families

from clip_shared.contracts.events import DailyTick, Event, ObjectReleased, ReleaseReason
from local_stack.processes.process import stop_together
from local_stack.stack import CLIPS_BUCKET, temporary_stack
from tests.bench.objects import Objects, SeededClip
from tests.bench.platform import BenchmarkPlatform
from tests.bench.run import (
    FIGURES,
    About,
    Bound,
    Spread,
    mebibytes,
    publish,
    running,
    say,
    shown,
    table,
    targets_table,
)

LOOK_SECONDS = 0.05
SAMPLE_SECONDS = 1.0
PATIENCE_SECONDS = 3600.0
INSERT_DUE = """
INSERT INTO generated_clips (
    clip_id, stream_highlight_id, twitch_account_id, source_vod_id, kind, title, score, bucket, object_key,
    content_type, file_size_bytes, duration_seconds, cut_receipt, origin, revision, status, expires_at,
    highlight_event_id, highlight_detected_at, version, created_at, updated_at
)
SELECT clip_id, 'hl-' || n, account, 'vod-1', 'refined', 'What a save', 0.5, $4, key, 'video/mp4', 1, 30,
       '{}', 'detector', 1, 'available', now() - interval '1 hour', 'event-' || n,
       now() - interval '8 days', 1, now() - interval '8 days', now() - interval '8 days'
FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS each(clip_id, account, key, n)
"""


@dataclass(frozen=True)
class JanitorLoad:
    """The size of the run: turns of deletions for each contender, then a purge of ``clips``."""

    turns: int
    objects: int
    clips: int


QUICK = JanitorLoad(turns=1, objects=1_500, clips=500)
TURNS, OBJECTS = 3, 10_000


@dataclass(frozen=True)
class PurgeProgress:
    """The state of the purge: seconds since the tick, the rest, and resident bytes by process."""

    seconds: float
    clips_left: int
    objects_left: int
    memory: dict[str, int]


@dataclass
class JanitorFigures:
    """The figures so far: objects per second, and the states of the purge of ``clips``.

    ``turns``: of the janitor and of the bare loop after it. ``objects_found``: listed after the purge.
    """

    clips: int
    turns: list[tuple[float, float]] = field(default_factory=list)
    halves: list[float] = field(default_factory=list)
    samples: list[PurgeProgress] = field(default_factory=list)
    objects_found: int | None = None

    @property
    def deleting(self) -> Spread | None:
        """The janitor's rate of deletions divided by the bare loop's, turn by turn."""
        return Spread.of(ours / bare for ours, bare in self.turns)

    def seconds_until(self, done: Callable[[PurgeProgress], bool]) -> float | None:
        """Return the seconds until the purge met a condition."""
        return next((sample.seconds for sample in self.samples if done(sample)), None)

    @property
    def purge_rate(self) -> float | None:
        """Objects per second from the tick to the last object."""
        seconds = self.seconds_until(_is_done)
        return self.clips / seconds if seconds else None

    @property
    def whole(self) -> Spread | None:
        """The rate of the whole purge divided by that of each half of the bare loop."""
        rate = self.purge_rate
        return Spread.of(rate / half for half in self.halves) if rate else None

    def growth(self, name: str) -> float | None:
        """The most memory in the last quarter of the purge over the most before it.

        While rows are purged, the janitor gets less than it could delete; when that is done, its batches fill
        up, and its buffers with them.
        """
        sizes = [sample.memory[name] for sample in self.samples]
        before, last = sizes[: len(sizes) * 3 // 4], sizes[len(sizes) * 3 // 4 :]
        return max(last) / max(before) if before else None


def _is_done(sample: PurgeProgress) -> bool:
    return sample.clips_left == 0 and sample.objects_left == 0


def main(
    *,
    smoke: Annotated[
        bool, typer.Option("--quick", help="Run for less than a minute, and do not write the documentation.")
    ] = False,
    clips: Annotated[int, typer.Option(min=1000, help="Number of clips to purge.")] = 100_000,
) -> None:
    """Measure a purge against a bare loop of DeleteObjects over as many objects."""
    size = QUICK if smoke else JanitorLoad(TURNS, OBJECTS, clips)
    about, results = About("janitor"), JanitorFigures(size.clips)

    def note() -> None:
        if results.turns and not smoke:
            _publish(about, results)

    try:
        asyncio.run(_measure(size, results, note))
    finally:
        typer.echo(summary(about, results))
        note()


def _publish(about: About, results: JanitorFigures) -> None:
    publish(about, summary(about, results), _as_dict(results))
    if results.samples:
        names = results.samples[0].memory
        from tests.bench.service_plots import draw_janitor  # noqa: PLC0415 - installed for benchmarks only

        draw_janitor(
            {name: [(each.seconds, each.memory[name]) for each in results.samples] for name in names},
            [(each.seconds, each.clips_left, each.objects_left) for each in results.samples],
            FIGURES / "janitor.png",
        )


async def _measure(size: JanitorLoad, results: JanitorFigures, note: Callable[[], None]) -> None:
    # All clips are due at once.
    with temporary_stack(settings={"janitor": {"PURGE_LIMIT_PERCENT": "100"}}) as stack:
        idle = tuple(each for each in stack.services.values() if each is not stack.registry)
        await asyncio.to_thread(stop_together, idle)
        objects = Objects(stack)
        async with BenchmarkPlatform.running(stack) as platform:
            for number in range(size.turns):
                await _turn(platform, objects, size.objects, results, janitor_first=number % 2 == 0)
                ours, bare = results.turns[-1]
                say(f"turn {number + 1} of {size.turns}: janitor {ours:.0f} objects/s, bare loop {bare:.0f}")
                note()
            due = await _store(objects, size.clips, "due")
            rest = await _store(objects, size.clips, "bare")
            middle = size.clips // 2
            await _half(objects, rest[:middle], results)
            note()
            await _purge(platform, due, results)
            note()
            await _half(objects, rest[middle:], results)
            started = time.monotonic()
            results.objects_found = await asyncio.to_thread(objects.left)
            say(f"listing an emptied bucket: {time.monotonic() - started:.1f} s")


async def _store(objects: Objects, number: int, group: str) -> list[SeededClip]:
    say(f"storing {number:,} objects")
    return await asyncio.to_thread(objects.store, number, group)


async def _turn(
    platform: BenchmarkPlatform,
    objects: Objects,
    number: int,
    results: JanitorFigures,
    *,
    janitor_first: bool,
) -> None:
    """Let the janitor and the bare loop delete the same number of objects."""
    ours, bare = await _store(objects, number, "ours"), await _store(objects, number, "bare")
    if janitor_first:
        rate = await _by_janitor(platform, ours)
        results.turns.append((rate, await _bare(objects, bare)))
    else:
        other = await _bare(objects, bare)
        results.turns.append((await _by_janitor(platform, ours), other))


async def _bare(objects: Objects, clips: Sequence[SeededClip]) -> float:
    return len(clips) / await asyncio.to_thread(objects.delete, [clip.key for clip in clips])


async def _half(objects: Objects, clips: Sequence[SeededClip], results: JanitorFigures) -> None:
    results.halves.append(await _bare(objects, clips))
    say(f"bare loop: {results.halves[-1]:.0f} objects/s")


async def _by_janitor(platform: BenchmarkPlatform, clips: Sequence[SeededClip]) -> float:
    """Return the objects per second, from the end of the first batch to the end of the last one."""
    await platform.publish([_released(clip) for clip in clips])
    async with running(platform.stack.janitor, ready=False), _deletions(platform) as deleted:
        first = await _until(deleted, 1)
        started = time.monotonic()
        await _until(deleted, len(clips))
        return (len(clips) - first) / (time.monotonic() - started)


async def _until(deleted: Callable[[], Awaitable[int]], number: int) -> int:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(httpx.TransportError):  # the janitor is still starting
                if (found := await deleted()) >= number:
                    return found
            await asyncio.sleep(LOOK_SECONDS)


async def _purge(platform: BenchmarkPlatform, due: Sequence[SeededClip], results: JanitorFigures) -> None:
    """Send the tick, and note the state every second until the purge is done."""
    await platform.database.execute("TRUNCATE generated_clips, outbox")
    columns = ([clip.clip_id for clip in due], [clip.account for clip in due], [clip.key for clip in due])
    await platform.database.execute(INSERT_DUE, *columns, CLIPS_BUCKET)
    await platform.database.execute("VACUUM ANALYZE generated_clips")
    async with running(platform.stack.janitor) as janitor:
        pids = {"clip-registry": platform.stack.registry.pid, "janitor": janitor}
        async with _deletions(platform) as deleted, asyncio.timeout(PATIENCE_SECONDS):
            await platform.publish([Event.new(DailyTick(), source="bench")])
            started = time.monotonic()
            while not results.samples or not _is_done(results.samples[-1]):
                left = await platform.database.fetchval(
                    "SELECT count(*) FROM generated_clips WHERE status = 'available'"
                )
                sample = PurgeProgress(
                    objects_left=len(due) - await deleted(),
                    clips_left=left,
                    memory={name: psutil.Process(pid).memory_info().rss for name, pid in pids.items()},
                    seconds=time.monotonic() - started,
                )
                results.samples.append(sample)
                await asyncio.sleep(SAMPLE_SECONDS)
    say(f"purge: {results.purge_rate:.0f} clips/s")


@asynccontextmanager
async def _deletions(platform: BenchmarkPlatform) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Reads the number of objects that the janitor has deleted since its start."""
    url = platform.stack.janitor.operations_url
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:

        async def deleted() -> int:
            text = (await http.get("/metrics")).raise_for_status().text
            return int(
                sum(
                    sample.value
                    for family in text_string_to_metric_families(text)
                    for sample in family.samples
                    if sample.name == "clips_objects_deleted_total"
                )
            )

        yield deleted


def _released(clip: SeededClip) -> Event[ObjectReleased]:
    data = ObjectReleased(
        bucket=CLIPS_BUCKET, object_key=clip.key, reason=ReleaseReason.PURGED, clip_id=clip.clip_id
    )
    return Event.new(data, source="bench")


def summary(about: About, results: JanitorFigures) -> str:
    """Return the text for the documentation."""
    return "\n\n".join([about.sentence(), _rates(results), _memory(results), targets_table(targets(results))])


def _rates(results: JanitorFigures) -> str:
    rows = [
        (
            "deleting what is released",
            shown(Spread.of(ours for ours, _ in results.turns)),
            shown(Spread.of(bare for _, bare in results.turns)),
            shown(results.deleting, 2),
        )
    ]
    if results.purge_rate is not None:
        bare = shown(Spread.of(results.halves))
        rows.append(
            (
                f"purging {results.clips:,} clips, tick to last object",
                f"{results.purge_rate:,.0f}",
                bare,
                shown(results.whole, 2),
            )
        )
    return table(("objects per second", "janitor", "bare loop", "ratio (least, most)"), *rows)


def _memory(results: JanitorFigures) -> str:
    names = results.samples[0].memory if results.samples else {}
    sizes = {name: [sample.memory[name] for sample in results.samples] for name in names}
    rows = table(
        ("resident memory during the purge", "at first", "most", "at last", "last quarter ÷ before"),
        *(
            (
                name,
                *(mebibytes(size) for size in (found[0], max(found), found[-1])),
                "" if (growth := results.growth(name)) is None else f"{growth:.2f}",
            )
            for name, found in sizes.items()
        ),
    )
    rows_done = results.seconds_until(lambda sample: sample.clips_left == 0)
    all_done = results.seconds_until(_is_done)
    if rows_done is None or all_done is None:
        return rows
    left = "" if results.objects_found is None else f" {results.objects_found} objects were left."
    return (
        f"{rows}\n\nAll rows were purged {rows_done:.0f} s after the tick, all objects gone after"
        f" {all_done:.0f} s.{left}"
    )


def targets(results: JanitorFigures) -> list[Bound]:
    """Return the targets and their figures."""
    deleting = results.deleting.median if results.deleting else None
    whole = results.whole.median if results.whole else None
    names = results.samples[0].memory if results.samples else ()
    growth = [found for name in names if (found := results.growth(name)) is not None]
    return [
        Bound("deleting what is released, janitor ÷ bare loop", 0.8, deleting, at_least=True),
        Bound("the whole purge ÷ the bare loop's deleting alone", 0.8, whole, at_least=True),
        Bound("memory, last quarter of the purge ÷ before", 1.05, max(growth, default=None)),
        Bound("objects left", 0, results.objects_found),
    ]


def _as_dict(results: JanitorFigures) -> dict[str, Any]:
    return {
        "clips": results.clips,
        "turns": [{"janitor": ours, "bare": bare} for ours, bare in results.turns],
        "bare_halves": results.halves,
        "purge_objects_per_second": results.purge_rate,
        "purge": [asdict(sample) for sample in results.samples],
        "objects_left": results.objects_found,
    }


if __name__ == "__main__":
    typer.run(main)
