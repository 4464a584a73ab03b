"""A database of one test's own, migrated: it is backed up, restored, or shared by two versions."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from clip_registry.database.engine import open_engine
from clip_registry.migrations.run import migrate
from tests.integration.clip_registry.conftest import Database, fresh_database


@pytest.fixture
def own_url(database_url: str) -> Iterator[str]:
    with fresh_database(database_url) as url:
        asyncio.run(migrate(url, wait_seconds=5))
        yield url


@pytest.fixture
async def own(own_url: str) -> AsyncIterator[Database]:
    engine = open_engine(own_url, pool_size=4, statement_timeout_seconds=10)
    yield Database(own_url, engine)
    await engine.dispose()
