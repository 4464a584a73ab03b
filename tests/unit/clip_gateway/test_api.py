"""The public API: status codes, what is shown, and what never is."""

import logging
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest
import structlog
from prometheus_client import CollectorRegistry

from clip_shared.errors import TransientError
from clip_shared.registry_api import ClipStatus
from tests.unit.clip_gateway.conftest import COOKIE
from tests.unit.clip_gateway.fakes import DAY, NOON, FakeRegistry, a_clip
from tests.unit.clip_gateway.tokens import hs256

VIEWS = ["watch", "download", "poster"]
READS = ["", "/watch", "/download", "/poster"]
WRITES = [("POST", "keep"), ("DELETE", "keep"), ("POST", "publish"), ("DELETE", "publish")]


def bearer(account: str = "ann", **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {hs256(sub=account, **claims)}"}


def calls(clip_id: object) -> list[tuple[str, str]]:
    """Every call about one clip."""
    path = f"/v1/clips/{clip_id}"
    return [("GET", path + read) for read in READS] + [(method, f"{path}/{to}") for method, to in WRITES]


async def statuses(client: httpx.AsyncClient, clip_id: object, headers: dict[str, str]) -> set[int]:
    answers = [await client.request(method, path, headers=headers) for method, path in calls(clip_id)]
    refused = [each for each in answers if each.status_code >= 400]
    assert {each.headers["content-type"] for each in refused} <= {"application/problem+json"}
    assert all(each.json()["status"] == each.status_code for each in refused)
    return {each.status_code for each in answers}


async def test_a_clip_as_its_streamer_sees_it(guest: httpx.AsyncClient, registry: FakeRegistry) -> None:
    clip = registry.put(a_clip(seconds_left=2.5 * DAY))
    answer = await guest.get(f"/v1/clips/{clip.clip_id}", headers=bearer())
    path = f"/v1/clips/{clip.clip_id}"
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "id": str(clip.clip_id),
        "title": "A fine moment",
        "kind": "heuristic",
        "status": "available",
        "score": 0.5,
        "duration_seconds": 2.0,
        "size_bytes": 1000,
        "created_at": "2026-03-01T12:00:00Z",
        "expires_at": "2026-03-04T00:00:00Z",
        "expires_in_days": 3,
        "links": {
            "self": path,
            "watch": f"{path}/watch",
            "download": f"{path}/download",
            "poster": f"{path}/poster",
            "keep": f"{path}/keep",
            "publish": f"{path}/publish",
        },
    }


async def test_a_kept_clip_has_no_expiry_and_without_a_poster_no_link_to_one(
    guest: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    clip = registry.put(a_clip(status=ClipStatus.KEPT, poster_key=None))
    body = (await guest.get(f"/v1/clips/{clip.clip_id}", headers=bearer())).json()
    assert body["status"] == "kept"
    assert body["expires_at"] is None
    assert body["expires_in_days"] is None
    assert body["links"]["poster"] is None
    assert (await guest.get(f"/v1/clips/{clip.clip_id}/poster", headers=bearer())).status_code == 404


async def test_guests_are_asked_to_sign_in(guest: httpx.AsyncClient, registry: FakeRegistry) -> None:
    clip = registry.put(a_clip())
    assert await statuses(guest, clip.clip_id, {}) == {401}
    answer = await guest.get("/v1/clips")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="clips"'
    expired = await guest.get("/v1/clips", headers=bearer(exp=1))
    assert "expired" in expired.json()["detail"]
    assert 'error="invalid_token"' in expired.headers["www-authenticate"]


async def test_somebody_elses_clip_is_forbidden(guest: httpx.AsyncClient, registry: FakeRegistry) -> None:
    clip = registry.put(a_clip("bob"))
    assert await statuses(guest, clip.clip_id, bearer()) == {403}
    assert registry.clips[clip.clip_id] == clip


@pytest.mark.parametrize("clip_id", [uuid4(), "not-a-uuid", "00000000"])
async def test_what_nobody_knows_is_not_found(guest: httpx.AsyncClient, clip_id: object) -> None:
    assert await statuses(guest, clip_id, bearer()) == {404}


async def test_a_purged_clip_is_not_found(guest: httpx.AsyncClient, registry: FakeRegistry) -> None:
    clip = registry.put(a_clip(status=ClipStatus.PURGED))
    assert await statuses(guest, clip.clip_id, bearer()) == {404}


async def test_an_expired_clip_is_not_found_but_can_still_be_kept(
    guest: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    clip = registry.put(a_clip(seconds_left=-5))
    path = f"/v1/clips/{clip.clip_id}"
    for read in READS:
        assert (await guest.get(path + read, headers=bearer())).status_code == 404
    assert (await guest.get("/v1/clips", headers=bearer())).json()["items"] == []
    kept = await guest.post(f"{path}/keep", headers=bearer())
    assert kept.status_code == 200
    assert kept.json()["status"] == "kept"
    assert (await guest.get(f"{path}/watch", headers=bearer())).status_code == 302


async def test_an_outage_of_the_registry_is_a_503(guest: httpx.AsyncClient, registry: FakeRegistry) -> None:
    clip = registry.put(a_clip())
    registry.outage = TransientError("postgres://secret@registry")
    assert await statuses(guest, clip.clip_id, bearer()) == {503}
    answer = await guest.get("/v1/clips", headers=bearer())
    assert answer.headers["retry-after"] == "5"
    assert "secret" not in answer.text
    assert (await guest.get("/v1/clips")).status_code == 401


async def test_the_way_of_a_clip(guest: httpx.AsyncClient, registry: FakeRegistry) -> None:
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


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://clips.example"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({}, 403),
    ],
)
async def test_a_cookie_makes_changes_only_from_our_own_pages(
    guest: httpx.AsyncClient,
    registry: FakeRegistry,
    write: tuple[str, str],
    headers: dict[str, str],
    code: int,
) -> None:
    clip = registry.put(a_clip(status=ClipStatus.KEPT))
    cookie = {"Cookie": f"{COOKIE}={hs256()}"}
    method, to = write
    answer = await guest.request(method, f"/v1/clips/{clip.clip_id}/{to}", headers={**cookie, **headers})
    assert answer.status_code == code
    assert (await guest.get(f"/v1/clips/{clip.clip_id}", headers=cookie)).status_code == 200


async def test_a_bearer_token_counts_alone(guest: httpx.AsyncClient, registry: FakeRegistry) -> None:
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
    guest: httpx.AsyncClient, registry: FakeRegistry
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


@pytest.mark.parametrize("query", ["status=purged", "status=x", "limit=0", "limit=101", "cursor=x"])
async def test_questions_that_make_no_sense(guest: httpx.AsyncClient, query: str) -> None:
    answer = await guest.get(f"/v1/clips?{query}", headers=bearer())
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_registry_that_lists_too_much_is_not_believed(
    guest: httpx.AsyncClient, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = registry.put(a_clip("bob"))

    async def list_bobs(_account: str, **rest: Any) -> object:
        return await FakeRegistry(theirs).clips_of("bob", **rest)

    monkeypatch.setattr(registry, "clips_of", list_bobs)
    assert (await guest.get("/v1/clips", headers=bearer())).json()["items"] == []


@pytest.mark.parametrize("view", VIEWS)
async def test_views_redirect_to_a_url_that_rests_nowhere(
    guest: httpx.AsyncClient,
    registry: FakeRegistry,
    prometheus: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
    view: str,
) -> None:
    clip = registry.put(a_clip(title="Größe 日本", seconds_left=100.9))
    with caplog.at_level(logging.DEBUG):
        answer = await guest.get(f"/v1/clips/{clip.clip_id}/{view}", headers=bearer())
    assert answer.status_code == 302
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
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
    registry: FakeRegistry,
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
    guest: httpx.AsyncClient, registry: FakeRegistry, prometheus: CollectorRegistry, path: str
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
    labels = [s.labels for m in prometheus.collect() for s in m.samples if s.name.endswith("seconds_count")]
    assert {each["method"] for each in labels} == {"GET", "HEAD"}
    assert "unmatched" not in {each["route"] for each in labels if each["status"] != "404"}


async def test_head_is_not_answered_where_get_is_not(
    guest: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    path = f"/v1/clips/{registry.put(a_clip()).clip_id}/keep"
    assert (await guest.head(path, headers=bearer())).status_code == 405


async def test_refusals_and_requests_are_counted(
    guest: httpx.AsyncClient, registry: FakeRegistry, prometheus: CollectorRegistry
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
