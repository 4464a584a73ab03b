"""Counts of clips that cost the same however many there are: triggers write each change beside its rows.

``clip_counts`` holds what was counted, by status and by the ten minutes in which the clips expire
(``infinity``: they do not). ``clip_count_changes`` holds what has changed since, in rows of its own for every
statement: no transaction waits for another one's count, and none can wait in a circle. Now and then one
registry folds the changes into the counts. The sum of the two is right at any moment.

Every function raises TransientError when the database is away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.database.engine import transaction

FOLDED_AT_ONCE = 10_000
# Any constant: it only has to be ours alone among the advisory locks of this database.
FOLDING_LOCK = 0x434C4950434F554E
# As the triggers of migration 0005 have it.
EXPIRES_FROM = (
    "CASE WHEN status IN ('available', 'deleted')"
    " THEN date_bin('10 minutes', expires_at, '2000-01-01 00:00:00+00') ELSE 'infinity' END"
)

MAY_FOLD = text(f"SELECT pg_try_advisory_xact_lock({FOLDING_LOCK})")
# A change that is committed later than this statement began is left for the next time, with its counts.
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

# By status and day: -1 for what has expired in ten minutes that are over, null for what does not expire.
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

# One statement sees one moment, so that what others commit meanwhile is no drift; and what is added to the
# changes is still right after what they commit.
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
    """How many clips and bytes of a status the counts lack (negative: have too many)."""

    status: str
    clips: int
    bytes: int


async def fold(engine: AsyncEngine, *, at_once: int = FOLDED_AT_ONCE) -> int:
    """Move the changes into the counts, ``at_once`` in a transaction, unless another registry is at it.

    Returns:
        how many changes were moved.
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
    """Count all clips, and return how far the counts are from that. Reads the whole table, locks nothing."""
    async with transaction(engine) as connection:
        return _drifts((await connection.execute(DRIFT)).all())


async def repair(engine: AsyncEngine) -> int:
    """Count all clips, and correct the counts. Reads the whole table, locks nothing.

    Returns:
        how many counts were corrected.
    """
    async with transaction(engine) as connection:
        return (await connection.execute(REPAIR)).rowcount


def _drifts(rows: Sequence[Row[tuple[str, int, int]]]) -> list[Drift]:
    return [Drift(row.status, int(row.clips), int(row.bytes)) for row in rows]
