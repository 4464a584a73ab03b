"""Every served query finds its rows by an index, also when PostgreSQL plans it for any parameters."""

import re
from typing import Any

from sqlalchemy import ClauseElement, text
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from clip_registry.clips import (
    action_statements,
    cut_statements,
    expiry_notices,
    lookup_statements,
    purge_statements,
)
from clip_registry.queries import feeds
from clip_registry.queries import statements as queries
from clip_registry.timers import metrics_snapshot, trimming
from clip_shared.contracts.registry_api import ClipAction, ClipOrder
from tests.integration.clip_registry.conftest import Database

SERVED: dict[str, tuple[ClauseElement, str]] = {
    "get": (lookup_statements.GET, "generated_clips_pkey"),
    "get shared": (lookup_statements.GET_SHARED, "generated_clips_share_slug_key"),
    **{
        f"list {order}{', next page' if continues else ''}": (
            queries.list_clips(order, frozenset(), continues=continues),
            "generated_clips_of_account",
        )
        for order in ClipOrder
        for continues in (False, True)
    },
    "list by title": (
        queries.list_clips(ClipOrder.NEWEST, frozenset({"title", "kinds"}), continues=True),
        "generated_clips_of_account",
    ),
    "usage": (queries.USAGE, "generated_clips_of_account"),
    "next to expire": (queries.NEXT_TO_EXPIRE, "generated_clips_of_account"),
    "vods": (queries.VODS, "generated_clips_of_vod"),
    "vod": (queries.VOD, "generated_clips_of_vod"),
    "skips of a vod": (queries.SKIPS_OF_VOD, "skipped_highlights_of_vod"),
    "feed": (feeds.FEED, "feeds_slug_key"),
    "feed of an account": (feeds.FEED_OF, "feeds_pkey"),
    "published clips": (feeds.PUBLISHED_CLIPS, "generated_clips_published"),
    "trim skips": (trimming.TRIM_SKIPS, "skipped_highlights_age"),
    "trim titles": (trimming.TRIM_TITLES, "generated_clips_to_forget"),
    "trim rows": (trimming.TRIM_ROWS, "generated_clips_to_trim"),
    "ephemeral": (action_statements.COUNT_EPHEMERAL, "generated_clips_of_account"),
    "was shared": (lookup_statements.WAS_SHARED, "share_slugs_pkey"),
    "end publications": (purge_statements.END_PUBLICATIONS, "generated_clips_ending"),
    "orphans": (lookup_statements.ORPHANS, "generated_clips_object"),
    "purge": (purge_statements.PURGE, "generated_clips_due"),
    "still due": (purge_statements.STILL_DUE, "generated_clips_due"),
    "claim notices": (expiry_notices.CLAIM, "generated_clips_due"),
    "expiring": (expiry_notices.EXPIRING, "generated_clips_of_account"),
    "delete past notices": (expiry_notices.DELETE_PAST, "expiry_notices_pkey"),
    "just expired": (metrics_snapshot.JUST_EXPIRED, "generated_clips_due"),
    "first expiry": (metrics_snapshot.FIRST_EXPIRY_SECONDS, "generated_clips_due"),
    "expire surplus": (cut_statements.EXPIRE_SURPLUS, "generated_clips_of_account"),
    "consider cut": (cut_statements.CONSIDER_CUT, "generated_clips_pkey"),
    **{action: (action_statements.ACT[action], "generated_clips_pkey") for action in ClipAction},
}


LOAD = """
INSERT INTO generated_clips (
       clip_id, stream_highlight_id, twitch_account_id, source_vod_id, kind, title, score, bucket,
       object_key, poster_key, content_type, file_size_bytes, duration_seconds, cut_receipt,
       origin, revision, status,
       expires_at, kept_at, kept_by, published_at, share_slug, published_revision, published_until,
       published_embed, published_downloadable, published_indexable, purged_at, purge_reason,
       highlight_event_id, highlight_detected_at, version, created_at, updated_at)
SELECT md5(n::text)::uuid, 'hl-' || n, 'account-' || n % 1000, 'vod', 'heuristic',
       CASE WHEN status = 'purged' AND n % 2 = 0 THEN '' ELSE 'title' END, n % 10, 'clips',
       'clips/' || n || '.mp4', 'clips/' || n || '.jpg', 'video/mp4', 1000, 30, '{}',
       'detector', 1, status,
       CASE WHEN status IN ('available', 'purged') THEN now() + (n % 1000 - 5) * interval '10 minutes' END,
       CASE WHEN status IN ('kept', 'published') THEN now() END,
       CASE WHEN status IN ('kept', 'published') THEN 'account-' || n % 1000 END,
       CASE WHEN status = 'published' THEN now() END,
       CASE WHEN status = 'published' THEN 'slug-' || n END,
       CASE WHEN status = 'published' THEN 1 END,
       CASE WHEN status = 'published' THEN now() + (n % 1000 - 5) * interval '10 minutes' END,
       CASE WHEN status = 'published' THEN true END,
       CASE WHEN status = 'published' THEN true END,
       CASE WHEN status = 'published' THEN true END,
       CASE WHEN status = 'purged' THEN now() END,
       CASE WHEN status = 'purged' THEN 'expired' END,
       'event-' || n, now(), 1, now() - n * interval '1 second', now()
FROM generate_series(1, 20000) n,
     LATERAL (SELECT ('{available,available,kept,published,purged,purged}'::text[])[n % 6 + 1]) s(status)
"""

LOAD_SLUGS = """
INSERT INTO share_slugs SELECT 'slug-' || n, now() FROM generate_series(1, 20000) n
"""

LOAD_SKIPS = """
INSERT INTO skipped_highlights
SELECT 'skip-' || n, 'account-' || n % 1000, 'vod', 'refined', 'too_short', 'Too short.', 'event-' || n,
       now(), now() - n * interval '10 minutes'
FROM generate_series(1, 20000) n
"""

LOAD_FEEDS = """
INSERT INTO feeds SELECT 'account-' || n, 'slug-' || n, now() FROM generate_series(1, 20000) n
"""

LOAD_NOTICES = """
INSERT INTO expiry_notices
SELECT current_date - n % 3 + 2, 'account-' || n, now() FROM generate_series(1, 20000) n
"""


TABLES = ("generated_clips", "share_slugs", "expiry_notices", "skipped_highlights", "feeds")


async def test_no_query_reads_the_whole_table(database: Database) -> None:
    for load in (LOAD, LOAD_SLUGS, LOAD_NOTICES, LOAD_SKIPS, LOAD_FEEDS):
        await database.run(load)
    async with database.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.exec_driver_sql(f"VACUUM ANALYZE {', '.join(TABLES)}")
        plans = {name: await generic_plan(connection, statement) for name, (statement, _) in SERVED.items()}
    for name, (_, index) in SERVED.items():
        assert index in plans[name], f"{name}: {plans[name]}"
        assert not re.search(rf"Seq Scan on ({'|'.join(TABLES)})", plans[name]), f"{name}: {plans[name]}"
    # A batch is found by the one index and updated by the other: what else is due is not read for it.
    assert "generated_clips_pkey" in plans["purge"], plans["purge"]


async def generic_plan(connection: AsyncConnection, statement: ClauseElement) -> str:
    """The plan that a prepared statement ends up with: made once, for whatever the parameters will be."""
    dialect: Any = asyncpg.dialect()  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy
    query = str(statement.compile(dialect=dialect))
    parameters = max((int(number) for number in re.findall(r"\$(\d+)", query)), default=0)
    arguments = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
    await connection.execute(text("SET plan_cache_mode = force_generic_plan"))
    await connection.exec_driver_sql(f"PREPARE served AS {query}")
    rows = await connection.exec_driver_sql(f"EXPLAIN EXECUTE served{arguments}")
    plan = "\n".join(row[0] for row in rows)
    await connection.exec_driver_sql("DEALLOCATE served")
    await connection.execute(text("RESET plan_cache_mode"))
    return plan
