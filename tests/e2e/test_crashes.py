"""Each service is killed during its work and restarted, and no highlight, clip or object is lost."""

import asyncio
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest

from local_stack.processes.process import Process
from local_stack.stack import LocalStack
from tests.e2e.platform import Platform, until


@pytest.fixture(autouse=True)
def all_run_again(stack: LocalStack) -> Iterator[None]:
    yield
    for service in stack.services.values():
        service.start()


async def restart(service: Process) -> None:
    await asyncio.to_thread(service.start)


async def test_the_cutter(platform: Platform, stack: LocalStack) -> None:
    clips = [await platform.detect(start_seconds=5 + n, end_seconds=15 + n) for n in range(4)]

    async def at_work() -> bool | None:
        return True if any(platform.scratch.glob("*/job-*/*")) else None

    await until(at_work, "the cutter to be in the middle of a cut")
    stack.cutter.kill()
    killed = time.monotonic()
    orphans = _ffmpeg_at_work(platform)
    await restart(stack.cutter)
    assert not set(orphans) & set(_ffmpeg_at_work(platform))
    for clip_id in clips:
        await platform.available(clip_id)
        assert len(platform.objects_of(clip_id)) == 2
    # With production's session of 30 s, the successor would start later.
    assert time.monotonic() - killed < 24

    await platform.scratch_is_clean()


def _ffmpeg_at_work(platform: Platform) -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if str(platform.scratch) in " ".join(process.info["cmdline"] or ())
    ]


async def test_the_registry(platform: Platform, stack: LocalStack) -> None:
    kept = await platform.detect(start_seconds=1, end_seconds=4)
    await platform.available(kept)
    async with platform.gateway() as streamer:
        assert (await streamer.post(f"/v1/clips/{kept}/keep")).status_code == 200
        clips = [await platform.detect(start_seconds=n, end_seconds=n + 3) for n in range(3)]
        stack.registry.kill()
        clips += [await platform.detect(start_seconds=n, end_seconds=n + 3) for n in range(3, 6)]
        answer = await streamer.get("/v1/clips")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        await restart(stack.registry)
        for clip_id in clips:
            await platform.available(clip_id)
        assert (await streamer.get(f"/v1/clips/{kept}")).json()["status"] == "kept"
    for clip_id in clips:
        await platform.message("clip-lifecycle", str(clip_id))


async def test_the_gateway(platform: Platform, stack: LocalStack) -> None:
    clip_id = await platform.detect(start_seconds=2, end_seconds=5)
    await platform.available(clip_id)
    stack.gateway.kill()
    async with platform.gateway() as streamer:
        with pytest.raises(httpx.TransportError):
            await streamer.get(f"/v1/clips/{clip_id}")
        await restart(stack.gateway)
        assert (await streamer.get(f"/v1/clips/{clip_id}/watch")).status_code == 302


async def test_the_janitor(platform: Platform, stack: LocalStack) -> None:
    clips = [await platform.detect(start_seconds=n, end_seconds=n + 2) for n in range(4)]
    for clip_id in clips:
        await platform.available(clip_id)
        await platform.expire(clip_id)
    await platform.tick()
    await platform.message("clip-lifecycle", str(clips[0]))
    stack.janitor.kill()
    await platform.tick()
    await restart(stack.janitor)

    async def all_deleted() -> bool | None:
        return None if any(platform.objects_of(clip_id) for clip_id in clips) else True

    await until(all_deleted, "every purged clip's objects to be deleted")
    async with platform.gateway() as streamer:
        for clip_id in clips:
            assert (await streamer.get(f"/v1/clips/{clip_id}")).status_code == 404
