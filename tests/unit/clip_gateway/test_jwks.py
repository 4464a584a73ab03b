"""The cache of sign-in keys: when it fetches, and how it behaves during an outage."""

import asyncio
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from clip_gateway import jwks
from clip_gateway.domain import Refusal, Refused
from clip_gateway.jwks import COOLDOWN_SECONDS, LONGEST_SECONDS, Jwks
from clip_shared.errors import TransientError
from clip_shared.refused_connections import Cause
from tests.unit.clip_gateway import tokens
from tests.unit.clip_gateway.tokens import EC_KEY, ED_KEY, KEY, OTHER_KEY, PrivateKey


class KeyServer:
    """A server of keys that counts its requests, and a clock that the test sets."""

    def __init__(self) -> None:
        self.answer: Any = tokens.jwks(key_1=KEY)
        self.requests = 0
        self.now = 1000.0
        self.use("RS256")

    def use(self, algorithm: str) -> None:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._serve))
        self.jwks = Jwks(http, "https://sign-in.example/keys", algorithm, clock=lambda: self.now)

    async def _serve(self, _request: httpx.Request) -> httpx.Response:
        self.requests += 1
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return (
            self.answer if isinstance(self.answer, httpx.Response) else httpx.Response(200, json=self.answer)
        )

    async def refuses(self, key_id: str | None) -> bool:
        try:
            await self.jwks.key_for(key_id)
        except Refused as refused:
            return refused.reason is Refusal.INVALID_TOKEN
        return False


@pytest.fixture
def server() -> KeyServer:
    return KeyServer()


async def test_a_key_is_fetched_once(server: KeyServer) -> None:
    keys = await asyncio.gather(*(server.jwks.key_for("key-1") for _ in range(50)))
    assert {key.key_id for key in keys} == {"key-1"}
    assert server.requests == 1


@pytest.mark.parametrize(
    ("answer", "causes"),
    [(httpx.Response(403), [Cause.CREDENTIALS]), (httpx.Response(500), []), (httpx.ConnectError("away"), [])],
)
async def test_failed_fetches_are_counted_and_keys_age(
    server: KeyServer, answer: Any, causes: list[Cause]
) -> None:
    failures: list[None] = []
    refused: list[Cause] = []
    http = httpx.AsyncClient(transport=httpx.MockTransport(server._serve))
    keys = Jwks(
        http,
        "https://sign-in.example/keys",
        "RS256",
        on_failed=lambda: failures.append(None),
        on_refused=refused.append,
        clock=lambda: server.now,
    )
    server.now += 7
    assert keys.age_seconds() == 7
    await keys.key_for("key-1")
    assert (keys.age_seconds(), failures) == (0, [])
    server.now += COOLDOWN_SECONDS
    server.answer = answer
    with pytest.raises((Refused, TransientError)):
        await keys.key_for("key-2")
    assert (keys.age_seconds(), len(failures), refused) == (COOLDOWN_SECONDS, 1, causes)


async def test_a_flood_of_unknown_keys_makes_one_request(server: KeyServer) -> None:
    answers = await asyncio.gather(*(server.refuses(f"key-{n}") for n in range(2, 500)), server.refuses(None))
    assert all(answers)
    assert server.requests == 1
    assert (await server.jwks.key_for("key-1")).key_id == "key-1"


async def test_a_new_key_is_known_after_the_cooldown(server: KeyServer) -> None:
    await server.jwks.key_for("key-1")
    server.answer = tokens.jwks(key_1=KEY, key_2=OTHER_KEY)
    assert await server.refuses("key-2")
    server.now += COOLDOWN_SECONDS
    assert (await server.jwks.key_for("key-2")).key_id == "key-2"


async def test_keys_are_fetched_again_and_a_withdrawn_one_is_forgotten(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.jwks.key_for("key-1")
    server.answer = tokens.jwks(key_2=OTHER_KEY)
    monkeypatch.setattr(jwks, "COOLDOWN_SECONDS", 0)
    monkeypatch.setattr(jwks, "REFRESH_SECONDS", 0)
    refreshing = asyncio.create_task(server.jwks.keep_fresh())
    while server.requests < 4:
        await asyncio.sleep(0)
    refreshing.cancel()
    assert await server.refuses("key-1")
    assert (await server.jwks.key_for("key-2")).key_id == "key-2"


async def test_readiness_reports_missing_keys(server: KeyServer) -> None:
    server.answer, good = httpx.ConnectError("refused"), server.answer
    with pytest.raises(TransientError):
        await server.jwks.key_for("key-1")
    with pytest.raises(TransientError, match="no keys of the sign-in service"):
        await server.jwks.check()
    server.answer = good
    server.now += COOLDOWN_SECONDS
    await server.jwks.key_for("key-1")
    assert await server.jwks.check() is None
    server.answer = httpx.ConnectError("refused")
    server.now += COOLDOWN_SECONDS
    with pytest.raises(TransientError):
        await server.jwks.key_for("key-2")
    assert "cannot be fetched again" in str(await server.jwks.check())


OUTAGES = [
    httpx.ConnectError("refused"),
    RecursionError("too deep"),
    httpx.ReadTimeout("slow"),
    httpx.Response(500),
    httpx.Response(200, text="<"),
]


@pytest.mark.parametrize("outage", OUTAGES)
async def test_an_outage_of_the_key_server_signs_no_user_out(server: KeyServer, outage: Any) -> None:
    await server.jwks.key_for("key-1")
    server.answer = outage
    server.now += LONGEST_SECONDS - COOLDOWN_SECONDS
    for _ in range(20):
        await server.jwks.key_for("key-1")
        with pytest.raises(TransientError):
            await server.jwks.key_for("key-2")
    assert server.requests == 2
    server.now += COOLDOWN_SECONDS
    with pytest.raises(TransientError):
        await server.jwks.key_for("key-1")
    server.answer = tokens.jwks(key_1=KEY)
    server.now += COOLDOWN_SECONDS
    await server.jwks.key_for("key-1")


@pytest.mark.parametrize("answer", [[], {}, {"keys": []}, {"keys": [{"kty": "EC"}]}, {"keys": "x"}, "x"])
async def test_an_answer_that_is_no_key_set_is_an_outage(server: KeyServer, answer: Any) -> None:
    server.answer = answer
    with pytest.raises(TransientError):
        await server.jwks.key_for("key-1")


async def test_a_server_that_trickles_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT_SECONDS", 0.01)
    http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _request: asyncio.sleep(60)))  # type: ignore[arg-type]  # never answers
    with pytest.raises(TransientError):
        await Jwks(http, "https://sign-in.example/keys", "RS256").key_for("key-1")


@pytest.mark.parametrize(("algorithm", "key"), [("RS256", KEY), ("ES256", EC_KEY), ("EdDSA", ED_KEY)])
async def test_only_signing_keys_of_the_algorithm_count(
    server: KeyServer, algorithm: str, key: PrivateKey
) -> None:
    (good,) = tokens.jwks(key_1=key)["keys"]
    others = [
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0LXRoYXQtZXZlcnlib2R5LWNhbi1yZWFk"},
        {**good, "kid": "encryption", "use": "enc"},
        {name: value for name, value in good.items() if name != "kid"},
        *tokens.jwks(p_384=ec.generate_private_key(ec.SECP384R1()))["keys"],
        *({**each, "kid": each["kty"]} for each in tokens.jwks(a=KEY, b=EC_KEY, c=ED_KEY)["keys"]),
        {**tokens.jwk(KEY), "kid": "rsa-pss", "alg": "PS256"},
        {**tokens.jwk(KEY), "kid": "private", "kty": "OKP", "crv": "X25519"},
        {"kid": "nonsense", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    ]
    server.answer = {"keys": [*others, good]}
    server.use(algorithm)
    assert (await server.jwks.key_for("key-1")).algorithm_name == algorithm
    known = {"secret", "encryption", "p-384", "RSA", "EC", "OKP", "rsa-pss", "private", "nonsense"}
    assert {kid for kid in known if not await server.refuses(kid)} == {good["kty"]}


async def test_a_key_set_of_another_algorithm_fails_readiness(server: KeyServer) -> None:
    server.answer = tokens.jwks(key_1=EC_KEY)
    with pytest.raises(TransientError):
        await server.jwks.key_for("key-1")
    with pytest.raises(TransientError, match="no key with an id for RS256"):
        await server.jwks.check()
