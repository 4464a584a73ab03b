"""Every migration changes a table that is in use: it locks nobody out for longer than a moment."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import structlog
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from clip_registry.migrations.run import alembic_config, migrate
from tests.integration.clip_registry.conftest import fresh_database
from tests.integration.clip_registry.test_migrations import HEAD, OLD_INSERT

STEPS = [
    each.revision for each in reversed(list(ScriptDirectory.from_config(alembic_config()).walk_revisions()))
]
# What may run outside a transaction: it changes rows, builds or checks while others read and write.
ONLINE = (
    "CREATE INDEX CONCURRENTLY",
    "DROP INDEX CONCURRENTLY",
    "WITH BATCH AS",
    "INSERT INTO",
    "ALTER TABLE",
)
VALIDATES = "VALIDATE CONSTRAINT"
# The locks that keep others from reading or from writing, and what has been done to the table's rows.
STATE = """
SELECT
    EXISTS (
        SELECT FROM pg_locks
        WHERE pid = pg_backend_pid() AND relation = to_regclass('generated_clips') AND granted
          AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    ) AS locked,
    pg_relation_filenode(to_regclass('generated_clips')) AS file,
    (
        SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) + n_tup_upd + n_tup_del
        FROM pg_stat_xact_user_tables WHERE relid = to_regclass('generated_clips')
    ) AS touched
"""


def _is_alone(connection: Connection) -> bool:
    return connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"


class LockWatch:
    """Collects the statements of a connection that do much while others are locked out."""

    def __init__(self, connection: Connection) -> None:
        self.harsh: list[str] = []
        self._looking = False
        self._before: tuple[Any, Any] = (None, 0)
        event.listen(connection, "before_cursor_execute", self._look_before)
        event.listen(connection, "after_cursor_execute", self._look_after)

    def _state(self, connection: Connection) -> Any:
        self._looking = True
        try:
            return connection.exec_driver_sql(STATE).one()
        finally:
            self._looking = False

    def _look_before(self, connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if self._looking:
            return
        if _is_alone(connection):
            self._check_alone(" ".join(statement.upper().split()))
        else:
            state = self._state(connection)
            self._before = (state.file, state.touched)

    def _look_after(self, connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if self._looking or _is_alone(connection):
            return
        state = self._state(connection)
        if state.locked and None not in self._before and self._before != (state.file, state.touched):
            self.harsh.append(statement)

    def _check_alone(self, statement: str) -> None:
        is_gentle = statement.startswith(ONLINE)
        if not is_gentle or (statement.startswith("ALTER TABLE") and VALIDATES not in statement):
            self.harsh.append(statement)


@pytest.fixture
def url(database_url: str) -> Iterator[str]:
    with fresh_database(database_url) as url:
        yield url


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(url)
    yield engine
    await engine.dispose()


async def upgrade(engine: AsyncEngine, revision: str) -> list[str]:
    """Run the steps up to a revision, and return the statements of theirs that are harsh."""

    def run(connection: Connection) -> list[str]:
        watch = LockWatch(connection)
        command.upgrade(alembic_config(connection), revision)
        return watch.harsh

    async with engine.connect() as connection:
        return await connection.run_sync(run)


async def fill(engine: AsyncEngine) -> None:
    """Rows of every status that the second step knows."""
    async with engine.begin() as connection:
        for status in ("available", "kept", "published", "purged"):
            for number in range(5):
                insert = OLD_INSERT.replace(":status", f"'{status}'").replace("a-slug", f"slug-{number}")
                await connection.execute(text(insert))


async def test_no_step_does_much_while_it_locks_others_out(engine: AsyncEngine) -> None:
    assert await upgrade(engine, "0002") == []
    await fill(engine)
    for step in STEPS[STEPS.index("0002") + 1 :]:
        assert await upgrade(engine, step) == [], step
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT sum(clips) FROM clip_count_changes"))
        assert found.scalar_one() == 20


async def test_a_step_that_was_ended_halfway_is_run_again(engine: AsyncEngine) -> None:
    """Everything of a step was done, and then its revision was not noted: the worst place to end."""
    await upgrade(engine, "0002")
    await fill(engine)
    for step in STEPS[STEPS.index("0002") + 1 :]:
        before = STEPS[STEPS.index(step) - 1]
        await upgrade(engine, step)
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": before})
        await upgrade(engine, step)
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT sum(clips) FROM clip_count_changes"))
        assert found.scalar_one() == 20


HARSH = {
    "index": "CREATE INDEX harsh ON generated_clips (title)",
    "check": "ALTER TABLE generated_clips ADD CONSTRAINT harsh CHECK (version > 0)",
    "type": "ALTER TABLE generated_clips ALTER COLUMN version TYPE bigint",
    "not null": "ALTER TABLE generated_clips ALTER COLUMN score SET NOT NULL",
    "default of each row": "ALTER TABLE generated_clips ADD COLUMN harsh uuid DEFAULT gen_random_uuid()",
    "change under a lock": "UPDATE generated_clips SET title = title",
}
MILD = {
    "column": "ALTER TABLE generated_clips ADD COLUMN mild integer NOT NULL DEFAULT 1",
    "later check": "ALTER TABLE generated_clips ADD CONSTRAINT mild CHECK (version > 0) NOT VALID",
    "other table": "CREATE TABLE mild (number integer PRIMARY KEY)",
}


@pytest.mark.parametrize("name", [*HARSH, *MILD])
async def test_the_watch_tells_harsh_statements_from_mild_ones(engine: AsyncEngine, name: str) -> None:
    await upgrade(engine, "0002")
    await fill(engine)

    def run(connection: Connection) -> list[str]:
        connection.exec_driver_sql("UPDATE generated_clips SET score = 1")
        watch = LockWatch(connection)
        connection.exec_driver_sql("LOCK generated_clips IN SHARE ROW EXCLUSIVE MODE")
        connection.exec_driver_sql({**HARSH, **MILD}[name])
        return watch.harsh

    async with engine.connect() as connection:
        assert await connection.run_sync(run) == ([HARSH[name]] if name in HARSH else [])


@pytest.mark.parametrize("name", ["index", "check", "default of each row"])
async def test_the_watch_knows_what_may_not_run_alone(engine: AsyncEngine, name: str) -> None:
    await upgrade(engine, "0002")

    def run(connection: Connection) -> list[str]:
        watch = LockWatch(connection)
        connection.exec_driver_sql(HARSH[name])
        return watch.harsh

    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        assert await connection.run_sync(run) == [" ".join(HARSH[name].upper().split())]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


async def test_while_a_step_waits_for_a_long_transaction_others_go_on(url: str, engine: AsyncEngine) -> None:
    await upgrade(engine, "0002")
    await fill(engine)
    insert = text(OLD_INSERT.replace(":status", "'available'"))
    with structlog.testing.capture_logs() as logs:
        async with engine.begin() as long:
            await long.execute(text("UPDATE generated_clips SET title = 'still at it' WHERE status = 'kept'"))
            migrating = asyncio.create_task(migrate(url, wait_seconds=5, lock_seconds=0.1))
            for _ in range(3):
                logs.clear()
                await until(lambda: any("tried again" in each["event"] for each in logs))
                async with engine.begin() as other:
                    await other.execute(text("SET LOCAL lock_timeout = '30s'"))
                    await other.execute(insert)
            assert not migrating.done()
        assert await asyncio.wait_for(migrating, 120) == HEAD
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT sum(clips) FROM clip_count_changes"))
        assert found.scalar_one() == 23
