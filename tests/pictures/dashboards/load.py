"""A load for the dashboards: highlights, actions of owners, viewers, ticks, and two outages."""

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import asyncpg
import httpx

from local_stack.demo.sample import HIGHLIGHTS, SCENE_SECONDS
from local_stack.processes.process import Process
from tests.e2e.platform import Platform

DICE = random.Random(12)  # noqa: S311 - chance, not a secret
ACCOUNTS = [f"streamer-{number}" for number in range(1, 6)]
VOD_SECONDS = 3 * SCENE_SECONDS
# Start and length of an outage, as shares of the whole load.
CUTTER_AWAY, REGISTRY_AWAY, OUTAGE = 0.35, 0.65, 0.06
REQUESTS: dict[str, tuple[str, str]] = {
    "keep": ("POST", "/keep"),
    "publish": ("POST", "/publish"),
    "delete": ("DELETE", ""),
}
# One of ten highlights becomes no clip.
ODDITIES: list[dict[str, Any]] = [
    {"is_clipable": False},
    {"end_seconds": 1.2, "start_seconds": 1.0},
    {"source": {"profile": "local", "bucket": "vods", "key": "nowhere.mp4"}},
]


async def run_load(platform: Platform, seconds: float) -> None:
    """Run the load for some seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
            for work, pause in (
                (_detect, 2.0),
                (_decide, 3.0),
                (_watch, 0.15),
                (_stumble, 45.0),
                (_tick, 60.0),
            ):
                tasks.create_task(_again_and_again(platform, work, pause))
            tasks.create_task(_break(platform.stack.cutter, CUTTER_AWAY * seconds, OUTAGE * seconds))
            tasks.create_task(_break(platform.stack.registry, REGISTRY_AWAY * seconds, OUTAGE * seconds))


async def _again_and_again(
    platform: Platform, work: Callable[[Platform], Awaitable[None]], pause: float
) -> None:
    while True:
        await asyncio.sleep(DICE.uniform(0.5, 1.5) * pause)
        # The outages end.
        with suppress(httpx.HTTPError):
            await work(platform)


async def _detect(platform: Platform) -> None:
    vod, start = DICE.choice(list(HIGHLIGHTS)), DICE.uniform(0, VOD_SECONDS - 12)
    highlight: dict[str, Any] = {
        "twitch_account_id": DICE.choice(ACCOUNTS),
        "source_vod_id": vod,
        "source": {"profile": "local", "bucket": "vods", "key": f"{vod}.mp4"},
        "start_seconds": start,
        "end_seconds": start + DICE.uniform(4, 11),
        "score": DICE.random(),
    }
    await platform.detect(**highlight | (DICE.choice(ODDITIES) if DICE.random() < 0.1 else {}))


async def _some_clip(gateway: httpx.AsyncClient) -> str | None:
    answer = await gateway.get("/v1/clips", params={"status": "available", "limit": 50})
    clips = answer.json()["items"] if answer.status_code == httpx.codes.OK else []
    return str(DICE.choice(clips)["id"]) if clips else None


async def _decide(platform: Platform) -> None:
    async with platform.gateway(DICE.choice(ACCOUNTS)) as gateway:
        if clip_id := await _some_clip(gateway):
            method, path = REQUESTS[DICE.choices(list(REQUESTS), weights=(5, 3, 2))[0]]
            await gateway.request(method, f"/v1/clips/{clip_id}{path}")


async def _watch(platform: Platform) -> None:
    """Watch a clip of the account; sometimes as a guest, or as another account."""
    owner = DICE.choice(ACCOUNTS)
    async with platform.gateway(owner) as gateway:
        if clip_id := await _some_clip(gateway):
            view = DICE.choices(("watch", "download", "poster"), weights=(5, 1, 8))[0]
            await gateway.get(f"/v1/clips/{clip_id}/{view}")
            if DICE.random() < 0.05:
                async with platform.gateway(DICE.choice((None, "other-account"))) as other:
                    await other.get(f"/v1/clips/{clip_id}/watch")


async def _stumble(platform: Platform) -> None:
    await platform.send("highlight-detected", b"no JSON", key=uuid.uuid4().hex)


async def _tick(platform: Platform) -> None:
    """Let four clips expire now, and the others within a week; send the tick."""
    connection = await asyncpg.connect(platform.stack.environment["DATABASE_URL"].replace("+asyncpg", ""))
    try:
        await connection.execute(
            "UPDATE generated_clips SET expires_at = now() + random() * interval '7 days'"
            " WHERE status = 'available' AND expires_at > now() + interval '6 days'"
        )
        await connection.execute(
            "UPDATE generated_clips SET expires_at = now() WHERE clip_id IN"
            " (SELECT clip_id FROM generated_clips WHERE status = 'available' ORDER BY expires_at LIMIT 4)"
        )
    finally:
        await connection.close()
    await asyncio.sleep(20)
    await platform.tick()


async def _break(process: Process, after: float, seconds: float) -> None:
    await asyncio.sleep(after)
    await asyncio.to_thread(process.kill)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await asyncio.sleep(1)
    await asyncio.to_thread(process.start)
