"""The registry's memory: each transition is one guarded statement, plus its events, in one transaction.

:mod:`clip_registry.clips.statements` says in SQL what :mod:`clip_registry.domain` says in Python, on the
database's clock and on the row as it is at that moment. Whoever's statement matches wins; the other is
told why not. Should the two ever disagree, nothing is committed.

Every method raises TransientError when the database is away, and PermanentError when it refuses the data.
"""

import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Row, RowMapping, Select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from clip_registry import announcements
from clip_registry.clips import statements as sql
from clip_registry.clips.purge_preview import preview_purge
from clip_registry.database.engine import for_queries, reading, transaction
from clip_registry.domain.actions import MAY_MAKE_EPHEMERAL, ActionOutcome, ActionRequest, outcome_of_action
from clip_registry.domain.clips import Clip, Cut, StoredKey, last_watchable_at
from clip_registry.domain.cuts import CutOutcome, cut_offer, outcome_of_cut, released_by_cut
from clip_registry.outbox.outbox import Outbox
from clip_registry.queries.account_queries import AccountQueries
from clip_registry.queries.feeds import Feeds
from clip_registry.queries.skips import Skips
from clip_registry.timers import clip_counts as counts
from clip_registry.timers import metrics_snapshot as figures
from clip_registry.timers.metrics_snapshot import MetricsSnapshot
from clip_shared.contracts.clip_keys import clip_of
from clip_shared.contracts.events import ClipOrigin, Event, PurgeReason, ReleaseReason
from clip_shared.contracts.registry_api import (
    ClipAction,
    ClipStatus,
    DueClips,
    ExpirationResult,
    ExpiryNoticeResult,
)
from clip_shared.errors import PermanentError

SLUG_BYTES = 16
_CLIP_FIELDS = tuple(field.name for field in fields(Clip))
_ENUMS: Mapping[str, Callable[[str], StrEnum]] = {
    "status": ClipStatus,
    "deleted_from": ClipStatus,
    "purge_reason": PurgeReason,
    "origin": ClipOrigin,
}


@dataclass(frozen=True)
class ReportedCut:
    """A cut, and the event that brought it."""

    cut: Cut
    event_id: str
    traceparent: str | None = None


@dataclass(frozen=True)
class RecordedCut:
    """What became of a delivered cut, and the clip as it is now."""

    verdict: CutOutcome
    clip: Clip


class ClipStore:
    """Clips in PostgreSQL.

    ``retention`` is how long an ephemeral clip lives; ``cap``, if any, how many of them an account may have.
    What changes no clip is asked of its parts: ``queries``, ``feeds``, ``skips``.

    ``undo`` is how long a deleted clip can be restored.
    ``notice_days`` before the day on which clips expire, their account is told; 0: it is not.
    ``release_delay`` is how long a URL of an object may live on when its clip has expired, or has another.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        outbox: Outbox,
        *,
        retention: timedelta,
        undo: timedelta = timedelta(minutes=10),
        cap: int | None = None,
        notice_days: int = 0,
        release_delay: timedelta = timedelta(0),
    ) -> None:
        self._engine, self._reader = engine, for_queries(engine)
        self._outbox = outbox
        self._retention = retention
        self._undo = undo
        self.cap = cap
        self._notice_days = notice_days
        self._release_delay = release_delay
        self.queries = AccountQueries(engine, clip_limit=cap)
        self.feeds = Feeds(engine)
        self.skips = Skips(engine)

    async def record(self, deliveries: Sequence[ReportedCut]) -> list[RecordedCut]:
        """Judge delivered cuts in one transaction: all of them take effect, or none.

        Returns:
            what became of each, in the order of the deliveries.
        """
        # In the order of their ids, so that two batches may wait for each other but never in a circle.
        in_order = sorted(enumerate(deliveries), key=lambda each: each[1].cut.clip_id)
        results: dict[int, RecordedCut] = {}
        events: list[Event[Any]] = []
        async with transaction(self._engine) as connection:
            await self._lock_accounts(connection, (each.cut.twitch_account_id for each in deliveries))
            created = await self._insert(connection, [delivery.cut for _, delivery in in_order])
            for index, delivery in in_order:
                clip = created.get(delivery.cut.clip_id)
                if clip is not None and clip.position == delivery.cut.position:
                    recorded = RecordedCut(CutOutcome.CREATED, created.pop(clip.clip_id))
                    events.append(announcements.available(clip, delivery.traceparent))
                else:
                    recorded, consequences = await self._judge(connection, delivery)
                    events += consequences
                results[index] = recorded
            changed = {each.clip.twitch_account_id for each in results.values() if each.verdict.changes_clip}
            events += await self._evict(connection, changed)
            await self._outbox.write(connection, events)
        return [results[index] for index in range(len(deliveries))]

    async def _insert(self, connection: AsyncConnection, cuts: Sequence[Cut]) -> dict[UUID, Clip]:
        """Create the clips that do not exist yet, and return those."""
        rows = [{**_columns_of(cut), **_marks_of(cut), "retention": self._retention} for cut in cuts]
        result = await connection.execute(sql.INSERT_CUT, rows)
        return {clip.clip_id: clip for clip in map(_clip_of, result.mappings())}

    async def _judge(
        self, connection: AsyncConnection, delivery: ReportedCut
    ) -> tuple[RecordedCut, list[Event[Any]]]:
        cut = delivery.cut
        values = {**_columns_of(cut), **_marks_of(cut), "offer": cut_offer(cut)}
        parameters = {f"cut_{name}": value for name, value in values.items()}
        before, after = await self._transition(connection, sql.JUDGE_CUT, cut.clip_id, parameters)
        if before is None:  # its row was trimmed this very moment, and perhaps another cut made a new one
            if created := await self._insert(connection, [cut]):
                clip = created[cut.clip_id]
                return RecordedCut(CutOutcome.CREATED, clip), [
                    announcements.available(clip, delivery.traceparent)
                ]
            before, after = await self._transition(connection, sql.JUDGE_CUT, cut.clip_id, parameters)
        if before is None:
            raise PermanentError(f"clip {cut.clip_id} claims an object or a highlight of another clip")
        verdict, clip = outcome_of_cut(before, cut), after or before
        _agree(verdict.changes_clip, clip.version > before.version)
        _agree(verdict is CutOutcome.OFFERED, clip.offer is not None and clip.offer != before.offer)
        events = [announcements.recut(clip, delivery.traceparent)] if verdict.changes_clip else []
        if verdict is not CutOutcome.FOREIGN:
            objects = await self._unowned(connection, released_by_cut(before, cut, clip))
            reason = ReleaseReason.REPLACED if verdict.changes_clip else ReleaseReason.STALE
            # A stale cut may have been the clip's, until the clip's latest change at the most.
            at = clip.updated_at + self._release_delay
            events += announcements.released(clip, objects, reason, cause_id=delivery.event_id, at=at)
        return RecordedCut(verdict, clip), events

    async def act(self, wish: ActionRequest, clip_id: UUID) -> tuple[ActionOutcome, Clip | None]:
        """Do what an account asks of a clip, if it may; and say what is now so, with the clip as it is."""
        [acted] = await self.act_on_many(wish, [clip_id])
        return acted

    async def act_on_many(
        self, wish: ActionRequest, clip_ids: Sequence[UUID]
    ) -> list[tuple[ActionOutcome, Clip | None]]:
        """Do what an account asks of each clip, if it may, in one transaction.

        Returns:
            for each, in the order asked, what is now so and the clip as it is.
        """
        results: dict[UUID, tuple[ActionOutcome, Clip | None]] = {}
        events: list[Event[Any]] = []
        async with transaction(self._engine) as connection:
            # Who takes several rows of an account takes the account first: an eviction takes them in
            # another order. Rows of other accounts are therefore not taken at all.
            if wish.action in MAY_MAKE_EPHEMERAL or len(clip_ids) > 1:
                await self._lock_accounts(connection, [wish.account_id])
            foreign = await self._foreign(connection, wish, clip_ids)
            # As deliveries are: in the order of their ids.
            for clip_id in sorted(set(clip_ids)):
                if clip_id in foreign:
                    results[clip_id] = outcome_of_action(wish, foreign[clip_id]), foreign[clip_id]
                    continue
                decision, clip = await self._act(connection, wish, clip_id)
                if decision is ActionOutcome.DONE and clip is not None:
                    events.append(announcements.done(wish.action, clip))
                results[clip_id] = decision, clip
            await self._outbox.write(connection, events)
        return [results[clip_id] for clip_id in clip_ids]

    async def _foreign(
        self, connection: AsyncConnection, wish: ActionRequest, clip_ids: Sequence[UUID]
    ) -> dict[UUID, Clip]:
        """Those of several clips that belong to other accounts; a clip's account never changes."""
        if len(clip_ids) == 1:
            return {}
        rows = await connection.execute(sql.FOREIGN, {"account": wish.account_id, "clip_ids": list(clip_ids)})
        return {clip.clip_id: clip for clip in map(_clip_of, rows.mappings())}

    async def _act(
        self, connection: AsyncConnection, wish: ActionRequest, clip_id: UUID
    ) -> tuple[ActionOutcome, Clip | None]:
        full = wish.action in MAY_MAKE_EPHEMERAL and await self._is_full(connection, wish.account_id)
        parameters = {
            "account": wish.account_id,
            "full": full,
            "new_title": wish.title,
            "slug": secrets.token_urlsafe(SLUG_BYTES),
            "undo": self._undo,
            "republishes": wish.republishes,
            **(asdict(wish.options) if wish.options else {}),
        }
        before, after = await self._transition(connection, sql.ACT[wish.action], clip_id, parameters)
        decision = outcome_of_action(wish, before, full=full)
        _agree(decision is ActionOutcome.DONE, after is not None)
        if before and after and after.share_slug not in {None, before.share_slug}:
            await connection.execute(sql.GIVE_OUT_SLUG, {"slug": after.share_slug})
        return decision, after or before

    async def _is_full(self, connection: AsyncConnection, account: str) -> bool:
        """Whether an account, which is locked, may have no further ephemeral clip."""
        if self.cap is None:
            return False
        count: int = (await connection.execute(sql.COUNT_EPHEMERAL, {"account": account})).scalar_one()
        return count >= self.cap

    async def expire(self, limit: int, cutoff: datetime | None) -> ExpirationResult:
        """Purge at most ``limit`` of the clips that were due at ``cutoff``, the earliest first.

        As many that were to be public until then, and no longer, are now only kept. The cutoff is never
        later than the database's present. ``more`` may count a clip that another transaction holds at this
        moment, to purge or to keep it.
        """
        async with transaction(self._engine) as connection:
            due = {"limit": limit, "cutoff": cutoff}
            purged = [_clip_of(row) for row in (await connection.execute(sql.EXPIRE, due)).mappings()]
            ended = [
                _clip_of(row) for row in (await connection.execute(sql.END_PUBLICATIONS, due)).mappings()
            ]
            left = (await connection.execute(sql.STILL_DUE, {"cutoff": cutoff})).one()
            events = [announcements.done(ClipAction.UNPUBLISH, clip) for clip in ended]
            for clip in purged:
                events += announcements.purged(clip, at=last_watchable_at(clip) + self._release_delay)
            await self._outbox.write(connection, events)
        return ExpirationResult(expired=len(purged), more=left.more, cutoff=left.cutoff)

    async def due(self, cutoff: datetime | None = None, *, detailed: bool = False) -> DueClips:
        """What an expiration with this cutoff would purge."""
        return await preview_purge(self._engine, cutoff, detailed=detailed)

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
        """The published clip behind a share link; None: there is none, or none any more."""
        return await self._one(sql.GET_SHARED, {"slug": slug})

    async def was_given_out(self, slug: str) -> bool:
        """Whether a share link ever was one."""
        async with reading(self._reader) as connection:
            return bool((await connection.execute(sql.WAS_GIVEN_OUT, {"slug": slug})).scalar_one())

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

    async def figures(self) -> MetricsSnapshot:
        """Count for the metrics: for a timer, not for a request. Folds what the triggers counted."""
        await counts.fold(self._engine)
        return await figures.take_snapshot(self._engine)

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
        async with reading(self._reader) as connection:
            row = (await connection.execute(statement, parameters)).mappings().one_or_none()
        return _clip_of(row) if row is not None else None


def _columns_of(cut: Cut) -> dict[str, Any]:
    return {name: getattr(cut, name) for name in sql.CUT_COLUMNS}


def _marks_of(cut: Cut) -> dict[str, Any]:
    mine = dict(zip(sql.MARKS[2:] if cut.is_owners else sql.MARKS[:2], cut.position, strict=True))
    return {**dict.fromkeys(sql.MARKS), **mine}


def _clip_of(row: RowMapping, prefix: str = "") -> Clip:
    values = {name: row[prefix + name] for name in _CLIP_FIELDS}
    known = {name: kind(values[name]) for name, kind in _ENUMS.items() if values[name] is not None}
    return Clip(**{**values, **known})


def _agree(rule: bool, guard: bool) -> None:
    """The rule and the guard must have decided alike; if not, roll back rather than guess."""
    if rule != guard:
        raise RuntimeError("the rules in Python and the guard in SQL disagree")
