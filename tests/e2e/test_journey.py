"""The main job from end to end, and the refusals of other accounts and guests."""

import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_stack.demo.vod import COLUMNS, FRAMES_PER_SECOND, ROWS, read_frame_number
from local_stack.processes.ffmpeg import find_tools, run_tool
from tests.e2e.platform import Platform, until


async def test_from_a_highlight_to_a_clip_that_is_kept_or_purged(platform: Platform, tmp_path: Path) -> None:
    kept = await platform.detect(start_seconds=10.5, end_seconds=14.5, title="Ace — “Größe” 🎉")
    expiring = await platform.detect(start_seconds=30.0, end_seconds=33.0)
    first, _ = await platform.available(kept), await platform.available(expiring)
    assert first["title"] == "Ace — “Größe” 🎉"
    assert first["expires_in_days"] == 7
    assert abs(first["duration_seconds"] - 4.0) < 0.2

    async with platform.gateway() as streamer:
        listed = {clip["id"] for clip in (await streamer.get("/v1/clips")).json()["items"]}
        assert {str(kept), str(expiring)} <= listed
        await assert_plays(streamer, kept, tmp_path, first_frame=round(10.5 * FRAMES_PER_SECOND))
        assert (await streamer.post(f"/v1/clips/{kept}/keep")).json()["status"] == "kept"

        for clip_id in (kept, expiring):
            await platform.expire(clip_id)
        assert (await streamer.get(f"/v1/clips/{expiring}/watch")).status_code == 404
        await platform.tick()

        async def purged() -> bool | None:
            return None if platform.objects_of(expiring) else True

        await until(purged, "the objects of the unkept clip to be deleted")
        assert (await streamer.get(f"/v1/clips/{expiring}")).status_code == 404
        await assert_plays(streamer, kept, tmp_path, first_frame=round(10.5 * FRAMES_PER_SECOND))
    lifecycle = [record.value.decode() for record in await platform.messages("clip-lifecycle")]
    assert any(str(expiring) in each and "purged_at" in each for each in lifecycle)


async def assert_plays(
    streamer: httpx.AsyncClient, clip_id: uuid.UUID, folder: Path, *, first_frame: int
) -> None:
    """Download the clip, in ranges and whole, and check that it begins with the frame that was asked for."""
    redirect = await streamer.get(f"/v1/clips/{clip_id}/watch")
    assert redirect.status_code == 302
    assert redirect.headers["cache-control"] == "no-store"
    url = redirect.headers["location"]
    async with httpx.AsyncClient() as browser:
        part = await browser.get(url, headers={"Range": "bytes=0-99"})
        assert (part.status_code, len(part.content)) == (206, 100)
        path = folder / f"{clip_id}.mp4"
        path.write_bytes((await browser.get(url)).content)
    picture = run_tool(
        find_tools().ffmpeg,
        ["-v", "error", "-i", path, "-frames:v", "1", "-vf", f"scale={COLUMNS}:{ROWS}:flags=area,format=gray",
         "-f", "rawvideo", "pipe:1"],
    )  # fmt: skip
    assert read_frame_number(picture) == first_frame


@pytest.mark.parametrize("path", ["", "/watch", "/download", "/poster"])
async def test_another_account_and_a_guest_are_refused(platform: Platform, path: str) -> None:
    clip_id = await _clip_of_another_account(platform)
    async with platform.gateway("streamer-2") as other, platform.gateway(None) as guest:
        assert (await other.get(f"/v1/clips/{clip_id}{path}")).status_code == 403
        assert (await guest.get(f"/v1/clips/{clip_id}{path}")).status_code == 401


async def test_another_account_and_a_guest_cannot_change_a_clip(platform: Platform) -> None:
    clip_id = await _clip_of_another_account(platform)
    async with platform.gateway("streamer-2") as other, platform.gateway(None) as guest:
        for client, status in ((other, 403), (guest, 401)):
            assert (await client.post(f"/v1/clips/{clip_id}/keep")).status_code == status
            assert (await client.delete(f"/v1/clips/{clip_id}/keep")).status_code == status
        assert (await other.get("/v1/clips")).json()["items"] == []
        assert (await other.get(f"/v1/clips/{uuid.uuid4()}")).status_code == 404


async def test_keep_publish_and_back(platform: Platform) -> None:
    clip_id = await platform.detect(start_seconds=40, end_seconds=42)
    await platform.available(clip_id)
    async with platform.gateway() as streamer:
        clip = f"/v1/clips/{clip_id}"
        assert (await streamer.post(f"{clip}/publish")).json()["status"] == "published"
        assert (await streamer.delete(f"{clip}/keep")).status_code == 409
        assert (await streamer.delete(f"{clip}/publish")).json()["status"] == "kept"
        again = (await streamer.delete(f"{clip}/keep")).json()
        assert (again["status"], again["expires_in_days"]) == ("available", 7)


async def test_the_same_highlight_twice_is_one_clip_and_one_cut(platform: Platform) -> None:
    event: dict[str, Any] = {"stream_highlight_id": uuid.uuid4().hex, "start_seconds": 20, "end_seconds": 22}
    clip_id = await platform.detect(**event)
    await platform.available(clip_id)
    before = platform.objects_of(clip_id)
    await platform.detect(**event)

    async def replaced() -> bool | None:
        now = platform.objects_of(clip_id)
        return True if len(now) == len(before) and set(now) != set(before) else None

    await until(replaced, "the newer cut to replace the older, and the older to be deleted")
    async with platform.gateway() as streamer:
        clips = (await streamer.get("/v1/clips", params={"limit": 100})).json()["items"]
    assert [clip["id"] for clip in clips].count(str(clip_id)) == 1


_SOMEBODYS: list[uuid.UUID] = []


async def _clip_of_another_account(platform: Platform) -> uuid.UUID:
    if not _SOMEBODYS:
        clip_id = await platform.detect(start_seconds=50, end_seconds=52)
        await platform.available(clip_id)
        _SOMEBODYS.append(clip_id)
    return _SOMEBODYS[0]
