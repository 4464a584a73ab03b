"""The contract of the registry with the gateway: the real one and the tests' fake keep it."""

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
    """Return the request for an action."""
    if action is ClipAction.PUBLISH:
        return PublishRequest(account_id=account, **options)
    if action is ClipAction.RENAME:
        return RenameRequest(account_id=account, title=options.get("title", "Another title"))
    return Actor(account_id=account)


async def do(
    setup: RegistrySetup, action: ClipAction, clip_id: UUID, account: str, **options: Any
) -> ClipRecord:
    return await setup.registry.act(action, clip_id, asked(action, account, **options))


async def refusal(setup: RegistrySetup, action: ClipAction, clip_id: UUID, account: str) -> Refusal:
    with pytest.raises(Refused) as refused:
        await do(setup, action, clip_id, account)
    return refused.value.reason


async def listed(setup: RegistrySetup, account: str, **query: Any) -> list[UUID]:
    page = await setup.registry.clips_of(account, ClipQuery(**query))
    assert page.next_cursor is None
    return [clip.clip_id for clip in page.items]


async def test_a_clip_is_found_with_its_owner_and_time_left(setup: RegistrySetup, account: str) -> None:
    clip_id = await setup.add(account)
    clip = await setup.registry.get(clip_id)
    assert clip is not None
    assert (clip.clip_id, clip.twitch_account_id, clip.status) == (clip_id, account, ClipStatus.AVAILABLE)
    assert clip.expires_at is not None
    assert clip.expires_in_seconds == pytest.approx(7 * 24 * 3600, abs=60)
    assert (clip.revision, clip.origin, clip.offer, clip.publication) == (1, "detector", None, None)


async def test_unknown_purged_and_expired_clips(setup: RegistrySetup, account: str) -> None:
    assert await setup.registry.get(uuid4()) is None
    expired, purged = await setup.add(account), await setup.add(account)
    await setup.purge(purged)
    await setup.expire(expired)
    gone, late = await setup.registry.get(purged), await setup.registry.get(expired)
    assert gone is not None
    assert (gone.status, gone.purge_reason) == (ClipStatus.PURGED, "expired")
    assert late is not None
    assert late.status is ClipStatus.AVAILABLE
    assert late.expires_in_seconds is not None
    assert late.expires_in_seconds <= 0


async def test_a_list_is_the_accounts_living_clips_also_expired_ones(
    setup: RegistrySetup, account: str
) -> None:
    await setup.add(f"{account}-other")
    shown, kept, published, expired, purged, deleted = [await setup.add(account) for _ in range(6)]
    await do(setup, ClipAction.KEEP, kept, account)
    await do(setup, ClipAction.PUBLISH, published, account)
    await do(setup, ClipAction.DELETE, deleted, account)
    await setup.purge(purged)
    await setup.expire(expired)
    assert set(await listed(setup, account)) == {shown, kept, published, expired}
    only = await listed(setup, account, statuses=(ClipStatus.KEPT, ClipStatus.PUBLISHED))
    assert set(only) == {kept, published}
    assert await listed(setup, account, statuses=(ClipStatus.DELETED,)) == [deleted]
    assert await listed(setup, f"{account}-none") == []


async def test_a_list_can_be_narrowed(setup: RegistrySetup, account: str) -> None:
    refined = await setup.add(account, kind=HighlightKind.REFINED, title="Ein schöner WURF")
    other_vod = await setup.add(account, source_vod_id="vod-9", title="100%_sure")
    await setup.add(account)
    assert await listed(setup, account, kinds=(HighlightKind.REFINED,)) == [refined]
    assert await listed(setup, account, vod_id="vod-9") == [other_vod]
    assert await listed(setup, account, title="SCHÖNER w") == [refined]
    assert await listed(setup, account, title="0%_S") == [other_vod]
    assert await listed(setup, account, title="%") == [other_vod]
    assert await listed(setup, account, title="schön", kinds=(HighlightKind.HEURISTIC,)) == []


async def test_orders(setup: RegistrySetup, account: str) -> None:
    a = await setup.add(account, duration_seconds=9.5, score=0.5)
    b = await setup.add(account, duration_seconds=30.0, score=None)
    c = await setup.add(account, duration_seconds=4.0, score=0.9)
    await do(setup, ClipAction.KEEP, a, account)
    await setup.expire(c)
    assert {order: await listed(setup, account, order=order) for order in ClipOrder} == {
        ClipOrder.NEWEST: [c, b, a],
        ClipOrder.OLDEST: [a, b, c],
        ClipOrder.EXPIRING: [c, b, a],
        ClipOrder.LONGEST: [b, a, c],
        ClipOrder.SHORTEST: [c, a, b],
        ClipOrder.BEST: [c, a, b],
    }


@pytest.mark.parametrize("order", ClipOrder)
async def test_pages_join_without_gap_or_overlap(
    setup: RegistrySetup, account: str, order: ClipOrder
) -> None:
    added = {await setup.add(account, score=score) for score in (0.5, 0.5, None, None, 0.1)}
    kept = await setup.add(account)
    await do(setup, ClipAction.KEEP, kept, account)
    seen, cursor = [], None
    for _ in range(3):
        page = await setup.registry.clips_of(account, ClipQuery(order=order, limit=2, cursor=cursor))
        seen += [clip.clip_id for clip in page.items]
        cursor = page.next_cursor
    assert cursor is None
    assert len(seen) == 6
    assert set(seen) == {*added, kept}


async def test_an_invalid_cursor_is_refused(setup: RegistrySetup, account: str) -> None:
    with pytest.raises(Refused) as refused:
        await setup.registry.clips_of(account, ClipQuery(cursor="nonsense"))
    assert refused.value.reason is Refusal.BAD_CURSOR


async def test_an_owner_applies_every_action(setup: RegistrySetup, account: str) -> None:
    clip_id = await setup.add(account)
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
        clip = await do(setup, action, clip_id, account)
        assert clip.status is status, action
        ephemeral = status in {ClipStatus.AVAILABLE, ClipStatus.DELETED}
        assert (clip.expires_in_seconds is not None) == ephemeral
        assert (clip.deleted_at is not None) == (status is ClipStatus.DELETED)
        assert (clip.publication is not None) == (status is ClipStatus.PUBLISHED)


async def test_refused_actions(setup: RegistrySetup, account: str) -> None:
    published, purged, deleted = [await setup.add(account) for _ in range(3)]
    await do(setup, ClipAction.PUBLISH, published, account)
    await do(setup, ClipAction.DELETE, deleted, account)
    await setup.purge(purged)
    assert await refusal(setup, ClipAction.UNKEEP, published, account) is Refusal.NOT_ALLOWED
    for action in set(ClipAction) - {ClipAction.DELETE, ClipAction.RESTORE}:
        assert await refusal(setup, action, deleted, account) is Refusal.NOT_ALLOWED, action
    for action in ClipAction:
        assert await refusal(setup, action, published, "somebody-else") is Refusal.NOT_OWNER
        assert await refusal(setup, action, purged, account) is Refusal.UNKNOWN
        assert await refusal(setup, action, uuid4(), account) is Refusal.UNKNOWN


async def test_a_publication_cannot_end_in_the_past(setup: RegistrySetup, account: str) -> None:
    clip_id = await setup.add(account)
    until = datetime.now(UTC) - timedelta(seconds=1)
    with pytest.raises(Refused) as refused:
        await do(setup, ClipAction.PUBLISH, clip_id, account, until=until)
    assert refused.value.reason is Refusal.TOO_LATE
    clip = await setup.registry.get(clip_id)
    assert clip is not None
    assert clip.status is ClipStatus.AVAILABLE


async def test_keeping_works_until_the_purge(setup: RegistrySetup, account: str) -> None:
    clip_id = await setup.add(account)
    await setup.expire(clip_id)
    clip = await do(setup, ClipAction.KEEP, clip_id, account)
    assert clip.status is ClipStatus.KEPT
    assert clip.expires_in_seconds is None


async def test_a_clip_is_renamed(setup: RegistrySetup, account: str) -> None:
    clip_id = await setup.add(account)
    assert (await do(setup, ClipAction.RENAME, clip_id, account, title="Größer")).title == "Größer"
    again = await setup.registry.get(clip_id)
    assert again is not None
    assert again.title == "Größer"


async def test_publishing_with_options(setup: RegistrySetup, account: str) -> None:
    clip_id = await setup.add(account)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=9)
    clip = await do(setup, ClipAction.PUBLISH, clip_id, account, until=until, embed=False, downloadable=True)
    assert clip.publication is not None
    assert (clip.publication.revision, clip.publication.until) == (1, until)
    said = (clip.publication.embed, clip.publication.downloadable, clip.publication.indexable)
    assert said == (False, True, False)
    changed = await do(setup, ClipAction.PUBLISH, clip_id, account)
    assert changed.publication is not None
    assert (changed.publication.until, changed.publication.embed) == (None, True)
    assert changed.share_slug == clip.share_slug


async def test_a_share_link_lives_while_its_clip_is_public(setup: RegistrySetup, account: str) -> None:
    clip_id = await setup.add(account)
    slug = (await do(setup, ClipAction.PUBLISH, clip_id, account)).share_slug
    assert slug is not None
    assert (await setup.registry.shared(slug)).clip_id == clip_id

    async def refused() -> Refusal:
        with pytest.raises(Refused) as error:
            await setup.registry.shared(slug)
        return error.value.reason

    await do(setup, ClipAction.DELETE, clip_id, account)
    assert await refused() is Refusal.UNPUBLISHED
    assert (await do(setup, ClipAction.RESTORE, clip_id, account)).share_slug == slug
    assert (await setup.registry.shared(slug)).clip_id == clip_id
    await do(setup, ClipAction.UNPUBLISH, clip_id, account)
    assert await refused() is Refusal.UNPUBLISHED
    assert (await do(setup, ClipAction.PUBLISH, clip_id, account)).share_slug != slug
    assert await refused() is Refusal.UNPUBLISHED


async def test_an_unknown_share_link(setup: RegistrySetup) -> None:
    with pytest.raises(Refused) as refused:
        await setup.registry.shared("no-such-slug")
    assert refused.value.reason is Refusal.UNKNOWN


async def test_many_at_once(setup: RegistrySetup, account: str) -> None:
    kept, plain, purged, published = [await setup.add(account) for _ in range(4)]
    foreign, unknown = await setup.add(f"{account}-other"), uuid4()
    await do(setup, ClipAction.KEEP, kept, account)
    await do(setup, ClipAction.PUBLISH, published, account)
    await setup.purge(purged)
    asked_for = (plain, foreign, kept, unknown, purged, published)

    async def outcomes(action: ClipAction) -> list[tuple[UUID, BatchOutcome, ClipStatus | None]]:
        request = BatchRequest(account_id=account, action=action, clip_ids=asked_for)
        answer = await setup.registry.act_on_many(request)
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


async def test_usage(setup: RegistrySetup, account: str) -> None:
    sizes = {"kept": 300, "published": 500, "deleted": 700, "purged": 900}
    ids = {name: await setup.add(account, file_size_bytes=size) for name, size in sizes.items()}
    available = [await setup.add(account, file_size_bytes=10) for _ in range(4)]
    await do(setup, ClipAction.KEEP, ids["kept"], account)
    await do(setup, ClipAction.PUBLISH, ids["published"], account)
    await do(setup, ClipAction.DELETE, ids["deleted"], account)
    await setup.purge(ids["purged"])
    await setup.expire(available[2])
    usage = await setup.registry.usage_of(account)
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
    nothing = await setup.registry.usage_of(f"{account}-none")
    assert set(nothing.by_status.values()) == {StatusUsage(clips=0, bytes=0)}
    assert set(nothing.by_status) == set(usage.by_status)


async def test_what_became_of_a_vods_highlights(setup: RegistrySetup, account: str) -> None:
    vod = f"{account}-vod"
    clip, deleted, purged = [await setup.add(account, source_vod_id=vod) for _ in range(3)]
    await setup.add(account, source_vod_id=f"{vod}-2")
    await do(setup, ClipAction.DELETE, deleted, account)
    await setup.purge(purged)
    await setup.skip(account, vod, f"{account}-hl")
    detail = await setup.registry.vod_of(account, vod)
    assert (detail.summary.highlights, detail.summary.clips, detail.summary.skipped) == (4, 1, 1)
    [skip] = detail.skips
    assert (skip.stream_highlight_id, skip.reason, skip.message) == (
        *(f"{account}-hl", "too_short", "It is too short."),
    )
    page = await setup.registry.vods_of(account)
    assert {vod.source_vod_id for vod in page.items} == {vod, f"{vod}-2"}
    assert detail.summary in page.items
    with pytest.raises(Refused) as refused:
        await setup.registry.vod_of(account, "another-vod")
    assert refused.value.reason is Refusal.UNKNOWN
    del clip


async def test_vods_are_listed_the_latest_first(setup: RegistrySetup, account: str) -> None:
    now = datetime.now(UTC)
    for vod, hours in (("middle", 2), ("late", 1), ("early", 3)):
        await setup.add(account, source_vod_id=vod, highlight_detected_at=now - timedelta(hours=hours))
    page = await setup.registry.vods_of(account)
    assert [vod.source_vod_id for vod in page.items] == ["late", "middle", "early"]
    assert page.items[0].latest_at == now - timedelta(hours=1)


async def test_a_feed_keeps_its_address_until_it_is_switched_off(setup: RegistrySetup, account: str) -> None:
    assert await setup.registry.feed_of(account) is None
    feed = await setup.registry.open_feed(account)
    assert await setup.registry.open_feed(account) == feed == await setup.registry.feed_of(account)
    assert (await setup.registry.feed(feed.slug)).items == ()
    await setup.registry.close_feed(account)
    await setup.registry.close_feed(account)
    assert await setup.registry.feed_of(account) is None
    with pytest.raises(Refused) as refused:
        await setup.registry.feed(feed.slug)
    assert refused.value.reason is Refusal.UNKNOWN
    assert (await setup.registry.open_feed(account)).slug != feed.slug


async def test_a_feed_shows_what_is_published(setup: RegistrySetup, account: str) -> None:
    first, second, deleted, kept = [await setup.add(account) for _ in range(4)]
    other = await setup.add(f"{account}-other")
    await do(setup, ClipAction.PUBLISH, other, f"{account}-other")
    for clip_id in (second, deleted, first):
        await do(setup, ClipAction.PUBLISH, clip_id, account)
    await do(setup, ClipAction.DELETE, deleted, account)
    await do(setup, ClipAction.KEEP, kept, account)
    slug = (await setup.registry.open_feed(account)).slug
    assert {clip.clip_id for clip in (await setup.registry.feed(slug)).items} == {first, second}
    await do(setup, ClipAction.UNPUBLISH, first, account)
    assert [clip.clip_id for clip in (await setup.registry.feed(slug)).items] == [second]
