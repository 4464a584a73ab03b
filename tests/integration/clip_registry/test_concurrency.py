"""The same clips from many connections at once: nobody is told what then turns out otherwise."""

import asyncio
import random
from collections import Counter
from uuid import UUID

from clip_registry.domain import Action, Answer, Cut, Verdict
from clip_registry.store import Offer, Store
from clip_shared.events import clip_id_for
from clip_shared.registry_api import ClipStatus
from tests.integration.clip_registry.conftest import Database
from tests.unit.clip_registry.cuts import HOUR, NOON, a_cut

CONNECTIONS = 8
RACES, KEEPERS, JANITORS = 5_000, 5, 3
TOLD_KEPT = {Answer.DONE, Answer.UNCHANGED}


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - repeatable, not secret


def offer(cut: Cut) -> Offer:
    return Offer(cut, f"created-{cut.highlight_event_id}")


async def test_the_same_event_delivered_many_times_at_once_creates_one_clip(
    database: Database, store: Store
) -> None:
    for number in range(20):
        cut = a_cut(f"same-{number}")
        results = await asyncio.gather(*(store.record([offer(cut)]) for _ in range(CONNECTIONS)))
        verdicts = Counter(recorded.verdict for [recorded] in results)
        assert verdicts == {Verdict.CREATED: 1, Verdict.REPEATED: CONNECTIONS - 1}
    assert await database.event_types() == ["clip.available.v1"] * 20


async def test_revisions_that_arrive_at_once_leave_the_newest_and_release_all_others_once(
    database: Database, store: Store
) -> None:
    chance = seeded(4)
    for number in range(20):
        cuts = [a_cut(f"hl-{number}", f"event-{each}", NOON + HOUR * each) for each in range(CONNECTIONS)]
        chance.shuffle(cuts)
        await asyncio.gather(*(store.record([offer(cut)]) for cut in cuts))
        clip = await store.get(clip_id_for(f"hl-{number}"))
        assert clip is not None
        newest = max(cuts, key=lambda each: each.revision)
        assert clip.objects == newest.objects
        released = Counter(key for key, _ in await database.released())
        others = {each.key for cut in cuts if cut is not newest for each in cut.objects}
        assert released == dict.fromkeys(others, 1)
        await database.run("DELETE FROM outbox")


async def test_every_version_of_a_clip_is_announced_once(database: Database, store: Store) -> None:
    clip_id = clip_id_for("busy")
    await store.record([offer(a_cut("busy"))])

    async def be_busy(seed: int) -> None:
        chance = seeded(seed)
        for step in range(10):
            if chance.random() < 0.3:
                cut = a_cut("busy", f"event-{seed}-{step}", NOON + HOUR * chance.random())
                await store.record([offer(cut)])
            else:
                await store.act(chance.choice(list(Action)), clip_id, "ann")

    await asyncio.gather(*map(be_busy, range(CONNECTIONS)))
    clip = await store.get(clip_id)
    assert clip is not None
    versions = sorted(data["version"] for _, data in await database.events() if "version" in data)
    assert versions == list(range(1, clip.version + 1))


async def test_batches_that_overlap_wait_for_each_other_but_never_in_a_circle(
    database: Database, store: Store
) -> None:
    chance = seeded(7)
    highlights = [f"hl-{number}" for number in range(30)]

    async def deliver(event_number: int) -> None:
        order = chance.sample(highlights, 20)
        event = f"event-{event_number}"
        await store.record([offer(a_cut(each, event, NOON + HOUR * event_number)) for each in order])

    for round_number in range(5):
        numbers = range(round_number * CONNECTIONS, (round_number + 1) * CONNECTIONS)
        await asyncio.gather(*map(deliver, numbers))
    assert len(await database.run("SELECT 1 FROM generated_clips")) == len(highlights)


async def test_nobody_who_was_told_kept_loses_the_clip(database: Database, store: Store) -> None:
    """5,000 races: a few clips at a time fall due, and are kept while several janitors purge them."""
    clips = [clip_id_for(f"due-{number}") for number in range(RACES)]
    for start in range(0, RACES, 500):
        numbers = range(start, start + 500)
        await store.record([offer(a_cut(f"due-{number}")) for number in numbers])
    told: dict[UUID, Answer] = {}
    purged = 0
    chance = seeded(1)

    async def keep(clip_id: UUID) -> None:
        told[clip_id], _ = await store.act(Action.KEEP, clip_id, "ann")

    async def purge() -> None:
        nonlocal purged
        result = await store.expire(KEEPERS, None)
        purged += result.expired

    for start in range(0, RACES, KEEPERS):
        due = clips[start : start + KEEPERS]
        await database.run(
            "UPDATE generated_clips SET expires_at = now() - interval '1 second' WHERE clip_id = ANY(:due)",
            due=due,
        )
        runners = [*map(keep, due), *(purge() for _ in range(JANITORS))]
        chance.shuffle(runners)
        await asyncio.gather(*runners)
    rows = await database.run("SELECT clip_id, status FROM generated_clips")
    now = {row.clip_id: ClipStatus(row.status) for row in rows}
    assert {clip_id for clip_id, answer in told.items() if answer in TOLD_KEPT} == {
        clip_id for clip_id, status in now.items() if status is ClipStatus.KEPT
    }
    assert Counter(now.values()) == {ClipStatus.PURGED: purged, ClipStatus.KEPT: RACES - purged}
    # Else it was no race.
    assert RACES / 10 < purged < RACES * 9 / 10
    types = Counter(await database.event_types())
    assert types["clip.purged.v1"] == purged
    assert types["clip.object-released.v1"] == 2 * purged
    assert types["clip.kept.v1"] == RACES - purged


async def test_purgers_that_overlap_purge_each_clip_once(database: Database, store: Store) -> None:
    await store.record([offer(a_cut(f"due-{number}")) for number in range(200)])
    await database.run("UPDATE generated_clips SET expires_at = now() - interval '1 second'")
    results = await asyncio.gather(*(store.expire(50, None) for _ in range(CONNECTIONS)))
    assert sum(each.expired for each in results) == 200
    assert (await store.expire(50, None)).more is False
    assert {row.version for row in await database.run("SELECT version FROM generated_clips")} == {2}


async def test_a_purge_and_a_newer_cut_at_once_lose_no_object(database: Database, store: Store) -> None:
    """Whichever comes first: what the clip owns is not released, and what it does not own is."""
    for number in range(30):
        old = a_cut(f"hl-{number}")
        new = a_cut(f"hl-{number}", "event-6", NOON + HOUR)
        await store.record([offer(old)])
        await database.expire(old.clip_id)
        await asyncio.gather(store.expire(1, None), store.record([offer(new)]))
        clip = await store.get(old.clip_id)
        assert clip is not None
        released = Counter(key for key, _ in await database.released())
        owned = {each.key for each in clip.owned_objects}
        everything = {each.key for cut in (old, new) for each in cut.objects}
        assert released == dict.fromkeys(everything - owned, 1)
        await database.run("DELETE FROM outbox")


async def test_the_cap_holds_when_clips_arrive_at_once(database: Database) -> None:
    store = database.store(cap=5)
    scores = list(range(40))
    seeded(3).shuffle(scores)
    batches = [scores[each::CONNECTIONS] for each in range(CONNECTIONS)]

    async def deliver(batch: list[int]) -> None:
        await store.record([offer(a_cut(f"hl-{score}", score=score)) for score in batch])

    await asyncio.gather(*map(deliver, batches))
    alive = await store.list_clips("ann", ClipStatus, limit=100, after=None)
    assert sorted(each.score or 0 for each in alive) == [35, 36, 37, 38, 39]
