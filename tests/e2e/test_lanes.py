"""A copy does not wait for a clip that has to be re-encoded."""

import json
import os
from pathlib import Path

import httpx
import psutil
import pytest

from clip_cutter.app import ENCODING_NICENESS
from clip_shared.contracts.events import ClipCreated
from local_stack.processes.ffmpeg import find_tools, run_tool
from local_stack.stack import SOURCE_BUCKET, SOURCE_PROFILE
from tests.e2e.platform import Platform, until

PARTITION = 0


@pytest.fixture
def deep(platform: Platform, vod: Path, tmp_path: Path) -> str:
    """The key of a VOD with ten bits for each colour, which not every browser plays."""
    path = tmp_path / "deep.mp4"
    coding = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p10le -g 60 -c:a copy -movflags +faststart"
    run_tool(find_tools().ffmpeg, ["-loglevel", "error", "-i", vod, *coding.split(), path])
    return platform.upload(path)


def encoders(platform: Platform) -> list[psutil.Process]:
    """Return the low-priority processes that encode on the scratch disk."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "nice"])
        if str(platform.scratch) in (command := " ".join(process.info["cmdline"] or ()))
        and "libx264" in command
        and process.info["nice"] == os.nice(0) + ENCODING_NICENESS
    ]


async def test_copies_are_announced_while_a_re_encode_of_their_partition_runs(
    platform: Platform, deep: str
) -> None:
    source = {"profile": SOURCE_PROFILE, "bucket": SOURCE_BUCKET, "key": deep}
    slow = await platform.detect(source=source, start_seconds=1, end_seconds=56, partition=PARTITION)

    async def at_work() -> psutil.Process | None:
        return next(iter(encoders(platform)), None)

    encoder = await until(at_work, "the re-encode to begin")
    copies = [
        await platform.detect(start_seconds=5 + number, end_seconds=9 + number, partition=PARTITION)
        for number in range(3)
    ]
    for clip_id in copies:
        await platform.available(clip_id)
    assert encoder.is_running()
    async with platform.gateway() as streamer:
        assert (await streamer.get(f"/v1/clips/{slow}")).status_code == httpx.codes.NOT_FOUND

    await platform.available(slow)
    created = ClipCreated.model_validate_json((await platform.message("clip-created", str(slow))).value)
    receipt = created.cut_receipt
    assert receipt.video is not None
    assert (receipt.mode, receipt.video.fate) == ("exact", "re_encoded")
    request = await platform.message("highlight-encodings", created.stream_highlight_id)
    assert dict(request.headers)["ce_id"].decode() == created.highlight_event_id
    assert json.loads(request.value)["reason"] == receipt.video.reason
    await platform.scratch_is_clean()
