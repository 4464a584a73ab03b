"""Sign-in with keys from a server over HTTP, as a service of its own would have them."""

import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from clip_gateway.auth import TokenVerifier
from clip_gateway.domain import Refused
from clip_gateway.jwks import Jwks
from clip_shared.errors import TransientError
from tests.integration.clip_gateway.conftest import serving
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


def verifier_of(http: httpx.AsyncClient, url: str) -> TokenVerifier:
    return TokenVerifier(algorithm="RS256", issuer=ISSUER, audience=AUDIENCE, key_for=Jwks(http, url).key_for)


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
