"""What a purge would purge: the janitor asks before each purge, and an operator before one that is forced."""

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from clip_registry.database.transactions import transaction
from clip_shared.contracts.registry_api import DueClips, DueDetails, DueOfAccount, DueOnDay

LARGEST = 20
# The details read the row of every clip that is due, from everywhere in the table.
DETAILS_SECONDS = 120
MORE_TIME = f"SET LOCAL statement_timeout = {DETAILS_SECONDS * 1000}"

CUTOFF = bindparam("cutoff", type_=DateTime(timezone=True))
AT = text("SELECT least(coalesce(:cutoff, now()), now())").bindparams(CUTOFF)
DUE = text("""
SELECT count(*) FROM generated_clips WHERE status IN ('available', 'deleted') AND expires_at <= :cutoff
""").bindparams(CUTOFF)
EPHEMERAL = text("""
SELECT CAST(coalesce(sum(clips), 0) AS bigint)
FROM (
    SELECT status, clips FROM clip_counts UNION ALL SELECT status, clips FROM clip_count_changes
) AS counted
WHERE status IN ('available', 'deleted')
""")
BY_DAY = text("""
SELECT
    CAST(expires_at AT TIME ZONE 'UTC' AS date) AS day,
    count(*) AS clips,
    CAST(sum(file_size_bytes) AS bigint) AS bytes
FROM generated_clips WHERE status IN ('available', 'deleted') AND expires_at <= :cutoff
GROUP BY 1 ORDER BY 1
""").bindparams(CUTOFF)
BY_ACCOUNT = text(f"""
SELECT account_id, clips, bytes, count(*) OVER () AS accounts
FROM (
    SELECT
        twitch_account_id AS account_id,
        count(*) AS clips,
        CAST(sum(file_size_bytes) AS bigint) AS bytes
    FROM generated_clips WHERE status IN ('available', 'deleted') AND expires_at <= :cutoff
    GROUP BY 1
) AS by_account
ORDER BY clips DESC, account_id LIMIT {LARGEST}
""").bindparams(CUTOFF)  # noqa: S608 - of constants


async def preview_purge(engine: AsyncEngine, cutoff: datetime | None, *, detailed: bool) -> DueClips:
    """Count the clips that are due at ``cutoff`` (None, or a moment in the future: now).

    Raises:
        TransientError: the database cannot be used.
    """
    async with transaction(engine) as connection:
        if detailed:
            await connection.exec_driver_sql(MORE_TIME)
        at: datetime = (await connection.execute(AT, {"cutoff": cutoff})).scalar_one()
        due: int = (await connection.execute(DUE, {"cutoff": at})).scalar_one()
        ephemeral: int = (await connection.execute(EPHEMERAL)).scalar_one()
        details = await _details(connection, at) if detailed else None
    return DueClips(due=due, ephemeral=max(ephemeral, due), cutoff=at, details=details)


async def _details(connection: AsyncConnection, cutoff: datetime) -> DueDetails:
    parameters: dict[str, Any] = {"cutoff": cutoff}
    days = [DueOnDay(**row) for row in (await connection.execute(BY_DAY, parameters)).mappings()]
    accounts = (await connection.execute(BY_ACCOUNT, parameters)).all()
    return DueDetails(
        bytes=sum(each.bytes for each in days),
        days=tuple(days),
        accounts=accounts[0].accounts if accounts else 0,
        largest=tuple(
            DueOfAccount(account_id=each.account_id, clips=each.clips, bytes=each.bytes) for each in accounts
        ),
    )
