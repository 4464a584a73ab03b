"""A round without faults passes on the real system; after each damage by hand, the checker reports it."""

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from clip_shared.contracts.events import clip_id_for
from local_stack.stack import CLIPS_BUCKET
from tests.chaos.checker import Violation, check
from tests.chaos.observe import take
from tests.chaos.plan import BELOW_HANDLERS, AccountRequests, ExpectedEnd, Flaw, RoundPlan, Send
from tests.chaos.report import Totals
from tests.chaos.rounds import ChaosRun
from tests.chaos.system import SystemUnderTest

V = Violation
KEPT, OTHER = "h-0", "h-1"
PLAN = RoundPlan(
    seed=0,
    sends=(
        *(Send(0, str(uuid4()), f"h-{number}", "a", ExpectedEnd.CLIP, start=number) for number in range(3)),
        Send(0, str(uuid4()), "f", "a", ExpectedEnd.SKIPPED, Flaw.NOT_CLIPABLE),
        *(
            Send(0, str(uuid4()), f"odd-{flaw.name.lower()}", "a", ExpectedEnd.DEAD, flaw)
            for flaw in BELOW_HANDLERS
        ),
    ),
    requests=(AccountRequests(KEPT, "a", ("keep",)), AccountRequests(OTHER, "a", ("publish",))),
    faults=(),
    seconds=4,
)


@dataclass
class FaultlessRun:
    """A run after one round without faults."""

    run: ChaosRun
    system: SystemUnderTest

    async def violations(self) -> set[Violation]:
        return {each.violation for each in check(self.run.ledger, await take(self.system)).findings}

    async def execute(self, statement: str, *arguments: Any) -> None:
        url = self.system.environment["DATABASE_URL"].replace("+asyncpg", "")
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statement, *arguments)
        finally:
            await connection.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def run(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultlessRun]:
    system = SystemUnderTest(session_seconds=6, seed=0)
    totals = Totals(session_seconds=6)
    async with system.running():
        run = ChaosRun(system, totals)
        await run.platform.open(Path(tmp_path_factory.mktemp("vods")))
        try:
            await run.round(PLAN)
            assert totals.findings == []
            yield FaultlessRun(run, system)
        finally:
            await run.platform.close()


async def test_a_quiet_round_passes(run: FaultlessRun) -> None:
    assert await run.violations() == set()
    statuses = {each.stream_highlight_id: each.status for each in (await take(run.system)).rows}
    assert (statuses[KEPT], statuses[OTHER]) == ("kept", "published")


async def test_a_dropped_object(run: FaultlessRun) -> None:
    (key,) = (each.object_key for each in (await take(run.system)).rows if each.stream_highlight_id == KEPT)
    place = {"Bucket": CLIPS_BUCKET, "Key": key}
    body = run.system.s3.get_object(Bucket=CLIPS_BUCKET, Key=key)["Body"].read()
    run.system.s3.delete_object(Bucket=CLIPS_BUCKET, Key=key)
    assert await run.violations() == {V.MISSING_OBJECT, V.FALSE_ANSWER}, place
    run.system.s3.put_object(Bucket=CLIPS_BUCKET, Key=key, Body=body[:-1])
    assert await run.violations() == {V.MISSING_OBJECT, V.FALSE_ANSWER}
    run.system.s3.put_object(Bucket=CLIPS_BUCKET, Key=key, Body=body)
    assert await run.violations() == set()


async def test_an_orphan(run: FaultlessRun) -> None:
    run.system.s3.put_object(Bucket=CLIPS_BUCKET, Key="clips/a/b/c.mp4", Body=b"x")
    assert await run.violations() == {V.ORPHAN}
    run.system.s3.delete_object(Bucket=CLIPS_BUCKET, Key="clips/a/b/c.mp4")


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("status = 'available', expires_at = now() + interval '1 h'", {V.FALSE_ANSWER, V.BROKEN_HISTORY}),
        (
            "status = 'purged', purge_reason = 'expired', purged_at = now(), expires_at = now()",
            {V.WRONGLY_PURGED, V.BROKEN_HISTORY, V.ORPHAN},
        ),
    ],
    ids=["un-kept", "purged"],
)
async def test_a_clip_that_was_kept_and_is_not(run: FaultlessRun, damage: str, found: set[Violation]) -> None:
    clip_id = clip_id_for(KEPT)
    await run.execute(
        f"UPDATE generated_clips SET {damage}, kept_at = NULL, kept_by = NULL WHERE clip_id = $1",  # noqa: S608
        clip_id,
    )
    assert await run.violations() == found
    await run.execute(
        "UPDATE generated_clips SET status = 'kept', purge_reason = NULL, kept_at = now(), kept_by = 'a',"
        " expires_at = NULL, purged_at = NULL WHERE clip_id = $1",
        clip_id,
    )
    assert await run.violations() == set()


async def test_leftovers_of_the_cutter_are_found(run: FaultlessRun) -> None:
    scratch = run.system.workspace.state.scratch
    (scratch / "job-left").mkdir()
    stray = await asyncio.create_subprocess_exec("sh", "-c", "read line", f"{scratch}/clip.mp4", stdin=PIPE)
    try:
        assert await run.violations() == {V.LEFTOVER}
        (scratch / "job-left").rmdir()
        assert await run.violations() == {V.LEFTOVER}
    finally:
        stray.kill()
        await stray.wait()
    assert await run.violations() == set()


async def test_an_outbox_that_is_dead(run: FaultlessRun) -> None:
    """The last test: it leaves the registry stopped."""
    registry = run.system.of("clip-registry")
    registry.wanted = False
    run.system.kill(registry)
    await run.execute("INSERT INTO outbox (queue, payload) VALUES ('clip-lifecycle', 'lost')")
    await run.run.platform.publish("clip-skipped", b"{}", key=None, headers=[])
    snapshot = await take(run.system)
    findings = check(run.run.ledger, snapshot).findings
    assert {each.violation for each in findings} == {V.BACKLOG, V.STUCK_PARTITION}
    standing = [each for each in snapshot.partitions if each.lag]
    assert [(each.group, each.lag) for each in standing] == [("clip-registry.clip-skipped", 1)]

    await run.execute("DELETE FROM outbox")
    change = "UPDATE generated_clips SET version = version + 1 WHERE clip_id = $1"
    await run.execute(change, clip_id_for(OTHER))
    assert V.LOST in await run.violations()
