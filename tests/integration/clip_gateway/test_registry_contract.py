"""What the gateway takes for granted about the registry: true of the real one, and of the tests' fake."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from clip_gateway.domain import ClipQuery, Refusal, Refused
from clip_shared.contracts.events import HighlightKind
from clip_shared.contracts.registry_api import (
    Actor,
    BatchOutcome,
    BatchRequest,
    ClipAction,
    ClipOrder,
    ClipRecord,
    ClipStatus,
    PublishRequest,
    RenameRequest,
    StatusUsage,
)
from tests.integration.clip_gateway.conftest import RegistrySetup


@pytest.fixture
def account() -> str:
    """An account that no other test has clips of."""
    return f"ann-{uuid4().hex[:12]}"


def asked(action: ClipAction, account: str, **options: Any) -> Actor:
    """What a call for an action says."""
    if action is ClipAction.PUBLISH:
        return PublishRequest(account_id=account, **options)
    if action is ClipAction.RENAME:
        return RenameRequest(account_id=account, title=options.get("title", "Another title"))
    return Actor(account_id=account)


async def do(
    world: RegistrySetup, action: ClipAction, clip_id: UUID, account: str, **options: Any
) -> ClipRecord:
    return await world.registry.act(action, clip_id, asked(action, account, **options))


async def refusal(world: RegistrySetup, action: ClipAction, clip_id: UUID, account: str) -> Refusal:
    with pytest.raises(Refused) as refused:
        await do(world, action, clip_id, account)
    return refused.value.reason


async def listed(world: RegistrySetup, account: str, **query: Any) -> list[UUID]:
    page = await world.registry.clips_of(account, ClipQuery(**query))
    assert page.next_cursor is None
    return [clip.clip_id for clip in page.items]


async def test_a_clip_is_found_with_its_owner_and_time_left(world: RegistrySetup, account: str) -> None:
    clip_id = await world.add(account)
    clip = await world.registry.get(clip_id)
    assert clip is not None
    assert (clip.clip_id, clip.twitch_account_id, clip.status) == (clip_id, account, ClipStatus.AVAILABLE)
    assert clip.expires_at is not None
    assert clip.expires_in_seconds == pytest.approx(7 * 24 * 3600, abs=60)
    assert (clip.revision, clip.origin, clip.offer, clip.publication) == (1, "detector", None, None)


async def test_unknown_purged_and_expired_clips(world: RegistrySetup, account: str) -> None:
    assert await world.registry.get(uuid4()) is None
    expired, purged = await world.add(account), await world.add(account)
    await world.purge(purged)
    await world.expire(expired)
    gone, late = await world.registry.get(purged), await world.registry.get(expired)
    assert gone is not None
    assert (gone.status, gone.purge_reason) == (ClipStatus.PURGED, "expired")
    assert late is not None
    assert late.status is ClipStatus.AVAILABLE
    assert late.expires_in_seconds is not None
    assert late.expires_in_seconds <= 0


async def test_a_list_is_the_accounts_living_clips_also_expired_ones(
    world: RegistrySetup, account: str
) -> None:
    await world.add(f"{account}-other")
    shown, kept, published, expired, purged, deleted = [await world.add(account) for _ in range(6)]
    await do(world, ClipAction.KEEP, kept, account)
    await do(world, ClipAction.PUBLISH, published, account)
    await do(world, ClipAction.DELETE, deleted, account)
    await world.purge(purged)
    await world.expire(expired)
    assert set(await listed(world, account)) == {shown, kept, published, expired}
    only = await listed(world, account, statuses=(ClipStatus.KEPT, ClipStatus.PUBLISHED))
    assert set(only) == {kept, published}
    assert await listed(world, account, statuses=(ClipStatus.DELETED,)) == [deleted]
    assert await listed(world, f"{account}-none") == []


async def test_a_list_can_be_narrowed(world: RegistrySetup, account: str) -> None:
    refined = await world.add(account, kind=HighlightKind.REFINED, title="Ein schöner WURF")
    other_vod = await world.add(account, source_vod_id="vod-9", title="100%_sure")
    await world.add(account)
    assert await listed(world, account, kinds=(HighlightKind.REFINED,)) == [refined]
    assert await listed(world, account, vod_id="vod-9") == [other_vod]
    assert await listed(world, account, title="SCHÖNER w") == [refined]
    assert await listed(world, account, title="0%_S") == [other_vod]
    assert await listed(world, account, title="%") == [other_vod]
    assert await listed(world, account, title="schön", kinds=(HighlightKind.HEURISTIC,)) == []


async def test_orders(world: RegistrySetup, account: str) -> None:
    a = await world.add(account, duration_seconds=9.5, score=0.5)
    b = await world.add(account, duration_seconds=30.0, score=None)
    c = await world.add(account, duration_seconds=4.0, score=0.9)
    await do(world, ClipAction.KEEP, a, account)
    await world.expire(c)
    assert {order: await listed(world, account, order=order) for order in ClipOrder} == {
        ClipOrder.NEWEST: [c, b, a],
        ClipOrder.OLDEST: [a, b, c],
        ClipOrder.EXPIRING: [c, b, a],
        ClipOrder.LONGEST: [b, a, c],
        ClipOrder.SHORTEST: [c, a, b],
        ClipOrder.BEST: [c, a, b],
    }


@pytest.mark.parametrize("order", ClipOrder)
async def test_pages_join_without_gap_or_overlap(
    world: RegistrySetup, account: str, order: ClipOrder
) -> None:
    added = {await world.add(account, score=score) for score in (0.5, 0.5, None, None, 0.1)}
    kept = await world.add(account)
    await do(world, ClipAction.KEEP, kept, account)
    seen, cursor = [], None
    for _ in range(3):
        page = await world.registry.clips_of(account, ClipQuery(order=order, limit=2, cursor=cursor))
        seen += [clip.clip_id for clip in page.items]
        cursor = page.next_cursor
    assert cursor is None
    assert len(seen) == 6
    assert set(seen) == {*added, kept}


async def test_a_cursor_that_was_never_given_out(world: RegistrySetup, account: str) -> None:
    with pytest.raises(Refused) as refused:
        await world.registry.clips_of(account, ClipQuery(cursor="nonsense"))
    assert refused.value.reason is Refusal.BAD_CURSOR


async def test_the_owners_way(world: RegistrySetup, account: str) -> None:
    clip_id = await world.add(account)
    for action, status in [
        (ClipAction.KEEP, ClipStatus.KEPT),
        (ClipAction.KEEP, ClipStatus.KEPT),
        (ClipAction.PUBLISH, ClipStatus.PUBLISHED),
        (ClipAction.KEEP, ClipStatus.PUBLISHED),
        (ClipAction.RENAME, ClipStatus.PUBLISHED),
        (ClipAction.UNPUBLISH, ClipStatus.KEPT),
        (ClipAction.UNKEEP, ClipStatus.AVAILABLE),
        (ClipAction.DELETE, ClipStatus.DELETED),
        (ClipAction.DELETE, ClipStatus.DELETED),
        (ClipAction.RESTORE, ClipStatus.AVAILABLE),
        (ClipAction.RESTORE, ClipStatus.AVAILABLE),
    ]:
        clip = await do(world, action, clip_id, account)
        assert clip.status is status, action
        ephemeral = status in {ClipStatus.AVAILABLE, ClipStatus.DELETED}
        assert (clip.expires_in_seconds is not None) == ephemeral
        assert (clip.deleted_at is not None) == (status is ClipStatus.DELETED)
        assert (clip.publication is not None) == (status is ClipStatus.PUBLISHED)


async def test_refused_actions(world: RegistrySetup, account: str) -> None:
    published, purged, deleted = [await world.add(account) for _ in range(3)]
    await do(world, ClipAction.PUBLISH, published, account)
    await do(world, ClipAction.DELETE, deleted, account)
    await world.purge(purged)
    assert await refusal(world, ClipAction.UNKEEP, published, account) is Refusal.NOT_ALLOWED
    for action in set(ClipAction) - {ClipAction.DELETE, ClipAction.RESTORE}:
        assert await refusal(world, action, deleted, account) is Refusal.NOT_ALLOWED, action
    for action in ClipAction:
        assert await refusal(world, action, published, "somebody-else") is Refusal.NOT_OWNER
        assert await refusal(world, action, purged, account) is Refusal.UNKNOWN
        assert await refusal(world, action, uuid4(), account) is Refusal.UNKNOWN


async def test_what_is_past_cannot_be_the_end_of_a_publication(world: RegistrySetup, account: str) -> None:
    clip_id = await world.add(account)
    until = datetime.now(UTC) - timedelta(seconds=1)
    with pytest.raises(Refused) as refused:
        await do(world, ClipAction.PUBLISH, clip_id, account, until=until)
    assert refused.value.reason is Refusal.TOO_LATE
    clip = await world.registry.get(clip_id)
    assert clip is not None
    assert clip.status is ClipStatus.AVAILABLE


async def test_keeping_works_until_the_purge(world: RegistrySetup, account: str) -> None:
    clip_id = await world.add(account)
    await world.expire(clip_id)
    clip = await do(world, ClipAction.KEEP, clip_id, account)
    assert clip.status is ClipStatus.KEPT
    assert clip.expires_in_seconds is None


async def test_a_clip_is_renamed(world: RegistrySetup, account: str) -> None:
    clip_id = await world.add(account)
    assert (await do(world, ClipAction.RENAME, clip_id, account, title="Größer")).title == "Größer"
    again = await world.registry.get(clip_id)
    assert again is not None
    assert again.title == "Größer"


async def test_publishing_says_how(world: RegistrySetup, account: str) -> None:
    clip_id = await world.add(account)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=9)
    clip = await do(world, ClipAction.PUBLISH, clip_id, account, until=until, embed=False, downloadable=True)
    assert clip.publication is not None
    assert (clip.publication.revision, clip.publication.until) == (1, until)
    said = (clip.publication.embed, clip.publication.downloadable, clip.publication.indexable)
    assert said == (False, True, False)
    changed = await do(world, ClipAction.PUBLISH, clip_id, account)
    assert changed.publication is not None
    assert (changed.publication.until, changed.publication.embed) == (None, True)
    assert changed.share_slug == clip.share_slug


async def test_a_share_link_lives_while_its_clip_is_public(world: RegistrySetup, account: str) -> None:
    clip_id = await world.add(account)
    slug = (await do(world, ClipAction.PUBLISH, clip_id, account)).share_slug
    assert slug is not None
    assert (await world.registry.shared(slug)).clip_id == clip_id

    async def refused() -> Refusal:
        with pytest.raises(Refused) as error:
            await world.registry.shared(slug)
        return error.value.reason

    await do(world, ClipAction.DELETE, clip_id, account)
    assert await refused() is Refusal.UNPUBLISHED
    assert (await do(world, ClipAction.RESTORE, clip_id, account)).share_slug == slug
    assert (await world.registry.shared(slug)).clip_id == clip_id
    await do(world, ClipAction.UNPUBLISH, clip_id, account)
    assert await refused() is Refusal.UNPUBLISHED
    assert (await do(world, ClipAction.PUBLISH, clip_id, account)).share_slug != slug
    assert await refused() is Refusal.UNPUBLISHED


async def test_a_share_link_that_never_was(world: RegistrySetup) -> None:
    with pytest.raises(Refused) as refused:
        await world.registry.shared("no-such-slug")
    assert refused.value.reason is Refusal.UNKNOWN


async def test_many_at_once(world: RegistrySetup, account: str) -> None:
    kept, plain, purged, published = [await world.add(account) for _ in range(4)]
    foreign, unknown = await world.add(f"{account}-other"), uuid4()
    await do(world, ClipAction.KEEP, kept, account)
    await do(world, ClipAction.PUBLISH, published, account)
    await world.purge(purged)
    asked_for = (plain, foreign, kept, unknown, purged, published)

    async def outcomes(action: ClipAction) -> list[tuple[UUID, BatchOutcome, ClipStatus | None]]:
        request = BatchRequest(account_id=account, action=action, clip_ids=asked_for)
        answer = await world.registry.act_on_many(request)
        return [
            (each.clip_id, each.outcome, each.clip.status if each.clip else None) for each in answer.results
        ]

    assert await outcomes(ClipAction.KEEP) == [
        (plain, BatchOutcome.DONE, ClipStatus.KEPT),
        (foreign, BatchOutcome.NOT_OWNER, None),
        (kept, BatchOutcome.UNCHANGED, ClipStatus.KEPT),
        (unknown, BatchOutcome.UNKNOWN, None),
        (purged, BatchOutcome.UNKNOWN, None),
        (published, BatchOutcome.UNCHANGED, ClipStatus.PUBLISHED),
    ]
    unkept = await outcomes(ClipAction.UNKEEP)
    assert unkept[-1] == (published, BatchOutcome.NOT_ALLOWED, ClipStatus.PUBLISHED)
    assert unkept[0] == (plain, BatchOutcome.DONE, ClipStatus.AVAILABLE)


async def test_usage(world: RegistrySetup, account: str) -> None:
    sizes = {"kept": 300, "published": 500, "deleted": 700, "purged": 900}
    ids = {name: await world.add(account, file_size_bytes=size) for name, size in sizes.items()}
    available = [await world.add(account, file_size_bytes=10) for _ in range(4)]
    await do(world, ClipAction.KEEP, ids["kept"], account)
    await do(world, ClipAction.PUBLISH, ids["published"], account)
    await do(world, ClipAction.DELETE, ids["deleted"], account)
    await world.purge(ids["purged"])
    await world.expire(available[2])
    usage = await world.registry.usage_of(account)
    assert usage.by_status == {
        ClipStatus.AVAILABLE: StatusUsage(clips=4, bytes=40),
        ClipStatus.KEPT: StatusUsage(clips=1, bytes=300),
        ClipStatus.PUBLISHED: StatusUsage(clips=1, bytes=500),
        ClipStatus.DELETED: StatusUsage(clips=1, bytes=700),
    }
    assert usage.clip_limit is None
    first = [clip.clip_id for clip in usage.next_to_expire]
    assert first[0] == available[2]
    assert len(first) == 3
    assert set(first) < set(available)
    nothing = await world.registry.usage_of(f"{account}-none")
    assert set(nothing.by_status.values()) == {StatusUsage(clips=0, bytes=0)}
    assert set(nothing.by_status) == set(usage.by_status)


async def test_what_became_of_a_vods_highlights(world: RegistrySetup, account: str) -> None:
    vod = f"{account}-vod"
    clip, deleted, purged = [await world.add(account, source_vod_id=vod) for _ in range(3)]
    await world.add(account, source_vod_id=f"{vod}-2")
    await do(world, ClipAction.DELETE, deleted, account)
    await world.purge(purged)
    await world.skip(account, vod, f"{account}-hl")
    detail = await world.registry.vod_of(account, vod)
    assert (detail.summary.highlights, detail.summary.clips, detail.summary.skipped) == (4, 1, 1)
    [skip] = detail.skips
    assert (skip.stream_highlight_id, skip.reason, skip.message) == (
        *(f"{account}-hl", "too_short", "It is too short."),
    )
    page = await world.registry.vods_of(account)
    assert {vod.source_vod_id for vod in page.items} == {vod, f"{vod}-2"}
    assert detail.summary in page.items
    with pytest.raises(Refused) as refused:
        await world.registry.vod_of(account, "another-vod")
    assert refused.value.reason is Refusal.UNKNOWN
    del clip


async def test_vods_are_listed_the_latest_first(world: RegistrySetup, account: str) -> None:
    now = datetime.now(UTC)
    for vod, hours in (("middle", 2), ("late", 1), ("early", 3)):
        await world.add(account, source_vod_id=vod, highlight_detected_at=now - timedelta(hours=hours))
    page = await world.registry.vods_of(account)
    assert [vod.source_vod_id for vod in page.items] == ["late", "middle", "early"]
    assert page.items[0].latest_at == now - timedelta(hours=1)


async def test_a_feed_is_where_it_was_until_it_is_switched_off(world: RegistrySetup, account: str) -> None:
    assert await world.registry.feed_of(account) is None
    feed = await world.registry.open_feed(account)
    assert await world.registry.open_feed(account) == feed == await world.registry.feed_of(account)
    assert (await world.registry.feed(feed.slug)).items == ()
    await world.registry.close_feed(account)
    await world.registry.close_feed(account)
    assert await world.registry.feed_of(account) is None
    with pytest.raises(Refused) as refused:
        await world.registry.feed(feed.slug)
    assert refused.value.reason is Refusal.UNKNOWN
    assert (await world.registry.open_feed(account)).slug != feed.slug


async def test_a_feed_shows_what_is_published(world: RegistrySetup, account: str) -> None:
    first, second, deleted, kept = [await world.add(account) for _ in range(4)]
    other = await world.add(f"{account}-other")
    await do(world, ClipAction.PUBLISH, other, f"{account}-other")
    for clip_id in (second, deleted, first):
        await do(world, ClipAction.PUBLISH, clip_id, account)
    await do(world, ClipAction.DELETE, deleted, account)
    await do(world, ClipAction.KEEP, kept, account)
    slug = (await world.registry.open_feed(account)).slug
    assert {clip.clip_id for clip in (await world.registry.feed(slug)).items} == {first, second}
    await do(world, ClipAction.UNPUBLISH, first, account)
    assert [clip.clip_id for clip in (await world.registry.feed(slug)).items] == [second]
