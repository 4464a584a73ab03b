"""The gateway as a whole, on a registry in memory."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from clip_gateway import api
from clip_gateway.auth import SignIn, TokenVerifier
from clip_gateway.metrics import Metrics
from clip_gateway.presign import Presigner
from clip_shared.storage import s3_client
from tests.unit.clip_gateway.fakes import FakeRegistry
from tests.unit.clip_gateway.tokens import AUDIENCE, ISSUER, SECRET

COOKIE = "clips_session"


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def prometheus() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture(scope="session")
def presigner() -> Presigner:
    client = s3_client(
        endpoint="https://media.example", region="us-east-1", access_key="key", secret_key="secret"
    )
    return Presigner(client, "clips", longest_seconds=900)


@pytest.fixture
def app(registry: FakeRegistry, presigner: Presigner, prometheus: CollectorRegistry) -> FastAPI:
    async def secret(_kid: str | None) -> str:
        return SECRET

    metrics = Metrics(prometheus)
    verifier = TokenVerifier(algorithm="HS256", issuer=ISSUER, audience=AUDIENCE, key_for=secret)
    return api.create(registry, presigner, SignIn(verifier, COOKIE), metrics)


@pytest.fixture
async def guest(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client without any sign-in."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://clips.example"
    ) as client:
        yield client
