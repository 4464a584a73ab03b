"""The gateway's benchmark: ``make bench-gateway``.

The gateway (with its registry and a large table in PostgreSQL) and a bare application that presigns take
turns, with as many requests as they answer. Then each kind of request is sent at half of that rate. The
figures are written after each part, so that an interrupted run keeps them.
"""

import asyncio
import random
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any

import asyncpg
import typer
import uvloop

from local_stack.client import Client
from local_stack.processes.ports import Ports
from local_stack.processes.process import stop_together
from local_stack.stack import LocalStack, temporary_stack
from tests.bench import bare_gateway
from tests.bench.load import Answers, Load, request
from tests.bench.queries import LARGE, fill
from tests.bench.registry import percentile
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
from tests.bench.usage import cpu_seconds, give_own_core

CONNECTIONS = 16
BARE, WATCH, LIST, GET, KEEP = "bare presigning", "watch", "list", "get", "keep"
KINDS = (BARE, WATCH, LIST, GET, KEEP)
STATUSES = {BARE: HTTPStatus.FOUND, WATCH: HTTPStatus.FOUND}
SAMPLE = """
SELECT clip_id, twitch_account_id FROM generated_clips
WHERE status = 'available' AND expires_at > now() + interval '1 hour'
"""
SAMPLE_SIZE = 20_000
# The rate limits are for people; here, few accounts send all requests.
SETTINGS = {"clip-gateway": {"PRESIGNS_PER_MINUTE": "100000"}}


@dataclass(frozen=True)
class GatewayLoad:
    """The size of the run: rounds of ``seconds`` for each kind, then ``paced_seconds`` at half the rate."""

    rows: int
    rounds: int
    seconds: float
    warm_up_seconds: float
    paced_seconds: float


FULL = GatewayLoad(rows=LARGE, rounds=5, seconds=4, warm_up_seconds=1, paced_seconds=10)
QUICK = GatewayLoad(rows=20_000, rounds=2, seconds=1, warm_up_seconds=0.5, paced_seconds=2)


@dataclass(frozen=True)
class GatewayRun:
    """Requests per second on one process, and CPU seconds of it and of the registry for each request."""

    rate: float
    cpu: float
    registry_cpu: float


@dataclass
class GatewayFigures:
    """The figures so far. The n-th runs of all kinds belong to the same round."""

    rows: int = 0
    runs: dict[str, list[GatewayRun]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    paces: dict[str, float] = field(default_factory=dict)
    paced: dict[str, list[float]] = field(default_factory=dict)

    def of(self, kind: str, figure: Callable[[GatewayRun], float]) -> Spread | None:
        """Return a figure of a kind, over the rounds."""
        return Spread.of(figure(run) for run in self.runs[kind])

    def ratio(self, kind: str) -> Spread | None:
        """Return the rate of a kind divided by the bare application's, round by round."""
        pairs = zip(self.runs[kind], self.runs[BARE], strict=False)
        return Spread.of(run.rate / bare.rate for run, bare in pairs)

    def p99(self, kind: str) -> float | None:
        """Return the 99th percentile at half load, in ms."""
        found = self.paced.get(kind)
        return percentile(found, 99) * 1000 if found else None


@dataclass(frozen=True)
class ServerUnderLoad:
    """The server for requests of a kind, the processes whose CPU time counts, and the requests."""

    port: int
    process: int
    registry: int | None
    requests: Sequence[bytes]


def main(
    *,
    smoke: Annotated[
        bool, typer.Option("--quick", help="Run for less than a minute, and do not write the documentation.")
    ] = False,
) -> None:
    """Measure the gateway against a bare application that presigns, side by side."""
    size = QUICK if smoke else FULL
    about, results = About("gateway"), GatewayFigures(rows=size.rows)

    def note() -> None:
        if results.runs[KEEP] and not smoke:
            _publish(about, results)

    try:
        with temporary_stack(settings=SETTINGS) as stack:
            stop_together(tuple(stack.services.values()))
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_measure(stack, size, results, note))
    finally:
        typer.echo(summary(about, results))
        note()


def _publish(about: About, results: GatewayFigures) -> None:
    publish(about, summary(about, results), _as_dict(results))
    from tests.bench.service_plots import draw_gateway  # noqa: PLC0415 - installed for benchmarks only

    draw_gateway(
        {kind: [run.rate for run in runs] for kind, runs in results.runs.items()},
        results.paced,
        FIGURES / "gateway.png",
    )


async def _measure(
    stack: LocalStack, size: GatewayLoad, results: GatewayFigures, note: Callable[[], None]
) -> None:
    url = stack.environment["DATABASE_URL"]
    say(f"loading {size.rows:,} clips")
    await fill(url, size.rows)
    async with running(stack.registry) as registry, running(stack.gateway) as gateway:
        port = int(stack.gateway.url.rpartition(":")[2])
        async with _bare(stack) as (bare_port, bare):
            requests = await _requests(stack)
            give_own_core(gateway, bare)  # they run in turns
            servers = {
                kind: ServerUnderLoad(port, gateway, registry, requests[kind])
                if kind != BARE
                else ServerUnderLoad(bare_port, bare, None, requests[WATCH])
                for kind in KINDS
            }
            for number in range(size.rounds):
                for kind, server in servers.items():
                    results.runs[kind].append(await _as_many(kind, server, size))
                say(f"round {number + 1} of {size.rounds}: {_last_rates(results)}")
                note()
            for kind, server in servers.items():
                pace = results.of(kind, lambda run: run.rate)
                assert pace is not None
                results.paces[kind] = pace.median / 2
                say(f"{kind}, {pace.median / 2:.0f} a second, for {size.paced_seconds:.0f} s")
                answers = await _at_pace(kind, server, pace.median / 2, size.paced_seconds)
                results.paced[kind] = answers.seconds
                note()


async def _as_many(kind: str, server: ServerUnderLoad, size: GatewayLoad) -> GatewayRun:
    async with Load(server.port, CONNECTIONS) as load:
        await load.as_many(server.requests, size.warm_up_seconds)
        own, registry = _cpu(server)
        answers = _checked(kind, await load.as_many(server.requests, size.seconds))
        own_later, registry_later = _cpu(server)
    count = len(answers.seconds)
    return GatewayRun(answers.rate, (own_later - own) / count, (registry_later - registry) / count)


async def _at_pace(kind: str, server: ServerUnderLoad, pace: float, seconds: float) -> Answers:
    async with Load(server.port, CONNECTIONS) as load:
        await load.at_pace(server.requests, pace, seconds / 10)
        return _checked(kind, await load.at_pace(server.requests, pace, seconds))


def _cpu(server: ServerUnderLoad) -> tuple[float, float]:
    return cpu_seconds(server.process), cpu_seconds(server.registry) if server.registry else 0.0


def _checked(kind: str, answers: Answers) -> Answers:
    if not answers.only(STATUSES.get(kind, HTTPStatus.OK)):
        raise RuntimeError(f"{kind}: unexpected statuses of answers: {answers.statuses}")
    return answers


async def _requests(stack: LocalStack) -> dict[str, list[bytes]]:
    """Return the requests of each kind, each for another clip and its account."""
    connection = await asyncpg.connect(stack.environment["DATABASE_URL"].replace("+asyncpg", ""))
    try:
        rows = await connection.fetch(SAMPLE)
    finally:
        await connection.close()
    clips = random.Random(1).sample(rows, min(SAMPLE_SIZE, len(rows)))  # noqa: S311 - a choice for a test
    client = Client(stack.environment)
    tokens = {account: client.token(account) for _, account in clips}
    made: dict[str, list[bytes]] = {kind: [] for kind in (WATCH, LIST, GET, KEEP)}
    for clip_id, account in clips:
        path, token = f"/v1/clips/{clip_id}", tokens[account]
        made[WATCH].append(request("GET", f"{path}/watch", token))
        made[LIST].append(request("GET", "/v1/clips", token))
        made[GET].append(request("GET", path, token))
        made[KEEP].append(request("POST", f"{path}/keep", token))
    return made


@asynccontextmanager
async def _bare(stack: LocalStack) -> AsyncIterator[tuple[int, int]]:
    """Run the bare application; yield its port and its process id."""
    with Ports() as ports:
        port = ports.claim("bare")
        command = [sys.executable, "-m", bare_gateway.__name__, str(port)]
        process = await asyncio.create_subprocess_exec(*command, env=dict(stack.environment), cwd=ROOT)
        try:
            await asyncio.to_thread(_wait_ready, f"http://127.0.0.1:{port}{bare_gateway.READY}")
            yield port, process.pid
        finally:
            process.kill()
            await process.wait()


def _wait_ready(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - of this machine
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _last_rates(results: GatewayFigures) -> str:
    return ", ".join(f"{kind} {runs[-1].rate:.0f}/s" for kind, runs in results.runs.items() if runs)


def summary(about: About, results: GatewayFigures) -> str:
    """Return the text for the documentation."""
    parts = [about.sentence()]
    if results.runs[KEEP]:
        parts.append(_rates(results))
    if results.paced:
        parts.append(_latencies(results))
    return "\n\n".join([*parts, targets_table(targets(results))])


def _rates(results: GatewayFigures) -> str:
    return table(
        ("as many as it answers", "requests/s", "÷ bare (least, most)", "CPU µs", "registry's CPU µs"),
        *(
            (
                kind,
                shown(results.of(kind, lambda run: run.rate)),
                shown(results.ratio(kind), 2) if kind != BARE else "",
                shown(results.of(kind, lambda run: run.cpu * 1e6)),
                shown(results.of(kind, lambda run: run.registry_cpu * 1e6)) if kind != BARE else "",
            )
            for kind in KINDS
        ),
    )


def _latencies(results: GatewayFigures) -> str:
    return table(
        ("at half of that", "requests/s", "requests", "p50", "p99", "most"),
        *(
            (
                kind,
                f"{results.paces[kind]:.0f}",
                str(len(seconds)),
                *(f"{percentile(seconds, percent) * 1000:.1f} ms" for percent in (50, 99)),
                f"{max(seconds) * 1000:.0f} ms",
            )
            for kind, seconds in results.paced.items()
        ),
    )


def targets(results: GatewayFigures) -> list[Bound]:
    """Return the targets and their figures."""
    watch = results.ratio(WATCH)
    return [
        Bound(
            "watch, requests per second and process ÷ bare presigning",
            0.4,
            watch.median if watch else None,
            at_least=True,
            before=0.1,
        ),
        Bound("watch at half load, p99 in ms", 25, results.p99(WATCH)),
        Bound(f"list at half load and {results.rows:,} rows, p99 in ms", 50, results.p99(LIST)),
    ]


def _as_dict(results: GatewayFigures) -> dict[str, Any]:
    return {
        "rows": results.rows,
        "connections": CONNECTIONS,
        "runs": {
            kind: [
                {"rate": run.rate, "cpu_seconds": run.cpu, "registry_cpu_seconds": run.registry_cpu}
                for run in runs
            ]
            for kind, runs in results.runs.items()
        },
        "half_load": {
            kind: {"rate": results.paces[kind], "seconds": sorted(round(each, 6) for each in seconds)}
            for kind, seconds in results.paced.items()
        },
    }


if __name__ == "__main__":
    typer.run(main)
