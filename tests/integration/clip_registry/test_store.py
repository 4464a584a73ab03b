"""Every transition on a real PostgreSQL: the row, the events, and that guard and rule agree."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from sqlalchemy import text

from clip_registry.domain import LIVING, Action, Answer, Clip, Cut, Verdict, answer, is_due, judge
from clip_registry.store import Offer, Recorded, Store
from clip_shared.errors import PermanentError
from clip_shared.events import clip_id_for
from clip_shared.registry_api import ClipStatus
from tests.integration.clip_registry.conftest import RETENTION, Database
from tests.unit.clip_registry.cuts import HOUR, NOON, a_cut

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
AVAILABLE, KEPT, PUBLISHED, PURGED = ClipStatus
DONE = Answer.DONE
SOON = timedelta(seconds=1)


async def record(store: Store, cut: Cut) -> Recorded:
    [recorded] = await store.record([Offer(cut, f"created-{cut.highlight_event_id}")])
    return recorded


async def a_stored_clip(database: Database, status: ClipStatus, cut: Cut | None = None) -> Clip:
    """A clip that came to its status the way clips do."""
    store = database.store()
    clip: Clip | None = (await record(store, cut or a_cut())).clip
    assert clip is not None
    actions = {KEPT: [Action.KEEP], PUBLISHED: [Action.PUBLISH]}.get(status, [])
    for action in actions:
        _, clip = await store.act(action, clip.clip_id, clip.twitch_account_id)
        assert clip is not None
    if status is PURGED:
        await database.expire(clip)
        assert (await store.expire(1, None)).expired == 1
        clip = await store.get(clip.clip_id)
    assert clip is not None
    assert clip.status is status
    await database.run("DELETE FROM outbox")
    return clip


async def test_a_first_cut_becomes_an_available_clip(database: Database, store: Store) -> None:
    [recorded] = await store.record([Offer(a_cut(), "created-1", TRACE)])
    clip = recorded.clip
    assert (recorded.verdict, clip.status, clip.version) == (Verdict.CREATED, AVAILABLE, 1)
    assert clip.expires_at == clip.created_at + RETENTION
    assert clip.expires_in_seconds == RETENTION.total_seconds()
    assert {name: getattr(clip, name) for name in vars(a_cut())} == vars(a_cut())
    assert await database.event_types() == ["clip.available.v1"]
    [row] = await database.run("SELECT headers FROM outbox")
    assert row.headers["traceparent"] == TRACE


@pytest.mark.parametrize("status", LIVING)
async def test_a_newer_cut_replaces_the_video_and_nothing_else(
    database: Database, store: Store, status: ClipStatus
) -> None:
    before = await a_stored_clip(database, status)
    cut = a_cut(event="event-6", at=NOON + HOUR, kind="refined", title="Better", poster_key=None)
    after = (await record(store, cut)).clip
    assert (after.status, after.version, after.title) == (status, before.version + 1, "Better")
    same = ("created_at", "kept_at", "kept_by", "published_at", "share_slug", "purged_at")
    assert [getattr(after, each) for each in same] == [getattr(before, each) for each in same]
    events = await database.events()
    assert [event_type for event_type, _ in events].count("clip.available.v1") == 1
    assert await database.released() == sorted((each.key, "replaced") for each in before.objects)


async def test_a_replaced_ephemeral_clip_lives_a_full_retention_again(
    database: Database, store: Store
) -> None:
    before = await a_stored_clip(database, AVAILABLE)
    await database.expire(before)
    after = (await record(store, a_cut(event="event-6"))).clip
    assert after.expires_at == after.updated_at + RETENTION


async def test_a_kept_clip_with_a_new_video_does_not_expire(database: Database, store: Store) -> None:
    await a_stored_clip(database, KEPT)
    assert (await record(store, a_cut(event="event-6"))).clip.expires_at is None
    assert [data["expires_at"] for kind, data in await database.events() if "available" in kind] == [None]


async def test_a_repeated_event_changes_nothing_and_releases_nothing(
    database: Database, store: Store
) -> None:
    before = await a_stored_clip(database, AVAILABLE)
    recorded = await record(store, a_cut())
    assert (recorded.verdict, recorded.clip.version) == (Verdict.REPEATED, before.version)
    assert await database.events() == []


async def test_a_stale_cut_loses_its_objects(database: Database, store: Store) -> None:
    await a_stored_clip(database, KEPT)
    stale = a_cut(event="event-1", at=NOON - HOUR)
    assert (await record(store, stale)).verdict is Verdict.STALE
    assert await database.released() == sorted((each.key, "stale") for each in stale.objects)


async def test_a_highlight_newer_than_the_purge_begins_a_new_life(database: Database, store: Store) -> None:
    purged = await a_stored_clip(database, PURGED)
    cut = a_cut(event="event-1", at=datetime.now(UTC) + SOON)
    recorded = await record(store, cut)
    clip = recorded.clip
    assert (recorded.verdict, clip.status, clip.purged_at) == (Verdict.RECUT, AVAILABLE, None)
    assert clip.version == purged.version + 1
    assert clip.created_at > purged.created_at
    assert await database.event_types() == ["clip.available.v1"]


async def test_a_highlight_older_than_the_purge_stays_purged(database: Database, store: Store) -> None:
    await a_stored_clip(database, PURGED)
    late = a_cut(event="event-9", at=NOON + HOUR)
    assert (await record(store, late)).verdict is Verdict.STALE
    assert await database.event_types() == ["clip.object-released.v1"] * 2


async def test_a_purged_clips_own_event_releases_the_objects_that_its_cutter_made_again(
    database: Database, store: Store
) -> None:
    purged = await a_stored_clip(database, PURGED)
    assert (await record(store, a_cut())).verdict is Verdict.REPEATED
    assert await database.released() == sorted((each.key, "stale") for each in purged.objects)


async def test_another_accounts_clip_is_left_alone(database: Database, store: Store) -> None:
    before = await a_stored_clip(database, AVAILABLE)
    recorded = await record(store, a_cut(event="event-9", at=NOON + HOUR, account="bob"))
    assert (recorded.verdict, recorded.clip.object_key) == (Verdict.FOREIGN, before.object_key)
    assert await database.events() == []


async def test_an_object_of_another_clip_is_neither_taken_nor_released(
    database: Database, store: Store
) -> None:
    theirs = await a_stored_clip(database, AVAILABLE, a_cut(highlight="theirs"))
    thief = a_cut(event="event-9", object_key=theirs.object_key, poster_key=None)
    with pytest.raises(PermanentError):
        await record(store, thief)
    await record(store, a_cut(event="event-8", at=NOON + 2 * HOUR))
    await database.run("DELETE FROM outbox")
    stale_thief = a_cut(event="event-7", object_key=theirs.object_key)
    assert (await record(store, stale_thief)).verdict is Verdict.STALE
    assert await database.released() == [(stale_thief.poster_key, "stale")]


async def test_data_that_the_database_cannot_store_is_a_permanent_error(
    database: Database, store: Store
) -> None:
    with pytest.raises(PermanentError):
        await store.record([Offer(a_cut("good"), "1"), Offer(a_cut("bad", title="nul \x00"), "2")])
    assert await store.get(clip_id_for("good")) is None
    assert await database.events() == []


async def test_a_batch_answers_in_the_order_of_its_offers(database: Database, store: Store) -> None:
    older, newer = a_cut(), a_cut(event="event-6", at=NOON + HOUR)
    cuts = [a_cut("z"), newer, a_cut("a"), older, newer, a_cut("m")]
    results = await store.record([Offer(cut, f"created-{index}") for index, cut in enumerate(cuts)])
    assert [each.clip.stream_highlight_id for each in results] == [cut.stream_highlight_id for cut in cuts]
    created, stale, repeated = Verdict.CREATED, Verdict.STALE, Verdict.REPEATED
    assert [each.verdict for each in results] == [created, created, created, stale, repeated, created]
    assert await database.released() == sorted((each.key, "stale") for each in older.objects)


async def test_a_batch_may_hold_several_revisions_of_one_clip(database: Database, store: Store) -> None:
    cuts = [a_cut(event=f"event-{number}") for number in (1, 2, 3)]
    results = await store.record([Offer(cut, cut.highlight_event_id) for cut in cuts])
    assert [each.verdict for each in results] == [Verdict.CREATED, Verdict.REPLACED, Verdict.REPLACED]
    assert (await database.event_types()).count("clip.available.v1") == 3
    assert len(await database.released()) == 4


OFFERED = {
    "repeated": a_cut(),
    "earlier": a_cut(event="event-9", at=NOON - HOUR),
    "lesser id": a_cut(event="event-4"),
    "lesser id to Python, greater to most collations": a_cut(event="Event-9"),
    "greater id": a_cut(event="event-6"),
    "greater id by its underscore": a_cut(event="event_5"),
    "later": a_cut(event="event-1", at=NOON + HOUR),
    "after the purge": a_cut(event="event-1", at=datetime.now(UTC) + HOUR),
    "foreign": a_cut(event="event-1", at=datetime.now(UTC) + HOUR, account="bob"),
}


@pytest.mark.parametrize(("status", "offered"), list(product(ClipStatus, OFFERED)))
async def test_guard_and_rule_agree_on_cuts(
    database: Database, store: Store, status: ClipStatus, offered: str
) -> None:
    before = await a_stored_clip(database, status)
    recorded = await record(store, OFFERED[offered])
    assert recorded.verdict is judge(before, OFFERED[offered])
    assert recorded.clip.version == before.version + recorded.verdict.changes_clip
    assert not {key for key, _ in await database.released()} & {
        each.key for each in recorded.clip.owned_objects
    }


@pytest.mark.parametrize(("status", "action"), list(product(ClipStatus, Action)))
async def test_guard_and_rule_agree_on_actions(
    database: Database, store: Store, status: ClipStatus, action: Action
) -> None:
    before = await a_stored_clip(database, status)
    for account in ("bob", "ann"):
        decision, clip = await store.act(action, before.clip_id, account)
        assert decision is answer(action, before, account)
        assert clip is not None
        assert clip.version == before.version + (decision is Answer.DONE)
        assert len(await database.events()) == (decision is Answer.DONE)


async def test_keep_publish_unpublish_unkeep(database: Database, store: Store) -> None:
    clip = await a_stored_clip(database, AVAILABLE)

    async def do(action: Action) -> Clip:
        decision, now = await store.act(action, clip.clip_id, "ann")
        assert decision is Answer.DONE
        assert now is not None
        return now

    kept = await do(Action.KEEP)
    assert (kept.kept_by, kept.kept_at, kept.expires_at) == ("ann", kept.updated_at, None)
    published = await do(Action.PUBLISH)
    assert (published.kept_at, published.published_at) == (kept.kept_at, published.updated_at)
    assert published.share_slug is not None
    assert await store.get_shared(published.share_slug) == published
    unpublished = await do(Action.UNPUBLISH)
    assert (unpublished.status, unpublished.share_slug, unpublished.published_at) == (KEPT, None, None)
    assert await store.get_shared(published.share_slug) is None
    unkept = await do(Action.UNKEEP)
    assert (unkept.kept_at, unkept.kept_by) == (None, None)
    assert unkept.expires_at == unkept.updated_at + RETENTION
    again = await do(Action.PUBLISH)
    assert again.share_slug != published.share_slug
    assert (again.kept_by, again.kept_at) == ("ann", again.published_at)
    events = await database.events()
    assert [event_type.split(".")[1] for event_type, _ in events] == [
        *("kept", "published", "unpublished", "unkept", "published")
    ]
    assert [data["version"] for _, data in events] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("action", Action)
async def test_an_unknown_clip(store: Store, action: Action) -> None:
    assert await store.act(action, clip_id_for("nobody"), "ann") == (Answer.UNKNOWN, None)


async def test_an_expired_clip_can_be_kept_until_it_is_purged(database: Database, store: Store) -> None:
    clip = await a_stored_clip(database, AVAILABLE)
    await database.expire(clip)
    assert (await store.act(Action.KEEP, clip.clip_id, "ann"))[0] is Answer.DONE
    assert (await store.expire(10, None)).expired == 0


async def several_due(database: Database, count: int) -> list[Clip]:
    """Clips that expired one second apart, the first one the longest ago."""
    cuts = [a_cut(f"due-{number}") for number in range(count)]
    clips = [each.clip for each in await database.store().record([Offer(cut, "x") for cut in cuts])]
    for number, clip in enumerate(clips):
        await database.expire(clip, seconds_ago=count - number)
    await database.run("DELETE FROM outbox")
    return clips


async def statuses(store: Store, clips: list[Clip]) -> list[ClipStatus | None]:
    return [clip.status if clip else None for clip in [await store.get(each.clip_id) for each in clips]]


async def test_expiration_purges_the_earliest_first_and_says_whether_more_are_due(
    database: Database, store: Store
) -> None:
    clips = await several_due(database, 5)
    first = await store.expire(2, None)
    assert (first.expired, first.more) == (2, True)
    assert await statuses(store, clips) == [PURGED, PURGED, AVAILABLE, AVAILABLE, AVAILABLE]
    second = await store.expire(3, first.cutoff)
    assert (second.expired, second.more, second.cutoff) == (3, False, first.cutoff)
    third = await store.expire(3, first.cutoff)
    assert (third.expired, third.more) == (0, False)


async def test_a_purge_is_announced_and_releases_video_and_poster(database: Database, store: Store) -> None:
    [clip] = await several_due(database, 1)
    await store.expire(10, None)
    assert await database.event_types() == ["clip.purged.v1", *["clip.object-released.v1"] * 2]
    assert await database.released() == sorted((each.key, "purged") for each in clip.objects)
    [(_, data), *_] = await database.events()
    purged = await store.get(clip.clip_id)
    assert purged is not None
    assert (data["version"], purged.version) == (2, 2)
    assert (purged.purged_at, purged.owned_objects) == (purged.updated_at, frozenset())


async def test_only_what_is_due_is_purged(database: Database, store: Store) -> None:
    before = [await a_stored_clip(database, status, a_cut(status)) for status in LIVING]
    due = await several_due(database, 1)
    assert (await store.expire(100, None)).expired == 1
    assert await statuses(store, [*before, *due]) == [*LIVING, PURGED]


async def test_the_cutoff_is_frozen_and_never_in_the_future(database: Database, store: Store) -> None:
    clips = await several_due(database, 3)
    cutoff = (await store.get(clips[1].clip_id) or clips[1]).expires_at
    assert cutoff is not None
    result = await store.expire(100, cutoff)
    assert (result.expired, result.more, result.cutoff) == (2, False, cutoff)
    fresh = await a_stored_clip(database, AVAILABLE, a_cut("fresh"))
    assert fresh.expires_at is not None
    result = await store.expire(100, fresh.expires_at + HOUR)
    assert result.expired == 1
    assert result.cutoff < fresh.expires_at
    assert not is_due(fresh, result.cutoff)


async def test_clips_that_others_hold_are_passed_over_and_counted_as_more(
    database: Database, store: Store
) -> None:
    clips = await several_due(database, 2)
    async with database.engine.begin() as other:
        held = text("SELECT 1 FROM generated_clips WHERE clip_id = :clip_id FOR UPDATE")
        await other.execute(held, {"clip_id": clips[0].clip_id})
        result = await store.expire(10, None)
        assert (result.expired, result.more) == (1, True)
    assert (await store.expire(10, result.cutoff)).more is False


async def scored(store: Store, *scores: float | None, prefix: str = "s") -> list[Clip]:
    cuts = [
        a_cut(f"{prefix}{number}", at=NOON + HOUR * number, score=score)
        for number, score in enumerate(scores)
    ]
    for cut in cuts:
        await record(store, cut)
    return [clip for cut in cuts if (clip := await store.get(cut.clip_id))]


def alive(clips: list[Clip]) -> list[float | None]:
    return [each.score for each in clips if each.expires_in_seconds is None or each.expires_in_seconds > 0]


async def test_over_the_cap_the_lowest_score_expires_then_the_oldest(database: Database) -> None:
    store = database.store(cap=3)
    assert alive(await scored(store, 5, None, 4, 1, 3)) == [5, 4, 3]
    assert (await store.expire(10, None)).expired == 2
    same = await scored(store, 9, 9, 9, 9, prefix="same-")
    assert [(each.expires_in_seconds or 0) > 0 for each in same] == [False, True, True, True]


async def test_kept_clips_and_other_accounts_do_not_count_for_the_cap(database: Database) -> None:
    store = database.store(cap=1)
    [kept] = await scored(store, 1)
    await store.act(Action.KEEP, kept.clip_id, "ann")
    await record(store, a_cut("bobs", account="bob"))
    assert alive(await scored(store, 2, prefix="t")) == [2]
    assert (await store.expire(10, None)).expired == 0


@pytest.mark.parametrize("score", [1, 3])
async def test_at_a_full_cap_no_clip_is_let_go_of_and_none_is_lost(database: Database, score: int) -> None:
    store = database.store(cap=1)
    [kept] = await scored(store, score)
    await store.act(Action.KEEP, kept.clip_id, "ann")
    [other] = await scored(store, 2, prefix="t")
    await database.run("DELETE FROM outbox")
    decision, clip = await store.act(Action.UNKEEP, kept.clip_id, "ann")
    assert (decision, clip and clip.status) == (Answer.FULL, KEPT)
    assert await database.event_types() == []
    assert (await store.expire(10, None)).expired == 0
    await database.expire(other)
    decision, clip = await store.act(Action.UNKEEP, kept.clip_id, "ann")
    assert (decision, clip and clip.expires_at) == (Answer.DONE, clip and clip.updated_at + RETENTION)
    assert (await store.expire(10, None)).expired == 1


async def test_who_is_told_a_date_at_a_full_cap_is_told_a_true_one(database: Database) -> None:
    store = database.store(cap=3)
    kept = await scored(store, 1, 2, 3, 4, 5)
    for clip in kept:
        await store.act(Action.KEEP, clip.clip_id, "ann")
    unkept = await asyncio.gather(*(store.act(Action.UNKEEP, each.clip_id, "ann") for each in kept))
    assert sorted(decision for decision, _ in unkept) == [Answer.DONE] * 3 + [Answer.FULL] * 2
    for decision, told in unkept:
        assert told is not None
        now = await store.get(told.clip_id)
        assert now is not None
        assert (
            now.expires_at == told.expires_at == (told.updated_at + RETENTION if decision is DONE else None)
        )


async def test_an_evicted_clip_can_still_be_kept(database: Database) -> None:
    store = database.store(cap=1)
    evicted, _ = await scored(store, 1, 2)
    assert (await store.act(Action.KEEP, evicted.clip_id, "ann"))[0] is Answer.DONE


async def test_listing_is_by_account_newest_first_without_the_expired(
    database: Database, store: Store
) -> None:
    clips = [await a_stored_clip(database, AVAILABLE, a_cut(f"c{number}")) for number in range(5)]
    await a_stored_clip(database, AVAILABLE, a_cut("bobs", account="bob"))
    await a_stored_clip(database, PURGED, a_cut("gone"))
    await database.expire(clips[2])
    await store.act(Action.KEEP, clips[0].clip_id, "ann")
    listed = await store.list_clips("ann", LIVING, limit=10, after=None)
    assert [each.stream_highlight_id for each in listed] == ["c4", "c3", "c1", "c0"]
    assert [each.status for each in listed] == [AVAILABLE, AVAILABLE, AVAILABLE, KEPT]
    kept_only = await store.list_clips("ann", [KEPT, PUBLISHED], limit=10, after=None)
    assert [each.stream_highlight_id for each in kept_only] == ["c0"]


async def test_clips_of_one_moment_are_all_listed_page_by_page(store: Store) -> None:
    await store.record([Offer(a_cut(f"c{number}"), "x") for number in range(5)])
    seen: list[Clip] = []
    while page := await store.list_clips(
        "ann", LIVING, limit=2, after=(seen[-1].created_at, seen[-1].clip_id) if seen else None
    ):
        seen += page
    assert len({each.clip_id for each in seen}) == len(seen) == 5


async def test_totals_leave_out_what_has_expired(database: Database, store: Store) -> None:
    for status in LIVING:
        await a_stored_clip(database, status, a_cut(status, file_size_bytes=100))
    await database.expire(await a_stored_clip(database, AVAILABLE, a_cut("old")))
    totals = await store.totals("ann")
    assert (totals.available, totals.kept, totals.published, totals.bytes) == (1, 1, 1, 300)
    nothing = await store.totals("bob")
    assert (nothing.available, nothing.bytes) == (0, 0)


async def test_unknown_objects_are_those_of_no_living_clip(database: Database, store: Store) -> None:
    living = await a_stored_clip(database, KEPT, a_cut("living"))
    purged = await a_stored_clip(database, PURGED, a_cut("purged"))
    keys = [living.object_key, living.poster_key or "", purged.object_key, "never/seen.mp4"]
    assert await store.unknown_objects("clips", keys) == {purged.object_key, "never/seen.mp4"}
    assert await store.unknown_objects("other-bucket", keys) == set(keys)
    assert await store.unknown_objects("clips", []) == set()


async def test_a_replaced_object_is_unknown_when_its_last_url_has_died(database: Database) -> None:
    store = database.store(release_delay=HOUR)
    old, new = a_cut(), a_cut(event="event-6", at=NOON + HOUR)
    await store.record([Offer(old, "created-5")])
    await store.record([Offer(new, "created-6")])
    keys = [old.object_key, str(old.poster_key), new.object_key, a_cut("hl-2").object_key]
    assert await store.unknown_objects("clips", keys) == {a_cut("hl-2").object_key}
    await database.run("UPDATE generated_clips SET updated_at = updated_at - interval '1 hour'")
    assert await store.unknown_objects("clips", keys) == {*keys} - {new.object_key}


async def test_a_purged_clips_object_is_unknown_when_its_last_url_has_died(database: Database) -> None:
    store = database.store(release_delay=HOUR)
    [recorded] = await store.record([Offer(a_cut(), "created-5")])
    await database.expire(recorded.clip)
    await store.expire(10, None)
    assert await store.unknown_objects("clips", [a_cut().object_key]) == set()
    await database.run("UPDATE generated_clips SET updated_at = updated_at - interval '1 hour'")
    assert await store.unknown_objects("clips", [a_cut().object_key]) == {a_cut().object_key}


async def test_figures(database: Database, store: Store) -> None:
    for status in ClipStatus:
        await a_stored_clip(database, status, a_cut(status))
    await database.expire(await a_stored_clip(database, AVAILABLE, a_cut("old")))
    await record(store, a_cut("new"))
    figures = await store.figures()
    assert figures.clips == {AVAILABLE: 3, KEPT: 1, PUBLISHED: 1}
    assert (figures.overdue, figures.outbox_depth, figures.outbox_dead) == (1, 1, 0)
    assert 0 <= figures.outbox_age_seconds < 5
