"""The schema: made by migrations alone, the same as the models, and safe to make twice."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from clip_registry.database.tables import metadata
from clip_registry.migrations.run import alembic_config, migrate
from tests.integration.clip_registry.conftest import Database, fresh_database

HEAD = "0006"

# What defines a schema, as PostgreSQL itself words it.
CATALOG = {
    "options": """
        SELECT relname, unnest(reloptions) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'outbox%'""",
    "columns": """
        SELECT table_name, column_name, data_type, character_maximum_length, collation_name, is_nullable,
               column_default
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'""",
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'public' AND tablename <> 'alembic_version'""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'""",
}


@pytest.fixture
def empty_url(database_url: str) -> Iterator[str]:
    with fresh_database(database_url) as url:
        yield url


async def catalog(url: str) -> dict[str, set[tuple[object, ...]]]:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        found = {
            name: {tuple(row) for row in await connection.execute(text(query))}
            for name, query in CATALOG.items()
        }
    await engine.dispose()
    return found


async def test_migrations_make_what_the_models_describe(migrated_url: str, empty_url: str) -> None:
    engine = create_async_engine(empty_url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    await engine.dispose()
    by_migrations, by_models = await catalog(migrated_url), await catalog(empty_url)
    for name in CATALOG:
        assert by_migrations[name] == by_models[name], name


async def test_the_outbox_is_what_its_library_expects(database: Database) -> None:
    await database.outbox.broker.validate_schema(check_autovacuum=True)


async def test_two_migrations_at_once_both_succeed(empty_url: str) -> None:
    assert await asyncio.gather(*(migrate(empty_url, wait_seconds=5) for _ in range(3))) == [HEAD] * 3


async def test_there_is_a_way_back(empty_url: str) -> None:
    def downgrade(connection: Connection) -> None:
        command.downgrade(alembic_config(connection), "base")

    await migrate(empty_url, wait_seconds=5)
    engine = create_async_engine(empty_url)
    async with engine.connect() as connection:
        await connection.run_sync(downgrade)
    await engine.dispose()
    assert (await catalog(empty_url))["columns"] == set()
    assert await migrate(empty_url, wait_seconds=5) == HEAD


# A row as version 0.1 of the registry writes it, which may still run while the schema is newer.
OLD_INSERT = """
    INSERT INTO generated_clips (clip_id, stream_highlight_id, twitch_account_id, source_vod_id, kind, title,
        bucket, object_key, content_type, file_size_bytes, duration_seconds, cut_receipt, status, expires_at,
        kept_at, kept_by, published_at, share_slug, purged_at, highlight_event_id, highlight_detected_at,
        version, created_at, updated_at)
    SELECT gen_random_uuid(), :status || gen_random_uuid()::text, 'ann', 'vod', 'refined', 'A title', 'clips',
        gen_random_uuid()::text, 'video/mp4', 1, 1, '{}', :status,
        CASE WHEN :status IN ('available', 'purged') THEN now() END,
        CASE WHEN :status IN ('kept', 'published') THEN now() END,
        CASE WHEN :status IN ('kept', 'published') THEN 'ann' END,
        CASE WHEN :status = 'published' THEN now() END, CASE WHEN :status = 'published' THEN 'a-slug' END,
        CASE WHEN :status = 'purged' THEN now() END, 'event', now(), 1, now(), now()"""
# Deleted by its owner from each status.
DELETED = """
    UPDATE generated_clips SET deleted_from = status, status = 'deleted', deleted_at = now(),
        expires_at_before_delete = expires_at, expires_at = now(), purge_reason = 'deleted'
    WHERE status <> 'purged'"""


async def test_rows_of_every_status_go_there_and_back(empty_url: str) -> None:
    engine = create_async_engine(empty_url)

    async def move(by: Callable[..., None], revision: str) -> None:
        async with engine.connect() as connection:
            await connection.run_sync(lambda sync: by(alembic_config(sync), revision))

    async def run(statement: str) -> None:
        async with engine.begin() as connection:
            await connection.execute(text(statement))

    await move(command.upgrade, "0002")
    for status in ("available", "kept", "published", "purged"):
        await run(OLD_INSERT.replace(":status", f"'{status}'"))
    await move(command.upgrade, HEAD)
    await run(OLD_INSERT.replace(":status", "'available'"))
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT origin, revision FROM generated_clips"))
        assert {tuple(row) for row in found} == {("detector", 1)}
    await run(DELETED)
    await move(command.downgrade, "0002")
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT status, count(*) FROM generated_clips GROUP BY status"))
        assert {tuple(row) for row in found} == {("available", 4), ("purged", 1)}
    await engine.dispose()


def clip_registry(*arguments: str, url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATABASE_URL": url, "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, "-m", "clip_registry", *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_works_from_any_folder(empty_url: str, tmp_path: Path) -> None:
    first = clip_registry("migrate", url=empty_url, folder=tmp_path)
    assert first.returncode == 0, first.stderr
    assert first.stdout.endswith(f"the schema is at revision {HEAD}\n")
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_when_there_is_no_database(database_url: str, tmp_path: Path) -> None:
    missing = make_url(database_url).set(database="no_such_database")
    url = missing.render_as_string(hide_password=False)
    result = clip_registry("migrate", "--wait-seconds", "0", url=url, folder=tmp_path)
    assert result.returncode == 1
    assert "cannot migrate: " in result.stderr
    assert "no_such_database" in result.stderr
    assert "Traceback" not in result.stderr
