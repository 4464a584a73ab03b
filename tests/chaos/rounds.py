"""Rounds of load and faults; after each round, the system settles and is checked."""

import asyncio
import shutil
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import typer
from aiokafka.errors import KafkaError

from clip_shared.bus.delivery.redelivery import LONGEST_PAUSE_SECONDS
from clip_shared.bus.dlq import replay
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.registry_client import RegistryClient
from janitor.registry import HttpJanitorRegistry
from janitor.storage import ClipBucket
from janitor.sweep import OrphanSweep, TooManyOrphans
from tests.chaos.checker import CheckResult, Finding, Violation, check, orphans, re_encoded, refused
from tests.chaos.faults import Faults
from tests.chaos.ledger import Ledger
from tests.chaos.load import DETECTED, ChaosPlatform, detection_time
from tests.chaos.observe import backlog, progress, replay_outbox, take
from tests.chaos.plan import EXTRA_SECONDS, RoundPlan, Send, draw, skipped_highlight
from tests.chaos.report import MAX_SHOWN, Totals
from tests.chaos.system import GIVE_UP_SECONDS, SystemUnderTest

RELEASES = "clip-objects-released"
MAX_REPLAYED = 1000
RECOVERY_LIMIT_SECONDS = 60.0
# A highlight that cannot succeed gives up after this time and the pause that follows, at the latest.
UNANSWERED_LIMIT_SECONDS = GIVE_UP_SECONDS + 2 * LONGEST_PAUSE_SECONDS
PASSERS_BY_EVERY_SECONDS = 2.0
LOOK_SECONDS = 0.5
# Observations in a row without work left.
QUIET_LOOKS = 2


class ChaosRun:
    """Rounds on one system. Each check includes all rounds so far."""

    def __init__(self, system: SystemUnderTest, totals: Totals) -> None:
        self.ledger = Ledger()
        self.platform = ChaosPlatform(system, self.ledger)
        self.faults = Faults(system, self.platform)
        self._system = system
        self._totals = totals
        self._refused = 0

    async def round(self, plan: RoundPlan) -> CheckResult:
        """Run a round, and return the checker's result."""
        typer.echo(plan)
        healed, settled = asyncio.Event(), asyncio.Event()
        playing = asyncio.create_task(self.platform.play(plan, healed, settled))
        await self._inject(plan)
        healed.set()
        self._totals.unanswered_seconds += await self._outlast_unanswered(plan)
        settling_from = time.monotonic()
        is_settled = await self._settle()
        seconds = time.monotonic() - settling_from
        settled.set()
        await playing
        await self._settle()
        await self._replay_releases()
        await self._replay_outbox()
        snapshot = await take(self._system)
        if orphans(snapshot):
            await self._sweep()
            snapshot = await take(self._system)
        self._refused = refused(snapshot)
        self._totals.re_encoded, self._totals.unfinished = re_encoded(snapshot), len(snapshot.unfinished)
        result = check(self.ledger, snapshot)
        findings = result.findings + self._complaints(settled=is_settled)
        result = CheckResult(findings, result.ends)
        self._note(plan, result, seconds)
        return result

    async def _inject(self, plan: RoundPlan) -> None:
        """Inject the faults; return when all of them, and the load, are over."""
        self.faults.healing.clear()
        started = time.monotonic()
        faults = [asyncio.create_task(self.faults.inject(fault, plan.seed, started)) for fault in plan.faults]
        await asyncio.sleep(plan.seconds)
        if faults:
            await asyncio.wait(faults, timeout=EXTRA_SECONDS)
        self.faults.healing.set()
        await asyncio.gather(*faults)

    async def _outlast_unanswered(self, plan: RoundPlan) -> float:
        """Wait until the highlight that cannot succeed is dead-lettered, while other highlights are handled.

        A message gives up only while other messages of its topic succeed.

        Returns:
            the seconds that it took.
        """
        started, send, self.faults.unanswered = time.monotonic(), self.faults.unanswered, None
        number = 0
        while send is not None and time.monotonic() < started + UNANSWERED_LIMIT_SECONDS:
            if await self._has_passed(send):
                break
            await self.platform.detect(skipped_highlight(plan.seed, number), detection_time())
            number += 1
            await asyncio.sleep(PASSERS_BY_EVERY_SECONDS)
        return time.monotonic() - started

    async def _has_passed(self, send: Send) -> bool:
        number, offset = self.ledger.positions[send.event]
        with suppress(KafkaError, OSError, TimeoutError):
            found = await progress(self._system.environment["KAFKA_BOOTSTRAP_SERVERS"])
            return any(
                each.topic == DETECTED and each.number == number and each.committed > offset for each in found
            )
        return False

    async def _settle(self) -> bool:
        """Wait until no service has work left; return whether that happened in time."""
        quiet, deadline = 0, time.monotonic() + RECOVERY_LIMIT_SECONDS
        while quiet < QUIET_LOOKS and time.monotonic() < deadline:
            quiet = 0 if await self._is_busy() else quiet + 1
            await asyncio.sleep(LOOK_SECONDS)
        return quiet >= QUIET_LOOKS

    async def _is_busy(self) -> bool:
        try:
            return await backlog(self._system) > 0 or not await self._system.all_ready()
        except (KafkaError, OSError, TimeoutError, asyncpg.PostgresError):
            return True  # a server that is still starting

    async def _replay_releases(self) -> None:
        """Redrive the dead letters of released objects that could not be deleted, as an operator does."""
        environment = self._system.environment
        settings = KafkaSettings(kafka_bootstrap_servers=environment["KAFKA_BOOTSTRAP_SERVERS"])
        replayed = (await replay(settings, RELEASES, limit=MAX_REPLAYED)).dealt_with
        self._totals.replayed += replayed
        if replayed:
            await self._settle()

    async def _replay_outbox(self) -> None:
        """Replay the events that the broker refused, as an operator does."""
        replayed = await replay_outbox(self._system)
        self._totals.replayed_events += replayed
        if replayed:
            await self._settle()

    async def _sweep(self) -> None:
        """Sweep as ``janitor sweep --delete`` does, without its minimum age.

        A cutter that dies after an upload leaves objects when its job is not repeated: another worker has
        done the job, or the job was dead-lettered after too many crashes.
        """
        environment = self._system.environment
        storage = ClipBucket(self._system.s3, environment["FREE_STORAGE_BUCKET"])
        url, token = environment["REGISTRY_URL"], environment["REGISTRY_JANITOR_TOKEN"]
        async with RegistryClient(url, token) as client:
            older_than = datetime.now(UTC) + timedelta(minutes=1)
            sweep = OrphanSweep(
                storage,
                HttpJanitorRegistry(client),
                older_than=older_than,
                limit_percent=50,
                on_page=lambda _: None,
            )
            with suppress(TooManyOrphans):  # the checker reports them
                tally = await sweep.delete(await sweep.count(), force=False)
                self._totals.swept += tally.deleted

    def _complaints(self, *, settled: bool) -> list[Finding]:
        late = [
            Finding(Violation.LEFTOVER, f"{name} did not end after SIGTERM") for name in self._system.overruns
        ]
        self._system.overruns.clear()
        if self._totals.swept > self._most_orphans:
            late.append(
                Finding(Violation.ORPHAN, f"{self._totals.swept} orphans, of {self._most_orphans} at most")
            )
        if not settled:
            late.append(Finding(Violation.BACKLOG, f"not settled within {RECOVERY_LIMIT_SECONDS:.0f} s"))
        return late

    @property
    def _most_orphans(self) -> int:
        """The largest allowed number: a crash, or a refused announcement of a clip, leaves two objects."""
        return 2 * (self._system.restarts["clip-cutter"] + self._refused)

    def _note(self, plan: RoundPlan, result: CheckResult, seconds: float) -> None:
        totals = self._totals
        totals.add(plan.seed, result, seconds)
        totals.events, totals.kinds = len(self.ledger.accepted), self.ledger.kinds
        totals.injected, totals.missed = self.faults.injected, self.faults.missed
        totals.restarts = self._system.restarts
        totals.liveness_restarts = self._system.liveness_restarts
        typer.echo(f"  so far: {dict(result.ends)}, {totals.injected.total()} faults")
        typer.echo(f"  recovered in {seconds:.1f} s, {len(result.findings)} violations")
        for each in result.findings[:MAX_SHOWN]:
            typer.echo(f"  VIOLATION {each.violation}: {each.what}")


async def run(
    totals: Totals, *, first_seed: int, rounds: int | None, until: float | None, logs: Path, may_mount: bool
) -> None:
    """Run rounds on one system: a number of them, or until a time of the monotonic clock.

    The first violation ends the run; the logs are then copied to ``logs``.
    """
    system = SystemUnderTest(session_seconds=totals.session_seconds, seed=first_seed, may_mount=may_mount)
    with tempfile.TemporaryDirectory(prefix="clips-chaos-") as folder:
        async with system.running():
            this = ChaosRun(system, totals)
            await this.platform.open(Path(folder))
            try:
                seed = first_seed
                while _goes_on(seed - first_seed, rounds, until) and not totals.findings:
                    await this.round(draw(seed))
                    seed += 1
            finally:
                if not totals.is_clean:
                    shutil.copytree(system.workspace.state.logs, logs, dirs_exist_ok=True)
                    typer.echo(f"  The logs are in {logs}")
                await this.platform.close()


def _goes_on(done: int, rounds: int | None, until: float | None) -> bool:
    if until is not None:
        return time.monotonic() < until
    return rounds is None or done < rounds
