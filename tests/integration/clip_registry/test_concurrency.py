"""The same clips from many connections at once: nobody is told what then turns out otherwise."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable
from typing import TypeVar
from uuid import UUID

import pytest

from clip_registry.clips.store import ClipStore
from clip_registry.domain.actions import ActionOutcome
from clip_registry.domain.clips import Cut
from clip_registry.domain.cuts import CutOutcome
from clip_registry.queries.clip_lists import ClipFilter
from clip_registry.reports import ReportedCut
from clip_shared.contracts.events import clip_id_for
from clip_shared.contracts.registry_api import ClipAction, ClipOrder, ClipStatus
from tests.integration.clip_registry.conftest import Database
from tests.unit.clip_registry.cuts import HOUR, NOON, a_cut, an_action

CONNECTIONS = 8
RACES, KEEPERS, JANITORS = 5_000, 5, 3
KEPT_OUTCOMES = {ActionOutcome.DONE, ActionOutcome.UNCHANGED}


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - repeatable, not secret


def offer(cut: Cut) -> ReportedCut:
    return ReportedCut(cut, f"created-{cut.highlight_event_id}")


async def test_the_same_event_delivered_many_times_at_once_creates_one_clip(
    database: Database, store: ClipStore
) -> None:
    for number in range(20):
        cut = a_cut(f"same-{number}")
        results = await asyncio.gather(*(store.record([offer(cut)]) for _ in range(CONNECTIONS)))
        outcomes = Counter(recorded.outcome for [recorded] in results)
        assert outcomes == {CutOutcome.CREATED: 1, CutOutcome.REPEATED: CONNECTIONS - 1}
    assert await database.event_types() == ["clip.available.v1"] * 20


async def test_revisions_that_arrive_at_once_leave_the_newest_and_release_all_others_once(
    database: Database, store: ClipStore
) -> None:
    chance = seeded(4)
    for number in range(20):
        cuts = [a_cut(f"hl-{number}", f"event-{each}", NOON + HOUR * each) for each in range(CONNECTIONS)]
        chance.shuffle(cuts)
        await asyncio.gather(*(store.record([offer(cut)]) for cut in cuts))
        clip = await store.get(clip_id_for(f"hl-{number}"))
        assert clip is not None
        newest = max(cuts, key=lambda each: each.position)
        assert clip.objects == newest.objects
        released = Counter(key for key, _ in await database.released())
        others = {each.key for cut in cuts if cut is not newest for each in cut.objects}
        assert released == dict.fromkeys(others, 1)
        await database.run("DELETE FROM outbox")


async def test_every_version_of_a_clip_is_announced_once(database: Database, store: ClipStore) -> None:
    clip_id = clip_id_for("busy")
    await store.record([offer(a_cut("busy"))])

    async def be_busy(seed: int) -> None:
        chance = seeded(seed)
        for step in range(10):
            if chance.random() < 0.3:
                cut = a_cut("busy", f"event-{seed}-{step}", NOON + HOUR * chance.random())
                await store.record([offer(cut)])
            else:
                await store.act(an_action(chance.choice(list(ClipAction))), clip_id)

    await asyncio.gather(*map(be_busy, range(CONNECTIONS)))
    clip = await store.get(clip_id)
    assert clip is not None
    versions = sorted(data["version"] for _, data in await database.events() if "version" in data)
    assert versions == list(range(1, clip.version + 1))


async def test_batches_that_overlap_wait_for_each_other_but_never_in_a_circle(
    database: Database, store: ClipStore
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


async def test_nobody_who_was_told_kept_loses_the_clip(database: Database, store: ClipStore) -> None:
    """5,000 races: a few clips at a time fall due, and are kept while several janitors purge them."""
    clips = [clip_id_for(f"due-{number}") for number in range(RACES)]
    for start in range(0, RACES, 500):
        numbers = range(start, start + 500)
        await store.record([offer(a_cut(f"due-{number}")) for number in numbers])
    told: dict[UUID, ActionOutcome] = {}
    purged = 0
    chance = seeded(1)

    async def keep(clip_id: UUID) -> None:
        told[clip_id], _ = await store.act(an_action(ClipAction.KEEP), clip_id)

    async def purge() -> None:
        nonlocal purged
        result = await store.purge(KEEPERS, None)
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
    assert {clip_id for clip_id, outcome in told.items() if outcome in KEPT_OUTCOMES} == {
        clip_id for clip_id, status in now.items() if status is ClipStatus.KEPT
    }
    assert Counter(now.values()) == {ClipStatus.PURGED: purged, ClipStatus.KEPT: RACES - purged}
    # Else it was no race.
    assert RACES / 10 < purged < RACES * 9 / 10
    types = Counter(await database.event_types())
    assert types["clip.purged.v1"] == purged
    assert types["clip.object-released.v1"] == 2 * purged
    assert types["clip.kept.v1"] == RACES - purged


async def raced(store: ClipStore, action: ClipAction, other: ClipAction, number: int) -> list[ActionOutcome]:
    """What is said to two requests about a new clip, at the same time."""
    clip_id = clip_id_for(f"hl-{number}")
    await store.record([offer(a_cut(f"hl-{number}"))])
    requests = [action, other] if number % 2 else [other, action]
    results = await asyncio.gather(*(store.act(an_action(each), clip_id) for each in requests))
    told = dict(zip(requests, (outcome for outcome, _ in results), strict=True))
    return [told[action], told[other]]


@pytest.mark.parametrize(
    ("action", "becomes"), [(ClipAction.KEEP, "kept"), (ClipAction.PUBLISH, "published")]
)
async def test_a_clip_that_is_deleted_while_it_is_kept_is_deleted_and_restored_to_what_was_told(
    store: ClipStore, action: ClipAction, becomes: str
) -> None:
    seen: Counter[ActionOutcome] = Counter()
    for number in range(100):
        told, deleted = await raced(store, action, ClipAction.DELETE, number)
        clip = await store.get(clip_id_for(f"hl-{number}"))
        assert clip is not None
        assert (deleted, clip.status) == (ActionOutcome.DONE, ClipStatus.DELETED)
        assert told in {ActionOutcome.DONE, ActionOutcome.NOT_ALLOWED}
        assert clip.deleted_from == (becomes if told is ActionOutcome.DONE else ClipStatus.AVAILABLE)
        assert clip.share_slug is None or await store.get_shared(clip.share_slug) is None
        seen[told] += 1
    # Else it was no race.
    assert min(seen[ActionOutcome.DONE], seen[ActionOutcome.NOT_ALLOWED]) > 10


async def test_nobody_who_was_told_restored_loses_the_clip(database: Database, store: ClipStore) -> None:
    """Deleted clips fall due a few at a time, and are restored while several janitors purge them."""
    number, at_once = 1_000, 5
    clips = [clip_id_for(f"due-{each}") for each in range(number)]
    await store.record([offer(a_cut(f"due-{each}")) for each in range(number)])
    await store.act_on_many(an_action(ClipAction.DELETE), clips)
    told: dict[UUID, ActionOutcome] = {}
    chance = seeded(2)

    async def restore(clip_id: UUID) -> None:
        told[clip_id], _ = await store.act(an_action(ClipAction.RESTORE), clip_id)

    for start in range(0, number, at_once):
        due = clips[start : start + at_once]
        await database.run(
            "UPDATE generated_clips SET expires_at = now() - interval '1 second' WHERE clip_id = ANY(:due)",
            due=due,
        )
        runners = [*map(restore, due), *(store.purge(at_once, None) for _ in range(JANITORS))]
        chance.shuffle(runners)
        await asyncio.gather(*runners)
    rows = await database.run("SELECT clip_id, status FROM generated_clips")
    now = {row.clip_id: ClipStatus(row.status) for row in rows}
    available = {clip_id for clip_id, status in now.items() if status is ClipStatus.AVAILABLE}
    assert {clip_id for clip_id, outcome in told.items() if outcome is ActionOutcome.DONE} == available
    assert {now[clip_id] for clip_id in set(now) - available} == {ClipStatus.PURGED}
    assert number / 10 < len(available) < number * 9 / 10
    types = Counter(await database.event_types())
    assert types["clip.restored.v1"] == len(available)
    assert types["clip.object-released.v1"] == 2 * types["clip.purged.v1"] == 2 * (number - len(available))


Result = TypeVar("Result")


async def later(seconds: float, work: Awaitable[Result]) -> Result:
    await asyncio.sleep(seconds)
    return await work


async def test_a_detectors_cut_that_meets_a_keep_replaces_or_is_offered_and_loses_no_object(
    database: Database, store: ClipStore
) -> None:
    seen: Counter[CutOutcome] = Counter()
    wait = 0.001
    for number in range(100):
        old = a_cut(f"hl-{number}")
        new = a_cut(f"hl-{number}", "event-6", NOON + HOUR)
        await store.record([offer(old)])
        keep = later(wait, store.act(an_action(ClipAction.KEEP), old.clip_id))
        [recorded], _ = await asyncio.gather(store.record([offer(new)]), keep)
        clip = await store.get(old.clip_id)
        assert clip is not None
        assert clip.status is ClipStatus.KEPT
        replaced = recorded.outcome is CutOutcome.REPLACED
        assert clip.objects == (new if replaced else old).objects
        assert (clip.offer is None) == replaced
        released = {key for key, _ in await database.released()}
        assert released == {each.key for each in (old if replaced else new).objects}
        await database.run("DELETE FROM outbox")
        seen[recorded.outcome] += 1
        # A delivery takes longer than a keep, on each machine by more or less: keep looking for a tie.
        wait *= 0.7 if replaced else 1.4
    assert seen.keys() == {CutOutcome.REPLACED, CutOutcome.OFFERED}
    assert min(seen.values()) > 10


async def test_a_clip_that_is_published_many_times_at_once_has_one_link(
    database: Database, store: ClipStore
) -> None:
    await store.record([offer(a_cut())])
    requests = (store.act(an_action(ClipAction.PUBLISH), a_cut().clip_id) for _ in range(CONNECTIONS))
    results = await asyncio.gather(*requests)
    assert Counter(outcome for outcome, _ in results) == {
        ActionOutcome.DONE: 1,
        ActionOutcome.UNCHANGED: CONNECTIONS - 1,
    }
    assert len({clip.share_slug for _, clip in results if clip}) == 1
    assert len(await database.run("SELECT 1 FROM share_slugs")) == 1


async def test_actions_on_many_clips_that_overlap_wait_but_never_in_a_circle(store: ClipStore) -> None:
    chance = seeded(9)
    clips = [clip_id_for(f"hl-{number}") for number in range(30)]
    await store.record([offer(a_cut(f"hl-{number}")) for number in range(30)])

    async def act(action: ClipAction) -> None:
        await store.act_on_many(an_action(action), chance.sample(clips, 20))

    for _ in range(10):
        await asyncio.gather(*(act(chance.choice(list(ClipAction))) for _ in range(CONNECTIONS)))


async def test_purgers_that_overlap_purge_each_clip_once(database: Database, store: ClipStore) -> None:
    await store.record([offer(a_cut(f"due-{number}")) for number in range(200)])
    await database.run("UPDATE generated_clips SET expires_at = now() - interval '1 second'")
    results = await asyncio.gather(*(store.purge(50, None) for _ in range(CONNECTIONS)))
    assert sum(each.expired for each in results) == 200
    assert (await store.purge(50, None)).more is False
    assert {row.version for row in await database.run("SELECT version FROM generated_clips")} == {2}


async def test_a_purge_and_a_newer_cut_at_once_lose_no_object(database: Database, store: ClipStore) -> None:
    """Whichever comes first: what the clip owns is not released, and what it does not own is."""
    for number in range(30):
        old = a_cut(f"hl-{number}")
        new = a_cut(f"hl-{number}", "event-6", NOON + HOUR)
        await store.record([offer(old)])
        await database.expire(old.clip_id)
        await asyncio.gather(store.purge(1, None), store.record([offer(new)]))
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
    clips = await store.queries.clips_of("ann", ClipFilter(), ClipOrder.NEWEST, limit=100)
    alive = [each for each in clips if (each.expires_in_seconds or 0) > 0]
    assert sorted(each.score or 0 for each in alive) == [35, 36, 37, 38, 39]


async def test_batches_and_evictions_wait_for_each_other_never_in_a_circle(database: Database) -> None:
    """An eviction takes clips in the order of scores, a batch in that of ids; a stranger's too."""
    store = database.store(cap=12)
    cuts = [a_cut(f"hl-{number}", score=seeded(number).random()) for number in range(12)]
    await store.record([offer(each) for each in cuts])
    ids = [each.clip_id for each in cuts]
    for number in range(60):
        rename = an_action(ClipAction.RENAME, title=f"Title {number}")
        stranger = an_action(ClipAction.RENAME, "somebody-else", title="Not theirs")
        news = a_cut(f"hl-new-{number}", score=-1.0)
        _, told, refused = await asyncio.gather(
            store.record([offer(news)]), store.act_on_many(rename, ids), store.act_on_many(stranger, ids)
        )
        assert {outcome for outcome, _ in told} == {ActionOutcome.DONE}
        assert {outcome for outcome, _ in refused} == {ActionOutcome.NOT_OWNER}
