"""The sign-in page of development, and sign-out."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from http.cookies import Morsel, SimpleCookie

import httpx
import jwt
import pytest

from clip_gateway import asgi
from clip_gateway.auth import SessionCookie, SignIn, TokenIssuer, TokenVerifier
from clip_gateway.parts import GatewayParts
from tests.unit.clip_gateway.conftest import ADDRESSES
from tests.unit.clip_gateway.fakes import InMemoryRegistry, a_clip
from tests.unit.clip_gateway.parts import COOKIE
from tests.unit.clip_gateway.tokens import AUDIENCE, ISSUER, SECRET, hs256

OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
ISSUES = TokenIssuer(secret=SECRET, issuer=ISSUER, audience=AUDIENCE)


@pytest.fixture
def development(parts: GatewayParts) -> GatewayParts:
    public_addresses = replace(ADDRESSES, login_url="/sign-in")
    return replace(parts, addresses=public_addresses, token_issuer=ISSUES)


@pytest.fixture
async def browser(development: GatewayParts) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a jar of cookies, at a gateway in development."""
    transport = httpx.ASGITransport(asgi.create(development))
    async with httpx.AsyncClient(transport=transport, base_url=ADDRESSES.public_url) as client:
        yield client


def cookie_of(answer: httpx.Response) -> Morsel[str]:
    (header,) = answer.headers.get_list("set-cookie")
    ((_, morsel),) = SimpleCookie(header).items()
    return morsel


async def test_a_guest_signs_in_and_comes_back(
    browser: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    registry.put(a_clip("streamer-1", title="Mine alone"))
    sent = await browser.get("/?title=mine")
    assert sent.status_code == 303
    assert sent.headers["location"] == "/sign-in?next=%2F%3Ftitle%3Dmine"
    page = await browser.get(sent.headers["location"])
    assert page.status_code == 200
    assert 'name="next" value="/?title=mine"' in page.text
    form = {"account": " streamer-1 ", "next": "/?title=mine"}
    signed_in = await browser.post("/sign-in", data=form, headers=OWN_PAGE)
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/?title=mine")
    assert signed_in.headers["cache-control"] == "no-store"
    gallery = await browser.get("/?title=mine")
    assert gallery.status_code == 200
    assert "Mine alone" in gallery.text


async def test_the_cookie_is_for_this_host_and_out_of_reach_of_scripts(browser: httpx.AsyncClient) -> None:
    cookie = cookie_of(await browser.post("/sign-in", data={"account": "ann"}, headers=OWN_PAGE))
    assert cookie.key == COOKIE
    assert (cookie["httponly"], cookie["samesite"].lower(), cookie["path"]) == (True, "lax", "/")
    assert (cookie["domain"], cookie["secure"]) == ("", "")
    claims = jwt.decode(cookie.value, SECRET, algorithms=["HS256"], audience=AUDIENCE)
    assert claims["exp"] - time.time() == pytest.approx(int(cookie["max-age"]), abs=30)


async def test_over_tls_it_is_a_host_cookie(development: GatewayParts) -> None:
    async def secret(_kid: str | None) -> str:
        return SECRET

    verifier = TokenVerifier(algorithm="HS256", issuer=ISSUER, audience=AUDIENCE, key_for=secret)
    sign_in = SignIn(
        verifier, SessionCookie(name="__Host-clips_session", secure=True), "https://clips.example"
    )
    app = asgi.create(replace(development, sign_in=sign_in))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://clips.example") as client:
        for answer in (
            await client.post("/sign-in", data={"account": "ann"}, headers=OWN_PAGE),
            await client.post("/sign-out", headers=OWN_PAGE),
        ):
            cookie = cookie_of(answer)
            assert cookie.key == "__Host-clips_session"
            assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")
        # What another site of the domain, or plain HTTP, could have set counts nothing.
        headers = {"Cookie": f"clips_session={hs256()}"}
        assert (await client.get("/v1/clips", headers=headers)).status_code == 401


@pytest.mark.parametrize("account", ["", "two words", "a" * 65, "ann/../bob", "<script>", "é"])
async def test_an_invalid_account_name_is_refused(browser: httpx.AsyncClient, account: str) -> None:
    answer = await browser.post("/sign-in", data={"account": account, "next": "/x"}, headers=OWN_PAGE)
    assert answer.status_code == 422
    assert "set-cookie" not in answer.headers
    assert 'role="alert"' in answer.text
    assert 'name="next" value="/x"' in answer.text
    assert "<script>" not in answer.text.partition("</head>")[2].replace('<script type="module"', "")


@pytest.mark.parametrize(
    "lure", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:1"]
)
async def test_sign_in_redirects_only_to_own_paths(browser: httpx.AsyncClient, lure: str) -> None:
    page = await browser.get("/sign-in", params={"next": lure})
    assert 'name="next" value="/"' in page.text
    signed_in = await browser.post("/sign-in", data={"account": "ann", "next": lure}, headers=OWN_PAGE)
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/")


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://clips.example"},
    ],
)
async def test_other_sites_sign_nobody_in_or_out(
    browser: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    answer = await browser.post(path, data={"account": "mallory"}, headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
async def test_a_form_without_fetch_metadata_names_our_origin(browser: httpx.AsyncClient, path: str) -> None:
    answer = await browser.post(path, data={"account": "ann"}, headers={"Origin": ADDRESSES.origin})
    assert answer.status_code == 303


async def test_signing_out_removes_the_cookie(browser: httpx.AsyncClient) -> None:
    await browser.post("/sign-in", data={"account": "ann"}, headers=OWN_PAGE)
    assert (await browser.get("/")).status_code == 200
    signed_out = await browser.post("/sign-out", headers=OWN_PAGE)
    assert (signed_out.status_code, signed_out.headers["location"]) == (303, "/")
    assert (await browser.get("/")).status_code == 303


async def test_sign_out_redirects_to_the_logout_url(parts: GatewayParts) -> None:
    public_addresses = replace(ADDRESSES, logout_url="https://sign-in.example/bye")
    transport = httpx.ASGITransport(asgi.create(replace(parts, addresses=public_addresses)))
    async with httpx.AsyncClient(transport=transport, base_url=ADDRESSES.public_url) as client:
        signed_out = await client.post("/sign-out", headers=OWN_PAGE)
    assert signed_out.headers["location"] == "https://sign-in.example/bye"
    assert cookie_of(signed_out)["max-age"] == "0"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_in_production_there_is_no_sign_in_page(guest: httpx.AsyncClient, method: str) -> None:
    answer = await guest.request(method, "/sign-in", headers=OWN_PAGE)
    assert answer.status_code == 404


async def test_a_get_signs_nobody_out(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/sign-out")
    assert answer.status_code == 405
    assert "set-cookie" not in answer.headers
