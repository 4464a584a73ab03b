"""Sign-in tokens, the session cookie, and requests that other sites forge."""

import base64
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from jwt import PyJWK

from clip_gateway.auth import LONGEST_TOKEN, TokenIssuer, TokenVerifier, is_from_own_page
from clip_gateway.domain import Refusal, Refused
from tests.unit.clip_gateway import tokens
from tests.unit.clip_gateway.tokens import (
    AUDIENCE,
    EC_KEY,
    ED_KEY,
    ISSUER,
    KEY,
    OTHER_KEY,
    SECRET,
    PrivateKey,
    eddsa,
    es256,
    hs256,
    rs256,
)


async def the_secret(_kid: str | None) -> str:
    return SECRET


def verifier_of(algorithm: str, key: PrivateKey) -> TokenVerifier:
    public = PyJWK(tokens.jwks(key_1=key)["keys"][0])

    async def key_for(kid: str | None) -> PyJWK:
        if kid != "key-1":
            raise Refused(Refusal.INVALID_TOKEN)
        return public

    return TokenVerifier(algorithm=algorithm, issuer=ISSUER, audience=AUDIENCE, key_for=key_for)


HS = TokenVerifier(algorithm="HS256", issuer=ISSUER, audience=AUDIENCE, key_for=the_secret)
RS = verifier_of("RS256", KEY)
ES = verifier_of("ES256", EC_KEY)
ED = verifier_of("EdDSA", ED_KEY)
ALGORITHMS: list[tuple[TokenVerifier, Callable[..., str]]] = [
    (HS, hs256),
    (RS, rs256),
    (ES, es256),
    (ED, eddsa),
]


async def refusal(verifier: TokenVerifier, token: str) -> Refusal:
    with pytest.raises(Refused) as refused:
        await verifier.account_of(token)
    return refused.value.reason


@pytest.mark.parametrize(("verifier", "sign"), ALGORITHMS)
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


@pytest.mark.parametrize(("verifier", "sign"), ALGORITHMS)
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
        *(
            (verifier, sign())
            for verifier, _ in ALGORITHMS
            for other, sign in ALGORITHMS
            if other is not verifier
        ),
        (ES, es256(ec.generate_private_key(ec.SECP256R1()))),
        (ED, eddsa(Ed25519PrivateKey.generate())),
        (ES, es256(kid=None)),
        (ED, eddsa(kid=None)),
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
async def test_text_that_is_not_a_token_is_refused(token: str) -> None:
    assert await refusal(HS, token) is Refusal.INVALID_TOKEN


async def test_the_account_may_stand_in_another_claim() -> None:
    verifier = TokenVerifier(
        algorithm="HS256", issuer=ISSUER, audience=AUDIENCE, key_for=the_secret, account_claim="twitch_id"
    )
    assert await verifier.account_of(hs256(sub="auth0|7", twitch_id="ann")) == "ann"
    for changes in ({}, {"twitch_id": "auth0|7"}, {"twitch_id": 7}, {"twitch_id": ["ann"]}):
        assert await refusal(verifier, hs256(**changes)) is Refusal.INVALID_TOKEN
    # What every token has to say, it still has to.
    assert await refusal(verifier, hs256(sub=None, twitch_id="ann")) is Refusal.INVALID_TOKEN


@pytest.mark.parametrize("claim", ["sub", "twitch_id"])
async def test_a_development_token_is_accepted(claim: str) -> None:
    verifier = TokenVerifier(
        algorithm="HS256", issuer=ISSUER, audience=AUDIENCE, key_for=the_secret, account_claim=claim
    )
    issuer = TokenIssuer(secret=SECRET, issuer=ISSUER, audience=AUDIENCE, account_claim=claim)
    assert await verifier.account_of(issuer.token_for("streamer-1")) == "streamer-1"
    for account in ("", "a b", "a" * 65, "../x"):
        with pytest.raises(ValueError, match="string"):
            issuer.token_for(account)


OURS = "https://clips.example"


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "null"}, True),
        ({"sec-fetch-site": "cross-site", "origin": OURS}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": ""}, False),
        ({"origin": OURS}, True),
        ({"origin": "https://Clips.example"}, True),
        (
            {"origin": "http://clips.example"},
            False,
        ),  # over plain HTTP another party can read and change the page
        ({"origin": "https://clips.example:8443"}, False),
        ({"origin": "https://clips.example.evil.example"}, False),
        ({"origin": "https://evil.example", "host": "clips.example"}, False),
        ({"origin": "https://evil.example", "host": "evil.example"}, False),
        ({"origin": "null", "host": "clips.example"}, False),
        ({"origin": "http://[", "host": "clips.example"}, False),
        ({"origin": ""}, False),
        ({"host": "clips.example"}, False),
        ({}, False),
    ],
)
def test_only_our_own_pages_count(headers: dict[str, str], *, same: bool) -> None:
    assert is_from_own_page(headers, OURS) is same
