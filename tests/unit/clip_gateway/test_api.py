"""The JSON API: status codes, and what it shows of clips."""

import logging
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest
import structlog
from prometheus_client import CollectorRegistry

from clip_gateway.domain import ClipQuery
from clip_shared.contracts.events import HighlightKind
from clip_shared.contracts.registry_api import ClipStatus
from clip_shared.errors import TransientError
from tests.unit.clip_gateway.fakes import NOON, InMemoryRegistry, a_clip
from tests.unit.clip_gateway.parts import COOKIE
from tests.unit.clip_gateway.tokens import hs256

VIEWS = ["watch", "download", "poster"]
READS = ["", "/watch", "/download", "/poster"]
WRITES = [
    *(("POST", "/keep"), ("DELETE", "/keep"), ("POST", "/publish"), ("DELETE", "/publish")),
    *(("DELETE", ""), ("POST", "/restore"), ("PATCH", "")),
]
RENAMED = {"title": "Another"}


def bearer(account: str = "ann", **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {hs256(sub=account, **claims)}"}


def calls(clip_id: object) -> list[tuple[str, str]]:
    """Every call about one clip."""
    path = f"/v1/clips/{clip_id}"
    return [("GET", path + read) for read in READS] + [(method, path + to) for method, to in WRITES]


async def statuses(client: httpx.AsyncClient, clip_id: object, headers: dict[str, str]) -> set[int]:
    answers = [
        await client.request(method, path, headers=headers, json=RENAMED if method == "PATCH" else None)
        for method, path in calls(clip_id)
    ]
    refused = [each for each in answers if each.status_code >= 400]
    assert {each.headers["content-type"] for each in refused} <= {"application/problem+json"}
    assert all(each.json()["status"] == each.status_code for each in refused)
    return {each.status_code for each in answers}


async def test_a_clip_without_a_poster_has_none_to_show(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    clip = registry.put(a_clip(poster_key=None))
    assert (await guest.get(f"/v1/clips/{clip.clip_id}/poster", headers=bearer())).status_code == 404


async def test_guests_are_asked_to_sign_in(guest: httpx.AsyncClient, registry: InMemoryRegistry) -> None:
    clip = registry.put(a_clip())
    assert await statuses(guest, clip.clip_id, {}) == {401}
    answer = await guest.get("/v1/clips")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="clips"'
    expired = await guest.get("/v1/clips", headers=bearer(exp=1))
    assert "expired" in expired.json()["detail"]
    assert 'error="invalid_token"' in expired.headers["www-authenticate"]


async def test_a_clip_of_another_account_is_forbidden(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    clip = registry.put(a_clip("bob"))
    assert await statuses(guest, clip.clip_id, bearer()) == {403}
    assert registry.clips[clip.clip_id] == clip


@pytest.mark.parametrize("clip_id", [uuid4(), "not-a-uuid", "00000000"])
async def test_an_unknown_clip_is_not_found(guest: httpx.AsyncClient, clip_id: object) -> None:
    assert await statuses(guest, clip_id, bearer()) == {404}


async def test_a_purged_clip_is_not_found(guest: httpx.AsyncClient, registry: InMemoryRegistry) -> None:
    clip = registry.put(a_clip(status=ClipStatus.PURGED))
    assert await statuses(guest, clip.clip_id, bearer()) == {404}


async def test_an_expired_clip_is_shown_as_such_and_can_be_kept_but_not_watched(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    path = f"/v1/clips/{registry.put(a_clip(seconds_left=-5)).clip_id}"
    (listed,) = (await guest.get("/v1/clips", headers=bearer())).json()["items"]
    assert listed == (await guest.get(path, headers=bearer())).json()
    assert (listed["expired"], listed["expires_in_days"]) == (True, 0)
    for view in VIEWS:
        assert (await guest.get(f"{path}/{view}", headers=bearer())).status_code == 404
    kept = await guest.post(f"{path}/keep", headers=bearer())
    assert (kept.json()["status"], kept.json()["expired"]) == ("kept", False)
    assert (await guest.get(f"{path}/watch", headers=bearer())).status_code == 302


async def test_a_deleted_clip_is_its_owners_to_restore_and_nothing_else(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    path = f"/v1/clips/{registry.put(a_clip(status=ClipStatus.KEPT)).clip_id}"
    deleted = await guest.delete(path, headers=bearer())
    assert (deleted.status_code, deleted.json()["status"]) == (200, "deleted")
    assert (await guest.get("/v1/clips", headers=bearer())).json()["items"] == []
    (listed,) = (await guest.get("/v1/clips?status=deleted", headers=bearer())).json()["items"]
    assert listed == (await guest.get(path, headers=bearer())).json()
    assert list(listed["actions"]) == ["restore"]
    for view in VIEWS:
        assert (await guest.get(f"{path}/{view}", headers=bearer())).status_code == 404
    for method, to in [("POST", "/keep"), ("POST", "/publish"), ("PATCH", "")]:
        answer = await guest.request(method, path + to, headers=bearer(), json={"title": "x"})
        assert answer.status_code == 409
    restored = await guest.post(f"{path}/restore", headers=bearer())
    assert (restored.status_code, restored.json()["status"]) == (200, "kept")
    assert (await guest.get(f"{path}/watch", headers=bearer())).status_code == 302


async def test_an_outage_of_the_registry_is_a_503(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    clip = registry.put(a_clip())
    registry.outage = TransientError("postgres://secret@registry")
    assert await statuses(guest, clip.clip_id, bearer()) == {503}
    answer = await guest.get("/v1/clips", headers=bearer())
    assert answer.headers["retry-after"] == "5"
    assert "secret" not in answer.text
    assert (await guest.get("/v1/clips")).status_code == 401


async def test_a_clip_through_all_its_statuses(guest: httpx.AsyncClient, registry: InMemoryRegistry) -> None:
    path = f"/v1/clips/{registry.put(a_clip()).clip_id}"
    steps = [
        ("POST", "keep", 200, "kept"),
        ("POST", "keep", 200, "kept"),
        ("POST", "publish", 200, "published"),
        ("DELETE", "keep", 409, None),
        ("DELETE", "publish", 200, "kept"),
        ("DELETE", "keep", 200, "available"),
        ("DELETE", "keep", 200, "available"),
    ]
    for method, to, code, status in steps:
        answer = await guest.request(method, f"{path}/{to}", headers=bearer())
        assert (answer.status_code, answer.json()["status"] if status else None) == (code, status)


@pytest.mark.parametrize("space", [b"\xa0", b"\x85"])
async def test_a_cookie_with_a_similar_name_is_ignored(guest: httpx.AsyncClient, space: bytes) -> None:
    """Other hosts of our domain can set such a cookie: the prefix protects only the exact name."""
    token = f"{COOKIE}={hs256()}".encode()
    assert (await guest.get("/v1/clips", headers=[(b"Cookie", space + token)])).status_code == 401
    among_others = [(b"Cookie", b"a=b; " + token + b"; c=d")]
    assert (await guest.get("/v1/clips", headers=among_others)).status_code == 200


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://clips.example"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({}, 403),
    ],
)
async def test_a_cookie_makes_changes_only_from_our_own_pages(
    guest: httpx.AsyncClient,
    registry: InMemoryRegistry,
    write: tuple[str, str],
    headers: dict[str, str],
    code: int,
) -> None:
    method, to = write
    status = ClipStatus.DELETED if to == "/restore" else ClipStatus.KEPT
    clip = registry.put(a_clip(status=status))
    cookie = {"Cookie": f"{COOKIE}={hs256()}"}
    answer = await guest.request(
        method, f"/v1/clips/{clip.clip_id}{to}", headers={**cookie, **headers}, json=RENAMED
    )
    assert answer.status_code == code
    if code == 403:
        assert registry.clips[clip.clip_id] == clip
    assert (await guest.get(f"/v1/clips/{clip.clip_id}", headers=cookie)).status_code == 200


async def test_a_bearer_token_counts_alone(guest: httpx.AsyncClient, registry: InMemoryRegistry) -> None:
    clip = registry.put(a_clip())
    cookie = {"Cookie": f"{COOKIE}={hs256()}"}
    path = f"/v1/clips/{clip.clip_id}/keep"
    cross_site = {"Sec-Fetch-Site": "cross-site"}
    assert (await guest.post(path, headers={**bearer(), **cross_site})).status_code == 200
    # A bad one is not made good by a cookie, or a forged header would open the way around the proof.
    assert (await guest.post(path, headers={**cookie, "Authorization": "Bearer x"})).status_code == 401
    assert (await guest.post(path, headers={**cookie, "Authorization": "Bearer"})).status_code == 401
    # Another scheme is none of our business (a proxy's, say).
    basic = {**cookie, "Authorization": "Basic eDp5", "Sec-Fetch-Site": "same-origin"}
    assert (await guest.post(path, headers=basic)).status_code == 200


async def test_the_list_is_paged_filtered_and_the_callers_own(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    mine = [registry.put(a_clip(created_at=NOON + timedelta(hours=n))) for n in range(5)]
    kept = registry.put(a_clip(status=ClipStatus.KEPT, created_at=NOON - timedelta(hours=1)))
    registry.put(a_clip("bob"))
    seen, cursor = [], ""
    for _ in range(3):
        page = (await guest.get(f"/v1/clips?limit=2{cursor}", headers=bearer())).json()
        seen += [item["id"] for item in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [str(clip.clip_id) for clip in [*reversed(mine), kept]]
    assert cursor == "&cursor=None"
    only_kept = (await guest.get("/v1/clips?status=kept", headers=bearer())).json()
    assert [item["id"] for item in only_kept["items"]] == [str(kept.clip_id)]
    both = (await guest.get("/v1/clips?status=kept&status=available", headers=bearer())).json()
    assert len(both["items"]) == 6


async def test_the_list_is_searched_and_ordered(guest: httpx.AsyncClient, registry: InMemoryRegistry) -> None:
    async def titles(query: str) -> list[str]:
        items = (await guest.get(f"/v1/clips?{query}", headers=bearer())).json()["items"]
        return [each["title"] for each in items]

    registry.put(a_clip(title="First Blood", duration_seconds=9, score=None, source_vod_id="vod-2"))
    registry.put(a_clip(title="Last stand", duration_seconds=5, score=0.9, kind=HighlightKind.REFINED))
    assert await titles("order=longest") == ["First Blood", "Last stand"]
    assert await titles("order=best") == ["Last stand", "First Blood"]
    assert await titles("vod=vod-2") == ["First Blood"]
    assert await titles("kind=refined") == ["Last stand"]
    assert await titles("title=BLOOD") == ["First Blood"]
    assert len(await titles("title=&kind=refined&kind=heuristic")) == 2


@pytest.mark.parametrize(
    "query", ["status=purged", "status=x", "limit=0", "limit=101", "cursor=x", "kind=x", "vod=..", "order=x"]
)
async def test_invalid_queries_are_refused(guest: httpx.AsyncClient, query: str) -> None:
    answer = await guest.get(f"/v1/clips?{query}", headers=bearer())
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_listed_clips_of_other_accounts_are_not_shown(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = registry.put(a_clip("bob"))

    async def list_bobs(_account: str, query: ClipQuery) -> object:
        return await InMemoryRegistry(theirs).clips_of("bob", query)

    monkeypatch.setattr(registry, "clips_of", list_bobs)
    assert (await guest.get("/v1/clips", headers=bearer())).json()["items"] == []


@pytest.mark.parametrize("view", VIEWS)
async def test_renditions_redirect_to_a_url_that_is_not_stored(
    guest: httpx.AsyncClient,
    registry: InMemoryRegistry,
    prometheus: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
    view: str,
) -> None:
    clip = registry.put(a_clip(title="Größe 日本", seconds_left=100.9))
    with caplog.at_level(logging.DEBUG):
        answer = await guest.get(f"/v1/clips/{clip.clip_id}/{view}", headers=bearer())
    assert answer.status_code == 302
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "same-origin"
    url = urlsplit(answer.headers["location"])
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert f"{url.scheme}://{url.netloc}" == "https://media.example"
    assert url.path == "/clips/" + str(clip.poster_key if view == "poster" else clip.object_key)
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert query["X-Amz-Expires"] == "100"
    assert query["response-content-type"] == ("image/jpeg" if view == "poster" else "video/mp4")
    attached = query["response-content-disposition"].startswith("attachment; ")
    assert attached is (view == "download")
    ours = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith(("botocore", "httpx")))
    assert query["X-Amz-Signature"] not in ours
    assert prometheus.get_sample_value("clips_presigns_total", {"view": view}) == 1


@pytest.mark.parametrize(
    ("view", "changes"),
    [
        ("watch", {"bucket": "vods"}),
        ("watch", {"object_key": "vods/recording.mp4"}),
        ("download", {"object_key": a_clip("bob").object_key}),
        ("poster", {"poster_key": a_clip("bob").poster_key}),
    ],
)
async def test_objects_elsewhere_are_never_handed_out(
    guest: httpx.AsyncClient,
    registry: InMemoryRegistry,
    prometheus: CollectorRegistry,
    view: str,
    changes: dict[str, Any],
) -> None:
    clip = registry.put(a_clip(**changes))
    path = f"/v1/clips/{clip.clip_id}/{view}"
    with structlog.testing.capture_logs() as logs:
        assert (await guest.get(path, headers=bearer())).status_code == 404
    assert [(each["log_level"], each["path"]) for each in logs] == [("error", path)]
    assert prometheus.get_sample_value("clips_refusals_total", {"reason": "misplaced"}) == 1


@pytest.mark.parametrize("path", ["/v1/clips", "/v1/clips/{}", "/v1/clips/{}/watch"])
async def test_head_is_answered_as_get_without_a_body(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, prometheus: CollectorRegistry, path: str
) -> None:
    path = path.format(registry.put(a_clip()).clip_id)
    get, head = [await guest.request(method, path, headers=bearer()) for method in ("GET", "HEAD")]
    assert (head.status_code, head.content) == (get.status_code, b"")
    for name in ("content-length", "content-type", "cache-control"):
        assert head.headers.get(name) == get.headers.get(name)
    # A presigned URL is good for one method.
    assert ("location" in head.headers) == ("location" in get.headers) == path.endswith("watch")
    assert "location" not in head.headers or head.headers["location"] != get.headers["location"]
    assert (await guest.head("/v1/clips/x")).status_code == 404
    assert (await guest.head(path)).status_code == 401
    labels = [
        s.labels
        for m in prometheus.collect()
        for s in m.samples
        if s.name == "clips_gateway_request_seconds_count"
    ]
    assert {each["method"] for each in labels} == {"GET", "HEAD"}
    assert "unmatched" not in {each["route"] for each in labels if each["status"] != "404"}


async def test_head_is_not_answered_where_get_is_not(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    path = f"/v1/clips/{registry.put(a_clip()).clip_id}/keep"
    assert (await guest.head(path, headers=bearer())).status_code == 405


async def test_refusals_and_requests_are_counted(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, prometheus: CollectorRegistry
) -> None:
    clip = registry.put(a_clip("bob"))
    await guest.get(f"/v1/clips/{clip.clip_id}", headers=bearer())
    await guest.get("/v1/clips")
    await guest.request("BREW", "/nowhere/at/all")
    value = prometheus.get_sample_value
    assert value("clips_refusals_total", {"reason": "not_owner"}) == 1
    assert value("clips_refusals_total", {"reason": "not_signed_in"}) == 1
    seconds = "clips_gateway_request_seconds_count"
    forbidden = {"method": "GET", "route": "/v1/clips/{clip_id}", "status": "403"}
    assert value(seconds, forbidden) == 1
    assert value(seconds, {"method": "other", "route": "unmatched", "status": "404"}) == 1
