"""Feeds of published clips: their owner's switch, and what they show."""

import asyncio
from datetime import timedelta
from uuid import UUID

from clip_registry.clips.store import ClipStore
from clip_registry.queries.feeds import MAX_CLIPS
from clip_registry.reports import ReportedCut
from clip_shared.contracts.registry_api import ClipAction
from tests.integration.clip_registry.conftest import Database
from tests.unit.clip_registry.cuts import a_cut, an_action


async def published(store: ClipStore, *highlights: str) -> list[UUID]:
    """Clips of ann, published one after another."""
    ids = [a_cut(each).clip_id for each in highlights]
    await store.record([ReportedCut(a_cut(each), each) for each in highlights])
    for clip_id in ids:
        await store.act(an_action(ClipAction.PUBLISH), clip_id)
    return ids


async def shown(store: ClipStore, slug: str) -> list[UUID]:
    page = await store.feeds.page(slug)
    assert page is not None
    return [clip.clip_id for clip in page.items]


async def test_an_account_has_one_feed_however_often_it_is_switched_on(store: ClipStore) -> None:
    feeds = await asyncio.gather(*(store.feeds.open("ann") for _ in range(8)))
    assert len({feed.slug for feed in feeds}) == 1
    assert await store.feeds.of("ann") == feeds[0]
    assert await store.feeds.of("bob") is None


async def test_switched_off_and_on_it_is_another_feed(store: ClipStore) -> None:
    first = await store.feeds.open("ann")
    await store.feeds.close("ann")
    assert await store.feeds.of("ann") is None
    assert await store.feeds.page(first.slug) is None
    second = await store.feeds.open("ann")
    assert second.slug != first.slug
    assert await store.feeds.page(first.slug) is None


async def test_a_feed_shows_published_clips_the_latest_published_first(store: ClipStore) -> None:
    feed = await store.feeds.open("ann")
    first, second, third = await published(store, "hl-1", "hl-2", "hl-3")
    await store.record([ReportedCut(a_cut("hl-4"), "x"), ReportedCut(a_cut("bobs", account="bob"), "x")])
    await store.act(an_action(ClipAction.PUBLISH, "bob"), a_cut("bobs").clip_id)
    assert await shown(store, feed.slug) == [third, second, first]
    await store.act(an_action(ClipAction.UNPUBLISH), second)
    assert await shown(store, feed.slug) == [third, first]


async def test_a_feed_is_as_old_as_its_newest_change(store: ClipStore, database: Database) -> None:
    feed = await store.feeds.open("ann")
    empty = await store.feeds.page(feed.slug)
    assert empty is not None
    assert (empty.items, empty.updated_at) == ((), feed.created_at)
    [clip_id] = await published(store, "hl-1")
    later = timedelta(hours=3)
    await database.run("UPDATE generated_clips SET updated_at = updated_at + :later", later=later)
    page = await store.feeds.page(feed.slug)
    [row] = await database.run("SELECT updated_at FROM generated_clips WHERE clip_id = :id", id=clip_id)
    assert page is not None
    assert page.updated_at == row.updated_at


async def test_what_is_past_its_end_is_not_shown(store: ClipStore, database: Database) -> None:
    """Also before a tick has unpublished it."""
    feed = await store.feeds.open("ann")
    over, lasting = await published(store, "hl-1", "hl-2")
    ends = "UPDATE generated_clips SET published_until = now() + CAST(:left AS interval) WHERE clip_id = :id"
    await database.run(ends, left=timedelta(seconds=-1), id=over)
    await database.run(ends, left=timedelta(hours=1), id=lasting)
    assert await shown(store, feed.slug) == [lasting]


async def test_a_feed_has_an_end(store: ClipStore) -> None:
    feed = await store.feeds.open("ann")
    ids = await published(store, *(f"hl-{n}" for n in range(MAX_CLIPS + 5)))
    assert await shown(store, feed.slug) == ids[:4:-1]
