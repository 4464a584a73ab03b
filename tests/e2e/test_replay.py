"""A skipped or purged highlight becomes a clip when its event is sent a second time."""

import asyncio
import json
import sys
import uuid
from asyncio.subprocess import PIPE
from pathlib import Path

from clip_shared.contracts.events import clip_id_for
from tests.e2e.platform import Platform, until


async def clip_shared(platform: Platform, *words: str) -> str:
    program = (sys.executable, "-m", "clip_shared", *words)
    process = await asyncio.create_subprocess_exec(
        *program, env=platform.stack.environment, stdout=PIPE, stderr=PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_a_skipped_highlight_is_cut_once_its_vod_is_there(platform: Platform, vod: Path) -> None:
    name, highlight_id = f"{uuid.uuid4().hex}.mp4", uuid.uuid4().hex
    clip_id = await platform.detect(
        stream_highlight_id=highlight_id, source={"profile": "local", "bucket": "vods", "key": name}
    )
    skipped = json.loads((await platform.message("clip-skipped", highlight_id)).value)
    assert (skipped["reason"], skipped["source_profile"]) == ("source_missing", "local")
    platform.upload(vod, name)
    replay = ("skips", "replay", "--reason", "source_missing", "--profile", "local")
    assert "would send" in await clip_shared(platform, *replay)
    assert "sent: " in await clip_shared(platform, *replay, "--yes")
    clip = await platform.available(clip_id)
    assert clip["status"] == "available"


async def test_a_purged_highlight_without_an_id_can_be_clipped_again(platform: Platform) -> None:
    """The same bytes are sent twice."""
    highlight_id = uuid.uuid4().hex
    body = json.dumps(
        {
            "stream_highlight_id": highlight_id,
            "twitch_account_id": "streamer-1",
            "source_vod_id": "vod-1",
            "source": {"profile": "local", "bucket": "vods", "key": "vod.mp4"},
            "start_seconds": 3,
            "end_seconds": 5,
            "kind": "refined",
            "title": "Once more",
        }
    ).encode()
    clip_id = clip_id_for(highlight_id)
    await platform.send("highlight-detected", body, key=highlight_id)
    await platform.available(clip_id)
    keys = platform.objects_of(clip_id)
    await platform.expire(clip_id)
    await platform.tick()

    async def purged() -> bool | None:
        return True if not platform.objects_of(clip_id) else None

    await until(purged, "the clip to be purged")
    await platform.send("highlight-detected", body, key=highlight_id)
    await platform.available(clip_id)
    assert not set(keys) & set(platform.objects_of(clip_id))
