"""Whose token it is, and whether a browser's request was meant."""

import base64
from datetime import timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwt import PyJWK

from clip_gateway.auth import LONGEST_TOKEN, TokenVerifier, from_same_origin
from clip_gateway.domain import Refusal, Refused
from tests.unit.clip_gateway import tokens
from tests.unit.clip_gateway.tokens import AUDIENCE, ISSUER, KEY, OTHER_KEY, SECRET, hs256, rs256


async def the_secret(_kid: str | None) -> str:
    return SECRET


async def the_public_key(kid: str | None) -> PyJWK:
    if kid != "key-1":
        raise Refused(Refusal.INVALID_TOKEN)
    return PyJWK(tokens.jwks(key_1=KEY)["keys"][0])


HS = TokenVerifier(algorithm="HS256", issuer=ISSUER, audience=AUDIENCE, key_for=the_secret)
RS = TokenVerifier(algorithm="RS256", issuer=ISSUER, audience=AUDIENCE, key_for=the_public_key)


async def refusal(verifier: TokenVerifier, token: str) -> Refusal:
    with pytest.raises(Refused) as refused:
        await verifier.account_of(token)
    return refused.value.reason


@pytest.mark.parametrize(("verifier", "sign"), [(HS, hs256), (RS, rs256)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aud": ["other", AUDIENCE]},
        {"exp": timedelta(seconds=-2)},  # within the leeway
        {"iat": timedelta(), "nbf": timedelta(seconds=2), "scope": "whatever"},
        {"iat": timedelta(seconds=30), "nbf": timedelta(seconds=30)},  # the issuer's clock is ahead
    ],
)
async def test_good_tokens(verifier: TokenVerifier, sign: Any, changes: dict[str, Any]) -> None:
    assert await verifier.account_of(sign(**changes)) == "ann"


@pytest.mark.parametrize(("verifier", "sign"), [(HS, hs256), (RS, rs256)])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": timedelta(hours=-1)}, Refusal.EXPIRED_TOKEN),
        *(({name: None}, Refusal.INVALID_TOKEN) for name in ("exp", "iss", "aud", "sub")),
        ({"exp": "soon"}, Refusal.INVALID_TOKEN),
        ({"nbf": timedelta(hours=1)}, Refusal.INVALID_TOKEN),
        ({"iat": timedelta(minutes=2)}, Refusal.INVALID_TOKEN),
        ({"iss": "https://evil.example"}, Refusal.INVALID_TOKEN),
        ({"iss": ISSUER + "/"}, Refusal.INVALID_TOKEN),
        ({"aud": "other"}, Refusal.INVALID_TOKEN),
        ({"aud": []}, Refusal.INVALID_TOKEN),
        ({"sub": ""}, Refusal.INVALID_TOKEN),
        ({"sub": "ann/../bob"}, Refusal.INVALID_TOKEN),
        ({"sub": "ann\n"}, Refusal.INVALID_TOKEN),
        ({"sub": "a" * 65}, Refusal.INVALID_TOKEN),
    ],
)
async def test_claims_that_are_missing_or_wrong(
    verifier: TokenVerifier, sign: Any, changes: dict[str, Any], reason: Refusal
) -> None:
    assert await refusal(verifier, sign(**changes)) is reason


@pytest.mark.parametrize(
    ("verifier", "token"),
    [
        (HS, tokens.unsigned()),
        (RS, tokens.unsigned()),
        (RS, tokens.hmac_with_public_key()),
        (RS, hs256()),
        (HS, rs256()),
        (HS, hs256(secret="another secret that is long enough")),
        (RS, rs256(OTHER_KEY)),
        (RS, rs256(kid=None)),
        (RS, rs256(kid="key-2")),
        (HS, jwt.encode(tokens.claims(), SECRET * 2, algorithm="HS512")),
        (RS, jwt.encode(tokens.claims(), KEY, algorithm="RS512", headers={"kid": "key-1"})),
        (RS, jwt.encode(tokens.claims(), KEY, algorithm="PS256", headers={"kid": "key-1"})),
        (HS, jwt.encode(tokens.claims(), SECRET, algorithm="HS256", headers={"crit": ["new"], "new": 1})),
        (HS, hs256()[:-2]),
        (HS, hs256() + "." + hs256()),
        (HS, "é.ü.ö"),
        (HS, base64.urlsafe_b64encode(b"[" * 5000).decode() + ".e30.e30"),
        (HS, hs256(padding="x" * LONGEST_TOKEN)),
    ],
)
async def test_forgeries(verifier: TokenVerifier, token: str) -> None:
    assert await refusal(verifier, token) is Refusal.INVALID_TOKEN


async def test_no_key_is_looked_up_for_a_token_of_another_algorithm() -> None:
    async def explode(_kid: str | None) -> str:
        raise AssertionError("looked up")

    verifier = TokenVerifier(algorithm="RS256", issuer=ISSUER, audience=AUDIENCE, key_for=explode)
    assert await refusal(verifier, hs256()) is Refusal.INVALID_TOKEN


@given(st.one_of(st.text(max_size=60), st.from_regex(r"[\w=-]{0,30}\.[\w=-]{0,30}\.[\w=-]{0,30}")))
async def test_rubbish_is_refused_and_nothing_else(token: str) -> None:
    assert await refusal(HS, token) is Refusal.INVALID_TOKEN


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "https://public.example", "host": "inside:8080"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "https://clips.example", "host": "clips.example"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "https://clips.example", "host": "clips.example"}, True),
        ({"origin": "http://Clips.example:8080", "host": "clips.example:8080"}, True),
        ({"origin": "http://clips.example:8080", "host": "clips.example"}, False),
        ({"origin": "https://clips.example.evil.example", "host": "clips.example"}, False),
        ({"origin": "https://evil.example", "host": "clips.example"}, False),
        ({"origin": "null", "host": "clips.example"}, False),
        ({"origin": "http://[", "host": "clips.example"}, False),
        ({"host": "clips.example"}, False),
        ({"origin": "https://", "host": ""}, False),
        ({}, False),
    ],
)
def test_same_origin(headers: dict[str, str], *, same: bool) -> None:
    assert from_same_origin(headers) is same
