"""Changes through the API: publish with options, rename, delete, and batches."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prometheus_client import CollectorRegistry

from clip_shared.contracts.registry_api import ClipStatus
from tests.unit.clip_gateway.fakes import InMemoryRegistry, a_clip
from tests.unit.clip_gateway.test_api import bearer


async def test_publishing_takes_the_default_options(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    path = f"/v1/clips/{registry.put(a_clip()).clip_id}/publish"
    view = (await guest.post(path, headers=bearer())).json()
    options = {key: view["publication"][key] for key in ("until", "embed", "downloadable", "indexable")}
    assert options == {"until": None, "embed": True, "downloadable": False, "indexable": False}
    assert view["share_url"].startswith("http://clips.example/s/")
    assert (await guest.post(path, headers=bearer(), json={})).json() == view


async def test_publishing_again_changes_options_not_the_link(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    path = f"/v1/clips/{registry.put(a_clip()).clip_id}/publish"
    first = (await guest.post(path, headers=bearer())).json()
    until = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    options = {"until": until.isoformat(), "embed": False, "downloadable": True, "indexable": True}
    second = (await guest.post(path, headers=bearer(), json=options)).json()
    assert second["share_url"] == first["share_url"]
    assert second["publication"] == {
        **options,
        "until": until.isoformat().replace("+00:00", "Z"),
        "revision": 1,
        "embed_url": None,
    }


@pytest.mark.parametrize(
    "options",
    [
        {"until": "2020-01-01T00:00:00Z"},
        {"until": "2099-01-01T00:00:00"},  # in which time zone?
        {"until": "tomorrow"},
        {"embed": "perhaps"},
        [],
        "embed",
    ],
)
async def test_invalid_options_are_refused(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, options: Any
) -> None:
    clip = registry.put(a_clip())
    answer = await guest.post(f"/v1/clips/{clip.clip_id}/publish", headers=bearer(), json=options)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert registry.clips[clip.clip_id] == clip


async def test_a_clip_is_renamed_whatever_the_script(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    clip = registry.put(a_clip())
    title = "Größe\n日本 👨‍👩‍👧"
    answer = await guest.patch(f"/v1/clips/{clip.clip_id}", headers=bearer(), json={"title": title})
    assert answer.json()["title"] == "Größe 日本 👨‍👩‍👧"
    assert registry.clips[clip.clip_id].title == "Größe 日本 👨‍👩‍👧"


@pytest.mark.parametrize(
    "body", [{}, {"title": ""}, {"title": " \n\x00"}, {"title": "x" * 201}, {"title": None}]
)
async def test_invalid_titles_are_refused(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, body: dict[str, Any]
) -> None:
    clip = registry.put(a_clip())
    answer = await guest.patch(f"/v1/clips/{clip.clip_id}", headers=bearer(), json=body)
    assert answer.status_code == 422
    assert [each["at"] for each in answer.json()["problems"]] == ["body.title"]
    assert registry.clips[clip.clip_id] == clip


async def test_a_deleted_publication_comes_back_under_its_old_address(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    path = f"/v1/clips/{registry.put(a_clip()).clip_id}"
    published = (await guest.post(f"{path}/publish", headers=bearer())).json()
    assert (await guest.delete(path, headers=bearer())).json()["share_url"] is None
    restored = (await guest.post(f"{path}/restore", headers=bearer())).json()
    assert restored["share_url"] == published["share_url"]


async def test_many_at_once_each_with_a_result_of_its_own(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, prometheus: CollectorRegistry
) -> None:
    mine, kept, deleted, purged = (
        registry.put(a_clip(status=status))
        for status in (ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.DELETED, ClipStatus.PURGED)
    )
    theirs, unknown = registry.put(a_clip("bob")), uuid4()
    ids = [mine.clip_id, kept.clip_id, deleted.clip_id, purged.clip_id, theirs.clip_id, unknown]
    batch = {"action": "keep", "ids": [str(each) for each in ids]}
    results = (await guest.post("/v1/clips/batch", headers=bearer(), json=batch)).json()["results"]
    assert [each["id"] for each in results] == batch["ids"]
    assert [each["outcome"] for each in results] == [
        *("done", "unchanged", "not_allowed", "unknown", "not_owner", "unknown")
    ]
    statuses = [each["clip"] and each["clip"]["status"] for each in results]
    assert statuses == ["kept", "kept", "deleted", None, None, None]
    assert registry.clips[theirs.clip_id] == theirs
    assert prometheus.get_sample_value("clips_owner_actions_total", {"action": "keep"}) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"action": "rename", "ids": [str(uuid4())]},
        {"action": "explode", "ids": [str(uuid4())]},
        {"action": "keep", "ids": []},
        {"action": "keep", "ids": [str(uuid4())] * 101},
        {"action": "keep", "ids": ["x"]},
        {"action": "keep"},
    ],
)
async def test_invalid_batches_are_refused(guest: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await guest.post("/v1/clips/batch", headers=bearer(), json=body)).status_code == 422


async def test_a_body_that_is_too_large_is_not_read(guest: httpx.AsyncClient) -> None:
    body = {"action": "keep", "ids": ["x" * 100_000]}
    answer = await guest.post("/v1/clips/batch", headers=bearer(), json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
