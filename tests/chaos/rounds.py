"""Rounds: load and faults, healing, settling, and the check."""

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

from clip_shared.bus.delivery.middleware import LONGEST_PAUSE_SECONDS
from clip_shared.bus.dlq import replay
from clip_shared.bus.settings import KafkaSettings
from janitor.registry_client import HttpRegistry, open_http
from janitor.storage import ClipBucket
from janitor.sweep import Sweep, TooManyOrphans
from tests.chaos.checker import CheckResult, Finding, Violation, check, orphans, re_encoded, refused
from tests.chaos.faults import Faults
from tests.chaos.ledger import Ledger
from tests.chaos.load import DETECTED, ChaosPlatform, detection_time
from tests.chaos.observe import backlog, progress, replay_outbox, take
from tests.chaos.plan import EXTRA_SECONDS, RoundPlan, Send, draw, passer_by
from tests.chaos.report import MAX_SHOWN, Totals
from tests.chaos.system import GIVE_UP_SECONDS, SystemUnderTest

RELEASES = "clip-objects-released"
MAX_REPLAYED = 1000
RECOVERY_LIMIT_SECONDS = 60.0
# What can never succeed is given up, at the latest, after the pause that follows.
UNANSWERED_LIMIT_SECONDS = GIVE_UP_SECONDS + 2 * LONGEST_PAUSE_SECONDS
PASSERS_BY_EVERY_SECONDS = 2.0
LOOK_SECONDS = 0.5
# In a row, with nothing to do each time.
QUIET_LOOKS = 2


class ChaosRun:
    """Rounds on one system, which remembers all of them: each check is of everything so far."""

    def __init__(self, system: SystemUnderTest, totals: Totals) -> None:
        self.ledger = Ledger()
        self.platform = ChaosPlatform(system, self.ledger)
        self.faults = Faults(system, self.platform)
        self._system = system
        self._totals = totals
        self._refused = 0

    async def round(self, plan: RoundPlan) -> CheckResult:
        """One round, and what the checker has to say."""
        typer.echo(plan)
        healed, settled = asyncio.Event(), asyncio.Event()
        playing = asyncio.create_task(self.platform.play(plan, healed, settled))
        await self._suffer(plan)
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
        verdict = check(self.ledger, snapshot)
        findings = verdict.findings + self._complaints(settled=is_settled)
        verdict = CheckResult(findings, verdict.ends)
        self._note(plan, verdict, seconds)
        return verdict

    async def _suffer(self, plan: RoundPlan) -> None:
        """Inject the faults. At the return all are over, and so is the load."""
        self.faults.healing.clear()
        started = time.monotonic()
        faults = [asyncio.create_task(self.faults.inject(fault, plan.seed, started)) for fault in plan.faults]
        await asyncio.sleep(plan.seconds)
        if faults:
            await asyncio.wait(faults, timeout=EXTRA_SECONDS)
        self.faults.healing.set()
        await asyncio.gather(*faults)

    async def _outlast_unanswered(self, plan: RoundPlan) -> float:
        """Wait until the highlight that can never succeed has come to its end, while others pass by.

        Only while others succeed does a message meet no outage, and is given up.

        Returns:
            how many seconds that took.
        """
        started, send, self.faults.unanswered = time.monotonic(), self.faults.unanswered, None
        number = 0
        while send is not None and time.monotonic() < started + UNANSWERED_LIMIT_SECONDS:
            if await self._has_passed(send):
                break
            await self.platform.detect(passer_by(plan.seed, number), detection_time())
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
        """Wait until there is nothing left to do, anywhere."""
        quiet, deadline = 0, time.monotonic() + RECOVERY_LIMIT_SECONDS
        while quiet < QUIET_LOOKS and time.monotonic() < deadline:
            quiet = 0 if await self._is_busy() else quiet + 1
            await asyncio.sleep(LOOK_SECONDS)
        return quiet >= QUIET_LOOKS

    async def _is_busy(self) -> bool:
        try:
            return await backlog(self._system) > 0 or not await self._system.all_ready()
        except (KafkaError, OSError, TimeoutError, asyncpg.PostgresError):
            return True  # a server that is not quite up yet

    async def _replay_releases(self) -> None:
        """What a person does with objects that could not be deleted: have it tried again."""
        environment = self._system.environment
        settings = KafkaSettings(kafka_bootstrap_servers=environment["KAFKA_BOOTSTRAP_SERVERS"])
        replayed = (await replay(settings, RELEASES, limit=MAX_REPLAYED)).dealt_with
        self._totals.replayed += replayed
        if replayed:
            await self._settle()

    async def _replay_outbox(self) -> None:
        """What a person does with events that the broker refused: have them sent again."""
        replayed = await replay_outbox(self._system)
        self._totals.replayed_events += replayed
        if replayed:
            await self._settle()

    async def _sweep(self) -> None:
        """Sweep as ``janitor sweep --delete`` does, without its margin of age.

        A cutter leaves objects behind when it dies after an upload, and nobody does its job again: somebody
        had done it meanwhile, or too many had died of it.
        """
        environment = self._system.environment
        storage = ClipBucket(self._system.s3, environment["FREE_STORAGE_BUCKET"])
        async with open_http(environment["REGISTRY_URL"], environment["REGISTRY_JANITOR_TOKEN"]) as http:
            older_than = datetime.now(UTC) + timedelta(minutes=1)
            sweep = Sweep(
                storage, HttpRegistry(http), older_than=older_than, limit_percent=50, progress=lambda _: None
            )
            with suppress(TooManyOrphans):  # they are left for the checker to find
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
        """A death, or a clip whose announcement was refused, leaves no more than a poster and a video."""
        return 2 * (self._system.restarts["clip-cutter"] + self._refused)

    def _note(self, plan: RoundPlan, verdict: CheckResult, seconds: float) -> None:
        totals = self._totals
        totals.add(plan.seed, verdict, seconds)
        totals.events, totals.kinds = len(self.ledger.accepted), self.ledger.kinds
        totals.injected, totals.missed = self.faults.injected, self.faults.missed
        totals.restarts = self._system.restarts
        totals.liveness_restarts = self._system.liveness_restarts
        typer.echo(f"  so far: {dict(verdict.ends)}, {totals.injected.total()} faults")
        typer.echo(f"  recovered in {seconds:.1f} s, {len(verdict.findings)} violations")
        for each in verdict.findings[:MAX_SHOWN]:
            typer.echo(f"  VIOLATION {each.violation}: {each.what}")


async def run(
    totals: Totals, *, first_seed: int, rounds: int | None, until: float | None, logs: Path, may_mount: bool
) -> None:
    """Rounds on one system: so many, or until a moment of the monotonic clock; a violation is the end.

    ``logs``: where the logs of everything are put after a violation.
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
