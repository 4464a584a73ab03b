"""Behind a real PgBouncer: in transaction mode everything works; what cannot work ends the start."""

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.clips.store import ClipStore
from clip_registry.database.connector import UnusableDatabase
from clip_registry.database.engine import Pooler, check_usable, open_engine
from clip_registry.database.transactions import transaction
from clip_registry.domain.actions import ActionOutcome
from clip_registry.migrations.run import migrate
from clip_registry.outbox import outbox as outbox_module
from clip_registry.outbox.outbox import Outbox
from clip_registry.queries.clip_lists import ClipFilter
from clip_registry.reports import ReportedCut
from clip_registry.timers.metrics_snapshot import take_snapshot
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.registry_api import ClipAction, ClipOrder, ClipStatus
from clip_shared.errors import TransientError
from local_stack.processes.privileges import unprivileged_user
from local_stack.processes.process import Process
from tests.integration.clip_registry.conftest import RETENTION, Database, free_port
from tests.integration.clip_registry.test_outbox import FakeProducer, empty, eventually
from tests.unit.clip_registry.cuts import a_cut, an_action

TRANSACTIONS = "pool_mode = transaction"
TOLERANT = "ignore_startup_parameters = statement_timeout, lock_timeout, idle_in_transaction_session_timeout"

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed")


@pytest.fixture
def pgbouncer(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The database's URL through a PgBouncer that has few connections to it."""
    with a_pgbouncer(make_url(database.url), tmp_path, getattr(request, "param", TRANSACTIONS)) as url:
        yield url


@pytest.fixture
def forsaken(database: Database, tmp_path: Path) -> Iterator[str]:
    """The URL of a PgBouncer whose server is away, and which says so before we lose patience."""
    server = make_url(database.url).set(port=1)
    with a_pgbouncer(server, tmp_path, f"{TRANSACTIONS}\n{TOLERANT}\nquery_wait_timeout = 1") as url:
        yield url


@contextmanager
def a_pgbouncer(server: URL, folder: Path, settings: str) -> Iterator[str]:
    """The server's URL through a PgBouncer."""
    port = free_port()
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"""
        [databases]
        * = host={server.host} port={server.port} user={server.username} password={server.password}
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = any
        default_pool_size = 5
        {settings}
        """
    )
    assert PROGRAM is not None

    def readiness_error() -> str | None:
        with socket.socket() as probe:
            return None if probe.connect_ex(("127.0.0.1", port)) == 0 else "it does not listen"

    with Process(
        "PgBouncer",
        [PROGRAM, configuration],
        log=folder / "log",
        environment={},
        user=unprivileged_user(),
        readiness_error=readiness_error,
    ):
        yield server.set(port=port).render_as_string(hide_password=False)


@asynccontextmanager
async def engine_of(url: str, *, pool_size: int = 40, limit: float = 10) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(url, pool_size=pool_size, statement_timeout_seconds=limit, pooler="transaction")
    yield engine
    await engine.dispose()


async def test_every_keep_of_many_at_once_is_done(pgbouncer: str, database: Database) -> None:
    async with engine_of(pgbouncer) as engine:
        store = ClipStore(engine, database.outbox, retention=RETENTION, cap=300, notice_days=8)
        await store.check()
        await store.record([ReportedCut(a_cut(f"hl-{n}"), "x") for n in range(200)])
        kept = await asyncio.gather(
            *(store.act(an_action(ClipAction.KEEP), a_cut(f"hl-{n}").clip_id) for n in range(200))
        )
        assert [decision for decision, _ in kept] == [ActionOutcome.DONE] * 200
        unkept = await store.act(an_action(ClipAction.UNKEEP), a_cut("hl-1").clip_id)
        assert unkept[0] is ActionOutcome.DONE
        assert (await store.queries.usage_of("ann")).by_status[ClipStatus.KEPT].clips == 199
        assert (await store.notices.send(10)).notified == 1
        await database.expire(a_cut("hl-1").clip_id)
        assert (await store.purge(10, None)).expired == 1
        kept_alone = ClipFilter(statuses=frozenset({ClipStatus.KEPT}))
        assert len(await store.queries.clips_of("ann", kept_alone, ClipOrder.NEWEST, limit=500)) == 199
        assert (await take_snapshot(database.engine)).overdue == 0
        assert await store.orphans("clips", [a_cut("hl-2").object_key]) == set()


async def test_nothing_of_ours_is_left_in_a_session(pgbouncer: str, database: Database) -> None:
    async with engine_of(pgbouncer, limit=0.3) as engine:
        async with transaction(engine) as connection:
            assert (await connection.execute(text("SHOW statement_timeout"))).scalar_one() == "300ms"
            assert (await connection.execute(text("SHOW lock_timeout"))).scalar_one() == "150ms"
        with pytest.raises(TransientError, match="statement timeout"):
            async with transaction(engine) as connection:
                await connection.execute(text("SELECT pg_sleep(5)"))
        async with engine.connect() as connection:
            assert (await connection.execute(text("SHOW statement_timeout"))).scalar_one() == "0"
            left = await connection.execute(text("SELECT name FROM pg_prepared_statements WHERE name <> ''"))
            assert left.all() == []
    del database


async def test_events_leave(
    pgbouncer: str, database: Database, monkeypatch: pytest.MonkeyPatch, kafka_settings: KafkaSettings
) -> None:
    producer = FakeProducer()
    monkeypatch.setattr(outbox_module, "producer", lambda *_, **__: producer)
    async with engine_of(pgbouncer) as engine, engine_of(pgbouncer, pool_size=1) as relay_engine:
        outbox = Outbox(relay_engine, kafka_settings, grace_seconds=5, listens=False)
        store = ClipStore(engine, outbox, retention=RETENTION)
        await outbox.start()
        for batch in range(5):
            batches = [[ReportedCut(a_cut(f"hl-{batch}-{n}"), "x")] for n in range(40)]
            await asyncio.gather(*map(store.record, batches))
        await eventually(lambda: empty(database))
        assert await outbox.check() is None
        await outbox.stop()
    assert len({each.value for each in producer.sent}) == len(producer.sent) == 200


async def test_the_schema_is_migrated(pgbouncer: str) -> None:
    revisions = await asyncio.gather(
        *(migrate(pgbouncer, wait_seconds=5, pooler="transaction") for _ in range(2))
    )
    assert len(set(revisions)) == 1


@pytest.mark.parametrize("pgbouncer", ["", TRANSACTIONS, f"{TRANSACTIONS}\n{TOLERANT}"], indirect=True)
async def test_a_pooler_that_nobody_told_us_of_ends_the_start(pgbouncer: str) -> None:
    with pytest.raises(UnusableDatabase, match="DATABASE_POOLER=transaction"):
        await check_usable(pgbouncer, "none")


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_both_commands_say_so_in_one_line(pgbouncer: str, command: str) -> None:
    result = run(pgbouncer, command)
    assert (result.returncode, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert "DATABASE_POOLER=transaction" in line


@pytest.mark.parametrize("pooler", ["none", "transaction"])
async def test_a_database_that_is_away_behind_a_pooler_does_not_end_the_start(
    forsaken: str, pooler: Pooler
) -> None:
    await check_usable(forsaken, pooler)


def test_a_migration_waits_for_a_database_behind_a_pooler(forsaken: str) -> None:
    began = time.monotonic()
    result = run(forsaken, "migrate", "--wait-seconds=3", DATABASE_POOLER="transaction")
    assert time.monotonic() - began >= 3
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert "cannot migrate: the database" in last
    assert "query_wait_timeout" in last
    assert "DATABASE_POOLER" not in last


async def test_a_pooler_without_its_server_leaves_the_next_host_to_be_tried(
    forsaken: str, database: Database
) -> None:
    first, second = make_url(forsaken), make_url(database.url)
    both = forsaken.replace(f":{first.port}/", f":{first.port},{second.host}:{second.port}/")
    assert await migrate(both, wait_seconds=0, pooler="transaction")


def run(url: str, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clip_registry", *command],
        env={
            "DATABASE_URL": url,
            "REGISTRY_GATEWAY_TOKEN": "0123456789abcdef",
            "REGISTRY_JANITOR_TOKEN": "fedcba9876543210",
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "HTTP_PORT": str(free_port()),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
