"""Every served query finds its rows by an index, also when PostgreSQL plans it for any parameters."""

import re
from typing import Any

from sqlalchemy import ClauseElement, text
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from clip_registry import statements as sql
from clip_registry.domain import Action
from tests.integration.clip_registry.conftest import Database

SERVED: dict[str, tuple[ClauseElement, str]] = {
    "get": (sql.GET, "generated_clips_pkey"),
    "get shared": (sql.GET_SHARED, "generated_clips_share_slug_key"),
    "list": (sql.LIST, "generated_clips_of_account"),
    "list, next page": (sql.LIST_AFTER, "generated_clips_of_account"),
    "totals": (sql.TOTALS, "generated_clips_of_account"),
    "unowned objects": (sql.UNOWNED, "generated_clips_object"),
    "expire": (sql.EXPIRE, "generated_clips_due"),
    "still due": (sql.STILL_DUE, "generated_clips_due"),
    "notify": (sql.NOTIFY, "generated_clips_due"),
    "expiring": (sql.EXPIRING, "generated_clips_of_account"),
    "forget notices": (sql.FORGET_NOTICES, "expiry_notices_pkey"),
    "overdue": (sql.OVERDUE, "generated_clips_due"),
    "count by status": (sql.STATUS_COUNTS, "generated_clips_live_status"),
    "evict": (sql.EVICT_SURPLUS, "generated_clips_of_account"),
    "replace": (sql.REPLACE_CUT, "generated_clips_pkey"),
    **{action: (sql.ACT[action], "generated_clips_pkey") for action in Action},
}


LOAD = """
INSERT INTO generated_clips
SELECT md5(n::text)::uuid, 'hl-' || n, 'account-' || n % 200, 'vod', 'heuristic', 'title', n % 10, 'clips',
       'clips/' || n || '.mp4', 'clips/' || n || '.jpg', 'video/mp4', 1000, 30, '{}', status,
       CASE WHEN status IN ('available', 'purged') THEN now() + (n % 1000 - 5) * interval '10 minutes' END,
       CASE WHEN status IN ('kept', 'published') THEN now() END,
       CASE WHEN status IN ('kept', 'published') THEN 'account-' || n % 200 END,
       CASE WHEN status = 'published' THEN now() END,
       CASE WHEN status = 'published' THEN 'slug-' || n END,
       CASE WHEN status = 'purged' THEN now() END,
       'event-' || n, now(), 1, now() - n * interval '1 second', now()
FROM generate_series(1, 20000) n,
     LATERAL (SELECT ('{available,available,kept,published,purged,purged}'::text[])[n % 6 + 1]) s(status)
"""

LOAD_NOTICES = """
INSERT INTO expiry_notices
SELECT current_date - n % 3 + 2, 'account-' || n, now() FROM generate_series(1, 20000) n
"""


async def test_no_query_reads_the_whole_table(database: Database) -> None:
    await database.run(LOAD)
    await database.run(LOAD_NOTICES)
    async with database.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.exec_driver_sql("VACUUM ANALYZE generated_clips, expiry_notices")
        plans = {name: await generic_plan(connection, statement) for name, (statement, _) in SERVED.items()}
    for name, (_, index) in SERVED.items():
        assert index in plans[name], f"{name}: {plans[name]}"
        assert not re.search(r"Seq Scan on (generated_clips|expiry_notices)", plans[name]), (
            f"{name}: {plans[name]}"
        )
    # A batch is found by the one index and updated by the other: what else is due is not read for it.
    assert "generated_clips_pkey" in plans["expire"], plans["expire"]


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
