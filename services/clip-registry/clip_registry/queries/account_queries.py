"""What an account sees of its clips and VODs. Nothing here changes anything."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Executable, RowMapping
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.database.rows import clip_record
from clip_registry.database.transactions import for_queries, reading
from clip_registry.domain.clips import VISIBLE
from clip_registry.queries import statements as sql
from clip_registry.queries.clip_lists import ClipFilter, ListPosition
from clip_shared.contracts.registry_api import (
    AccountUsage,
    ClipOrder,
    ClipRecord,
    ClipStatus,
    SkippedHighlight,
    StatusUsage,
    VodDetail,
    VodPage,
    VodSummary,
)

MAX_VODS = 100
MAX_SKIPS = 200
NEXT_TO_EXPIRE = 3
NOTHING = StatusUsage(clips=0, bytes=0)


class AccountQueries:
    """Lists, usage and VODs of accounts, from PostgreSQL.

    ``clip_limit``: how many ephemeral clips an account may have; None: no limit. Every method raises
    TransientError when the database cannot be used.
    """

    def __init__(self, engine: AsyncEngine, *, clip_limit: int | None = None) -> None:
        self._reader = for_queries(engine)
        self._clip_limit = clip_limit

    async def clips_of(
        self,
        account_id: str,
        wanted: ClipFilter,
        order: ClipOrder,
        *,
        limit: int,
        after: ListPosition | None = None,
    ) -> list[ClipRecord]:
        """Return at most ``limit`` clips of an account in this order, beginning after ``after``.

        Expired clips that are not yet purged are among them.
        """
        given = {
            "kinds": list(wanted.kinds),
            "vod_id": wanted.vod_id,
            "title": wanted.title,
        }
        filters = {name: value for name, value in given.items() if value}
        statement = sql.list_clips(order, frozenset(filters), continues=after is not None)
        position = {"value": after.value, "clip_id": after.clip_id} if after else {}
        rows = await self._rows(
            statement, account=account_id, statuses=list(wanted.statuses), limit=limit, **filters, **position
        )
        return [clip_record(row) for row in rows]

    async def usage_of(self, account_id: str) -> AccountUsage:
        """Return how many clips and bytes an account has by status, and the clips that expire first."""
        async with reading(self._reader) as connection:
            counts = await connection.execute(sql.USAGE, {"account": account_id})
            used = {row.status: StatusUsage(clips=row.clips, bytes=row.bytes) for row in counts}
            first = await connection.execute(
                sql.NEXT_TO_EXPIRE, {"account": account_id, "limit": NEXT_TO_EXPIRE}
            )
            return AccountUsage(
                by_status={each: used.get(each, NOTHING) for each in (*VISIBLE, ClipStatus.DELETED)},
                clip_limit=self._clip_limit,
                next_to_expire=tuple(clip_record(row) for row in first.mappings()),
            )

    async def vods_of(self, account_id: str) -> VodPage:
        """Return the VODs that an account has highlights of, the latest first; at most ``MAX_VODS``."""
        rows = await self._rows(sql.VODS, account=account_id, limit=MAX_VODS)
        return VodPage(items=tuple(VodSummary.model_validate(dict(row)) for row in rows))

    async def vod_of(self, account_id: str, vod_id: str) -> VodDetail | None:
        """Return what became of a VOD's highlights; None: the account has no highlight of it."""
        of_vod = {"account": account_id, "vod_id": vod_id}
        async with reading(self._reader) as connection:
            found = await connection.execute(sql.VOD, {**of_vod, "limit": 1})
            summary = found.mappings().one_or_none()
            if summary is None:
                return None
            skips = await connection.execute(sql.SKIPS_OF_VOD, {**of_vod, "limit": MAX_SKIPS})
            return VodDetail(
                summary=VodSummary.model_validate(dict(summary)),
                skips=tuple(SkippedHighlight.model_validate(dict(row)) for row in skips.mappings()),
            )

    async def _rows(self, statement: Executable, **parameters: Any) -> Sequence[RowMapping]:
        async with reading(self._reader) as connection:
            return (await connection.execute(statement, parameters)).mappings().all()
