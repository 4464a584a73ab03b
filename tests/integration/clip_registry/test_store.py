"""Every transition on a real PostgreSQL: the row, the events, and that guard and rule agree."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from sqlalchemy import text

from clip_registry.clips.store import ClipStore, RecordedCut
from clip_registry.domain.actions import ActionOutcome, outcome_of_action
from clip_registry.domain.clips import VISIBLE, Clip, Cut, PublicationOptions, is_due
from clip_registry.domain.cuts import CutOutcome, cut_offer, outcome_of_cut
from clip_registry.reports import ReportedCut
from clip_registry.timers.metrics_snapshot import take_snapshot
from clip_shared.contracts.events import ClipOrigin, PurgeReason, clip_id_for
from clip_shared.contracts.registry_api import ClipAction, ClipStatus
from clip_shared.errors import PermanentError
from tests.integration.clip_registry.conftest import RETENTION, Database
from tests.unit.clip_registry.cuts import HOUR, NOON, a_cut, an_action

UNDO = timedelta(minutes=10)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
AVAILABLE, KEPT, PUBLISHED, DELETED, PURGED = ClipStatus
DONE = ActionOutcome.DONE
SOON = timedelta(seconds=1)


async def record(store: ClipStore, cut: Cut) -> RecordedCut:
    [recorded] = await store.record([ReportedCut(cut, f"created-{cut.highlight_event_id}")])
    return recorded


async def a_stored_clip(
    database: Database,
    status: ClipStatus,
    cut: Cut | None = None,
    *,
    was: ClipStatus = AVAILABLE,
    store: ClipStore | None = None,
) -> Clip:
    """A clip that came to its status the way clips do; ``was``: what it was when it was deleted."""
    store = store or database.store()
    clip: Clip | None = (await record(store, cut or a_cut())).clip
    assert clip is not None
    ways = {KEPT: [ClipAction.KEEP], PUBLISHED: [ClipAction.PUBLISH]}
    deletes = [ClipAction.DELETE] if status is DELETED else []
    for action in [*ways.get(was if deletes else status, []), *deletes]:
        _, clip = await store.act(an_action(action, clip.twitch_account_id), clip.clip_id)
        assert clip is not None
    if status is PURGED:
        clip = await purged(database, clip)
    assert clip.status is status
    await database.run("DELETE FROM outbox")
    return clip


async def purged(database: Database, clip: Clip) -> Clip:
    """A clip whose time is over, after a tick."""
    await database.expire(clip)
    assert (await database.store().purge(1, None)).expired == 1
    now = await database.store().get(clip.clip_id)
    assert now is not None
    return now


async def act(store: ClipStore, action: ClipAction, highlight: str = "hl-1", **changes: Any) -> Clip:
    """What a request of Ann's that is fulfilled makes of a clip."""
    decision, clip = await store.act(an_action(action, **changes), clip_id_for(highlight))
    assert decision is DONE
    assert clip is not None
    return clip


async def test_a_first_cut_becomes_an_available_clip(database: Database, store: ClipStore) -> None:
    [recorded] = await store.record([ReportedCut(a_cut(), "created-1", TRACE)])
    clip = recorded.clip
    assert (recorded.outcome, clip.status, clip.version) == (CutOutcome.CREATED, AVAILABLE, 1)
    assert clip.expires_at == clip.created_at + RETENTION
    assert clip.expires_in_seconds == RETENTION.total_seconds()
    assert {name: getattr(clip, name) for name in vars(a_cut())} == vars(a_cut())
    assert await database.event_types() == ["clip.available.v1"]
    [row] = await database.run("SELECT headers FROM outbox")
    assert row.headers["traceparent"] == TRACE


# What a new video leaves as it was.
SAME = (
    *("created_at", "kept_at", "kept_by", "published_at", "share_slug", "published_until"),
    *("deleted_from", "deleted_at", "purged_at", "purge_reason"),
)
BETTER = a_cut(event="event-6", at=NOON + HOUR, kind="refined", title="Better", poster_key=None)
OWNERS = replace(BETTER, origin=ClipOrigin.OWNER)


@pytest.mark.parametrize(("status", "cut"), [(AVAILABLE, BETTER), *((status, OWNERS) for status in VISIBLE)])
async def test_a_newer_cut_replaces_the_video_and_nothing_else(
    database: Database, store: ClipStore, status: ClipStatus, cut: Cut
) -> None:
    before = await a_stored_clip(database, status)
    recorded = await record(store, cut)
    after = recorded.clip
    assert recorded.outcome is CutOutcome.REPLACED
    assert (after.status, after.version, after.title) == (status, before.version + 1, "Better")
    assert (after.revision, after.origin) == (2, cut.origin)
    assert after.published_revision == (2 if status is PUBLISHED else None)
    assert [getattr(after, each) for each in SAME] == [getattr(before, each) for each in SAME]
    events = await database.events()
    assert [event_type for event_type, _ in events].count("clip.available.v1") == 1
    assert await database.released() == sorted((each.key, "replaced") for each in before.objects)


async def test_a_replaced_ephemeral_clip_lives_a_full_retention_again(
    database: Database, store: ClipStore
) -> None:
    before = await a_stored_clip(database, AVAILABLE)
    await database.expire(before)
    after = (await record(store, a_cut(event="event-6"))).clip
    assert after.expires_at == after.updated_at + RETENTION


@pytest.mark.parametrize("was", VISIBLE)
async def test_an_owners_cut_of_a_deleted_clip_is_there_if_it_is_restored(
    database: Database, store: ClipStore, was: ClipStatus
) -> None:
    """The cut was asked for before the clip was deleted, and came after."""
    before = await a_stored_clip(database, DELETED, was=was)
    after = (await record(store, OWNERS)).clip
    assert (after.status, after.object_key, after.expires_at) == (
        *(DELETED, OWNERS.object_key, before.expires_at),
    )
    assert [getattr(after, each) for each in SAME] == [getattr(before, each) for each in SAME]
    assert [kind for kind in await database.event_types() if "released" not in kind] == ["clip.deleted.v1"]
    restored = await act(store, ClipAction.RESTORE)
    assert (restored.status, restored.published_revision) == (was, 2 if was is PUBLISHED else None)
    if was is AVAILABLE:
        assert restored.expires_at == restored.updated_at + RETENTION


@pytest.mark.parametrize("status", [KEPT, PUBLISHED, DELETED])
async def test_a_detectors_cut_of_what_its_owner_decided_about_is_remembered_only(
    database: Database, store: ClipStore, status: ClipStatus
) -> None:
    before = await a_stored_clip(database, status)
    recorded = await record(store, BETTER)
    after = recorded.clip
    assert recorded.outcome is CutOutcome.OFFERED
    marks = {"detector_cut_at": BETTER.highlight_detected_at, "detector_cut_id": "event-6"}
    same = {**vars(before), "expires_in_seconds": after.expires_in_seconds}
    assert vars(after) == {**same, **marks, "offer": cut_offer(BETTER)}
    assert set(await database.event_types()) == {"clip.object-released.v1"}
    assert await database.released() == [(BETTER.object_key, "stale")]


async def test_only_the_newest_offer_is_remembered_until_the_video_changes(
    database: Database, store: ClipStore
) -> None:
    await a_stored_clip(database, KEPT)
    newest, older = (a_cut(event=f"event-{n}", at=NOON + n * HOUR) for n in (9, 8))
    assert (await record(store, BETTER)).outcome is CutOutcome.OFFERED
    assert (await record(store, newest)).outcome is CutOutcome.OFFERED
    assert (await record(store, older)).outcome is CutOutcome.STALE
    assert (await record(store, newest)).clip.offer == cut_offer(newest)
    assert (await record(store, replace(OWNERS, highlight_event_id="event-7"))).clip.offer is None


async def test_an_offer_that_arrives_again_does_not_become_the_clip_that_was_let_go(
    database: Database, store: ClipStore
) -> None:
    """Its objects were released with the refusal: the janitor may have deleted them."""
    await a_stored_clip(database, KEPT)
    await record(store, BETTER)
    let_go = await act(store, ClipAction.UNKEEP)
    again = await record(store, BETTER)
    assert (again.outcome, again.clip.object_key) == (CutOutcome.STALE, let_go.object_key)


async def test_no_detector_replaces_an_owners_cut(database: Database, store: ClipStore) -> None:
    await a_stored_clip(database, AVAILABLE, replace(a_cut(), origin=ClipOrigin.OWNER))
    recorded = await record(store, BETTER)
    assert (recorded.outcome, recorded.clip.offer) == (CutOutcome.STALE, None)


async def test_an_owners_title_outlives_new_videos_and_ends_with_the_clip(
    database: Database, store: ClipStore
) -> None:
    await a_stored_clip(database, AVAILABLE)
    renamed = await act(store, ClipAction.RENAME, title="Mine")
    assert (renamed.title, renamed.renamed_at) == ("Mine", renamed.updated_at)
    assert [(kind, data["title"]) for kind, data in await database.events()] == [("clip.renamed.v1", "Mine")]
    replaced = (await record(store, BETTER)).clip
    assert (replaced.title, replaced.kind) == ("Mine", "refined")
    await database.expire(replaced)
    await store.purge(1, None)
    cut = a_cut(event="event-1", at=datetime.now(UTC) + SOON, title="Again")
    assert (await record(store, cut)).clip.title == "Again"


async def test_a_kept_clip_with_a_new_video_does_not_expire(database: Database, store: ClipStore) -> None:
    await a_stored_clip(database, KEPT)
    assert (await record(store, OWNERS)).clip.expires_at is None
    assert [data["expires_at"] for kind, data in await database.events() if "available" in kind] == [None]


async def test_a_repeated_event_changes_nothing_and_releases_nothing(
    database: Database, store: ClipStore
) -> None:
    before = await a_stored_clip(database, AVAILABLE)
    recorded = await record(store, a_cut())
    assert (recorded.outcome, recorded.clip.version) == (CutOutcome.REPEATED, before.version)
    assert await database.events() == []


async def test_a_stale_cut_loses_its_objects(database: Database, store: ClipStore) -> None:
    await a_stored_clip(database, KEPT)
    stale = a_cut(event="event-1", at=NOON - HOUR)
    assert (await record(store, stale)).outcome is CutOutcome.STALE
    assert await database.released() == sorted((each.key, "stale") for each in stale.objects)


async def test_a_highlight_newer_than_the_purge_begins_a_new_life(
    database: Database, store: ClipStore
) -> None:
    purged = await a_stored_clip(database, PURGED)
    cut = a_cut(event="event-1", at=datetime.now(UTC) + SOON)
    recorded = await record(store, cut)
    clip = recorded.clip
    assert (recorded.outcome, clip.status, clip.purged_at) == (CutOutcome.RECUT, AVAILABLE, None)
    assert clip.version == purged.version + 1
    assert clip.created_at > purged.created_at
    assert await database.event_types() == ["clip.available.v1"]


async def test_a_highlight_older_than_the_purge_stays_purged(database: Database, store: ClipStore) -> None:
    await a_stored_clip(database, PURGED)
    late = a_cut(event="event-9", at=NOON + HOUR)
    assert (await record(store, late)).outcome is CutOutcome.STALE
    assert await database.event_types() == ["clip.object-released.v1"] * 2


async def test_a_purged_clips_own_event_releases_the_objects_that_its_cutter_made_again(
    database: Database, store: ClipStore
) -> None:
    purged = await a_stored_clip(database, PURGED)
    assert (await record(store, a_cut())).outcome is CutOutcome.REPEATED
    assert await database.released() == sorted((each.key, "stale") for each in purged.objects)


async def test_another_accounts_clip_is_left_alone(database: Database, store: ClipStore) -> None:
    before = await a_stored_clip(database, AVAILABLE)
    recorded = await record(store, a_cut(event="event-9", at=NOON + HOUR, account="bob"))
    assert (recorded.outcome, recorded.clip.object_key) == (CutOutcome.FOREIGN, before.object_key)
    assert await database.events() == []


async def test_an_object_of_another_clip_is_neither_taken_nor_released(
    database: Database, store: ClipStore
) -> None:
    theirs = await a_stored_clip(database, AVAILABLE, a_cut(highlight="theirs"))
    thief = a_cut(event="event-9", object_key=theirs.object_key, poster_key=None)
    with pytest.raises(PermanentError):
        await record(store, thief)
    await record(store, a_cut(event="event-8", at=NOON + 2 * HOUR))
    await database.run("DELETE FROM outbox")
    stale_thief = a_cut(event="event-7", object_key=theirs.object_key)
    assert (await record(store, stale_thief)).outcome is CutOutcome.STALE
    assert await database.released() == [(stale_thief.poster_key, "stale")]


async def test_data_that_the_database_cannot_store_is_a_permanent_error(
    database: Database, store: ClipStore
) -> None:
    with pytest.raises(PermanentError):
        await store.record(
            [ReportedCut(a_cut("good"), "1"), ReportedCut(a_cut("bad", title="nul \x00"), "2")]
        )
    assert await store.get(clip_id_for("good")) is None
    assert await database.events() == []


async def test_a_batch_answers_in_the_order_of_its_deliveries(database: Database, store: ClipStore) -> None:
    older, newer = a_cut(), a_cut(event="event-6", at=NOON + HOUR)
    cuts = [a_cut("z"), newer, a_cut("a"), older, newer, a_cut("m")]
    results = await store.record([ReportedCut(cut, f"created-{index}") for index, cut in enumerate(cuts)])
    assert [each.clip.stream_highlight_id for each in results] == [cut.stream_highlight_id for cut in cuts]
    created, stale, repeated = CutOutcome.CREATED, CutOutcome.STALE, CutOutcome.REPEATED
    assert [each.outcome for each in results] == [created, created, created, stale, repeated, created]
    assert await database.released() == sorted((each.key, "stale") for each in older.objects)


async def test_a_batch_may_hold_several_revisions_of_one_clip(database: Database, store: ClipStore) -> None:
    cuts = [a_cut(event=f"event-{number}") for number in (1, 2, 3)]
    results = await store.record([ReportedCut(cut, cut.highlight_event_id) for cut in cuts])
    assert [each.outcome for each in results] == [
        CutOutcome.CREATED,
        CutOutcome.REPLACED,
        CutOutcome.REPLACED,
    ]
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
OFFERED |= {f"{name}, by the owner": replace(cut, origin=ClipOrigin.OWNER) for name, cut in OFFERED.items()}


@pytest.mark.parametrize("origin", [ClipOrigin.DETECTOR, ClipOrigin.OWNER])
@pytest.mark.parametrize(("status", "offered"), list(product([*ClipStatus, "purged, deleted"], OFFERED)))
async def test_guard_and_rule_agree_on_cuts(
    database: Database, store: ClipStore, status: str, offered: str, origin: ClipOrigin
) -> None:
    was_deleted = status == "purged, deleted"
    before = await a_stored_clip(
        database, DELETED if was_deleted else ClipStatus(status), replace(a_cut(), origin=origin)
    )
    if was_deleted:
        before = await purged(database, before)
    recorded = await record(store, OFFERED[offered])
    assert recorded.outcome is outcome_of_cut(before, OFFERED[offered])
    assert recorded.clip.version == before.version + recorded.outcome.changes_clip
    assert not {key for key, _ in await database.released()} & {
        each.key for each in recorded.clip.owned_objects
    }


@pytest.mark.parametrize(("status", "action"), list(product(ClipStatus, ClipAction)))
async def test_guard_and_rule_agree_on_actions(
    database: Database, store: ClipStore, status: ClipStatus, action: ClipAction
) -> None:
    before = await a_stored_clip(database, status)
    for account in ("bob", "ann"):
        decision, clip = await store.act(an_action(action, account), before.clip_id)
        assert decision is outcome_of_action(an_action(action, account), before)
        assert clip is not None
        assert clip.version == before.version + (decision is ActionOutcome.DONE)
        assert len(await database.events()) == (decision is ActionOutcome.DONE)


async def test_keep_publish_unpublish_unkeep(database: Database, store: ClipStore) -> None:
    clip = await a_stored_clip(database, AVAILABLE)

    async def do(action: ClipAction) -> Clip:
        decision, now = await store.act(an_action(action), clip.clip_id)
        assert decision is ActionOutcome.DONE
        assert now is not None
        return now

    kept = await do(ClipAction.KEEP)
    assert (kept.kept_by, kept.kept_at, kept.expires_at) == ("ann", kept.updated_at, None)
    published = await do(ClipAction.PUBLISH)
    assert (published.kept_at, published.published_at) == (kept.kept_at, published.updated_at)
    assert published.share_slug is not None
    assert await store.get_shared(published.share_slug) == published
    unpublished = await do(ClipAction.UNPUBLISH)
    assert (unpublished.status, unpublished.share_slug, unpublished.published_at) == (KEPT, None, None)
    assert await store.get_shared(published.share_slug) is None
    unkept = await do(ClipAction.UNKEEP)
    assert (unkept.kept_at, unkept.kept_by) == (None, None)
    assert unkept.expires_at == unkept.updated_at + RETENTION
    again = await do(ClipAction.PUBLISH)
    assert again.share_slug != published.share_slug
    assert (again.kept_by, again.kept_at) == ("ann", again.published_at)
    events = await database.events()
    assert [event_type.split(".")[1] for event_type, _ in events] == [
        *("kept", "published", "unpublished", "unkept", "published")
    ]
    assert [data["version"] for _, data in events] == [2, 3, 4, 5, 6]


# Deletion.


@pytest.mark.parametrize("was", VISIBLE)
async def test_a_deleted_clip_is_restored_to_what_it_was(
    database: Database, store: ClipStore, was: ClipStatus
) -> None:
    before = await a_stored_clip(database, was)
    deleted = await act(store, ClipAction.DELETE)
    assert (deleted.status, deleted.deleted_from, deleted.deleted_at) == (DELETED, was, deleted.updated_at)
    assert deleted.expires_at == deleted.updated_at + UNDO
    assert deleted.owned_objects == before.objects
    restored = await act(store, ClipAction.RESTORE)
    new = ("version", "updated_at", "expires_at", "expires_in_seconds")
    assert {**vars(restored), **dict.fromkeys(new)} == {**vars(before), **dict.fromkeys(new)}
    if was is AVAILABLE:
        assert before.expires_at is not None
        away = restored.updated_at - deleted.updated_at
        assert restored.expires_at == before.expires_at + away
    else:
        assert restored.expires_at is None
    (first, deletion), (second, restoration) = await database.events()
    assert (first, second) == ("clip.deleted.v1", "clip.restored.v1")
    assert datetime.fromisoformat(deletion["expires_at"]) == deleted.expires_at
    assert (restoration["status"], restoration["expires_at"] is None) == (was, was is not AVAILABLE)


@pytest.mark.parametrize("left", [-HOUR, HOUR, 30 * HOUR])
async def test_a_restored_clip_lives_what_was_left_and_at_least_a_day(
    database: Database, store: ClipStore, left: timedelta
) -> None:
    clip = await a_stored_clip(database, AVAILABLE)
    await database.expire(clip, seconds_ago=-left.total_seconds())
    await act(store, ClipAction.DELETE)
    restored = await act(store, ClipAction.RESTORE)
    assert restored.expires_at is not None
    lives = restored.expires_at - restored.updated_at
    assert abs(lives - max(left, timedelta(days=1))) < SOON


async def test_no_restored_clip_lives_longer_than_clips_do(database: Database) -> None:
    store = database.store(retention=HOUR)
    await a_stored_clip(database, DELETED, store=store)
    restored = await act(store, ClipAction.RESTORE)
    assert restored.expires_at is not None
    assert restored.expires_at - restored.updated_at <= HOUR


@pytest.mark.parametrize("was", VISIBLE)
async def test_a_deleted_clip_can_be_restored_until_it_is_purged(
    database: Database, store: ClipStore, was: ClipStatus
) -> None:
    clip = await a_stored_clip(database, DELETED, was=was)
    await database.expire(clip)
    assert (await act(store, ClipAction.RESTORE)).status is was
    await act(store, ClipAction.DELETE)
    await database.run("DELETE FROM outbox")
    gone = await purged(database, clip)
    assert (gone.status, gone.purge_reason, gone.deleted_from) == (PURGED, PurgeReason.DELETED, None)
    assert (gone.kept_at, gone.published_at, gone.share_slug, gone.offer) == (None, None, None, None)
    assert (await store.act(an_action(ClipAction.RESTORE), clip.clip_id))[0] is ActionOutcome.UNKNOWN
    [(kind, data), *_] = await database.events()
    assert (kind, data["reason"]) == ("clip.purged.v1", "deleted")
    assert await database.released() == sorted((each.key, "purged") for each in clip.objects)


async def test_what_was_evicted_says_so_unless_its_owner_changed_their_mind(database: Database) -> None:
    store = database.store(cap=1)
    evicted, _ = await scored(store, 1, 2)
    assert evicted.purge_reason is PurgeReason.EVICTED
    assert (await act(store, ClipAction.KEEP, "s0")).purge_reason is None
    await act(store, ClipAction.DELETE, "s0")
    assert (await purged(database, evicted)).purge_reason is PurgeReason.DELETED
    other, _ = await scored(store, 3, 4, prefix="t")
    gone = await purged(database, other)
    assert gone.purge_reason is PurgeReason.EVICTED
    reasons = [data["reason"] for kind, data in await database.events() if kind == "clip.purged.v1"]
    assert reasons == ["deleted", "evicted"]


async def test_at_a_full_cap_no_clip_is_restored_to_be_lost(database: Database) -> None:
    store = database.store(cap=1)
    [deleted] = await scored(store, 2)
    await act(store, ClipAction.DELETE, "s0")
    await scored(store, 1, prefix="t")
    decision, _ = await store.act(an_action(ClipAction.RESTORE), deleted.clip_id)
    assert decision is ActionOutcome.FULL
    await act(store, ClipAction.KEEP, "t0")
    assert (await act(store, ClipAction.RESTORE, "s0")).status is AVAILABLE


# Publishing.


async def test_publishing_again_changes_how_a_clip_is_public_and_nothing_else(
    database: Database, store: ClipStore
) -> None:
    before = await a_stored_clip(database, PUBLISHED)
    until = before.updated_at + HOUR
    options = PublicationOptions(until=until, embed=False, downloadable=True, indexable=True)
    after = await act(store, ClipAction.PUBLISH, options=options)
    assert after.options == options
    same = ("share_slug", "published_at", "published_revision", "kept_at", "expires_at")
    assert [getattr(after, each) for each in same] == [getattr(before, each) for each in same]
    [(kind, data)] = await database.events()
    assert (kind, data["share_slug"], data["embed"]) == ("clip.published.v1", before.share_slug, False)
    again = an_action(ClipAction.PUBLISH, options=options)
    assert (await store.act(again, before.clip_id))[0] is ActionOutcome.UNCHANGED
    assert len(await database.events()) == 1


async def test_a_share_link_lives_exactly_as_long_as_its_clip_is_public(
    database: Database, store: ClipStore
) -> None:
    clip = await a_stored_clip(database, PUBLISHED)
    slug = str(clip.share_slug)

    async def is_public() -> tuple[bool, bool]:
        return await store.get_shared(slug) is not None, await store.was_shared(slug)

    assert await is_public() == (True, True)
    await act(store, ClipAction.DELETE)
    assert await is_public() == (False, True)
    await act(store, ClipAction.RESTORE)
    assert await is_public() == (True, True)
    await act(store, ClipAction.UNPUBLISH)
    assert await is_public() == (False, True)
    await act(store, ClipAction.DELETE)
    await purged(database, clip)
    assert await is_public() == (False, True)
    assert not await store.was_shared("never-given-out")


async def test_what_was_to_be_public_until_now_is_private_at_once_and_kept_at_the_tick(
    database: Database, store: ClipStore
) -> None:
    clips = [await a_stored_clip(database, PUBLISHED, a_cut(f"p{number}")) for number in range(4)]
    await database.run("UPDATE generated_clips SET published_until = now() + interval '1 hour'")
    assert (await store.purge(100, None)).more is False
    for clip in clips[:3]:
        await database.run(
            "UPDATE generated_clips SET published_until = now() - interval '1 second'"
            " WHERE clip_id = :clip_id",
            clip_id=clip.clip_id,
        )
    assert await store.get_shared(str(clips[0].share_slug)) is None
    assert await store.get_shared(str(clips[3].share_slug)) is not None
    first = await store.purge(2, None)
    assert (first.expired, first.more) == (0, True)
    second = await store.purge(2, None)
    assert (second.expired, second.more) == (0, False)
    assert sorted(each or "" for each in await statuses(store, clips)) == [KEPT] * 3 + [PUBLISHED]
    assert await database.event_types() == ["clip.unpublished.v1"] * 3


async def test_a_restored_clip_whose_publication_is_over_is_ended_by_the_tick(
    database: Database, store: ClipStore
) -> None:
    clip = await a_stored_clip(database, DELETED, was=PUBLISHED)
    await database.run("UPDATE generated_clips SET published_until = now() - interval '1 second'")
    assert (await store.purge(10, None)).more is False
    await act(store, ClipAction.RESTORE)
    assert await store.get_shared(str(clip.share_slug)) is None
    await store.purge(10, None)
    assert await statuses(store, [clip]) == [KEPT]


# Many at once.


async def test_many_at_once_are_answered_one_by_one_in_the_order_asked(
    database: Database, store: ClipStore
) -> None:
    clips = {status: await a_stored_clip(database, status, a_cut(status)) for status in ClipStatus}
    theirs = await a_stored_clip(database, AVAILABLE, a_cut("bobs", account="bob"))
    ids = [*(clip.clip_id for clip in clips.values()), theirs.clip_id, clip_id_for("nobody")]
    results = await store.act_on_many(an_action(ClipAction.KEEP), [*ids, ids[0]])
    assert [decision for decision, _ in results] == [
        *(
            DONE,
            ActionOutcome.UNCHANGED,
            ActionOutcome.UNCHANGED,
            ActionOutcome.NOT_ALLOWED,
            ActionOutcome.UNKNOWN,
        ),
        *(ActionOutcome.NOT_OWNER, ActionOutcome.UNKNOWN, DONE),
    ]
    assert [clip and clip.clip_id for _, clip in results[:6]] == ids[:6]
    assert await database.event_types() == ["clip.kept.v1"]


async def test_many_are_restored_at_once_up_to_the_cap(database: Database) -> None:
    store = database.store(cap=2)
    clips = await scored(store, 1, 2)
    ids = [clip.clip_id for clip in clips]
    await store.act_on_many(an_action(ClipAction.DELETE), ids)
    more = await scored(store, 3, prefix="t")
    results = await store.act_on_many(an_action(ClipAction.RESTORE), ids)
    assert sorted(decision for decision, _ in results) == [DONE, ActionOutcome.FULL]
    assert await statuses(store, more) == [AVAILABLE]
    assert (await store.purge(10, None)).expired == 0


async def test_a_batch_that_publishes_leaves_public_clips_as_they_are(
    database: Database, store: ClipStore
) -> None:
    options = PublicationOptions(until=None, embed=False, downloadable=True, indexable=False)
    clip = await a_stored_clip(database, KEPT)
    before = await act(store, ClipAction.PUBLISH, options=options)
    request = an_action(ClipAction.PUBLISH, republishes=False)
    assert await store.act_on_many(request, [clip.clip_id]) == [(ActionOutcome.UNCHANGED, before)]


@pytest.mark.parametrize("action", ClipAction)
async def test_an_unknown_clip(store: ClipStore, action: ClipAction) -> None:
    assert await store.act(an_action(action), clip_id_for("nobody")) == (ActionOutcome.UNKNOWN, None)


async def test_an_expired_clip_can_be_kept_until_it_is_purged(database: Database, store: ClipStore) -> None:
    clip = await a_stored_clip(database, AVAILABLE)
    await database.expire(clip)
    assert (await store.act(an_action(ClipAction.KEEP), clip.clip_id))[0] is ActionOutcome.DONE
    assert (await store.purge(10, None)).expired == 0


async def several_due(database: Database, count: int) -> list[Clip]:
    """Clips that expired one second apart, the first one the longest ago."""
    cuts = [a_cut(f"due-{number}") for number in range(count)]
    clips = [each.clip for each in await database.store().record([ReportedCut(cut, "x") for cut in cuts])]
    for number, clip in enumerate(clips):
        await database.expire(clip, seconds_ago=count - number)
    await database.run("DELETE FROM outbox")
    return clips


async def statuses(store: ClipStore, clips: list[Clip]) -> list[ClipStatus | None]:
    return [clip.status if clip else None for clip in [await store.get(each.clip_id) for each in clips]]


async def test_expiration_purges_the_earliest_first_and_says_whether_more_are_due(
    database: Database, store: ClipStore
) -> None:
    clips = await several_due(database, 5)
    first = await store.purge(2, None)
    assert (first.expired, first.more) == (2, True)
    assert await statuses(store, clips) == [PURGED, PURGED, AVAILABLE, AVAILABLE, AVAILABLE]
    second = await store.purge(3, first.cutoff)
    assert (second.expired, second.more, second.cutoff) == (3, False, first.cutoff)
    third = await store.purge(3, first.cutoff)
    assert (third.expired, third.more) == (0, False)


async def test_a_purge_is_announced_and_releases_video_and_poster(
    database: Database, store: ClipStore
) -> None:
    [clip] = await several_due(database, 1)
    await store.purge(10, None)
    assert await database.event_types() == ["clip.purged.v1", *["clip.object-released.v1"] * 2]
    assert await database.released() == sorted((each.key, "purged") for each in clip.objects)
    [(_, data), *_] = await database.events()
    purged = await store.get(clip.clip_id)
    assert purged is not None
    assert (data["version"], purged.version) == (2, 2)
    assert (purged.purged_at, purged.owned_objects) == (purged.updated_at, frozenset())


async def test_only_what_is_due_is_purged(database: Database, store: ClipStore) -> None:
    before = [await a_stored_clip(database, status, a_cut(status)) for status in VISIBLE]
    due = await several_due(database, 1)
    assert (await store.purge(100, None)).expired == 1
    assert await statuses(store, [*before, *due]) == [*VISIBLE, PURGED]


async def test_the_cutoff_is_frozen_and_never_in_the_future(database: Database, store: ClipStore) -> None:
    clips = await several_due(database, 3)
    cutoff = (await store.get(clips[1].clip_id) or clips[1]).expires_at
    assert cutoff is not None
    result = await store.purge(100, cutoff)
    assert (result.expired, result.more, result.cutoff) == (2, False, cutoff)
    fresh = await a_stored_clip(database, AVAILABLE, a_cut("fresh"))
    assert fresh.expires_at is not None
    result = await store.purge(100, fresh.expires_at + HOUR)
    assert result.expired == 1
    assert result.cutoff < fresh.expires_at
    assert not is_due(fresh, result.cutoff)


async def test_clips_that_others_hold_are_passed_over_and_counted_as_more(
    database: Database, store: ClipStore
) -> None:
    clips = await several_due(database, 2)
    async with database.engine.begin() as other:
        held = text("SELECT 1 FROM generated_clips WHERE clip_id = :clip_id FOR UPDATE")
        await other.execute(held, {"clip_id": clips[0].clip_id})
        result = await store.purge(10, None)
        assert (result.expired, result.more) == (1, True)
    assert (await store.purge(10, result.cutoff)).more is False


async def scored(store: ClipStore, *scores: float | None, prefix: str = "s") -> list[Clip]:
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
    assert (await store.purge(10, None)).expired == 2
    same = await scored(store, 9, 9, 9, 9, prefix="same-")
    assert [(each.expires_in_seconds or 0) > 0 for each in same] == [False, True, True, True]


async def test_kept_clips_and_other_accounts_do_not_count_for_the_cap(database: Database) -> None:
    store = database.store(cap=1)
    [kept] = await scored(store, 1)
    await store.act(an_action(ClipAction.KEEP), kept.clip_id)
    await record(store, a_cut("bobs", account="bob"))
    assert alive(await scored(store, 2, prefix="t")) == [2]
    assert (await store.purge(10, None)).expired == 0


@pytest.mark.parametrize("score", [1, 3])
async def test_at_a_full_cap_no_clip_is_let_go_of_and_none_is_lost(database: Database, score: int) -> None:
    store = database.store(cap=1)
    [kept] = await scored(store, score)
    await store.act(an_action(ClipAction.KEEP), kept.clip_id)
    [other] = await scored(store, 2, prefix="t")
    await database.run("DELETE FROM outbox")
    decision, clip = await store.act(an_action(ClipAction.UNKEEP), kept.clip_id)
    assert (decision, clip and clip.status) == (ActionOutcome.FULL, KEPT)
    assert await database.event_types() == []
    assert (await store.purge(10, None)).expired == 0
    await database.expire(other)
    decision, clip = await store.act(an_action(ClipAction.UNKEEP), kept.clip_id)
    assert (decision, clip and clip.expires_at) == (ActionOutcome.DONE, clip and clip.updated_at + RETENTION)
    assert (await store.purge(10, None)).expired == 1


async def test_who_is_told_a_date_at_a_full_cap_is_told_a_true_one(database: Database) -> None:
    store = database.store(cap=3)
    kept = await scored(store, 1, 2, 3, 4, 5)
    for clip in kept:
        await store.act(an_action(ClipAction.KEEP), clip.clip_id)
    unkept = await asyncio.gather(*(store.act(an_action(ClipAction.UNKEEP), each.clip_id) for each in kept))
    assert sorted(decision for decision, _ in unkept) == [ActionOutcome.DONE] * 3 + [ActionOutcome.FULL] * 2
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
    assert (await store.act(an_action(ClipAction.KEEP), evicted.clip_id))[0] is ActionOutcome.DONE


async def test_unknown_objects_are_those_of_no_living_clip(database: Database, store: ClipStore) -> None:
    living = await a_stored_clip(database, KEPT, a_cut("living"))
    purged = await a_stored_clip(database, PURGED, a_cut("purged"))
    keys = [living.object_key, living.poster_key or "", purged.object_key, "never/seen.mp4"]
    assert await store.orphans("clips", keys) == {purged.object_key, "never/seen.mp4"}
    assert await store.orphans("other-bucket", keys) == set(keys)
    assert await store.orphans("clips", []) == set()


async def test_a_replaced_object_is_unknown_when_its_last_url_has_died(database: Database) -> None:
    store = database.store(release_delay=HOUR)
    old, new = a_cut(), a_cut(event="event-6", at=NOON + HOUR)
    await store.record([ReportedCut(old, "created-5")])
    await store.record([ReportedCut(new, "created-6")])
    keys = [old.object_key, str(old.poster_key), new.object_key, a_cut("hl-2").object_key]
    assert await store.orphans("clips", keys) == {a_cut("hl-2").object_key}
    await database.run("UPDATE generated_clips SET updated_at = updated_at - interval '1 hour'")
    assert await store.orphans("clips", keys) == {*keys} - {new.object_key}


async def test_a_purged_clips_object_is_unknown_when_its_last_url_has_died(database: Database) -> None:
    store = database.store(release_delay=HOUR)
    [recorded] = await store.record([ReportedCut(a_cut(), "created-5")])
    await database.expire(recorded.clip)
    await store.purge(10, None)
    assert await store.orphans("clips", [a_cut().object_key]) == set()
    await database.run("UPDATE generated_clips SET updated_at = updated_at - interval '1 hour'")
    assert await store.orphans("clips", [a_cut().object_key]) == {a_cut().object_key}


async def test_the_metrics_snapshot(database: Database, store: ClipStore) -> None:
    for status in ClipStatus:
        await a_stored_clip(database, status, a_cut(status))
    await database.expire(await a_stored_clip(database, AVAILABLE, a_cut("old")))
    await record(store, a_cut("new"))
    snapshot = await take_snapshot(database.engine)
    assert snapshot.clips == {AVAILABLE: 3, KEPT: 1, PUBLISHED: 1, DELETED: 1}
    assert (snapshot.overdue, snapshot.outbox_depth, snapshot.outbox_dead) == (1, 1, 0)
    assert 0 <= snapshot.outbox_age_seconds < 5
