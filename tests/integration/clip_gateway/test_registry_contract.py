"""What the gateway takes for granted about the registry: true of the real one, and of the tests' fake."""

from uuid import uuid4

import pytest

from clip_gateway.domain import Action, Refusal, Refused
from clip_shared.registry_api import ClipStatus
from tests.integration.clip_gateway.conftest import World


@pytest.fixture
def account() -> str:
    """An account that no other test has clips of."""
    return f"ann-{uuid4().hex[:12]}"


async def refusal(world: World, action: Action, clip_id: object, account: str) -> Refusal:
    with pytest.raises(Refused) as refused:
        await world.registry.act(action, clip_id, account)  # type: ignore[arg-type]  # any id, known or not
    return refused.value.reason


async def test_a_clip_is_found_with_its_owner_and_time_left(world: World, account: str) -> None:
    clip_id = await world.add(account)
    clip = await world.registry.get(clip_id)
    assert clip is not None
    assert (clip.clip_id, clip.twitch_account_id, clip.status) == (clip_id, account, ClipStatus.AVAILABLE)
    assert clip.expires_at is not None
    assert clip.expires_in_seconds == pytest.approx(7 * 24 * 3600, abs=60)


async def test_unknown_purged_and_expired_clips(world: World, account: str) -> None:
    assert await world.registry.get(uuid4()) is None
    expired, purged = await world.add(account), await world.add(account)
    await world.purge(purged)
    await world.expire(expired)
    gone, late = await world.registry.get(purged), await world.registry.get(expired)
    assert gone is not None
    assert gone.status is ClipStatus.PURGED
    assert late is not None
    assert late.status is ClipStatus.AVAILABLE
    assert late.expires_in_seconds is not None
    assert late.expires_in_seconds <= 0


async def test_a_list_is_the_accounts_living_unexpired_clips(world: World, account: str) -> None:
    await world.add(f"{account}-other")
    shown, kept, published, expired, purged = [await world.add(account) for _ in range(5)]
    await world.registry.act(Action.KEEP, kept, account)
    await world.registry.act(Action.PUBLISH, published, account)
    await world.purge(purged)
    await world.expire(expired)
    page = await world.registry.clips_of(account, statuses=(), limit=10, cursor=None)
    assert {clip.clip_id for clip in page.items} == {shown, kept, published}
    assert page.next_cursor is None
    only = await world.registry.clips_of(
        account, statuses=[ClipStatus.KEPT, ClipStatus.PUBLISHED], limit=10, cursor=None
    )
    assert {clip.clip_id for clip in only.items} == {kept, published}
    nobody = await world.registry.clips_of(f"{account}-none", statuses=(), limit=10, cursor=None)
    assert nobody.items == ()


async def test_pages_join_without_gap_or_overlap(world: World, account: str) -> None:
    added = {await world.add(account) for _ in range(5)}
    seen, cursor = [], None
    for _ in range(3):
        page = await world.registry.clips_of(account, statuses=(), limit=2, cursor=cursor)
        seen += [clip.clip_id for clip in page.items]
        cursor = page.next_cursor
    assert cursor is None
    assert len(seen) == 5
    assert set(seen) == added


async def test_a_cursor_that_was_never_given_out(world: World, account: str) -> None:
    with pytest.raises(Refused) as refused:
        await world.registry.clips_of(account, statuses=(), limit=2, cursor="nonsense")
    assert refused.value.reason is Refusal.BAD_CURSOR


async def test_the_owners_way(world: World, account: str) -> None:
    clip_id = await world.add(account)
    for action, status in [
        (Action.KEEP, ClipStatus.KEPT),
        (Action.KEEP, ClipStatus.KEPT),
        (Action.PUBLISH, ClipStatus.PUBLISHED),
        (Action.KEEP, ClipStatus.PUBLISHED),
        (Action.UNPUBLISH, ClipStatus.KEPT),
        (Action.UNKEEP, ClipStatus.AVAILABLE),
    ]:
        clip = await world.registry.act(action, clip_id, account)
        assert clip.status is status
        assert (clip.expires_in_seconds is None) == (status is not ClipStatus.AVAILABLE)


async def test_refused_actions(world: World, account: str) -> None:
    published, purged = await world.add(account), await world.add(account)
    await world.registry.act(Action.PUBLISH, published, account)
    await world.purge(purged)
    assert await refusal(world, Action.UNKEEP, published, account) is Refusal.NOT_ALLOWED
    for action in Action:
        assert await refusal(world, action, published, "somebody-else") is Refusal.NOT_OWNER
        assert await refusal(world, action, purged, account) is Refusal.UNKNOWN
        assert await refusal(world, action, uuid4(), account) is Refusal.UNKNOWN


async def test_keeping_works_until_the_purge(world: World, account: str) -> None:
    clip_id = await world.add(account)
    await world.expire(clip_id)
    clip = await world.registry.act(Action.KEEP, clip_id, account)
    assert clip.status is ClipStatus.KEPT
    assert clip.expires_in_seconds is None
