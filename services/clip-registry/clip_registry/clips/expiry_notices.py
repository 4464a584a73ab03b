"""Notices that an account's clips expire soon."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    ColumnElement,
    Date,
    DateTime,
    Delete,
    Integer,
    Interval,
    Row,
    Select,
    Text,
    Uuid,
    and_,
    bindparam,
    cast,
    delete,
    exists,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by, insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from clip_registry import announcements
from clip_registry.clips.guarded_updates import NOW
from clip_registry.database.tables import (
    AVAILABLE,
    expiry_notices,
)
from clip_registry.database.tables import generated_clips as clips
from clip_registry.database.transactions import transaction
from clip_registry.outbox.outbox import Outbox
from clip_shared.contracts.events import MAX_EXPIRING_CLIP_IDS
from clip_shared.contracts.registry_api import ExpiryNoticeResult

UTC: ColumnElement[str] = literal_column("'UTC'")


def _day(moment: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(func.timezone(UTC, moment), Date)


def _start_of(day: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.timezone(UTC, cast(day, DateTime))


TODAY = _day(NOW)


def _claim_notices() -> Select[Any]:
    """Look at ``limit`` clips without a notice, the first to expire first, from ``since`` on.

    Returns a row for each account and day of expiry: ``met``, the clips looked at; ``reached``, the last
    expiry among them; ``notified``, whether this statement has claimed the notice.
    """
    day = _day(clips.c.expires_at)
    known = exists().where(
        expiry_notices.c.cohort == day, expiry_notices.c.twitch_account_id == clips.c.twitch_account_id
    )
    met = (
        select(clips.c.twitch_account_id, day.label("cohort"), clips.c.expires_at)
        .where(
            AVAILABLE,
            clips.c.expires_at > NOW,
            clips.c.expires_at >= func.coalesce(bindparam("since", type_=DateTime(timezone=True)), NOW),
            clips.c.expires_at < _start_of(TODAY + 1 + bindparam("days", type_=Integer)),
            ~known,
        )
        .order_by(clips.c.expires_at, clips.c.clip_id)
        .limit(bindparam("limit", type_=Integer))
        .cte("met")
    )
    groups = (
        select(
            met.c.cohort,
            met.c.twitch_account_id,
            func.count().label("met"),
            func.max(met.c.expires_at).label("reached"),
        )
        .group_by(met.c.cohort, met.c.twitch_account_id)
        .cte("groups")
    )
    claimed = _claim(groups)
    same = and_(
        groups.c.cohort == claimed.c.cohort, groups.c.twitch_account_id == claimed.c.twitch_account_id
    )
    return select(groups, claimed.c.cohort.is_not(None).label("notified")).select_from(
        groups.outerjoin(claimed, same)
    )


def _claim(groups: CTE) -> CTE:
    # In one order, so that two transactions may wait for each other, but never in a circle.
    key = (groups.c.cohort, groups.c.twitch_account_id)
    return (
        insert(expiry_notices)
        .from_select(
            ["cohort", "twitch_account_id", "noticed_at"],
            select(*key, NOW).select_from(groups).order_by(*key),
        )
        .on_conflict_do_nothing()
        .returning(expiry_notices.c.cohort, expiry_notices.c.twitch_account_id)
        .cte("claimed")
    )


CLAIM = _claim_notices()


def _expiring() -> Select[Any]:
    """The clips that expire on a day, for each pair of the lists ``accounts`` and ``cohorts``."""
    accounts, cohorts = (cast(bindparam(n), ARRAY(t)) for n, t in (("accounts", Text), ("cohorts", Date)))
    asked = func.unnest(accounts, cohorts).table_valued("account", "cohort").render_derived("asked")
    in_order = aggregate_order_by(clips.c.clip_id, clips.c.expires_at, clips.c.clip_id)
    expiring = (
        select(
            func.array_agg(in_order, type_=ARRAY(Uuid))[1:MAX_EXPIRING_CLIP_IDS].label("clip_ids"),
            func.count().label("clip_count"),
        )
        .where(
            clips.c.twitch_account_id == asked.c.account,
            AVAILABLE,
            # Not as a range of expires_at: PostgreSQL would use that index and read every account's clips.
            _day(clips.c.expires_at) == asked.c.cohort,
            clips.c.expires_at - NOW > literal(timedelta(0), Interval),
        )
        .lateral("expiring")
    )
    return select(
        asked.c.account,
        _start_of(asked.c.cohort + 1).label("expires_before"),
        expiring.c.clip_ids,
        expiring.c.clip_count,
    ).where(expiring.c.clip_count > 0)


EXPIRING = _expiring()


def _delete_past() -> Delete:
    past = (
        select(expiry_notices.c.cohort, expiry_notices.c.twitch_account_id)
        .where(expiry_notices.c.cohort < TODAY)
        .limit(bindparam("limit", type_=Integer))
        .with_for_update(skip_locked=True)
        .cte("past")
    )
    return delete(expiry_notices).where(
        expiry_notices.c.cohort == past.c.cohort,
        expiry_notices.c.twitch_account_id == past.c.twitch_account_id,
    )


DELETE_PAST = _delete_past()


class ExpiryNotices:
    """Notices that clips expire soon: one for an account and a day (UTC) of expiry.

    ``days``: an account is told this many days before the day of expiry; 0: never.
    """

    def __init__(self, engine: AsyncEngine, outbox: Outbox, *, days: int) -> None:
        self._engine, self._outbox, self._days = engine, outbox, days

    async def send(self, limit: int, since: datetime | None = None) -> ExpiryNoticeResult:
        """Send the notices that are missing, and delete those of days that are over.

        A clip that gets the same day of expiry after the notice is not announced.

        Args:
            limit: the most clips to look at, the first to expire first.
            since: look only at clips that expire at this moment or later.

        Raises:
            TransientError: the database cannot be used.
        """
        if self._days == 0:
            return ExpiryNoticeResult(notified=0, more=False)
        parameters = {"limit": limit, "days": self._days, "since": since}
        async with transaction(self._engine) as connection:
            groups = (await connection.execute(CLAIM, parameters)).all()
            notified = [group for group in groups if group.notified]
            await self._announce(connection, notified)
            await connection.execute(DELETE_PAST, {"limit": limit})
        return ExpiryNoticeResult(
            notified=len(notified),
            more=sum(group.met for group in groups) == limit,
            reached=max((group.reached for group in groups), default=None),
        )

    async def _announce(self, connection: AsyncConnection, groups: Sequence[Row[Any]]) -> None:
        parameters = {
            "accounts": [group.twitch_account_id for group in groups],
            "cohorts": [group.cohort for group in groups],
        }
        expiring = (await connection.execute(EXPIRING, parameters)).all() if groups else []
        events = (
            announcements.expiring(
                row.account, row.clip_ids, clip_count=row.clip_count, expires_before=row.expires_before
            )
            for row in expiring
        )
        await self._outbox.write(connection, events)
