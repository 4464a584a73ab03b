"""Skips, and the titles of purged clips, are forgotten after 30 days; nothing else is."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from clip_registry import forgetting
from clip_registry.database import open_engine, transaction
from clip_registry.forgetting import forget, keep_forgetting
from clip_registry.store import Delivery, Store
from clip_shared.errors import TransientError
from clip_shared.registry_api import ClipAction
from tests.integration.clip_registry.conftest import Database
from tests.unit.clip_registry.cuts import NOON, a_cut, a_skip, a_wish

AGES = "UPDATE generated_clips SET purged_at = now() - CAST(:age AS interval) WHERE stream_highlight_id = :hl"
DAY = timedelta(days=1)


async def purged(store: Store, database: Database, highlight: str, age: timedelta) -> None:
    """A clip that was purged some time ago."""
    [recorded] = await store.record([Delivery(a_cut(highlight), highlight)])
    await database.expire(recorded.clip)
    await store.expire(10, None)
    await database.run(AGES, age=age, hl=highlight)


async def titles(database: Database) -> dict[str, str]:
    rows = await database.run("SELECT stream_highlight_id, title FROM generated_clips")
    return {row.stream_highlight_id: row.title for row in rows}


async def test_titles_of_clips_long_purged_are_forgotten(store: Store, database: Database) -> None:
    await purged(store, database, "old", 30 * DAY)
    await purged(store, database, "recent", 29 * DAY)
    [kept] = await store.record([Delivery(a_cut("kept"), "kept")])
    await store.act(a_wish(ClipAction.KEEP), kept.clip.clip_id)
    before = await database.run("SELECT * FROM generated_clips WHERE stream_highlight_id = 'old'")
    events = await database.event_types()
    assert await forget(database.engine) == 1
    assert await titles(database) == {"old": "", "recent": "A fine moment", "kept": "A fine moment"}
    [after] = await database.run("SELECT * FROM generated_clips WHERE stream_highlight_id = 'old'")
    assert after._asdict() == {**before[0]._asdict(), "title": ""}
    assert await database.event_types() == events
    assert await forget(database.engine) == 0


async def test_a_clip_whose_title_was_forgotten_can_be_cut_again(store: Store, database: Database) -> None:
    await purged(store, database, "old", 30 * DAY)
    await forget(database.engine)
    [row] = await database.run("SELECT now() + interval '1 second' AS later")
    [recorded] = await store.record([Delivery(a_cut("old", "event-9", row.later, title="Anew"), "again")])
    assert recorded.verdict == "recut"
    assert await titles(database) == {"old": "Anew"}


async def test_skips_are_forgotten(store: Store, database: Database) -> None:
    [now] = await database.run("SELECT now() AS now")
    for days in (28, 29, 31, 300):
        await store.skips.record(a_skip(f"hl-{days}", skipped_at=now.now - days * DAY))
    assert await forget(database.engine) == 2
    left = await database.run("SELECT stream_highlight_id FROM skipped_highlights ORDER BY 1")
    assert [row.stream_highlight_id for row in left] == ["hl-28", "hl-29"]


async def test_any_number_is_forgotten_in_batches(store: Store, database: Database) -> None:
    for number in range(7):
        await store.skips.record(a_skip(f"hl-{number}", skipped_at=NOON - 400 * DAY))
    assert await forget(database.engine, at_once=3) == 7


async def test_what_somebody_holds_waits_for_the_next_round(store: Store, database: Database) -> None:
    await purged(store, database, "held", 40 * DAY)
    await purged(store, database, "free", 40 * DAY)
    async with transaction(database.engine) as connection:
        await connection.exec_driver_sql(
            "SELECT * FROM generated_clips WHERE stream_highlight_id = 'held' FOR UPDATE"
        )
        assert await asyncio.wait_for(forget(database.engine), 5) == 1
    assert await titles(database) == {"held": "A fine moment", "free": ""}


async def test_it_goes_on_after_an_outage(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is away at first: a port that nobody listens on."""
    nowhere = open_engine("postgresql://clips@127.0.0.1:1/clips", pool_size=1, statement_timeout_seconds=1)
    real, engines = forgetting.forget, [nowhere, database.engine]

    async def forget_after_an_outage(_engine: object) -> int:
        return await real(engines.pop(0) if len(engines) > 1 else engines[0])

    monkeypatch.setattr(forgetting, "forget", forget_after_an_outage)
    await store.skips.record(a_skip(skipped_at=NOON - 400 * DAY))
    running = asyncio.create_task(keep_forgetting(database.engine, every_seconds=0.01))
    async with asyncio.timeout(10):
        while await database.run("SELECT 1 FROM skipped_highlights"):
            await asyncio.sleep(0.05)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    with pytest.raises(TransientError):
        await real(nowhere)
    await nowhere.dispose()
