"""The tick's command on the real registry: what it says, what it purges, and when it refuses."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
import structlog
from typer.testing import CliRunner, Result

from janitor import __main__ as command
from tests.integration.clip_gateway.conftest import JANITOR_TOKEN, RealRegistrySetup


@pytest.fixture
async def world(real_registry: RealRegistrySetup) -> RealRegistrySetup:
    """Nothing of other tests is due."""
    await real_registry.database.run("TRUNCATE generated_clips, expiry_notices")
    return real_registry


@pytest.fixture
def environment(real_registry: RealRegistrySetup) -> Iterator[dict[str, str]]:
    yield {"REGISTRY_URL": real_registry.url, "REGISTRY_TOKEN": JANITOR_TOKEN}
    structlog.reset_defaults()


async def tick(environment: dict[str, str], *options: str, **settings: str) -> Result:
    """Run the command beside the registry, which lives in this thread's loop."""
    runner, environment = CliRunner(), environment | settings
    return await asyncio.to_thread(runner.invoke, command.cli, ["tick", *options], env=environment)


async def due_clips(world: RealRegistrySetup, number: int, account: str = "ann") -> list[UUID]:
    clips = [await world.add(account) for _ in range(number)]
    for clip_id in clips:
        await world.database.expire(clip_id)
    return clips


async def statuses(world: RealRegistrySetup) -> dict[UUID, str]:
    rows: list[Any] = await world.database.run("SELECT clip_id, status FROM generated_clips")
    return {row.clip_id: row.status for row in rows}


async def test_a_dry_run_says_what_would_go_and_purges_nothing(
    environment: dict[str, str], world: RealRegistrySetup
) -> None:
    await due_clips(world, 2)
    [other] = await due_clips(world, 1, account="bob")
    await world.database.expire(other, seconds_ago=86_400 * 3)
    await world.add("ann")
    before = await statuses(world)
    result = await tick(environment, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "due       3 of 4 unkept clips (75 %) at " in result.stdout
    assert ": 1 clips" in result.stdout
    assert "accounts  2\n          ann: 2 clips" in result.stdout
    assert "bob: 1 clips" in result.stdout
    assert await statuses(world) == before
    refused = await tick(environment, "--dry-run", PURGE_LIMIT="2")
    assert refused.exit_code == 3
    assert "due       3 of 4" in refused.stdout
    assert "would be refused: 3 of 4 unkept clips are due at once" in refused.stderr
    assert "janitor tick --force" in refused.stderr
    assert await statuses(world) == before


async def test_too_many_are_not_purged_unless_forced(
    environment: dict[str, str], world: RealRegistrySetup
) -> None:
    due = await due_clips(world, 3)
    alive = await world.add("ann")
    refused = await tick(environment, PURGE_LIMIT="2", PURGE_LIMIT_PERCENT="74")
    assert refused.exit_code == 3
    assert set((await statuses(world)).values()) == {"available"}
    forced = await tick(environment, "--force", PURGE_LIMIT="2", EXPIRATION_BATCH_SIZE="2")
    assert forced.exit_code == 0, forced.output
    assert await statuses(world) == {alive: "available", **dict.fromkeys(due, "purged")}


@pytest.mark.parametrize("limit", [{}, {"PURGE_LIMIT": "2", "PURGE_LIMIT_PERCENT": "75"}])
async def test_within_a_limit_they_are(
    environment: dict[str, str], world: RealRegistrySetup, limit: dict[str, str]
) -> None:
    due = await due_clips(world, 3)
    await world.add("ann")
    result = await tick(environment, **limit)
    assert result.exit_code == 0, result.output
    assert [(await statuses(world))[each] for each in due] == ["purged"] * 3


async def test_a_registry_that_is_away_is_said_to_be(environment: dict[str, str]) -> None:
    result = await tick(environment, REGISTRY_URL="http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "Run it again" in result.stderr


async def test_force_is_no_dry_run(environment: dict[str, str]) -> None:
    assert (await tick(environment, "--force", "--dry-run")).exit_code == 2
