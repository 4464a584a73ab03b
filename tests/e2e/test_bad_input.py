"""Bad input is skipped or dead-lettered with a reason, and the next good event is handled."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.platform import Platform


async def assert_the_next_one_is_handled(platform: Platform) -> None:
    clip_id = await platform.detect(start_seconds=3, end_seconds=5)
    await platform.available(clip_id)

    await platform.scratch_is_clean()


async def test_an_undecodable_message(platform: Platform) -> None:
    key = uuid.uuid4().hex
    await platform.send("highlight-detected", b"\x00\xff not json", key=key)
    letter = await platform.message("highlight-detected.dlq", key)
    assert letter.value == b"\x00\xff not json"
    assert b"Invalid JSON" in dict(letter.headers)["dlq_error"]
    await assert_the_next_one_is_handled(platform)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"title": "x" * 201}, b"title"),
        ({"start_seconds": "soon"}, b"start_seconds"),
        ({"twitch_account_id": "../../etc"}, b"twitch_account_id"),
        ({"source": {"profile": "nobodys", "bucket": "vods", "key": "vod.mp4"}}, b"nobodys"),
        ({"source": {"profile": "local", "bucket": "secrets", "key": "vod.mp4"}}, b"secrets"),
    ],
)
async def test_events_that_break_the_contract_or_the_policy(
    platform: Platform, change: dict[str, Any], reason: bytes
) -> None:
    highlight_id = uuid.uuid4().hex
    await platform.detect(stream_highlight_id=highlight_id, **change)
    letter = await platform.message("highlight-detected.dlq", highlight_id)
    assert reason in dict(letter.headers)["dlq_error"]
    await assert_the_next_one_is_handled(platform)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("nowhere.mp4", None, "source_missing"),
        ("empty.mp4", b"", "source_unreadable"),
        ("text.mp4", b"This is no video at all.\n" * 100, "source_unreadable"),
        (
            "playlist.mp4",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n",
            "source_unreadable",
        ),
    ],
)
async def test_a_source_that_is_no_video(
    platform: Platform, tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    highlight_id = uuid.uuid4().hex
    if content is not None:
        (tmp_path / name).write_bytes(content)
        platform.upload(tmp_path / name)
    source = {"profile": "local", "bucket": "vods", "key": name}
    await platform.detect(stream_highlight_id=highlight_id, source=source)
    skipped = (await platform.message("clip-skipped", highlight_id)).value.decode()
    assert f'"reason":"{reason}"' in skipped
    assert len(skipped.split('"message":"')[1]) > 20
    await assert_the_next_one_is_handled(platform)
