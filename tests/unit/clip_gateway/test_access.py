"""Access: every route of the gateway, asked by its owner, by another account and by guests.

The routes are those of the applications themselves: a new one is in here by being there. One that everybody
may use has to be named below; all others must ask for a sign-in.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from urllib.parse import quote

import httpx
import jwt
import pytest
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount
from starlette.types import ASGIApp

from clip_gateway import api, asgi, pages, public
from clip_gateway.auth import TokenIssuer
from clip_gateway.parts import GatewayParts
from clip_gateway.presign import Presigner
from clip_shared.contracts.registry_api import ClipRecord, ClipStatus
from clip_shared.storage import s3_client
from tests.unit.clip_gateway import tokens
from tests.unit.clip_gateway.conftest import ADDRESSES
from tests.unit.clip_gateway.fakes import InMemoryRegistry, a_clip
from tests.unit.clip_gateway.parts import COOKIE, gateway_parts
from tests.unit.clip_gateway.tokens import AUDIENCE, ISSUER, SECRET, hs256

VOD, TITLE = "anns-vod", "A secret of Ann's"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}

# Everybody may use these, signed in or not; those of the application of published clips as well.
OPEN = {
    ("GET", "/sign-in"),
    ("POST", "/sign-in"),
    ("POST", "/sign-out"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
}

# What has to be said beside the path, where something has.
JSON_BODIES = {
    ("PATCH", "/v1/clips/{clip_id}"): {"title": "Another title"},
    ("POST", "/v1/clips/batch"): {"action": "keep", "ids": ["{clip_id}"]},
}
FORMS = {
    ("POST", "/clips/{clip_id}/rename"): {"title": "Another title"},
    ("POST", "/clips/batch"): {"action": "keep", "ids": "{clip_id}"},
    ("POST", "/feed"): {"feed": "off"},
}
# The status in which an action has something to do, by the end of its path.
BEFORE = {
    ("POST", "keep"): ClipStatus.AVAILABLE,
    ("DELETE", "keep"): ClipStatus.KEPT,
    ("POST", "unkeep"): ClipStatus.KEPT,
    ("POST", "batch"): ClipStatus.AVAILABLE,
    ("DELETE", "publish"): ClipStatus.PUBLISHED,
    ("POST", "unpublish"): ClipStatus.PUBLISHED,
    ("POST", "restore"): ClipStatus.DELETED,
}


@dataclass(frozen=True)
class Endpoint:
    """A method on a path of one of the applications."""

    app: str
    method: str
    path: str

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.path

    @property
    def is_open(self) -> bool:
        return self.app == "public" or self.key in OPEN

    @property
    def changes(self) -> bool:
        return self.method not in {"GET", "HEAD"}

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def _parts(registry: InMemoryRegistry) -> GatewayParts:
    """The parts of a gateway with all that development adds."""
    s3 = s3_client(
        endpoint="https://media.example", region="us-east-1", access_key="key", secret_key="secret"
    )
    return gateway_parts(
        registry,
        Presigner(s3, "clips", longest_seconds=900),
        ADDRESSES,
        is_development=True,
        token_issuer=TokenIssuer(secret=SECRET, issuer=ISSUER, audience=AUDIENCE),
    )


def _endpoints() -> Iterator[Endpoint]:
    parts = _parts(InMemoryRegistry())
    for name, app in {
        "api": api.create(parts),
        "public": public.create(parts),
        "pages": pages.create(parts),
    }.items():
        for route in iter_route_contexts(app.routes):
            if isinstance(route.original_route, Mount):
                assert route.path == "/static"
                continue
            assert route.path is not None
            path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
            methods = set(route.methods or ())
            yield from (Endpoint(name, method, path) for method in sorted(methods))
            if "GET" in methods:
                yield Endpoint(name, "HEAD", path)


ENDPOINTS = sorted(set(_endpoints()), key=str)
PRIVATE = [each for each in ENDPOINTS if not (each.is_open or replace(each, method="GET").is_open)]
WRITES = [each for each in PRIVATE if each.changes]


@dataclass
class Ann:
    """The owner's clip and registry."""

    registry: InMemoryRegistry
    clip: ClipRecord

    def state(self) -> str:
        return repr((self.registry.clips, self.registry.feeds, self.registry.dead_slugs))


@pytest.fixture(scope="module")
def shared_registry() -> InMemoryRegistry:
    return InMemoryRegistry()


@pytest.fixture(scope="module")
def whole_app(shared_registry: InMemoryRegistry) -> ASGIApp:
    return asgi.create(_parts(shared_registry))


@pytest.fixture
async def client(whole_app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(whole_app), base_url=ADDRESSES.public_url
    ) as client:
        yield client


@pytest.fixture
async def ann(shared_registry: InMemoryRegistry) -> AsyncIterator[Ann]:
    await shared_registry.open_feed("ann")
    yield Ann(shared_registry, shared_registry.put(a_clip("ann", title=TITLE, source_vod_id=VOD)))
    shared_registry.clips.clear()
    shared_registry.feeds.clear()
    shared_registry.dead_slugs.clear()


def prepare(ann: Ann, endpoint: Endpoint) -> None:
    """Bring Ann's clip into a status that the endpoint's action needs."""
    status = BEFORE.get((endpoint.method, endpoint.path.rpartition("/")[2]), ClipStatus.KEPT)
    clip = a_clip("ann", status=status, title=TITLE, source_vod_id=VOD, clip_id=ann.clip.clip_id)
    ann.clip = ann.registry.put(clip)


async def send(
    client: httpx.AsyncClient, ann: Ann, endpoint: Endpoint, headers: dict[str, str]
) -> httpx.Response:
    """Send a request for Ann's clip, with the body that the endpoint needs."""
    values = {"clip_id": str(ann.clip.clip_id), "vod_id": VOD}

    def filled(text: str) -> str:
        return text.replace("{clip_id}", values["clip_id"])

    body = JSON_BODIES.get(endpoint.key)
    form = FORMS.get(endpoint.key)
    return await client.request(
        endpoint.method,
        endpoint.path.format(**values),
        json=json.loads(filled(json.dumps(body))) if body else None,
        data={name: filled(value) for name, value in form.items()} if form else None,
        headers=headers,
    )


def tampered() -> str:
    """A token of another account, changed to name Ann."""
    header, _, signature = hs256(sub="bob").split(".")
    return ".".join([header, hs256(sub="ann").split(".")[1], signature])


BAD_TOKENS: dict[str, Callable[[], str]] = {
    "expired": lambda: hs256(exp=timedelta(hours=-1)),
    "wrong issuer": lambda: hs256(iss="https://evil.example"),
    "wrong audience": lambda: hs256(aud="other"),
    "wrong algorithm": lambda: jwt.encode(tokens.claims(), SECRET * 2, algorithm="HS512"),
    "another's algorithm": tokens.rs256,
    "no signature": tokens.unsigned,
    "another key": lambda: hs256(secret="another secret that is long enough"),
    "tampered": tampered,
    "no exp": lambda: hs256(exp=None),
    "no account": lambda: hs256(sub=None),
    "nonsense": lambda: "nonsense",
}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def cookie(token: str) -> dict[str, str]:
    return {"Cookie": f"{COOKIE}={token}", **OWN_PAGE}


def tells_nothing(answer: httpx.Response) -> bool:
    """Whether an answer reveals nothing of Ann's, except what the request contained."""
    told = answer.text + repr(answer.headers.multi_items())
    return not any(secret in told for secret in (TITLE, "secret", "anns-vod/", "hl-", "clips/ann/", "feed-"))


def test_all_routes_are_found() -> None:
    found = {str(each) for each in ENDPOINTS}
    assert {"GET /", "GET /v1/clips", "POST /v1/clips/{clip_id}/keep", "POST /clips/{clip_id}/keep"} <= found
    assert {"GET /s/{slug}", "POST /sign-out", "HEAD /v1/clips/{clip_id}/watch"} <= found
    assert {each for each in ENDPOINTS if each.app != "public" and each.is_open} >= {
        each for each in ENDPOINTS if each.key in OPEN
    }
    assert {each.key for each in ENDPOINTS} >= OPEN


@pytest.mark.parametrize("endpoint", PRIVATE, ids=str)
async def test_guests_and_bad_tokens_are_refused(
    client: httpx.AsyncClient, ann: Ann, endpoint: Endpoint
) -> None:
    prepare(ann, endpoint)
    before = ann.state()
    everybody = {"guest": {}, "guest of a page": OWN_PAGE, "Basic": {"Authorization": "Basic YW5uOmFubg=="}}
    for name, make in BAD_TOKENS.items():
        everybody |= {f"{name}, bearer": bearer(make()), f"{name}, cookie": cookie(make())}
    # A bad bearer token is not mended by a good cookie.
    everybody["bad bearer, good cookie"] = cookie(hs256()) | bearer(tampered())
    for name, headers in everybody.items():
        answer = await send(client, ann, endpoint, headers)
        if endpoint.app == "api":
            assert answer.status_code == 401, name
            assert answer.headers["www-authenticate"].startswith("Bearer"), name
            assert answer.headers["content-type"] == "application/problem+json", name
        elif endpoint.changes:
            assert answer.status_code == 401, name
        else:
            assert answer.status_code == 303, name
            asked = endpoint.path.format(clip_id=ann.clip.clip_id)
            assert answer.headers["location"] == f"{ADDRESSES.login_url}?next={quote(asked, safe='')}", name
        assert tells_nothing(answer), name
        assert answer.headers["cache-control"] == "no-store", name
        assert ann.state() == before, name


@pytest.mark.parametrize("carry", [bearer, cookie])
@pytest.mark.parametrize("endpoint", PRIVATE, ids=str)
async def test_the_owner_gets_an_answer(
    client: httpx.AsyncClient, ann: Ann, endpoint: Endpoint, carry: Callable[[str], dict[str, str]]
) -> None:
    prepare(ann, endpoint)
    before = ann.state()
    answer = await send(client, ann, endpoint, carry(hs256(sub="ann")))
    assert answer.status_code < 400, answer.text
    changed = ann.state() != before
    assert changed <= endpoint.changes, "a GET changes nothing"
    if endpoint.changes and endpoint.key != ("PUT", "/v1/feed"):
        assert changed


@pytest.mark.parametrize("carry", [bearer, cookie])
@pytest.mark.parametrize("endpoint", PRIVATE, ids=str)
async def test_another_account_is_refused(
    client: httpx.AsyncClient, ann: Ann, endpoint: Endpoint, carry: Callable[[str], dict[str, str]]
) -> None:
    prepare(ann, endpoint)
    before = ann.state()
    answer = await send(client, ann, endpoint, carry(hs256(sub="bob")))
    if "{clip_id}" in endpoint.path:
        assert answer.status_code == 403
    elif "{vod_id}" in endpoint.path:
        assert answer.status_code == 404
    assert answer.status_code < 500
    assert TITLE not in answer.text
    assert f"hl-{ann.clip.clip_id}" not in answer.text
    ann.registry.feeds.pop("bob", None)
    assert ann.state() == before


@pytest.mark.parametrize("endpoint", WRITES, ids=str)
async def test_another_site_cannot_have_a_browser_do_it(
    client: httpx.AsyncClient, ann: Ann, endpoint: Endpoint
) -> None:
    prepare(ann, endpoint)
    before = ann.state()
    session = {"Cookie": f"{COOKIE}={hs256(sub='ann')}"}
    for proof in (
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": ADDRESSES.origin.replace("http:", "https:")},  # of the same host
    ):
        answer = await send(client, ann, endpoint, session | proof)
        assert answer.status_code == 403, proof
        assert ann.state() == before, proof
    # A bearer token is not sent by a browser on its own.
    answer = await send(client, ann, endpoint, bearer(hs256(sub="ann")) | {"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code < 400


@pytest.mark.parametrize("endpoint", [each for each in ENDPOINTS if each.app == "public"], ids=str)
async def test_public_answers_do_not_depend_on_the_sign_in(
    client: httpx.AsyncClient, ann: Ann, endpoint: Endpoint
) -> None:
    """The owner gets the same page: caches may give it to other visitors."""
    ann.clip = ann.registry.put(
        a_clip("ann", status=ClipStatus.PUBLISHED, title=TITLE, clip_id=ann.clip.clip_id)
    )
    values = {"slug": ann.clip.share_slug, "file": "1.mp4", "revision": "1", "extension": "mp4"}
    values["feed"] = next(iter(ann.registry.feeds.values())).slug
    path = endpoint.path.format(**values)
    before = ann.state()
    guest = await client.request(endpoint.method, path)
    assert guest.status_code < 500
    for headers in (cookie(hs256(sub="ann")), bearer(hs256(sub="bob")), bearer(tampered())):
        answer = await client.request(endpoint.method, path, headers=headers)
        assert answer.status_code == guest.status_code
        assert _without_signature(answer.text) == _without_signature(guest.text)
        assert "set-cookie" not in answer.headers
    assert f"hl-{ann.clip.clip_id}" not in guest.text
    assert ann.state() == before


def _without_signature(text: str) -> str:
    return re.sub(r"X-Amz-[A-Za-z]+=[^&\"]*", "", text)
