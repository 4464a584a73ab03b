"""Usage, VODs and the feed of an account through the API."""

import httpx
import pytest

from clip_shared.contracts.events import HighlightKind, SkipReason
from clip_shared.contracts.registry_api import ClipStatus, SkippedHighlight
from tests.unit.clip_gateway.fakes import DAY, NOON, InMemoryRegistry, a_clip
from tests.unit.clip_gateway.test_api import bearer

SKIP = SkippedHighlight(
    stream_highlight_id="hl-skipped",
    source_vod_id="vod-1",
    kind=HighlightKind.HEURISTIC,
    reason=SkipReason.TOO_SHORT,
    message="The highlight is shorter than 3 seconds.",
    skipped_at=NOON,
)


async def test_usage_by_status_and_the_clips_that_expire_next(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    later, sooner = (registry.put(a_clip(seconds_left=days * DAY)) for days in (5, 1))
    registry.put(a_clip(status=ClipStatus.KEPT, file_size_bytes=7))
    registry.put(a_clip("bob", seconds_left=1))
    usage = (await guest.get("/v1/usage", headers=bearer())).json()
    assert usage["by_status"] == {
        "available": {"clips": 2, "bytes": 2000},
        "kept": {"clips": 1, "bytes": 7},
        "published": {"clips": 0, "bytes": 0},
        "deleted": {"clips": 0, "bytes": 0},
    }
    assert usage["clip_limit"] is None
    assert [each["id"] for each in usage["next_to_expire"]] == [str(sooner.clip_id), str(later.clip_id)]


async def test_vods_say_what_became_of_their_highlights(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    registry.put(a_clip())
    registry.put(a_clip(status=ClipStatus.PURGED))
    registry.skips["vod-1"] = [SKIP]
    summary = {"id": "vod-1", "highlights": 3, "clips": 1, "skipped": 1, "latest_at": "2026-03-01T12:00:00Z"}
    assert (await guest.get("/v1/vods", headers=bearer())).json() == {"items": [summary]}
    assert (await guest.get("/v1/vods/vod-1", headers=bearer())).json() == {
        **summary,
        "skips": [
            {
                "kind": "heuristic",
                "reason": "too_short",
                "message": "The highlight is shorter than 3 seconds.",
                "skipped_at": "2026-03-01T12:00:00Z",
            }
        ],
    }


@pytest.mark.parametrize("vod", ["vod-1", "vod-2", "x" * 65, "..%2Fusage", "%00", "ü"])
async def test_a_vod_of_another_account_is_not_found(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, vod: str
) -> None:
    registry.put(a_clip("bob", source_vod_id="vod-1"))
    answer = await guest.get(f"/v1/vods/{vod}", headers=bearer())
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_the_feed_is_off_until_it_is_switched_on(guest: httpx.AsyncClient) -> None:
    assert (await guest.get("/v1/feed", headers=bearer())).status_code == 404
    feed = (await guest.put("/v1/feed", headers=bearer())).json()
    assert feed["atom_url"].removesuffix(".atom") == feed["json_url"].removesuffix(".json")
    assert feed["atom_url"].startswith("http://clips.example/f/")
    assert (await guest.put("/v1/feed", headers=bearer())).json() == feed
    assert (await guest.get("/v1/feed", headers=bearer())).json() == feed
    assert (await guest.get("/v1/feed", headers=bearer("bob"))).status_code == 404
    off = await guest.delete("/v1/feed", headers=bearer())
    assert (off.status_code, off.content) == (204, b"")
    assert (await guest.delete("/v1/feed", headers=bearer())).status_code == 204
    assert (await guest.get("/v1/feed", headers=bearer())).status_code == 404
