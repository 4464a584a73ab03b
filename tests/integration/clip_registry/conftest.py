"""A database of the registry's own, migrated once and emptied for each test."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from clip_registry.clips.store import ClipStore
from clip_registry.database.engine import open_engine
from clip_registry.domain.clips import Clip
from clip_registry.migrations.run import migrate
from clip_registry.outbox.outbox import Outbox
from clip_shared.bus.settings import KafkaSettings

RETENTION = timedelta(days=7)


class Database:
    """The registry's database, for a test that looks behind the store's back."""

    def __init__(self, url: str, engine: AsyncEngine) -> None:
        self.url = url
        self.engine = engine
        kafka = KafkaSettings(kafka_bootstrap_servers="not-used:9092")
        self.outbox = Outbox(engine, kafka, grace_seconds=1)

    def store(self, **changes: Any) -> ClipStore:
        return ClipStore(self.engine, self.outbox, **{"retention": RETENTION, **changes})

    async def run(self, statement: str, **parameters: Any) -> list[Any]:
        async with self.engine.begin() as connection:
            result = await connection.execute(text(statement), parameters)
            return list(result.all()) if result.returns_rows else []

    async def expire(self, clip: Clip | UUID, *, seconds_ago: float = 1) -> None:
        """Let a clip have expired."""
        clip_id = clip if isinstance(clip, UUID) else clip.clip_id
        await self.run(
            "UPDATE generated_clips SET expires_at = now() - CAST(:ago AS interval) WHERE clip_id = :clip_id",
            ago=timedelta(seconds=seconds_ago),
            clip_id=clip_id,
        )

    async def events(self) -> list[tuple[str, dict[str, Any]]]:
        """The type and data of each event in the outbox, in the order they were written."""
        rows = await self.run("SELECT headers, payload FROM outbox ORDER BY id")
        return [(row.headers["ce_type"], json.loads(row.payload)) for row in rows]

    async def event_types(self) -> list[str]:
        return [event_type for event_type, _ in await self.events()]

    async def released(self) -> list[tuple[str, str]]:
        """The key and reason of each release in the outbox, sorted."""
        return sorted(
            (data["object_key"], data["reason"]) for _, data in await self.events() if "object_key" in data
        )


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """An empty database on the server, dropped in the end."""
    name = f"registry_{uuid4().hex[:12]}"
    asyncio.run(_administer(server_url, f"CREATE DATABASE {name}"))
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        asyncio.run(_administer(server_url, f"DROP DATABASE {name} WITH (FORCE)"))


async def _administer(url: str, statement: str) -> None:
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def migrated_url(database_url: str) -> Iterator[str]:
    with fresh_database(database_url) as url:
        asyncio.run(migrate(url, wait_seconds=5))
        yield url


@pytest.fixture(scope="session")
async def session_database(migrated_url: str) -> AsyncIterator[Database]:
    engine = open_engine(migrated_url, pool_size=16, statement_timeout_seconds=10)
    yield Database(migrated_url, engine)
    await engine.dispose()


@pytest.fixture
async def database(session_database: Database) -> Database:
    await session_database.run(
        "TRUNCATE generated_clips, share_slugs, skipped_highlights, feeds, expiry_notices, outbox, outbox_dlq"
        " RESTART IDENTITY"
    )
    return session_database


@pytest.fixture
def store(database: Database) -> ClipStore:
    return database.store()
