"""The whole gateway, on a registry in memory."""

from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from clip_gateway import asgi
from clip_gateway.addresses import PublicAddresses
from clip_gateway.metrics import GatewayMetrics
from clip_gateway.parts import GatewayParts
from clip_gateway.presign import Presigner
from clip_shared.storage import s3_client
from tests.unit.clip_gateway.fakes import InMemoryRegistry
from tests.unit.clip_gateway.parts import gateway_parts

ADDRESSES = PublicAddresses(
    public_url="http://clips.example",
    media_origin="https://media.example:443",
    login_url="https://sign-in.example/",
    embed_origins=("https://friends.example",),
)


@pytest.fixture
def registry() -> InMemoryRegistry:
    return InMemoryRegistry()


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
def parts(registry: InMemoryRegistry, presigner: Presigner, prometheus: CollectorRegistry) -> GatewayParts:
    return gateway_parts(registry, presigner, ADDRESSES, metrics=GatewayMetrics(prometheus))


@pytest.fixture
def app(parts: GatewayParts) -> ASGIApp:
    return asgi.create(parts)


@pytest.fixture
async def guest(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client without any sign-in."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://clips.example"
    ) as client:
        yield client
