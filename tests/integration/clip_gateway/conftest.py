"""The registry in two forms: the real one (API and database, without Kafka), and one in memory."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.async_api import Browser
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from starlette.types import ASGIApp

from clip_gateway.registry import GatewayRegistry, HttpGatewayRegistry
from clip_gateway.settings import GatewaySettings
from clip_registry.api import routes as api
from clip_registry.api.parts import RegistryParts
from clip_registry.api.routes import ApiClient
from clip_registry.clips.store import ClipStore
from clip_registry.database.engine import open_engine
from clip_registry.metrics import RegistryMetrics
from clip_registry.migrations.run import migrate
from clip_registry.reports import ReportedCut
from clip_shared.contracts.events import HighlightKind, PurgeReason, SkipReason
from clip_shared.contracts.registry_api import ClipStatus, SkippedHighlight
from clip_shared.contracts.registry_client import RegistryClient
from clip_shared.http.api import create_api
from tests.integration.clip_registry.conftest import Database, fresh_database
from tests.support.browser import running_browser
from tests.unit.clip_gateway.fakes import NOON, InMemoryRegistry, a_clip
from tests.unit.clip_gateway.tokens import AUDIENCE, ISSUER, SECRET
from tests.unit.clip_registry.cuts import a_cut, a_skip

# Tokens of a registry that exists for one test run.
TOKEN, JANITOR_TOKEN = "a service token for tests", "the other service token for tests"
TOKENS = {ApiClient.GATEWAY: SecretStr(TOKEN), ApiClient.JANITOR: SecretStr(JANITOR_TOKEN)}


class RegistrySetup(Protocol):
    """A registry, and methods that put clips into it."""

    registry: GatewayRegistry

    async def add(self, account: str, **changes: Any) -> UUID:
        """Add a clip; ``changes`` are fields that a cut and a clip share."""

    async def skip(self, account: str, vod_id: str, highlight: str) -> None:
        """Add a skipped highlight."""

    async def expire(self, clip_id: UUID) -> None:
        """Let a clip expire."""

    async def purge(self, clip_id: UUID) -> None:
        """Let a clip expire, and purge it."""


class InMemoryRegistrySetup:
    """The registry in memory."""

    def __init__(self) -> None:
        self.fake = InMemoryRegistry()
        self.registry: GatewayRegistry = self.fake

    async def add(self, account: str, **changes: Any) -> UUID:
        created_at = NOON + timedelta(seconds=len(self.fake.clips))
        return self.fake.put(a_clip(account, created_at=created_at, **changes)).clip_id

    async def skip(self, account: str, vod_id: str, highlight: str) -> None:
        skip = SkippedHighlight(
            stream_highlight_id=highlight,
            source_vod_id=vod_id,
            kind=HighlightKind.REFINED,
            reason=SkipReason.TOO_SHORT,
            message="It is too short.",
            skipped_at=NOON,
        )
        del account  # the fake stores skips by VOD only
        self.fake.skips.setdefault(vod_id, []).append(skip)

    async def expire(self, clip_id: UUID) -> None:
        late = {"expires_at": NOON - timedelta(seconds=1), "expires_in_seconds": -1.0}
        self.fake.put(self.fake.clips[clip_id].model_copy(update=late))

    async def purge(self, clip_id: UUID) -> None:
        gone = {"status": ClipStatus.PURGED, "purged_at": NOON, "purge_reason": PurgeReason.EXPIRED}
        self.fake.put(self.fake.clips[clip_id].model_copy(update=gone))


def gateway_settings(**changes: object) -> GatewaySettings:
    """Return settings of a gateway; nothing listens at their addresses, unless changed by keyword."""
    return GatewaySettings.model_validate(
        {
            "free_storage_endpoint": "http://127.0.0.1:1",
            "free_storage_bucket": "clips",
            "free_storage_access_key": "key",
            "free_storage_secret_key": "secret",
            "public_url": "http://127.0.0.1:1",
            "registry_url": "http://127.0.0.1:1",
            "registry_token": TOKEN,
            "jwt_algorithm": "HS256",
            "jwt_secret": SECRET,
            "jwt_issuer": ISSUER,
            "jwt_audience": AUDIENCE,
            **changes,
        }
    )


def registry_app(store: ClipStore) -> FastAPI:
    """The registry's API."""
    app = create_api("clip-registry")
    app.include_router(
        api.create_router(RegistryParts(store=store, metrics=RegistryMetrics(CollectorRegistry())), TOKENS)
    )
    return app


class RealRegistrySetup:
    """The registry's API on its database, behind a socket."""

    def __init__(self, database: Database, url: str) -> None:
        self.database = database
        self.url = url
        self.store = database.store(retention=timedelta(days=7), notice_days=1)
        self.client = RegistryClient(url, TOKEN)
        self.registry: GatewayRegistry = HttpGatewayRegistry(self.client)

    def app(self) -> FastAPI:
        return registry_app(self.store)

    async def add(self, account: str, **changes: Any) -> UUID:
        name = f"hl-{uuid4().hex}"
        (recorded,) = await self.store.record(
            [ReportedCut(a_cut(name, account=account, **changes), event_id=name)]
        )
        return recorded.clip.clip_id

    async def skip(self, account: str, vod_id: str, highlight: str) -> None:
        await self.store.skips.record(
            a_skip(highlight, account, source_vod_id=vod_id, message="It is too short.")
        )

    async def expire(self, clip_id: UUID) -> None:
        await self.database.expire(clip_id)

    async def purge(self, clip_id: UUID) -> None:
        await self.expire(clip_id)
        await self.store.purge(1000, None)


@pytest.fixture(scope="session")
def registry_database_url(database_url: str) -> Iterator[str]:
    with fresh_database(database_url) as url:
        asyncio.run(migrate(url, wait_seconds=5))
        yield url


class InLoopServer(uvicorn.Server):
    """A server in the tests' event loop that installs no signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    server = InLoopServer(uvicorn.Config(app, log_config=None))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await running


@pytest.fixture(scope="session")
async def real_registry(registry_database_url: str) -> AsyncIterator[RealRegistrySetup]:
    engine = open_engine(registry_database_url, pool_size=4, statement_timeout_seconds=10)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        setup = RealRegistrySetup(Database(registry_database_url, engine), url)
        async with setup.client, serving(setup.app(), listener):
            yield setup
    await engine.dispose()


@pytest.fixture(params=["fake", "real"])
def setup(request: pytest.FixtureRequest) -> RegistrySetup:
    return InMemoryRegistrySetup() if request.param == "fake" else request.getfixturevalue("real_registry")


@pytest.fixture(scope="session")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """A browser: every test opens windows of its own."""
    async with running_browser(tmp_path_factory.mktemp("home")) as browser:
        yield browser
