"""The internal API over a real database."""

import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from clip_registry.api.parts import RegistryParts
from clip_registry.api.routes import ApiClient, create_router
from clip_registry.clips.store import ClipStore
from clip_registry.database.engine import open_engine
from clip_registry.domain.clips import Clip
from clip_registry.metrics import RegistryMetrics
from clip_registry.reports import ReportedCut
from clip_shared.contracts.events import clip_id_for
from clip_shared.contracts.registry_api import ClipAction, ClipPage, ClipRecord, ExpirationResult
from clip_shared.http.api import create_api
from tests.integration.clip_registry.conftest import Database
from tests.unit.clip_registry.cuts import HOUR, a_cut, a_skip, an_action

TOKENS = {
    ApiClient.GATEWAY: SecretStr("a-token-of-the-gateway"),
    ApiClient.JANITOR: SecretStr("a-token-of-the-janitor"),
}
TOKEN = TOKENS[ApiClient.GATEWAY].get_secret_value()
PROBLEM = "application/problem+json"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def caller_of(path: str) -> ApiClient:
    """The service that a path is for."""
    return ApiClient.JANITOR if path.startswith(("/v1/expir", "/v1/objects")) else ApiClient.GATEWAY


def signed(request: httpx.Request) -> httpx.Request:
    token = TOKENS[caller_of(request.url.path)].get_secret_value()
    request.headers["Authorization"] = f"Bearer {token}"
    return request


def client_of(store: ClipStore, registry: CollectorRegistry, *, guest: bool = False) -> httpx.AsyncClient:
    app = create_api("clip-registry")
    app.include_router(create_router(RegistryParts(store=store, metrics=RegistryMetrics(registry)), TOKENS))
    transport = httpx.ASGITransport(app=app)
    auth = None if guest else signed
    return httpx.AsyncClient(transport=transport, base_url="http://registry", auth=auth)


@pytest.fixture
async def client(store: ClipStore, registry: CollectorRegistry) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(store, registry) as client:
        yield client


async def a_clip(store: ClipStore, highlight: str = "hl-1", **changes: Any) -> Clip:
    [recorded] = await store.record([ReportedCut(a_cut(highlight, **changes), "created")])
    return recorded.clip


def is_problem(response: httpx.Response, status: int) -> bool:
    body = response.json()
    return (response.status_code, response.headers["content-type"], body["status"]) == (
        *(status, PROBLEM, status),
    )


Call = tuple[str, str, dict[str, Any] | None]

CALLS: list[Call] = [
    ("GET", f"/v1/clips/{clip_id_for('hl-1')}", None),
    ("GET", "/v1/accounts/ann/clips", None),
    ("GET", "/v1/accounts/ann/usage", None),
    ("GET", "/v1/accounts/ann/vods", None),
    ("GET", "/v1/accounts/ann/vods/vod-1", None),
    ("GET", "/v1/accounts/ann/feed", None),
    ("PUT", "/v1/accounts/ann/feed", None),
    ("DELETE", "/v1/accounts/ann/feed", None),
    ("GET", "/v1/feeds/slug", None),
    ("GET", "/v1/shares/slug", None),
    *[
        ("POST", f"/v1/clips/{clip_id_for('hl-1')}/{action}", {"account_id": "ann"})
        for action in ("keep", "unkeep", "publish", "unpublish")
    ],
    ("POST", "/v1/expirations", {}),
    ("POST", "/v1/expiry-notices", {}),
    ("POST", "/v1/objects/unknown", {"bucket": "clips", "keys": []}),
]


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", TOKEN[:-1], "bäd"])
@pytest.mark.parametrize("call", CALLS)
async def test_nothing_answers_without_the_token(
    store: ClipStore, registry: CollectorRegistry, token: str | None, call: Call
) -> None:
    method, path, body = call
    headers = {b"Authorization": f"Bearer {token}".encode()} if token is not None else {}
    async with client_of(store, registry, guest=True) as guest:
        response = await guest.request(method, path, json=body, headers=headers)
    assert is_problem(response, 401)
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("call", CALLS)
async def test_each_service_may_do_what_is_its_own(
    store: ClipStore, registry: CollectorRegistry, call: Call
) -> None:
    method, path, body = call
    [other] = set(ApiClient) - {caller_of(path)}
    headers = {"Authorization": f"Bearer {TOKENS[other].get_secret_value()}"}
    async with client_of(store, registry, guest=True) as guest:
        response = await guest.request(method, path, json=body, headers=headers)
    assert is_problem(response, 403)


async def test_a_clip_as_the_wire_model_says(client: httpx.AsyncClient, store: ClipStore) -> None:
    clip = await a_clip(store)
    response = await client.get(f"/v1/clips/{clip.clip_id}")
    record = ClipRecord.model_validate_json(response.content)
    assert (record.status, record.object_key) == ("available", clip.object_key)
    assert record.expires_in_seconds == pytest.approx(7 * 24 * 3600, abs=10)
    assert record.cut_receipt.audio_video_skew_ms == 1.5


async def test_a_purged_clip_can_be_looked_at_and_nothing_else(
    client: httpx.AsyncClient, store: ClipStore, database: Database
) -> None:
    clip = await a_clip(store)
    await database.expire(clip)
    assert (await client.get(f"/v1/clips/{clip.clip_id}")).json()["expires_in_seconds"] < 0
    await client.post("/v1/expirations", json={})
    assert (await client.get(f"/v1/clips/{clip.clip_id}")).json()["status"] == "purged"
    for action in ("keep", "unkeep", "publish", "unpublish"):
        response = await client.post(f"/v1/clips/{clip.clip_id}/{action}", json={"account_id": "ann"})
        assert is_problem(response, 404)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/v1/clips/{clip_id_for('nobody')}", 404),
        ("/v1/clips/not-a-uuid", 422),
        ("/v1/shares/unknown", 404),
        ("/v1/shares/%00", 404),
        ("/v1/shares/%ff", 404),
        (f"/v1/shares/{'x' * 5000}", 404),
        ("/v1/accounts/no%20account/clips", 422),
        ("/v1/accounts/ann/clips?limit=0", 422),
        ("/v1/accounts/ann/clips?order=random", 422),
        ("/v1/accounts/ann/clips?kind=lost", 422),
        ("/v1/accounts/ann/clips?vod=not%20one", 422),
        ("/v1/accounts/ann/clips?title=", 422),
        ("/v1/accounts/ann/clips?title=%00", 422),
        (f"/v1/accounts/ann/clips?title={'x' * 201}", 422),
        ("/v1/accounts/ann/vods/nothing", 404),
        ("/v1/accounts/ann/vods/not%20one", 422),
        ("/v1/accounts/ann/feed", 404),
        ("/v1/feeds/unknown", 404),
        ("/v1/feeds/%00", 404),
        ("/v1/accounts/ann/clips?limit=201", 422),
        ("/v1/accounts/ann/clips?status=lost", 422),
        ("/v1/accounts/ann/clips?status=purged", 422),
        ("/v1/accounts/ann/clips?cursor=%21", 422),
        ("/v1/accounts/ann/clips?cursor=YWJj", 422),
        ("/v1/accounts/ann/clips?cursor=bmV3ZXN0IDIwMjYtMDEtMDEgMQ", 422),
        ("/v1/accounts/ann/clips?cursor=%C3%A9", 422),
    ],
)
async def test_what_cannot_be_answered_is_a_problem(
    client: httpx.AsyncClient, path: str, status: int
) -> None:
    assert is_problem(await client.get(path), status)


async def is_answered(client: httpx.AsyncClient, cursor: str) -> bool:
    response = await client.get("/v1/accounts/ann/clips", params={"cursor": cursor})
    return response.status_code == 200 or is_problem(response, 422)


def crafted(moment: str, clip_id: str) -> str:
    return urlsafe_b64encode(f"newest {moment} {clip_id}".encode(errors="replace")).decode()


MOMENTS = st.one_of(
    st.datetimes(timezones=st.timezones()).map(datetime.isoformat),
    st.from_regex(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:00:00[+-][0-2][0-9]:[0-5][0-9]", fullmatch=True),
    st.text(),
)
CURSORS = st.one_of(
    st.text(max_size=200),
    st.builds(crafted, MOMENTS, st.one_of(st.uuids().map(str), st.text())).filter(
        lambda each: len(each) < 200
    ),
)


@given(cursor=CURSORS)
@example(cursor=crafted("0001-01-01T00:00:00+14:00", str(clip_id_for("x"))))
@example(cursor=crafted("9999-12-31T23:59:59-14:00", str(clip_id_for("x"))))
@example(cursor="\x00")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_cursor_is_an_outage(client: httpx.AsyncClient, cursor: str) -> None:
    assert await is_answered(client, cursor)


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (("GET", "/v1/shares/%00", None), 404),
        (("GET", "/v1/shares/a%00b", None), 404),
        (("GET", "/v1/shares/" + "a" * 65, None), 404),
        (("GET", "/v1/shares/%ED%A0%80", None), 404),
        (("GET", "/v1/clips/%00", None), 422),
        (("GET", "/v1/accounts/%00/clips", None), 422),
        (("GET", "/v1/accounts/%00/usage", None), 422),
        (("GET", "/v1/accounts/ann/clips?status=%00", None), 422),
        (("GET", "/v1/accounts/ann/clips?limit=%00", None), 422),
        (("POST", f"/v1/clips/{clip_id_for('hl-1')}/keep", {"account_id": "\x00"}), 422),
        (("POST", "/v1/objects/unknown", {"bucket": "clips", "keys": ["a\x00"]}), 422),
        (("POST", "/v1/objects/unknown", {"bucket": "clips", "keys": ["\ud800"]}), 422),
        (("POST", "/v1/expirations", {"cutoff": "0001-01-01T00:00:00+14:00"}), 422),
        (("POST", "/v1/expiry-notices", {"since": "0001-01-01T00:00:00+14:00"}), 422),
    ],
)
async def test_what_the_database_could_not_take_is_the_callers_fault(
    database: Database, registry: CollectorRegistry, call: Call, status: int
) -> None:
    method, path, body = call
    async with client_of(database.store(notice_days=1), registry) as client:
        content = json.dumps(body) if body else None
        response = await client.request(method, path, content=content)
    assert is_problem(response, status)


async def test_an_unkeep_at_a_full_cap_says_why_not(database: Database, registry: CollectorRegistry) -> None:
    store = database.store(cap=1)
    kept = await a_clip(store)
    await store.act(an_action(ClipAction.KEEP), kept.clip_id)
    await a_clip(store, "hl-2")
    async with client_of(store, registry) as client:
        refusal = await client.post(f"/v1/clips/{kept.clip_id}/unkeep", json={"account_id": "ann"})
        assert is_problem(refusal, 409)
        assert "1 unkept" in refusal.json()["detail"]
        assert (await client.get(f"/v1/clips/{kept.clip_id}")).json()["status"] == "kept"
    counted = registry.get_sample_value("clips_transitions_total", {"kind": "unkeep", "outcome": "full"})
    assert counted == 1


async def test_the_life_of_a_clip_over_http(
    client: httpx.AsyncClient, store: ClipStore, registry: CollectorRegistry
) -> None:
    clip = await a_clip(store)

    async def do(action: str, account: str = "ann") -> httpx.Response:
        return await client.post(f"/v1/clips/{clip.clip_id}/{action}", json={"account_id": account})

    assert is_problem(await do("keep", "bob"), 403)
    kept = await do("keep")
    assert (kept.status_code, kept.json()["status"], kept.json()["kept_by"]) == (200, "kept", "ann")
    again = await do("keep")
    assert (again.status_code, again.json()["version"]) == (200, kept.json()["version"])
    published = (await do("publish")).json()
    assert published["status"] == "published"
    shared = await client.get(f"/v1/shares/{published['share_slug']}")
    assert shared.json()["clip_id"] == str(clip.clip_id)
    refusal = await do("unkeep")
    assert is_problem(refusal, 409)
    assert refusal.json()["detail"] == "Cannot unkeep a clip that is published."
    assert (await do("unpublish")).json()["status"] == "kept"
    assert is_problem(await client.get(f"/v1/shares/{published['share_slug']}"), 410)
    assert (await do("unkeep")).json()["status"] == "available"
    counted = registry.get_sample_value("clips_transitions_total", {"kind": "keep", "outcome": "not_owner"})
    assert counted == 1


async def test_pages_follow_one_another_without_gap_or_repetition(
    client: httpx.AsyncClient, store: ClipStore
) -> None:
    for number in range(7):
        await a_clip(store, f"hl-{number}")
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query: dict[str, str | int] = {"limit": 3, **({"cursor": cursor} if cursor else {})}
        page = ClipPage.model_validate_json(
            (await client.get("/v1/accounts/ann/clips", params=query)).content
        )
        seen += [each.stream_highlight_id for each in page.items]
        cursor = page.next_cursor
    assert seen == [f"hl-{number}" for number in reversed(range(7))]


async def test_a_list_can_be_narrowed_by_status(client: httpx.AsyncClient, store: ClipStore) -> None:
    clips = [await a_clip(store, f"hl-{number}") for number in range(3)]
    await client.post(f"/v1/clips/{clips[0].clip_id}/keep", json={"account_id": "ann"})
    await client.post(f"/v1/clips/{clips[1].clip_id}/publish", json={"account_id": "ann"})
    response = await client.get("/v1/accounts/ann/clips?status=kept&status=published")
    assert [each["status"] for each in response.json()["items"]] == ["published", "kept"]
    usage = (await client.get("/v1/accounts/ann/usage")).json()
    assert usage["by_status"] == {
        "available": {"clips": 1, "bytes": 1000},
        "kept": {"clips": 1, "bytes": 1000},
        "published": {"clips": 1, "bytes": 1000},
        "deleted": {"clips": 0, "bytes": 0},
    }
    assert usage["clip_limit"] is None
    assert [each["clip_id"] for each in usage["next_to_expire"]] == [str(clips[2].clip_id)]


async def test_a_list_in_every_order_and_narrowed(client: httpx.AsyncClient, store: ClipStore) -> None:
    await a_clip(store, "short", duration_seconds=1.5, kind="refined", title="Ein Wurf")
    await a_clip(store, "long", duration_seconds=90.0, score=0.9, source_vod_id="vod-2")

    async def listed(query: str) -> list[str]:
        items = (await client.get(f"/v1/accounts/ann/clips?{query}")).json()["items"]
        return [each["stream_highlight_id"] for each in items]

    assert await listed("") == ["long", "short"]
    for order in ("newest", "longest", "best"):
        assert await listed(f"order={order}") == ["long", "short"]
    for order in ("oldest", "shortest", "expiring"):
        assert await listed(f"order={order}") == ["short", "long"]
    assert await listed("kind=refined") == ["short"]
    assert await listed("kind=refined&kind=heuristic&vod=vod-2") == ["long"]
    assert await listed("title=WURF") == ["short"]
    assert await listed("title=%25") == []


async def test_a_cursor_goes_with_its_order(client: httpx.AsyncClient, store: ClipStore) -> None:
    for number in range(3):
        await a_clip(store, f"hl-{number}")
    page = (await client.get("/v1/accounts/ann/clips?order=longest&limit=2")).json()
    rest = await client.get(f"/v1/accounts/ann/clips?order=longest&cursor={page['next_cursor']}")
    assert (len(rest.json()["items"]), rest.json()["next_cursor"]) == (1, None)
    refused = await client.get(f"/v1/accounts/ann/clips?order=best&cursor={page['next_cursor']}")
    assert is_problem(refused, 422)


async def test_a_feed_over_http(client: httpx.AsyncClient, store: ClipStore) -> None:
    clip = await a_clip(store)
    await client.post(f"/v1/clips/{clip.clip_id}/publish", json={"account_id": "ann"})
    assert is_problem(await client.get("/v1/accounts/ann/feed"), 404)
    feed = (await client.put("/v1/accounts/ann/feed")).json()
    assert (await client.get("/v1/accounts/ann/feed")).json() == feed
    shown = (await client.get(f"/v1/feeds/{feed['slug']}")).json()
    assert [each["clip_id"] for each in shown["items"]] == [str(clip.clip_id)]
    off = await client.delete("/v1/accounts/ann/feed")
    assert (off.status_code, off.content) == (204, b"")
    assert is_problem(await client.get(f"/v1/feeds/{feed['slug']}"), 404)


async def test_a_vod_over_http(client: httpx.AsyncClient, store: ClipStore) -> None:
    await a_clip(store)
    await store.skips.record(a_skip("hl-2"))
    vod = (await client.get("/v1/accounts/ann/vods/vod-1")).json()
    assert (vod["summary"]["highlights"], vod["summary"]["clips"], vod["summary"]["skipped"]) == (2, 1, 1)
    assert [each["reason"] for each in vod["skips"]] == ["too_short"]
    assert (await client.get("/v1/accounts/ann/vods")).json()["items"] == [vod["summary"]]


async def test_expirations_go_on_from_the_first_answers_cutoff(
    client: httpx.AsyncClient, store: ClipStore, database: Database, registry: CollectorRegistry
) -> None:
    for number in range(3):
        await database.expire(await a_clip(store, f"hl-{number}"))
    first = ExpirationResult.model_validate_json(
        (await client.post("/v1/expirations", json={"limit": 2})).content
    )
    assert (first.expired, first.more) == (2, True)
    body = {"limit": 2, "cutoff": first.cutoff.isoformat()}
    second = ExpirationResult.model_validate_json((await client.post("/v1/expirations", json=body)).content)
    assert (second.expired, second.more, second.cutoff) == (1, False, first.cutoff)
    counted = registry.get_sample_value("clips_transitions_total", {"kind": "purge", "outcome": "done"})
    assert counted == 3


async def test_expiry_notices_are_counted(
    database: Database, store: ClipStore, registry: CollectorRegistry
) -> None:
    await database.expire(await a_clip(store), seconds_ago=-600)
    async with client_of(database.store(notice_days=1), registry) as client:
        answers = [(await client.post("/v1/expiry-notices", json={"limit": 5})).json() for _ in range(2)]
    assert [(each["notified"], each["more"]) for each in answers] == [(1, False), (0, False)]
    assert registry.get_sample_value("clips_expiry_notices_total") == 1


@pytest.mark.parametrize("path", ["/v1/expirations", "/v1/expiry-notices"])
@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", 1e300])
async def test_moments_that_no_clip_can_have(client: httpx.AsyncClient, path: str, moment: object) -> None:
    body = {"cutoff": moment, "since": moment}
    assert is_problem(await client.post(path, json=body), 422)


async def test_a_cutoff_in_the_future_is_cut_back(client: httpx.AsyncClient, store: ClipStore) -> None:
    await a_clip(store)
    later = (datetime.now(UTC) + 1000 * HOUR).isoformat()
    response = await client.post("/v1/expirations", json={"limit": 10, "cutoff": later})
    assert response.json()["expired"] == 0


async def test_unknown_objects_in_the_order_asked(
    client: httpx.AsyncClient, store: ClipStore, registry: CollectorRegistry
) -> None:
    clip = await a_clip(store)
    keys = ["z.mp4", clip.object_key, "a.mp4", clip.poster_key]
    response = await client.post("/v1/objects/unknown", json={"bucket": "clips", "keys": keys})
    assert response.json() == {"keys": ["z.mp4", "a.mp4"]}
    assert registry.get_sample_value("clips_objects_asked_total", {"answer": "unknown"}) == 2
    assert registry.get_sample_value("clips_objects_asked_total", {"answer": "owned"}) == 2


@pytest.mark.parametrize("call", CALLS)
async def test_without_the_database_every_call_is_a_503(
    database: Database, registry: CollectorRegistry, call: Call
) -> None:
    method, path, body = call
    nowhere = open_engine(
        "postgresql+asyncpg://clips@127.0.0.1:1/clips", pool_size=1, statement_timeout_seconds=1
    )
    async with client_of(
        ClipStore(nowhere, database.outbox, retention=HOUR, notice_days=1), registry
    ) as client:
        response = await client.request(method, path, json=body)
    await nowhere.dispose()
    assert is_problem(response, 503)
    assert response.headers["Retry-After"]
