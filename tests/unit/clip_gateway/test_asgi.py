"""The middleware of every request at the public port."""

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from clip_gateway import asgi
from clip_gateway.auth import TokenIssuer
from clip_gateway.body_limit import LARGEST_BODY_BYTES, BodyLimit
from clip_gateway.parts import GatewayParts
from clip_gateway.rate_limits import RateLimits
from clip_gateway.security_headers import SecurityHeaders
from clip_shared.http.api import create_api
from tests.unit.clip_gateway.conftest import ADDRESSES
from tests.unit.clip_gateway.tokens import AUDIENCE, ISSUER, SECRET

JSON = {"Content-Type": "application/json"}


def client_of(app: ASGIApp, address: str = "192.0.2.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, client=(address, 1234))
    return httpx.AsyncClient(transport=transport, base_url=ADDRESSES.public_url)


class TestHeaders:
    @pytest.mark.parametrize("path", ["/", "/v1/clips", "/static/clips.css", "/s/unknown", "/nowhere"])
    async def test_every_answer_has_the_headers(self, guest: httpx.AsyncClient, path: str) -> None:
        headers = (await guest.get(path)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        # With no-referrer, browsers send the forms of our own pages with "Origin: null".
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "strict-transport-security" not in headers
        assert "server" not in headers

    async def test_other_sites_may_show_the_media_of_published_clips(self, guest: httpx.AsyncClient) -> None:
        answer = await guest.get("/m/slug/1.jpg")
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"

    async def test_over_tls_browsers_stay_with_it(self, parts: GatewayParts) -> None:
        public_addresses = replace(ADDRESSES, public_url="https://clips.example")
        async with client_of(asgi.create(replace(parts, addresses=public_addresses))) as client:
            assert (await client.get("/v1/clips")).headers["strict-transport-security"] == "max-age=31536000"

    async def test_a_route_may_set_its_own_framing(self) -> None:
        async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
            headers = [(b"content-security-policy", b"frame-ancestors https://friends.example")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

        async with client_of(SecurityHeaders(answer, ADDRESSES)) as client:
            headers = (await client.get("/framed")).headers
        assert headers.get_list("content-security-policy") == ["frame-ancestors https://friends.example"]
        assert "x-frame-options" not in headers

    @pytest.mark.parametrize(
        ("logout_url", "targets"),
        [
            (None, "form-action 'self';"),
            ("/bye", "form-action 'self';"),
            ("https://sign-in.example/bye?now", "form-action 'self' https://sign-in.example;"),
        ],
    )
    async def test_forms_may_lead_where_sign_out_leads(
        self, parts: GatewayParts, logout_url: str | None, targets: str
    ) -> None:
        public_addresses = replace(ADDRESSES, logout_url=logout_url)
        async with client_of(asgi.create(replace(parts, addresses=public_addresses))) as client:
            assert targets in (await client.get("/")).headers["content-security-policy"] + ";"


class TestBodies:
    @pytest.fixture
    async def echo(self) -> AsyncIterator[httpx.AsyncClient]:
        app = create_api("echo")

        @app.post("/bytes")
        async def length(request: Request) -> int:
            return len(await request.body())

        @app.post("/json")
        async def parsed(content: list[str]) -> int:
            return len(content)

        @app.post("/unread")
        async def unread() -> int:
            return 0

        async with client_of(BodyLimit(app)) as client:
            yield client

    @pytest.mark.parametrize("path", ["/bytes", "/json"])
    async def test_the_largest_is_read_and_one_byte_more_is_not(
        self, echo: httpx.AsyncClient, path: str
    ) -> None:
        def body(size: int) -> bytes:
            return b'["' + b"x" * (size - 4) + b'"]'

        async def status(size: int) -> int:
            return (await echo.post(path, content=body(size), headers=JSON)).status_code

        assert await status(LARGEST_BODY_BYTES) == 200
        assert await status(LARGEST_BODY_BYTES + 1) == 413

    @pytest.mark.parametrize("path", ["/bytes", "/json"])
    async def test_a_chunked_body_is_counted(self, echo: httpx.AsyncClient, path: str) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" " * 1024

        assert (await echo.post(path, content=chunks(), headers=JSON)).status_code == 413

    @pytest.mark.parametrize("length", ["99999999999999999999", "-1", "ten", "²"])
    async def test_a_wrong_content_length_changes_nothing(self, echo: httpx.AsyncClient, length: str) -> None:
        answer = await echo.post(
            "/bytes", content=b"x" * 10, headers={b"content-length": length.encode("latin-1")}
        )
        assert answer.status_code == (413 if length.startswith("9") else 200)

    async def test_a_body_that_is_not_read_is_not_limited(self, echo: httpx.AsyncClient) -> None:
        assert (await echo.post("/unread", content=b"x" * 2**20)).status_code == 200

    async def test_the_application_answers_in_its_own_way(self, parts: GatewayParts) -> None:
        issuer = TokenIssuer(secret=SECRET, issuer=ISSUER, audience=AUDIENCE)
        own_page = {"Sec-Fetch-Site": "same-origin"}
        async with client_of(asgi.create(replace(parts, token_issuer=issuer))) as client:
            form = {"account": "ann", "next": "x" * LARGEST_BODY_BYTES}
            page = await client.post("/sign-in", data=form, headers=own_page)
        assert page.status_code == 413
        assert page.headers["content-type"].startswith("text/html")
        assert "set-cookie" not in page.headers


class TestAddresses:
    """X-Forwarded-For is believed from trusted proxies, up to the first address that is not trusted."""

    async def counted_as_one(
        self, parts: GatewayParts, proxies: tuple[str, ...], *visitors: tuple[str, str | None]
    ) -> bool:
        """Whether visitors (the peer, and what it forwards) share the limit of one address."""
        limits = RateLimits(presigns_per_minute=1, visits_per_minute=len(visitors) - 1)
        app = asgi.create(replace(parts, trusted_proxies=proxies, limits=limits))
        statuses = []
        for peer, forwarded in visitors:
            headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
            async with client_of(app, peer) as client:
                answer = await client.get("/s/unknown", headers=headers)
            statuses.append(answer.status_code)
        assert set(statuses) <= {404, 429}
        assert (statuses[-1] == 429) == ("retry-after" in answer.headers)
        return statuses[-1] == 429

    @pytest.mark.parametrize("peer", ["127.0.0.1", "10.0.0.1", "::1"])
    async def test_without_trusted_proxies_the_header_is_ignored(
        self, parts: GatewayParts, peer: str
    ) -> None:
        assert await self.counted_as_one(parts, (), (peer, "203.0.113.1"), (peer, "203.0.113.2"))

    @pytest.mark.parametrize(
        ("visitor", "other", "same"),
        [
            # A stranger's word counts nothing.
            (("203.0.113.9", "198.51.100.1"), ("203.0.113.9", "198.51.100.2"), True),
            (("10.1.2.3", "198.51.100.1"), ("10.1.2.3", "198.51.100.2"), False),
            (("10.1.2.3", "198.51.100.1"), ("192.0.2.7", "198.51.100.1"), True),
            # What the visitor makes up stands before what the proxy adds.
            (("10.1.2.3", "1.1.1.1, 198.51.100.1"), ("10.1.2.3", "2.2.2.2, 198.51.100.1"), True),
            # Through two proxies.
            (("10.1.2.3", "198.51.100.1, 192.0.2.7, 10.9.9.9"), ("10.1.2.3", "198.51.100.1"), True),
            (("10.1.2.3", "2001:db8::1"), ("10.1.2.3", "2001:db8::2"), True),  # a household
            (("10.1.2.3", ""), ("10.1.2.3", None), True),
        ],
    )
    async def test_the_header_of_trusted_proxies_is_believed(
        self,
        parts: GatewayParts,
        visitor: tuple[str, str | None],
        other: tuple[str, str | None],
        *,
        same: bool,
    ) -> None:
        proxies = ("10.0.0.0/8", "192.0.2.7")
        assert await self.counted_as_one(parts, proxies, visitor, other) is same
