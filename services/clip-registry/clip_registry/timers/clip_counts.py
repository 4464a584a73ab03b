"""Counts of clips whose cost does not grow with the clips: triggers write each change beside its rows.

``clip_counts`` has the counts, by status and by the period of ten minutes in which the clips expire
(``infinity``: they do not expire). ``clip_count_changes`` has the changes since then: every statement writes
rows of its own, so that no transaction waits for the count of another one. At an interval one registry folds
the changes into the counts. The sum of the two tables is right at any moment.

Every function raises TransientError when the database cannot be used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.database.transactions import transaction

FOLD_BATCH_ROWS = 10_000
# An arbitrary constant that no other advisory lock of this database has.
FOLDING_LOCK = 0x434C4950434F554E
# The same expression as in the triggers of migration 0005.
EXPIRES_FROM = (
    "CASE WHEN status IN ('available', 'deleted')"
    " THEN date_bin('10 minutes', expires_at, '2000-01-01 00:00:00+00') ELSE 'infinity' END"
)

MAY_FOLD = text(f"SELECT pg_try_advisory_xact_lock({FOLDING_LOCK})")
# A change that is committed after this statement began waits for the next time.
FOLD = text("""
WITH folded AS (
    DELETE FROM clip_count_changes
    WHERE id = ANY (ARRAY(SELECT id FROM clip_count_changes ORDER BY id LIMIT :limit))
    RETURNING status, expires_from, clips, bytes
), added AS (
    INSERT INTO clip_counts AS counts (status, expires_from, clips, bytes)
    SELECT status, expires_from, sum(clips), sum(bytes) FROM folded GROUP BY 1, 2
    ON CONFLICT (status, expires_from)
    DO UPDATE SET clips = counts.clips + excluded.clips, bytes = counts.bytes + excluded.bytes
)
SELECT count(*) FROM folded
""")
DROP_EMPTY = text("DELETE FROM clip_counts WHERE clips = 0 AND bytes = 0")

# By status and day: -1 for clips that expired in a period that is over, null for clips that do not expire.
BY_STATUS_AND_DAY = text("""
SELECT
    status,
    CASE
        WHEN expires_from = 'infinity' THEN NULL
        WHEN expires_from <= now() - interval '10 minutes' THEN -1
        ELSE greatest(0, floor(extract(epoch FROM expires_from - now()) / 86400))
    END AS day,
    CAST(sum(clips) AS bigint) AS clips,
    CAST(sum(bytes) AS bigint) AS bytes
FROM (
    SELECT status, expires_from, clips, bytes FROM clip_counts
    UNION ALL SELECT status, expires_from, clips, bytes FROM clip_count_changes
) AS counted
GROUP BY 1, 2
""")

# A single statement sees the database at one moment, so that changes committed meanwhile are not counted as
# drift. What it adds to the changes stays right after them.
_DRIFT = f"""
SELECT status, expires_from, CAST(sum(clips) AS bigint) AS clips, CAST(sum(bytes) AS bigint) AS bytes
FROM (
    SELECT status, {EXPIRES_FROM} AS expires_from, count(*) AS clips, sum(file_size_bytes) AS bytes
    FROM generated_clips GROUP BY 1, 2
    UNION ALL SELECT status, expires_from, -clips, -bytes FROM clip_counts
    UNION ALL SELECT status, expires_from, -clips, -bytes FROM clip_count_changes
) AS found
GROUP BY 1, 2 HAVING sum(clips) <> 0 OR sum(bytes) <> 0
"""  # noqa: S608 - of constants
DRIFT = text(f"SELECT status, sum(clips) AS clips, sum(bytes) AS bytes FROM ({_DRIFT}) AS d GROUP BY 1")  # noqa: S608
REPAIR = text(f"INSERT INTO clip_count_changes (status, expires_from, clips, bytes) {_DRIFT}")


@dataclass(frozen=True)
class Drift:
    """How many clips and bytes of a status are missing in the counts; negative: the counts have too many."""

    status: str
    clips: int
    bytes: int


async def fold(engine: AsyncEngine, *, at_once: int = FOLD_BATCH_ROWS) -> int:
    """Move the changes into the counts, ``at_once`` in a transaction, unless another registry does so now.

    Returns:
        the number of changes that were moved.
    """
    moved = 0
    while True:
        async with transaction(engine) as connection:
            if not (await connection.execute(MAY_FOLD)).scalar_one():
                return moved
            number: int = (await connection.execute(FOLD, {"limit": at_once})).scalar_one()
            if number:
                await connection.execute(DROP_EMPTY)
        moved += number
        if number < at_once:
            return moved


async def drift(engine: AsyncEngine) -> list[Drift]:
    """Count all clips and return where the counts differ. Reads the whole table, locks nothing."""
    async with transaction(engine) as connection:
        return _drifts((await connection.execute(DRIFT)).all())


async def repair(engine: AsyncEngine) -> int:
    """Count all clips and correct the counts. Reads the whole table, locks nothing.

    Returns:
        the number of counts that were corrected.
    """
    async with transaction(engine) as connection:
        return (await connection.execute(REPAIR)).rowcount


def _drifts(rows: Sequence[Row[tuple[str, int, int]]]) -> list[Drift]:
    return [Drift(row.status, int(row.clips), int(row.bytes)) for row in rows]
