"""Measure the registry's queries on a small and a large table, in turns."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import ClauseElement, RowMapping, text
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from clip_registry.clips import lookup_statements, purge_statements
from clip_registry.migrations.run import migrate
from clip_registry.queries.account_queries import MAX_VODS
from clip_registry.queries.statements import USAGE, VODS, list_clips
from clip_shared.contracts.registry_api import ClipOrder, ClipStatus
from tests.bench.run import Spread, say
from tests.integration.clip_registry.conftest import fresh_database
from tests.integration.clip_registry.test_queries import SERVED, generic_plan

SMALL, LARGE = 10_000, 1_000_000
CLIPS_PER_ACCOUNT = 50
EXPIRED_AT_ONCE = 500  # the janitor's batch
PAGE_SIZE = 50
# Clips of sixteen days in the order of their creation, as on a platform: clips that are not kept were purged
# after seven days, except those of one day, which the next tick purges.
LOAD = f"""
INSERT INTO generated_clips (
    clip_id, stream_highlight_id, twitch_account_id, source_vod_id, kind, title, score, bucket, object_key,
    poster_key, content_type, file_size_bytes, duration_seconds, cut_receipt, origin, revision, status,
    expires_at, kept_at, kept_by, published_at, share_slug, published_revision, published_embed,
    published_downloadable, published_indexable, purged_at, purge_reason, highlight_event_id,
    highlight_detected_at, version, created_at, updated_at
)
SELECT clip_id, 'hl-' || n, account, 'vod-' || n / 1000, 'heuristic', 'What a save', n % 10, 'clips',
       'clips/' || account || '/' || clip_id || '/event-' || n || '.mp4',
       'clips/' || account || '/' || clip_id || '/event-' || n || '.jpg', 'video/mp4', 1000, 30,
       jsonb_build_object('mode', 'copy', 'requested_start_seconds', 10, 'requested_end_seconds', 40,
                          'actual_start_seconds', 10, 'actual_end_seconds', 40, 'audio_video_skew_ms', 1),
       'detector', 1, status,
       CASE WHEN status IN ('available', 'purged') THEN created_at + interval '7 days' END,
       CASE WHEN status IN ('kept', 'published') THEN created_at END,
       CASE WHEN status IN ('kept', 'published') THEN account END,
       CASE WHEN status = 'published' THEN created_at END,
       CASE WHEN status = 'published' THEN 'slug-' || n END,
       CASE WHEN status = 'published' THEN 1 END,
       CASE WHEN status = 'published' THEN true END,
       CASE WHEN status = 'published' THEN false END,
       CASE WHEN status = 'published' THEN false END,
       CASE WHEN status = 'purged' THEN created_at + interval '7 days' END,
       CASE WHEN status = 'purged' THEN 'expired' END,
       'event-' || n, created_at, 1, created_at, created_at
FROM generate_series(0, :rows - 1) n,
     LATERAL (SELECT md5(n::text)::uuid, 'account-' || n % (:rows / {CLIPS_PER_ACCOUNT})) i(clip_id, account),
     LATERAL (SELECT now() - interval '16 days' * (1 - n / (:rows)::float)) m(created_at),
     LATERAL (SELECT CASE WHEN n / 7 % 10 = 0 THEN 'published' WHEN n / 7 % 10 < 3 THEN 'kept'
                          WHEN created_at < now() - interval '8 days' THEN 'purged' ELSE 'available' END
             ) s(status)
"""  # noqa: S608 - numbers of this module


# Clips that are not purged, in random order: the parameters of the queries.
SAMPLE = text("""
SELECT clip_id, twitch_account_id AS account, created_at FROM generated_clips WHERE status <> 'purged'
ORDER BY md5(clip_id::text) LIMIT :number
""")
LIVING = [ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.PUBLISHED]


@dataclass(frozen=True)
class TimedStatement:
    """A query: the statement, the parameters for a clip, and the share of runs that it gets."""

    statement: ClauseElement
    parameters: Callable[[RowMapping], dict[str, Any]]
    share: float = 1.0


def _page(clip: RowMapping) -> dict[str, Any]:
    return {"account": clip.account, "statuses": LIVING, "limit": PAGE_SIZE}


def _listed(order: ClipOrder, *filters: str, continues: bool = False) -> Any:
    return list_clips(order, frozenset(filters), continues=continues)


KINDS = {
    "get": TimedStatement(lookup_statements.GET, lambda clip: {"clip_id": clip.clip_id}),
    "list": TimedStatement(_listed(ClipOrder.NEWEST), _page),
    "list, next page": TimedStatement(
        _listed(ClipOrder.NEWEST, continues=True),
        lambda clip: {**_page(clip), "clip_id": clip.clip_id, "value": clip.created_at},
    ),
    "list by expiry": TimedStatement(_listed(ClipOrder.EXPIRING), _page),
    "list by title": TimedStatement(
        _listed(ClipOrder.BEST, "title"), lambda clip: {**_page(clip), "title": "SAVE"}
    ),
    "usage": TimedStatement(USAGE, lambda clip: {"account": clip.account}),
    "vods": TimedStatement(VODS, lambda clip: {"account": clip.account, "limit": MAX_VODS}),
    f"expire {EXPIRED_AT_ONCE}": TimedStatement(
        purge_statements.PURGE, lambda _: {"limit": EXPIRED_AT_ONCE, "cutoff": None}, share=0.04
    ),
    "is more due": TimedStatement(purge_statements.STILL_DUE, lambda _: {"cutoff": None}),
}


@dataclass
class QueryTiming:
    """The seconds of a query by the number of rows; the n-th runs on both tables follow each other."""

    name: str
    seconds: dict[int, list[float]] = field(default_factory=lambda: {SMALL: [], LARGE: []})
    plans: dict[int, str] = field(default_factory=dict)

    @property
    def growth(self) -> Spread | None:
        """The median on the large table divided by that on the small table, for each tenth of the runs."""
        small, large = (_medians(self.seconds[rows]) for rows in (SMALL, LARGE))
        return Spread.of(late / early for early, late in zip(small, large, strict=False))

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for the JSON."""
        spreads = {rows: Spread.of(seconds) for rows, seconds in self.seconds.items()}
        return {
            "name": self.name,
            "seconds": {rows: asdict(spread) for rows, spread in spreads.items() if spread},
            "runs": {rows: len(seconds) for rows, seconds in self.seconds.items()},
            "growth": asdict(self.growth) if self.growth else None,
        }


@dataclass
class QueryTimings:
    """The figures, and the queries that read the whole large table.

    ``rows``: how many each table has; a smoke run's large one is smaller.
    """

    rows: dict[int, int] = field(default_factory=lambda: {SMALL: SMALL, LARGE: LARGE})
    queries: list[QueryTiming] = field(default_factory=list)
    sequential: list[str] | None = None


def _medians(seconds: Sequence[float]) -> list[float]:
    part = max(1, len(seconds) // 10)
    found = [Spread.of(seconds[start : start + part]) for start in range(0, len(seconds), part)]
    return [each.median for each in found if each is not None]


def measure(server_url: str, results: QueryTimings, *, large: int, runs: int) -> None:
    """Load both tables, each in its own database, and run the queries ``runs`` times on each, in turns."""
    with fresh_database(server_url) as small_url, fresh_database(server_url) as large_url:
        asyncio.run(_measure({SMALL: small_url, LARGE: large_url}, results, large=large, runs=runs))


async def _measure(urls: dict[int, str], results: QueryTimings, *, large: int, runs: int) -> None:
    results.rows[LARGE] = large
    async with _loaded(urls[SMALL], SMALL) as first, _loaded(urls[LARGE], large) as second:
        connections = {SMALL: first, LARGE: second}
        for name, kind in KINDS.items():
            query = QueryTiming(name)
            results.queries.append(query)
            await _run(query, kind, connections, max(2, int(runs * kind.share)))
        results.sequential = [
            name
            for name, (statement, _) in SERVED.items()
            if re.search(r"Seq Scan on generated_clips", await generic_plan(second, statement))
        ]


async def fill(url: str, rows: int) -> None:
    """Insert a number of clips into a database, and update its statistics."""
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            await connection.execute(text(LOAD), {"rows": rows})
            await connection.commit()
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.exec_driver_sql("VACUUM ANALYZE generated_clips")
    finally:
        await engine.dispose()


@asynccontextmanager
async def _loaded(url: str, rows: int) -> AsyncIterator[AsyncConnection]:
    say(f"loading {rows:,} clips")
    await migrate(url, wait_seconds=5)
    await fill(url, rows)
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


async def _run(
    query: QueryTiming, kind: TimedStatement, connections: dict[int, AsyncConnection], runs: int
) -> None:
    say(f"{query.name}: {runs} times on each table")
    warm_up = max(2, runs // 10)
    clips = {
        rows: (await connection.execute(SAMPLE, {"number": warm_up + runs})).mappings().all()
        for rows, connection in connections.items()
    }
    for number in range(warm_up + runs):
        for rows, connection in connections.items():
            parameters = kind.parameters(clips[rows][number % len(clips[rows])])
            started = time.perf_counter()
            (await connection.execute(kind.statement, parameters)).all()  # type: ignore[call-overload]
            took = time.perf_counter() - started
            await connection.rollback()  # the expired clips are due again
            if number >= warm_up:
                query.seconds[rows].append(took)
    for rows, connection in connections.items():
        query.plans[rows] = await _plan(connection, kind.statement, kind.parameters(clips[rows][0]))


async def _plan(connection: AsyncConnection, statement: ClauseElement, parameters: dict[str, Any]) -> str:
    """Return PostgreSQL's plan of a query, with the rows that it read."""
    dialect: Any = asyncpg.dialect()  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy
    compiled: Any = statement.compile(dialect=dialect)
    values = compiled.construct_params(parameters)
    arguments = tuple(values[name] for name in compiled.positiontup)
    rows = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS) {compiled}", arguments)
    plan = "\n".join(row[0] for row in rows)
    await connection.rollback()
    return plan
