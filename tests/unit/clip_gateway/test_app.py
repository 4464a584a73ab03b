"""The gateway, built from settings."""

import httpx
import pytest
from fastapi import FastAPI

from clip_gateway.app import build
from clip_gateway.settings import GatewaySettings
from tests.unit.clip_gateway.tokens import AUDIENCE, ISSUER, SECRET, hs256, rs256

# Nothing listens on port 1: every connection is refused at once.
NOWHERE = "http://127.0.0.1:1"


def settings(monkeypatch: pytest.MonkeyPatch, **changes: str) -> GatewaySettings:
    environment = {
        "FREE_STORAGE_ENDPOINT": "http://s3:8333",
        "FREE_STORAGE_BUCKET": "clips",
        "FREE_STORAGE_ACCESS_KEY": "key",
        "FREE_STORAGE_SECRET_KEY": "secret",
        "PUBLIC_URL": "http://clips.example",
        "REGISTRY_URL": NOWHERE,
        "REGISTRY_TOKEN": "0123456789abcdef",
        "JWT_ALGORITHM": "HS256",
        "JWT_SECRET": SECRET,
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        **changes,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return GatewaySettings()


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """A client of both ports: http://clips.example is the public one, http://operations the other."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app.state.api),
        mounts={"all://operations": httpx.ASGITransport(app)},
        base_url="http://clips.example",
    )


async def test_without_a_registry_it_lives_is_not_ready_and_says_503(monkeypatch: pytest.MonkeyPatch) -> None:
    app = build(settings(monkeypatch))
    async with app.router.lifespan_context(app), client_of(app) as client:
        assert (await client.get("http://operations/healthz/live")).status_code == 200
        assert (await client.get("http://operations/healthz/ready")).status_code == 503
        signed_in = {"Authorization": f"Bearer {hs256()}"}
        answer = await client.get("/v1/clips", headers=signed_in)
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        figures = (await client.get("http://operations/metrics")).text
        assert "clips_gateway_request_seconds_count" in figures


@pytest.mark.parametrize("path", ["/metrics", "/healthz/live", "/healthz/ready", "/openapi.json", "/docs"])
async def test_the_public_sees_nothing_of_operations(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    async with client_of(build(settings(monkeypatch))) as client:
        assert (await client.get(path)).status_code == 404


async def test_a_slash_too_many_is_no_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    # Behind a proxy that speaks TLS it would lead to plain HTTP.
    async with client_of(build(settings(monkeypatch))) as client:
        assert (await client.get("/v1/clips/")).status_code == 404


async def test_without_keys_a_token_is_answered_503(monkeypatch: pytest.MonkeyPatch) -> None:
    app = build(settings(monkeypatch, JWT_ALGORITHM="RS256", JWT_JWKS_URL=f"{NOWHERE}/keys"))
    async with client_of(app) as client:
        # A token of another algorithm is refused without asking for keys; one of ours waits for them.
        codes = [
            (await client.get("/v1/clips", headers={"Authorization": f"Bearer {token}"})).status_code
            for token in (hs256(), rs256())
        ]
    assert codes == [401, 503]


async def test_developers_see_the_api_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    async with client_of(build(settings(monkeypatch, ENVIRONMENT="development"))) as client:
        document = await client.get("/openapi.json")
        page = await client.get("/docs")
    assert document.json()["openapi"].startswith("3.1")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert all(path in page.text for path in document.json()["paths"])
