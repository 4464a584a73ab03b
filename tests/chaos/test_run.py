"""A quiet round on the real system passes; then it is damaged by hand, and the checker sees each damage."""

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
    wishes=(AccountRequests(KEPT, "a", ("keep",)), AccountRequests(OTHER, "a", ("publish",))),
    faults=(),
    seconds=4,
)


@dataclass
class Quiet:
    """A run after one round without any fault."""

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
async def quiet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Quiet]:
    system = SystemUnderTest(session_seconds=6, seed=0)
    totals = Totals(session_seconds=6)
    async with system.running():
        run = ChaosRun(system, totals)
        await run.platform.open(Path(tmp_path_factory.mktemp("vods")))
        try:
            await run.round(PLAN)
            assert totals.findings == []
            yield Quiet(run, system)
        finally:
            await run.platform.close()


async def test_a_quiet_round_passes(quiet: Quiet) -> None:
    assert await quiet.violations() == set()
    statuses = {each.stream_highlight_id: each.status for each in (await take(quiet.system)).rows}
    assert (statuses[KEPT], statuses[OTHER]) == ("kept", "published")


async def test_a_dropped_object(quiet: Quiet) -> None:
    (key,) = (each.object_key for each in (await take(quiet.system)).rows if each.stream_highlight_id == KEPT)
    place = {"Bucket": CLIPS_BUCKET, "Key": key}
    body = quiet.system.s3.get_object(Bucket=CLIPS_BUCKET, Key=key)["Body"].read()
    quiet.system.s3.delete_object(Bucket=CLIPS_BUCKET, Key=key)
    assert await quiet.violations() == {V.MISSING_OBJECT, V.TOLD_IN_VAIN}, place
    quiet.system.s3.put_object(Bucket=CLIPS_BUCKET, Key=key, Body=body[:-1])
    assert await quiet.violations() == {V.MISSING_OBJECT, V.TOLD_IN_VAIN}
    quiet.system.s3.put_object(Bucket=CLIPS_BUCKET, Key=key, Body=body)
    assert await quiet.violations() == set()


async def test_an_orphan(quiet: Quiet) -> None:
    quiet.system.s3.put_object(Bucket=CLIPS_BUCKET, Key="clips/a/b/c.mp4", Body=b"x")
    assert await quiet.violations() == {V.ORPHAN}
    quiet.system.s3.delete_object(Bucket=CLIPS_BUCKET, Key="clips/a/b/c.mp4")


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("status = 'available', expires_at = now() + interval '1 h'", {V.TOLD_IN_VAIN, V.BROKEN_HISTORY}),
        (
            "status = 'purged', purge_reason = 'expired', purged_at = now(), expires_at = now()",
            {V.WRONGLY_PURGED, V.BROKEN_HISTORY, V.ORPHAN},
        ),
    ],
    ids=["un-kept", "purged"],
)
async def test_a_clip_that_was_kept_and_is_not(quiet: Quiet, damage: str, found: set[Violation]) -> None:
    clip_id = clip_id_for(KEPT)
    await quiet.execute(
        f"UPDATE generated_clips SET {damage}, kept_at = NULL, kept_by = NULL WHERE clip_id = $1",  # noqa: S608
        clip_id,
    )
    assert await quiet.violations() == found
    await quiet.execute(
        "UPDATE generated_clips SET status = 'kept', purge_reason = NULL, kept_at = now(), kept_by = 'a',"
        " expires_at = NULL, purged_at = NULL WHERE clip_id = $1",
        clip_id,
    )
    assert await quiet.violations() == set()


async def test_what_the_cutter_leaves_behind(quiet: Quiet) -> None:
    scratch = quiet.system.workspace.state.scratch
    (scratch / "job-left").mkdir()
    stray = await asyncio.create_subprocess_exec("sh", "-c", "read line", f"{scratch}/clip.mp4", stdin=PIPE)
    try:
        assert await quiet.violations() == {V.LEFTOVER}
        (scratch / "job-left").rmdir()
        assert await quiet.violations() == {V.LEFTOVER}
    finally:
        stray.kill()
        await stray.wait()
    assert await quiet.violations() == set()


async def test_an_outbox_that_is_dead(quiet: Quiet) -> None:
    """Last: the registry does not come back."""
    registry = quiet.system.of("clip-registry")
    registry.wanted = False
    quiet.system.kill(registry)
    await quiet.execute("INSERT INTO outbox (queue, payload) VALUES ('clip-lifecycle', 'lost')")
    await quiet.run.platform.publish("clip-skipped", b"{}", key=None, headers=[])
    snapshot = await take(quiet.system)
    findings = check(quiet.run.ledger, snapshot).findings
    assert {each.violation for each in findings} == {V.BACKLOG, V.STANDING}
    standing = [each for each in snapshot.partitions if each.lag]
    assert [(each.group, each.lag) for each in standing] == [("clip-registry.clip-skipped", 1)]

    await quiet.execute("DELETE FROM outbox")
    change = "UPDATE generated_clips SET version = version + 1 WHERE clip_id = $1"
    await quiet.execute(change, clip_id_for(OTHER))
    assert V.LOST in await quiet.violations()
