"""The registry's memory: each transition is one guarded statement, plus its events, in one transaction.

:mod:`clip_registry.statements` says in SQL what :mod:`clip_registry.domain` says in Python, on the
database's clock and on the row as it is at that moment. Whoever's statement matches wins; the other is
told why not. Should the two ever disagree, nothing is committed.

Every method raises TransientError when the database is away, and PermanentError when it refuses the data.
"""

import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, RowMapping, Select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from clip_registry import announcements
from clip_registry import statements as sql
from clip_registry.database import transaction
from clip_registry.domain import (
    LIVING,
    Action,
    Answer,
    Clip,
    Cut,
    Revision,
    StoredKey,
    Verdict,
    answer,
    judge,
    released_by_cut,
    unwatched_at,
)
from clip_registry.outbox import Outbox
from clip_shared.clip_keys import clip_of
from clip_shared.errors import PermanentError
from clip_shared.events import Event, ReleaseReason
from clip_shared.registry_api import AccountTotals, ClipStatus, ExpirationResult, ExpiryNoticeResult

SLUG_BYTES = 16
_CLIP_FIELDS = tuple(field.name for field in fields(Clip))


@dataclass(frozen=True)
class Offer:
    """A cut, and the event that brought it."""

    cut: Cut
    event_id: str
    traceparent: str | None = None


@dataclass(frozen=True)
class Recorded:
    """What became of an offer, and the clip as it is now."""

    verdict: Verdict
    clip: Clip


@dataclass(frozen=True)
class Figures:
    """The state of the store at one moment, for metrics. Ages in seconds."""

    clips: dict[ClipStatus, int]
    overdue: int
    outbox_depth: int
    outbox_age_seconds: float
    outbox_dead: int


class Store:
    """Clips in PostgreSQL.

    ``retention`` is how long an ephemeral clip lives; ``cap``, if any, how many of them an account may have.
    ``notice_days`` before the day on which clips expire, their account is told; 0: it is not.
    ``release_delay`` is how long a URL of an object may live on when its clip has expired, or has another.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        outbox: Outbox,
        *,
        retention: timedelta,
        cap: int | None = None,
        notice_days: int = 0,
        release_delay: timedelta = timedelta(0),
    ) -> None:
        self._engine = engine
        self._outbox = outbox
        self._retention = retention
        self.cap = cap
        self._notice_days = notice_days
        self._release_delay = release_delay

    async def record(self, offers: Sequence[Offer]) -> list[Recorded]:
        """Judge offered cuts in one transaction: all of them take effect, or none.

        Returns:
            what became of each, in the order of the offers.
        """
        # In the order of their ids, so that two batches may wait for each other but never in a circle.
        in_order = sorted(enumerate(offers), key=lambda each: each[1].cut.clip_id)
        results: dict[int, Recorded] = {}
        events: list[Event[Any]] = []
        async with transaction(self._engine) as connection:
            await self._lock_accounts(connection, (each.cut.twitch_account_id for each in offers))
            created = await self._insert(connection, [offer.cut for _, offer in in_order])
            for index, offer in in_order:
                if offer.cut.revision == _revision_of(created.get(offer.cut.clip_id)):
                    recorded = Recorded(Verdict.CREATED, created.pop(offer.cut.clip_id))
                    events.append(announcements.available(recorded.clip, offer.traceparent))
                else:
                    recorded, consequences = await self._replace(connection, offer)
                    events += consequences
                results[index] = recorded
            changed = {each.clip.twitch_account_id for each in results.values() if each.verdict.changes_clip}
            events += await self._evict(connection, changed)
            await self._outbox.write(connection, events)
        return [results[index] for index in range(len(offers))]

    async def _insert(self, connection: AsyncConnection, cuts: Sequence[Cut]) -> dict[UUID, Clip]:
        """Create the clips that do not exist yet, and return those."""
        rows = [{**_columns_of(cut), "retention": self._retention} for cut in cuts]
        result = await connection.execute(sql.INSERT_CUT, rows)
        return {clip.clip_id: clip for clip in map(_clip_of, result.mappings())}

    async def _replace(self, connection: AsyncConnection, offer: Offer) -> tuple[Recorded, list[Event[Any]]]:
        parameters = {f"cut_{name}": value for name, value in _columns_of(offer.cut).items()}
        before, after = await self._transition(connection, sql.REPLACE_CUT, offer.cut.clip_id, parameters)
        if before is None:
            raise PermanentError(f"clip {offer.cut.clip_id} claims an object or a highlight of another clip")
        verdict = judge(before, offer.cut)
        _agree(allowed=verdict.changes_clip, after=after)
        clip = after or before
        events = [announcements.available(clip, offer.traceparent)] if after else []
        if verdict is not Verdict.FOREIGN:
            objects = await self._unowned(connection, released_by_cut(before, offer.cut, clip))
            reason = ReleaseReason.REPLACED if after else ReleaseReason.STALE
            # A stale cut may have been the clip's, until the clip's latest change at the most.
            at = clip.updated_at + self._release_delay
            events += announcements.released(clip, objects, reason, cause_id=offer.event_id, at=at)
        return Recorded(verdict, clip), events

    async def act(self, action: Action, clip_id: UUID, account_id: str) -> tuple[Answer, Clip | None]:
        """Do what an account asks of a clip, if it may; and say what is now so, with the clip as it is."""
        async with transaction(self._engine) as connection:
            full = action is Action.UNKEEP and await self._is_full(connection, account_id)
            parameters = {"account": account_id, "slug": secrets.token_urlsafe(SLUG_BYTES), "full": full}
            before, after = await self._transition(connection, sql.ACT[action], clip_id, parameters)
            decision = answer(action, before, account_id, full=full)
            _agree(allowed=decision is Answer.DONE, after=after)
            if after is not None:
                await self._outbox.write(connection, [announcements.done(action, after)])
        return decision, after or before

    async def _is_full(self, connection: AsyncConnection, account: str) -> bool:
        """Whether an account may have no further ephemeral clip. Nobody adds one before the commit."""
        if self.cap is None:
            return False
        await self._lock_accounts(connection, [account])
        totals = (await connection.execute(sql.TOTALS, {"account": account})).mappings().one()
        return bool(totals[ClipStatus.AVAILABLE] >= self.cap)

    async def expire(self, limit: int, cutoff: datetime | None) -> ExpirationResult:
        """Purge at most ``limit`` of the clips that were due at ``cutoff``, the earliest first.

        The cutoff is never later than the database's present. ``more`` may count a clip that another
        transaction holds at this moment, to purge or to keep it.
        """
        async with transaction(self._engine) as connection:
            rows = await connection.execute(sql.EXPIRE, {"limit": limit, "cutoff": cutoff})
            purged = [_clip_of(row) for row in rows.mappings()]
            left = (await connection.execute(sql.STILL_DUE, {"cutoff": cutoff})).one()
            events = (
                event
                for clip in purged
                for event in announcements.purged(clip, at=unwatched_at(clip) + self._release_delay)
            )
            await self._outbox.write(connection, events)
        return ExpirationResult(expired=len(purged), more=left.more, cutoff=left.cutoff)

    async def notify(self, limit: int, since: datetime | None = None) -> ExpiryNoticeResult:
        """Tell accounts what of theirs expires on a day within ``notice_days`` from today.

        Looks at no more than ``limit`` clips of which nobody was told, the earliest to expire first, from
        ``since`` on. Once for each account and day (UTC): what joins that day later is not told of. Notices
        of days that are over are forgotten.
        """
        if self._notice_days == 0:
            return ExpiryNoticeResult(notified=0, more=False)
        parameters = {"limit": limit, "days": self._notice_days, "since": since}
        async with transaction(self._engine) as connection:
            groups = (await connection.execute(sql.NOTIFY, parameters)).all()
            told = [group for group in groups if group.told]
            await self._announce_expiry(connection, told)
            await connection.execute(sql.FORGET_NOTICES, {"limit": limit})
        return ExpiryNoticeResult(
            notified=len(told),
            more=sum(group.met for group in groups) == limit,
            reached=max((group.reached for group in groups), default=None),
        )

    async def _announce_expiry(self, connection: AsyncConnection, groups: Sequence[Row[Any]]) -> None:
        parameters = {
            "accounts": [group.twitch_account_id for group in groups],
            "cohorts": [group.cohort for group in groups],
        }
        expiring = (await connection.execute(sql.EXPIRING, parameters)).all() if groups else []
        await self._outbox.write(
            connection,
            (
                announcements.expiring(
                    row.account, row.clip_ids, clip_count=row.clip_count, expires_before=row.expires_before
                )
                for row in expiring
            ),
        )

    async def get(self, clip_id: UUID) -> Clip | None:
        """The clip, purged ones too."""
        return await self._one(sql.GET, {"clip_id": clip_id})

    async def get_shared(self, slug: str) -> Clip | None:
        """The published clip behind a share link."""
        return await self._one(sql.GET_SHARED, {"slug": slug})

    async def list_clips(
        self,
        account_id: str,
        statuses: Iterable[ClipStatus],
        *,
        limit: int,
        after: tuple[datetime, UUID] | None,
    ) -> list[Clip]:
        """An account's living, unexpired clips, newest first, from after a (created_at, clip_id) on."""
        parameters: dict[str, Any] = {"account": account_id, "statuses": list(statuses), "limit": limit}
        if after is not None:
            parameters |= {"created_at": after[0], "clip_id": after[1]}
        async with transaction(self._engine) as connection:
            rows = await connection.execute(sql.LIST_AFTER if after else sql.LIST, parameters)
            return [_clip_of(row) for row in rows.mappings()]

    async def totals(self, account_id: str) -> AccountTotals:
        """How much of each an account has, without what has expired."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(sql.TOTALS, {"account": account_id})).mappings().one()
            return AccountTotals.model_validate(dict(row))

    async def unknown_objects(self, bucket: str, keys: Iterable[str]) -> set[str]:
        """Those of the keys that no clip owns, and whose clip has not changed within the release delay.

        Every release leaves within that delay of its clip's latest change: until then, URLs may live.
        """
        async with transaction(self._engine) as connection:
            # First who owns them: a clip that is given another object meanwhile has changed just now.
            unowned = await self._unowned(connection, {StoredKey(bucket, key) for key in keys})
            clip_ids = {each.key: clip_of(each.key) for each in unowned}
            changed = await connection.execute(
                sql.CHANGED_WITHIN,
                {"clip_ids": [each for each in clip_ids.values() if each], "delay": self._release_delay},
            )
            recent = set(changed.scalars())
        return {key for key, clip_id in clip_ids.items() if clip_id not in recent}

    async def figures(self) -> Figures:
        """Count for the metrics. Reads an index of the living clips: for a timer, not for a request."""
        async with transaction(self._engine) as connection:
            counts = {row.status: row.number for row in await connection.execute(sql.STATUS_COUNTS)}
            overdue = (await connection.execute(sql.OVERDUE)).scalar_one()
            depth, age = (await connection.execute(sql.OUTBOX_BACKLOG)).one()
            dead = (await connection.execute(sql.OUTBOX_DEAD)).scalar_one()
        return Figures(
            clips={status: counts.get(status, 0) for status in LIVING},
            overdue=overdue,
            outbox_depth=depth,
            outbox_age_seconds=age,
            outbox_dead=dead,
        )

    async def check(self) -> None:
        """Whether the database answers, and has the tables and columns that this version needs."""
        async with transaction(self._engine) as connection:
            for statement in sql.READINESS:
                await connection.execute(statement)

    async def _transition(
        self, connection: AsyncConnection, statement: Select[Any], clip_id: UUID, parameters: dict[str, Any]
    ) -> tuple[Clip | None, Clip | None]:
        """Run a guarded update: the clip before (None: no such clip) and after (None: the guard refused)."""
        result = await connection.execute(
            statement, {**parameters, "of_clip": clip_id, "retention": self._retention}
        )
        row = result.mappings().one_or_none()
        if row is None:
            return None, None
        return _clip_of(row, "before_"), _clip_of(row, "after_") if row["after_clip_id"] else None

    async def _lock_accounts(self, connection: AsyncConnection, accounts: Iterable[str]) -> None:
        """With a cap, let one transaction at a time add to an account's ephemeral clips.

        Before any row is locked and in the accounts' order: nobody who holds a row waits for an account.
        """
        if self.cap is not None:
            for account in sorted(set(accounts)):
                await connection.execute(sql.LOCK_ACCOUNT, {"account": account})

    async def _evict(self, connection: AsyncConnection, accounts: Iterable[str]) -> list[Event[Any]]:
        """Let the ephemeral clips above the cap expire now; the next expiration purges them."""
        if self.cap is None:
            return []
        events = []
        for account in sorted(accounts):
            rows = await connection.execute(sql.EVICT_SURPLUS, {"account": account, "cap": self.cap})
            events += [announcements.available(_clip_of(row)) for row in rows.mappings()]
        return events

    async def _unowned(
        self, connection: AsyncConnection, objects: Iterable[StoredKey]
    ) -> frozenset[StoredKey]:
        by_bucket: dict[str, list[str]] = defaultdict(list)
        for each in objects:
            by_bucket[each.bucket].append(each.key)
        unowned: set[StoredKey] = set()
        for bucket, keys in by_bucket.items():
            found = await connection.execute(sql.UNOWNED, {"bucket": bucket, "keys": keys})
            unowned |= {StoredKey(bucket, key) for key in found.scalars()}
        return frozenset(unowned)

    async def _one(self, statement: Select[Any], parameters: dict[str, Any]) -> Clip | None:
        async with transaction(self._engine) as connection:
            row = (await connection.execute(statement, parameters)).mappings().one_or_none()
        return _clip_of(row) if row is not None else None


def _columns_of(cut: Cut) -> dict[str, Any]:
    return {name: getattr(cut, name) for name in sql.CUT_COLUMNS}


def _clip_of(row: RowMapping, prefix: str = "") -> Clip:
    values = {name: row[prefix + name] for name in _CLIP_FIELDS}
    return Clip(**{**values, "status": ClipStatus(values["status"])})


def _revision_of(clip: Clip | None) -> Revision | None:
    return clip.revision if clip else None


def _agree(*, allowed: bool, after: Clip | None) -> None:
    """The rule and the guard must have decided alike; if not, roll back rather than guess."""
    if allowed != (after is not None):
        raise RuntimeError("the rules in Python and the guard in SQL disagree")
