"""What the janitor takes for granted about the registry: true of the real one, and of the tests' fake."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID, uuid4

import pytest

from clip_shared.contracts.registry_api import ClipStatus
from clip_shared.contracts.registry_client import RegistryClient
from clip_shared.errors import TransientError
from janitor.registry import HttpJanitorRegistry, JanitorRegistry
from tests.integration.clip_gateway.conftest import JANITOR_TOKEN, RealRegistrySetup
from tests.unit.janitor.fakes import FakeJanitorRegistry


class JanitorSetup(Protocol):
    """A registry, and the hands that put clips into it."""

    registry: JanitorRegistry

    async def add(self, *, due_seconds_ago: float) -> None:
        """A clip that was due that long ago (negative: will be)."""

    async def left(self) -> int:
        """How many clips are not purged."""

    async def add_expiring_tomorrow(self, accounts: int) -> None:
        """So many accounts with a clip each that expires tomorrow."""

    async def add_owned(self) -> str:
        """The key of an object that a clip owns, in the bucket ``clips``."""


class InMemoryJanitorSetup:
    """The registry in memory."""

    def __init__(self) -> None:
        self.fake = FakeJanitorRegistry()
        self.registry: JanitorRegistry = self.fake

    async def add(self, *, due_seconds_ago: float) -> None:
        self.fake.due_at.append(self.fake.now - timedelta(seconds=due_seconds_ago))
        self.fake.due_at.sort()

    async def left(self) -> int:
        return len(self.fake.due_at)

    async def add_expiring_tomorrow(self, accounts: int) -> None:
        self.fake.untold += accounts

    async def add_owned(self) -> str:
        self.fake.owned.add(("clips", "owned"))
        return "owned"


class RealJanitorSetup:
    """The registry's API on its database."""

    def __init__(self, world: RealRegistrySetup, client: RegistryClient) -> None:
        self._world = world
        self._clips: list[UUID] = []
        self.registry: JanitorRegistry = HttpJanitorRegistry(client)

    async def add(self, *, due_seconds_ago: float) -> None:
        clip_id = await self._world.add("ann")
        await self._world.database.expire(clip_id, seconds_ago=due_seconds_ago)
        self._clips.append(clip_id)

    async def left(self) -> int:
        clips = [await self._world.store.get(clip_id) for clip_id in self._clips]
        return sum(clip is not None and clip.status is not ClipStatus.PURGED for clip in clips)

    async def add_expiring_tomorrow(self, accounts: int) -> None:
        for _ in range(accounts):
            clip_id = await self._world.add(f"account-{uuid4().hex}")
            await self._world.database.run(
                "UPDATE generated_clips SET expires_at = ((now() AT TIME ZONE 'UTC')::date + 1)"
                " AT TIME ZONE 'UTC' WHERE clip_id = :clip_id",
                clip_id=clip_id,
            )

    async def add_owned(self) -> str:
        clip = await self._world.store.get(await self._world.add("ann"))
        assert clip is not None
        return clip.object_key


@pytest.fixture(params=["fake", "real"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[JanitorSetup]:
    if request.param == "fake":
        yield InMemoryJanitorSetup()
        return
    real_registry = request.getfixturevalue("real_registry")
    async with RegistryClient(real_registry.url, JANITOR_TOKEN) as client:
        yield RealJanitorSetup(real_registry, client)


async def test_the_registry_takes_the_janitors_own_token(real_registry: RealRegistrySetup) -> None:
    async with RegistryClient(real_registry.url, JANITOR_TOKEN) as client:
        await HttpJanitorRegistry(client).check()
    async with RegistryClient(real_registry.url, "the token of somebody else") as client:
        with pytest.raises(TransientError, match="401"):
            await HttpJanitorRegistry(client).check()


async def test_nothing_due(world: JanitorSetup) -> None:
    await world.add(due_seconds_ago=-3600)
    result = await world.registry.purge(10, None)
    assert (result.expired, result.more) == (0, False)
    assert await world.left() == 1


async def test_what_is_due_goes_in_batches_up_to_a_frozen_cutoff(world: JanitorSetup) -> None:
    for n in range(5):
        await world.add(due_seconds_ago=n + 10)
    first = await world.registry.purge(2, None)
    assert (first.expired, first.more) == (2, True)
    await world.add(due_seconds_ago=0.001)
    second = await world.registry.purge(2, first.cutoff - timedelta(seconds=5))
    third = await world.registry.purge(2, second.cutoff)
    assert (second.expired, second.more) == (2, True)
    assert (third.expired, third.more) == (1, False)
    assert second.cutoff == third.cutoff
    assert await world.left() == 1
    last = await world.registry.purge(2, None)
    assert (last.expired, last.more) == (1, False)
    assert await world.left() == 0


async def test_what_is_due_is_counted_and_nothing_is_purged(world: JanitorSetup) -> None:
    before = await world.registry.due()
    for seconds in (-3600, 1, 5, 86_400 * 30):
        await world.add(due_seconds_ago=seconds)
    after = await world.registry.due()
    assert (after.due - before.due, after.ephemeral - before.ephemeral, after.details) == (3, 4, None)
    assert await world.left() == 4
    result = await world.registry.purge(5000, after.cutoff)
    assert (result.expired, result.cutoff) == (after.due, after.cutoff)
    assert (await world.registry.due()).due == 0


async def test_nobody_can_purge_the_future(world: JanitorSetup) -> None:
    await world.add(due_seconds_ago=-3600)
    result = await world.registry.purge(10, datetime.now(UTC) + timedelta(days=400))
    assert (result.expired, result.more) == (0, False)
    assert await world.left() == 1


async def test_accounts_are_told_once_in_batches(world: JanitorSetup) -> None:
    while (await world.registry.notify(100, None)).more:
        """Of what other tests left behind."""
    await world.add_expiring_tomorrow(accounts=3)
    first = await world.registry.notify(2, None)
    second = await world.registry.notify(2, first.reached)
    again = await world.registry.notify(2, None)
    assert [(each.notified, each.more) for each in (first, second, again)] == [
        *((2, True), (1, False), (0, False)),
    ]


async def test_objects_that_no_clip_owns(world: JanitorSetup) -> None:
    owned = await world.add_owned()
    asked = [owned, "clips/nobody/x.mp4"]
    assert await world.registry.orphans("clips", asked) == {"clips/nobody/x.mp4"}
    assert await world.registry.orphans("another", asked) == set(asked)
    assert await world.registry.orphans("clips", []) == set()
