"""Sign-in with keys from a key server over HTTP."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from clip_gateway import jwks
from clip_gateway.app import build
from clip_gateway.auth import TokenVerifier
from clip_gateway.domain import Refused
from clip_gateway.jwks import Jwks
from clip_shared.errors import TransientError
from tests.integration.clip_gateway.conftest import gateway_settings, serving
from tests.unit.clip_gateway import tokens
from tests.unit.clip_gateway.tokens import AUDIENCE, ISSUER, KEY, OTHER_KEY, rs256


@pytest.fixture
async def keys_url() -> AsyncIterator[str]:
    app = FastAPI()

    @app.get("/keys")
    def keys() -> dict[str, Any]:
        return tokens.jwks(key_1=KEY)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with serving(app, listener):
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/keys"


class HangingKeyServer:
    """A server of keys that can be made to hang, with its connections open."""

    def __init__(self) -> None:
        self.hangs = False
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        if not self.hangs:
            body = json.dumps(tokens.jwks(key_1=KEY)).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await reader.read()
        writer.close()


@pytest.fixture
async def keys() -> AsyncIterator[tuple[HangingKeyServer, str]]:
    keys = HangingKeyServer()
    server = await asyncio.start_server(keys.serve, "127.0.0.1", 0)
    async with server:
        yield keys, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"


async def test_requests_do_not_wait_for_a_key_server_that_hangs(
    keys: tuple[HangingKeyServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = keys
    for name, seconds in (("REFRESH", 0.3), ("COOLDOWN", 0.5), ("FETCH_TIMEOUT", 1)):
        monkeypatch.setattr(jwks, f"{name}_SECONDS", seconds)
    app = build(gateway_settings(jwt_algorithm="RS256", jwt_jwks_url=url))
    api = httpx.AsyncClient(transport=httpx.ASGITransport(app.state.api), base_url="http://clips.example")

    async def ask(kid: str) -> tuple[int, float]:
        """Return the status (422: signed in, with an invalid query) and the seconds it took."""
        began = time.monotonic()
        headers = {"Authorization": f"Bearer {rs256(kid=kid)}"}
        answer = await api.get("/v1/clips?limit=0", headers=headers)
        return answer.status_code, time.monotonic() - began

    async with app.router.lifespan_context(app), api:
        while not server.requests:
            await asyncio.sleep(0.01)
        assert (await ask("key-1"))[0] == 422
        server.hangs, seen = True, server.requests
        longest = 0.0
        while server.requests < seen + 2:
            status, seconds = await ask("key-1")
            assert status == 422
            longest = max(longest, seconds)
            await asyncio.sleep(0.02)
        assert longest < 0.7
        # A key that may be new waits, but within bounds.
        answers = await asyncio.gather(*(ask(f"key-{number}") for number in range(2, 20)))
        assert {status for status, _ in answers} == {503}
        assert max(seconds for _, seconds in answers) < 5
        server.hangs = False
        while (await ask("key-2"))[0] != 401:
            await asyncio.sleep(0.05)


def verifier_of(http: httpx.AsyncClient, url: str) -> TokenVerifier:
    return TokenVerifier(
        algorithm="RS256", issuer=ISSUER, audience=AUDIENCE, key_for=Jwks(http, url, "RS256").key_for
    )


async def test_tokens_of_the_served_key_are_good_and_no_others(keys_url: str) -> None:
    async with httpx.AsyncClient() as http:
        verifier = verifier_of(http, keys_url)
        assert await verifier.account_of(rs256()) == "ann"
        for forged in (
            rs256(OTHER_KEY),
            rs256(kid="key-2"),
            tokens.hmac_with_public_key(),
            tokens.unsigned(),
        ):
            with pytest.raises(Refused):
                await verifier.account_of(forged)


async def test_a_server_that_is_away_or_elsewhere_is_an_outage(keys_url: str) -> None:
    async with httpx.AsyncClient() as http:
        for url in ("http://127.0.0.1:1/keys", keys_url + "-not"):
            with pytest.raises(TransientError):
                await verifier_of(http, url).account_of(rs256())
