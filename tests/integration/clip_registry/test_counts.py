"""The counts of clips equal a count of the rows at any time, also while clips change."""

import asyncio
import random
from collections import Counter
from datetime import timedelta

import pytest
from typer.testing import CliRunner, Result

from clip_registry.__main__ import cli
from clip_registry.clips.store import ClipStore
from clip_registry.domain.actions import ActionOutcome
from clip_registry.domain.cuts import CutOutcome
from clip_registry.reports import ReportedCut
from clip_registry.timers import clip_counts as counts
from clip_registry.timers.clip_counts import Drift
from clip_registry.timers.metrics_snapshot import take_snapshot
from clip_registry.timers.trimming import trim
from clip_shared.contracts.events import ClipOrigin, clip_id_for
from clip_shared.contracts.registry_api import ClipAction, ClipStatus
from tests.integration.clip_registry.conftest import Database
from tests.unit.clip_registry.cuts import HOUR, NOON, a_cut, an_action

AVAILABLE, KEPT, PUBLISHED, DELETED, PURGED = ClipStatus
DAY = timedelta(days=1)
CONNECTIONS = 8


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - repeatable, not secret


async def changes(database: Database) -> int:
    """How many changes wait to be folded."""
    [row] = await database.run("SELECT count(*) AS number FROM clip_count_changes")
    return int(row.number)


async def record(store: ClipStore, highlight: str, size: int = 1000, event: str = "event-5") -> None:
    at = NOON if event == "event-5" else NOON + HOUR
    cut = a_cut(highlight, event, at, file_size_bytes=size)
    await store.record([ReportedCut(cut, f"{highlight}-{event}")])


async def test_every_change_counts(database: Database, store: ClipStore) -> None:
    async def counted() -> tuple[dict[ClipStatus, int], dict[ClipStatus, int], int]:
        assert await counts.drift(database.engine) == []
        snapshot = await take_snapshot(database.engine)
        assert await counts.drift(database.engine) == []
        assert await changes(database) == 0
        return snapshot.clips, snapshot.bytes, snapshot.purged

    none = dict.fromkeys((AVAILABLE, KEPT, PUBLISHED, DELETED), 0)
    assert await counted() == (none, none, 0)
    await record(store, "one", 10)
    await record(store, "two", 200)
    assert await counted() == ({**none, AVAILABLE: 2}, {**none, AVAILABLE: 210}, 0)
    await record(store, "two", 300, event="event-6")
    assert await counted() == ({**none, AVAILABLE: 2}, {**none, AVAILABLE: 310}, 0)
    one, two = clip_id_for("one"), clip_id_for("two")
    await store.act(an_action(ClipAction.PUBLISH), two)
    assert await counted() == (
        {**none, AVAILABLE: 1, PUBLISHED: 1},
        {**none, AVAILABLE: 10, PUBLISHED: 300},
        0,
    )
    await store.act_on_many(an_action(ClipAction.DELETE), [one, two])
    assert await counted() == ({**none, DELETED: 2}, {**none, DELETED: 310}, 0)
    await store.act(an_action(ClipAction.RESTORE), two)
    await database.expire(one)
    await store.purge(10, None)
    assert await counted() == ({**none, PUBLISHED: 1}, {**none, PUBLISHED: 300}, 1)
    await database.run(
        "UPDATE generated_clips SET purged_at = now() - interval '50 days' WHERE purged_at < now()"
    )
    assert (await trim(database.engine)).rows == 1
    assert await counted() == ({**none, PUBLISHED: 1}, {**none, PUBLISHED: 300}, 0)
    await database.run("DELETE FROM generated_clips")
    assert await counted() == (none, none, 0)


async def test_what_counts_the_same_is_not_written(database: Database, store: ClipStore) -> None:
    await record(store, "one")
    await counts.fold(database.engine)
    await store.act(an_action(ClipAction.RENAME, title="Another"), clip_id_for("one"))
    await record(store, "one")
    assert await changes(database) == 0


async def test_a_table_that_is_emptied_by_hand_counts_as_empty(database: Database, store: ClipStore) -> None:
    await record(store, "one")
    await counts.fold(database.engine)
    await record(store, "two")
    await database.run("TRUNCATE generated_clips")
    assert await counts.drift(database.engine) == []
    assert (await take_snapshot(database.engine)).clips[AVAILABLE] == 0


async def test_a_transaction_that_is_rolled_back_counts_nothing(database: Database, store: ClipStore) -> None:
    await record(store, "one")
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql("DELETE FROM generated_clips")
        await connection.rollback()
    assert await counts.drift(database.engine) == []


HIGHLIGHTS = [f"hl-{number}" for number in range(40)]


async def be_busy(database: Database, store: ClipStore, seed: int) -> None:
    """Cut, request, and let time pass, in an order of the seed's own."""
    chance = seeded(seed)
    for step in range(20):
        chosen = chance.sample(HIGHLIGHTS, 8)
        what = chance.random()
        if what < 0.4:
            event, at = f"event-{seed}-{step}", NOON + HOUR * chance.random()
            cuts = [a_cut(each, event, at, file_size_bytes=step + 1) for each in chosen]
            await store.record([ReportedCut(each, f"{event}-{each.clip_id}") for each in cuts])
        elif what < 0.8:
            action = chance.choice([each for each in ClipAction if each is not ClipAction.RENAME])
            await store.act_on_many(an_action(action), [clip_id_for(each) for each in chosen])
        else:
            await database.run(
                "UPDATE generated_clips SET expires_at = now() - interval '1 second'"
                " WHERE stream_highlight_id = :chosen AND expires_at IS NOT NULL",
                chosen=chosen[0],
            )
            await store.purge(3, None)


async def test_counts_are_right_at_every_moment(database: Database, store: ClipStore) -> None:
    """Cuts, owners, janitors, folders and repairers at once; none waits in a circle."""
    working = True

    async def watch() -> list[list[Drift]]:
        found = []
        while working:
            found.append(await counts.drift(database.engine))
            await take_snapshot(database.engine)
        return found

    async def correct() -> int:
        corrected = 0
        while working:
            corrected += await counts.repair(database.engine)
            await counts.fold(database.engine, at_once=5)
        return corrected

    watchers = [asyncio.create_task(watch()), asyncio.create_task(watch())]
    correctors = [asyncio.create_task(correct()), asyncio.create_task(correct())]
    await asyncio.gather(*(be_busy(database, store, seed) for seed in range(CONNECTIONS)))
    working = False
    seen = [found for each in await asyncio.gather(*watchers) for found in each]
    assert len(seen) > 2
    assert [found for found in seen if found] == []
    assert await asyncio.gather(*correctors) == [0, 0]
    assert await counts.drift(database.engine) == []
    rows = await database.run("SELECT status FROM generated_clips")
    by_status = Counter(row.status for row in rows)
    snapshot = await take_snapshot(database.engine)
    assert snapshot.clips | {PURGED: snapshot.purged} == {each: by_status[each] for each in ClipStatus}


async def test_a_transaction_that_lasts_keeps_no_other_from_counting(
    database: Database, store: ClipStore
) -> None:
    for number in range(3):
        await record(store, f"hl-{number}")
    async with database.engine.begin() as slow:
        await slow.exec_driver_sql(
            "UPDATE generated_clips SET file_size_bytes = 5 WHERE stream_highlight_id = 'hl-0'"
        )
        await asyncio.wait_for(store.act(an_action(ClipAction.KEEP), clip_id_for("hl-1")), 30)
        snapshot = await asyncio.wait_for(take_snapshot(database.engine), 30)
        assert (snapshot.clips[AVAILABLE], snapshot.clips[KEPT], snapshot.bytes[AVAILABLE]) == (2, 1, 2000)
        assert await counts.drift(database.engine) == []
    assert (await take_snapshot(database.engine)).bytes[AVAILABLE] == 1005
    assert await counts.drift(database.engine) == []


async def test_while_one_folds_another_does_not_wait(database: Database, store: ClipStore) -> None:
    await record(store, "one")
    async with database.engine.begin() as connection:
        assert (await connection.execute(counts.MAY_FOLD)).scalar_one()
        assert await asyncio.wait_for(counts.fold(database.engine), 30) == 0
    assert await counts.fold(database.engine) == 1


async def test_counts_that_were_lost_are_found_missing_and_repaired(
    database: Database, store: ClipStore
) -> None:
    await record(store, "one", 10)
    await record(store, "two", 20)
    await store.act(an_action(ClipAction.KEEP), clip_id_for("two"))
    await counts.fold(database.engine)
    await database.run("DELETE FROM clip_counts WHERE status = 'kept'")
    await database.run("UPDATE clip_counts SET clips = clips + 5 WHERE status = 'available'")
    found = {each.status: each for each in await counts.drift(database.engine)}
    assert found == {"available": Drift("available", -5, 0), "kept": Drift("kept", 1, 20)}
    assert await counts.repair(database.engine) == 2
    assert await counts.drift(database.engine) == []
    snapshot = await take_snapshot(database.engine)
    assert (snapshot.clips[AVAILABLE], snapshot.clips[KEPT], snapshot.bytes[KEPT]) == (1, 1, 20)


async def command(database: Database, name: str) -> Result:
    runner, environment = CliRunner(), {"DATABASE_URL": database.url}
    return await asyncio.to_thread(runner.invoke, cli, ["counts", name], env=environment)


async def test_the_command_says_what_is_wrong_and_corrects_it(database: Database, store: ClipStore) -> None:
    await record(store, "one", 1234)
    await database.run("DELETE FROM clip_count_changes")
    found = await command(database, "check")
    assert found.exit_code == 1, found.output
    assert found.stdout == "available    the counts lack 1 clips, 1,234 bytes\n"
    assert "clip-registry counts repair" in found.stderr
    assert (await command(database, "repair")).stdout == "corrected: 1\n"
    assert (await command(database, "check")).stdout == "the counts are right\n"


async def expiring_in(store: ClipStore, database: Database, delay: timedelta, size: int = 1000) -> None:
    highlight = f"in-{delay.total_seconds():.0f}"
    await record(store, highlight, size)
    await database.expire(clip_id_for(highlight), seconds_ago=-delay.total_seconds())


async def test_what_leaves_is_told_by_day(database: Database, store: ClipStore) -> None:
    for delay, size in ((HOUR, 1), (23 * HOUR, 2), (25 * HOUR, 4), (6 * DAY + HOUR, 8), (7 * DAY + HOUR, 16)):
        await expiring_in(store, database, delay, size)
    await record(store, "kept")
    await store.act(an_action(ClipAction.KEEP), clip_id_for("kept"))
    await record(store, "deleted")
    await store.act(an_action(ClipAction.DELETE), clip_id_for("deleted"))
    await expiring_in(store, database, -2 * HOUR)
    snapshot = await take_snapshot(database.engine)
    assert snapshot.leaving == (2, 1, 0, 0, 0, 0, 1)
    assert snapshot.leaving_bytes == (3, 4, 0, 0, 0, 0, 8)


@pytest.mark.parametrize("seconds", [1, 30, 700, 86_400])
async def test_what_is_overdue_and_since_when(database: Database, store: ClipStore, seconds: int) -> None:
    """Within the ten minutes under way, before them, and of deleted clips, too."""
    assert (await take_snapshot(database.engine)).purge_lag_seconds == 0
    await expiring_in(store, database, timedelta(seconds=-seconds))
    await expiring_in(store, database, HOUR)
    await record(store, "deleted")
    await store.act(an_action(ClipAction.DELETE), clip_id_for("deleted"))
    snapshot = await take_snapshot(database.engine)
    assert snapshot.overdue == 1
    assert seconds <= snapshot.purge_lag_seconds < seconds + 300
    await database.expire(clip_id_for("deleted"), seconds_ago=100_000)
    snapshot = await take_snapshot(database.engine)
    assert snapshot.overdue == 2
    assert snapshot.purge_lag_seconds >= 100_000
    await store.purge(10, None)
    assert (
        (await take_snapshot(database.engine)).overdue,
        (await take_snapshot(database.engine)).purge_lag_seconds,
    ) == (0, 0)


async def test_a_cut_that_meets_its_rows_trimming_makes_a_clip_again(
    database: Database, store: ClipStore
) -> None:
    """100 races: the row of a clip purged long ago is trimmed while a newer cut of its highlight comes."""
    seen: Counter[CutOutcome] = Counter()
    highlights = [f"hl-{number}" for number in range(100)]
    await store.record([ReportedCut(a_cut(each), each) for each in highlights])
    await database.run("UPDATE generated_clips SET expires_at = now() - interval '1 second'")
    await store.purge(1000, None)
    await database.run("UPDATE generated_clips SET purged_at = now() - interval '50 days', title = ''")
    [row] = await database.run("SELECT now() AS now")

    async def cut(highlight: str) -> None:
        reported = ReportedCut(
            a_cut(highlight, "event-9", row.now, origin=ClipOrigin.OWNER), f"again-{highlight}"
        )
        [recorded] = await store.record([reported])
        answer, _ = await store.act(an_action(ClipAction.KEEP), clip_id_for(highlight))
        assert answer is ActionOutcome.DONE
        seen[recorded.outcome] += 1

    async def trim_all() -> None:
        while await database.run("SELECT 1 FROM generated_clips WHERE status = 'purged' LIMIT 1"):
            await trim(database.engine, at_once=1)

    async def cut_all(start: int) -> None:
        for highlight in highlights[start::4]:
            await cut(highlight)

    await asyncio.gather(*map(cut_all, range(4)), trim_all(), trim_all())
    rows = await database.run("SELECT status, object_key FROM generated_clips")
    assert Counter(each.status for each in rows) == {"kept": len(highlights)}
    assert {each.object_key for each in rows} == {a_cut(each, "event-9").object_key for each in highlights}
    assert set(seen) <= {CutOutcome.CREATED, CutOutcome.RECUT}
    assert seen.total() == len(highlights)
    assert await counts.drift(database.engine) == []
