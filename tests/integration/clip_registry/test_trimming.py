"""Skips and titles of purged clips are trimmed after 30 days, rows of purged clips after 40; nothing else."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from clip_registry.clips.store import ClipStore
from clip_registry.database.engine import open_engine
from clip_registry.database.transactions import transaction
from clip_registry.reports import ReportedCut
from clip_registry.timers import trimming
from clip_registry.timers.trimming import Trimmed, keep_trimming, trim
from clip_shared.contracts.registry_api import ClipAction, ClipStatus
from clip_shared.errors import TransientError
from tests.integration.clip_registry.conftest import Database
from tests.unit.clip_registry.cuts import NOON, a_cut, a_skip, an_action

AGES = "UPDATE generated_clips SET purged_at = now() - CAST(:age AS interval) WHERE stream_highlight_id = :hl"
DAY = timedelta(days=1)
TO = {
    ClipStatus.AVAILABLE: (),
    ClipStatus.KEPT: (ClipAction.KEEP,),
    ClipStatus.PUBLISHED: (ClipAction.PUBLISH,),
    ClipStatus.DELETED: (ClipAction.KEEP, ClipAction.DELETE),
}
NOTHING = Trimmed(skips=0, titles=0, rows=0)


async def purged(store: ClipStore, database: Database, highlight: str, age: timedelta) -> None:
    """A clip that was purged some time ago."""
    [recorded] = await store.record([ReportedCut(a_cut(highlight), highlight)])
    await database.expire(recorded.clip)
    await store.purge(10, None)
    await database.run(AGES, age=age, hl=highlight)


async def titles(database: Database) -> dict[str, str]:
    rows = await database.run("SELECT stream_highlight_id, title FROM generated_clips")
    return {row.stream_highlight_id: row.title for row in rows}


async def test_titles_of_clips_long_purged_are_trimmed(store: ClipStore, database: Database) -> None:
    await purged(store, database, "old", 30 * DAY)
    await purged(store, database, "recent", 29 * DAY)
    [kept] = await store.record([ReportedCut(a_cut("kept"), "kept")])
    await store.act(an_action(ClipAction.KEEP), kept.clip.clip_id)
    before = await database.run("SELECT * FROM generated_clips WHERE stream_highlight_id = 'old'")
    events = await database.event_types()
    assert await trim(database.engine) == Trimmed(skips=0, titles=1, rows=0)
    assert await titles(database) == {"old": "", "recent": "A fine moment", "kept": "A fine moment"}
    [after] = await database.run("SELECT * FROM generated_clips WHERE stream_highlight_id = 'old'")
    assert after._asdict() == {**before[0]._asdict(), "title": ""}
    assert await database.event_types() == events
    assert await trim(database.engine) == NOTHING


async def test_a_clip_whose_title_was_trimmed_can_be_cut_again(store: ClipStore, database: Database) -> None:
    await purged(store, database, "old", 30 * DAY)
    await trim(database.engine)
    [row] = await database.run("SELECT now() + interval '1 second' AS later")
    [recorded] = await store.record([ReportedCut(a_cut("old", "event-9", row.later, title="Recut"), "again")])
    assert recorded.outcome == "recut"
    assert await titles(database) == {"old": "Recut"}


async def test_skips_are_trimmed(store: ClipStore, database: Database) -> None:
    [now] = await database.run("SELECT now() AS now")
    for days in (28, 29, 31, 300):
        await store.skips.record(a_skip(f"hl-{days}", skipped_at=now.now - days * DAY))
    assert await trim(database.engine) == Trimmed(skips=2, titles=0, rows=0)
    left = await database.run("SELECT stream_highlight_id FROM skipped_highlights ORDER BY 1")
    assert [row.stream_highlight_id for row in left] == ["hl-28", "hl-29"]


async def highlights(database: Database) -> set[str]:
    rows = await database.run("SELECT stream_highlight_id FROM generated_clips")
    return {row.stream_highlight_id for row in rows}


async def test_rows_of_clips_long_purged_are_trimmed(store: ClipStore, database: Database) -> None:
    """In the round in which their title goes, too, if it was not trimmed before."""
    await purged(store, database, "older", 50 * DAY)
    await purged(store, database, "old", 40 * DAY)
    await purged(store, database, "untitled", 40 * DAY)
    await purged(store, database, "recent", 39 * DAY)
    await database.run("UPDATE generated_clips SET title = '' WHERE stream_highlight_id = 'untitled'")
    events = await database.event_types()
    assert await trim(database.engine, at_once=2) == Trimmed(skips=0, titles=3, rows=3)
    assert await highlights(database) == {"recent"}
    assert await database.event_types() == events
    assert await trim(database.engine) == NOTHING
    # A cut made after that creates the highlight's first clip again.
    [again] = await store.record([ReportedCut(a_cut("old", "event-9"), "again")])
    assert (again.outcome, again.clip.revision, again.clip.title) == ("created", 1, "A fine moment")


@pytest.mark.parametrize("status", [each for each in ClipStatus if each is not ClipStatus.PURGED])
async def test_no_living_clip_is_ever_trimmed(
    store: ClipStore, database: Database, status: ClipStatus
) -> None:
    """However old it is, whatever its title, even if it was purged before and is in its second life."""
    await purged(store, database, "second-life", 100 * DAY)
    [row] = await database.run("SELECT now() + interval '1 second' AS later")
    for highlight in ("first-life", "second-life"):
        await store.record([ReportedCut(a_cut(highlight, "event-9", row.later, title=""), highlight)])
        for action in TO[status]:
            await store.act(an_action(action), a_cut(highlight).clip_id)
    await database.run(
        "UPDATE generated_clips SET created_at = :old, updated_at = :old", old=NOON - 400 * DAY
    )
    await trim(database.engine)
    assert await highlights(database) == {"first-life", "second-life"}


async def test_what_somebody_holds_is_not_trimmed(store: ClipStore, database: Database) -> None:
    await purged(store, database, "held", 50 * DAY)
    await purged(store, database, "free", 50 * DAY)
    await database.run("UPDATE generated_clips SET title = ''")
    async with transaction(database.engine) as connection:
        await connection.exec_driver_sql(
            "SELECT * FROM generated_clips WHERE stream_highlight_id = 'held' FOR UPDATE"
        )
        assert (await asyncio.wait_for(trim(database.engine), 30)).rows == 1
    assert await highlights(database) == {"held"}


async def test_any_number_is_trimmed_in_batches(store: ClipStore, database: Database) -> None:
    for number in range(7):
        await store.skips.record(a_skip(f"hl-{number}", skipped_at=NOON - 400 * DAY))
    assert await trim(database.engine, at_once=3) == Trimmed(skips=7, titles=0, rows=0)


async def test_what_somebody_holds_waits_for_the_next_round(store: ClipStore, database: Database) -> None:
    await purged(store, database, "held", 39 * DAY)
    await purged(store, database, "free", 39 * DAY)
    async with transaction(database.engine) as connection:
        await connection.exec_driver_sql(
            "SELECT * FROM generated_clips WHERE stream_highlight_id = 'held' FOR UPDATE"
        )
        assert (await asyncio.wait_for(trim(database.engine), 30)).titles == 1
    assert await titles(database) == {"held": "A fine moment", "free": ""}


async def test_it_goes_on_after_an_outage(
    store: ClipStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is away at first: a port that nobody listens on."""
    nowhere = open_engine("postgresql://clips@127.0.0.1:1/clips", pool_size=1, statement_timeout_seconds=1)
    real, engines = trimming.trim, [nowhere, database.engine]

    async def trim_after_an_outage(_engine: object) -> Trimmed:
        return await real(engines.pop(0) if len(engines) > 1 else engines[0])

    monkeypatch.setattr(trimming, "trim", trim_after_an_outage)
    await store.skips.record(a_skip(skipped_at=NOON - 400 * DAY))
    seen: list[Trimmed] = []
    running = asyncio.create_task(keep_trimming(database.engine, seen.append, every_seconds=0.01))
    async with asyncio.timeout(60):
        while await database.run("SELECT 1 FROM skipped_highlights"):
            await asyncio.sleep(0.05)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    with pytest.raises(TransientError):
        await real(nowhere)
    await nowhere.dispose()
