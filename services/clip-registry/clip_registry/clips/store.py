"""Clips in PostgreSQL: each transition is one guarded statement, and its events, in one transaction.

The statements say in SQL what :mod:`clip_registry.domain` says in Python, by the database's clock and on the
row as it is when the statement runs. When two transitions meet, the statement that locks the row first wins,
and the other one sees what it left. When SQL and Python disagree, nothing is committed.
"""

import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from clip_registry import announcements
from clip_registry.clips import action_statements, cut_statements, lookup_statements, purge_statements
from clip_registry.clips.expiry_notices import ExpiryNotices
from clip_registry.clips.purge_preview import preview_purge
from clip_registry.database.rows import clip_from_row
from clip_registry.database.transactions import for_queries, reading, transaction
from clip_registry.domain.actions import (
    MAY_MAKE_EPHEMERAL,
    ActionOutcome,
    ActionRequest,
    outcome_of_action,
)
from clip_registry.domain.clips import Clip, Cut, StoredKey, last_watchable_at
from clip_registry.domain.cuts import CutOutcome, cut_offer, outcome_of_cut, released_by_cut
from clip_registry.outbox.outbox import Outbox
from clip_registry.queries.account_queries import AccountQueries
from clip_registry.queries.feeds import Feeds
from clip_registry.queries.skips import Skips
from clip_registry.reports import ReportedCut
from clip_shared.contracts.clip_keys import clip_of
from clip_shared.contracts.events import Event, ReleaseReason
from clip_shared.contracts.registry_api import ClipAction, DueClips, ExpirationResult
from clip_shared.errors import PermanentError

SLUG_BYTES = 16


@dataclass(frozen=True)
class RecordedCut:
    """What became of a reported cut, and its clip afterwards."""

    outcome: CutOutcome
    clip: Clip


class ClipStore:
    """Clips in PostgreSQL, and the parts that do not change clips: queries, feeds, skips, notices.

    Every method raises TransientError when the database cannot be used, and PermanentError when it refuses
    the data.

    Args:
        engine: the connections that the store works with.
        outbox: takes the events of every change.
        retention: how long a clip lives that its owner does not keep (an ephemeral clip).
        undo: how long a deleted clip can be restored.
        cap: how many ephemeral clips an account may have; None: no limit.
        notice_days: an account is told this many days before the day on which clips expire; 0: never.
        release_delay: how long a presigned URL of an object may still work after the clip has expired or has
            got another video.
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
        self._release_delay = release_delay
        self.queries = AccountQueries(engine, clip_limit=cap)
        self.feeds = Feeds(engine)
        self.skips = Skips(engine)
        self.notices = ExpiryNotices(engine, outbox, days=notice_days)

    async def record(self, cuts: Sequence[ReportedCut]) -> list[RecordedCut]:
        """Record reported cuts in one transaction: all of them, or none when an error is raised.

        Returns:
            what became of each cut, in the order of ``cuts``.
        """
        # By clip id: two batches may wait for each other's rows, but never in a circle.
        in_order = sorted(enumerate(cuts), key=lambda each: each[1].cut.clip_id)
        results: dict[int, RecordedCut] = {}
        events: list[Event[Any]] = []
        async with transaction(self._engine) as connection:
            await self._lock_accounts(connection, (each.cut.twitch_account_id for each in cuts))
            created = await self._insert(connection, [reported.cut for _, reported in in_order])
            for index, reported in in_order:
                clip = created.get(reported.cut.clip_id)
                if clip is not None and clip.position == reported.cut.position:
                    recorded = RecordedCut(CutOutcome.CREATED, created.pop(clip.clip_id))
                    events.append(announcements.available(clip, reported.traceparent))
                else:
                    recorded, consequences = await self._record_later_cut(connection, reported)
                    events += consequences
                results[index] = recorded
            changed = {each.clip.twitch_account_id for each in results.values() if each.outcome.changes_clip}
            events += await self._expire_surplus(connection, changed)
            await self._outbox.write(connection, events)
        return [results[index] for index in range(len(cuts))]

    async def _insert(self, connection: AsyncConnection, cuts: Sequence[Cut]) -> dict[UUID, Clip]:
        """Create the clips that do not exist yet, and return them."""
        rows = [{**cut_statements.columns_of(cut), "retention": self._retention} for cut in cuts]
        result = await connection.execute(cut_statements.INSERT_CLIP, rows)
        return {clip.clip_id: clip for clip in map(clip_from_row, result.mappings())}

    async def _record_later_cut(
        self, connection: AsyncConnection, reported: ReportedCut
    ) -> tuple[RecordedCut, list[Event[Any]]]:
        """Record a cut whose highlight has a clip already."""
        cut = reported.cut
        before, after = await self._consider(connection, cut)
        if before is None:
            # The row was trimmed a moment ago; another cut may have created it again since.
            if created := await self._insert(connection, [cut]):
                clip = created[cut.clip_id]
                available = announcements.available(clip, reported.traceparent)
                return RecordedCut(CutOutcome.CREATED, clip), [available]
            before, after = await self._consider(connection, cut)
        if before is None:
            raise PermanentError(f"clip {cut.clip_id} claims an object or a highlight of another clip")
        outcome, clip = outcome_of_cut(before, cut), after or before
        _check_agreement(outcome.changes_clip, clip.version > before.version)
        _check_agreement(outcome is CutOutcome.OFFERED, clip.offer is not None and clip.offer != before.offer)
        events = [announcements.recut(clip, reported.traceparent)] if outcome.changes_clip else []
        if outcome is not CutOutcome.FOREIGN:
            objects = await self._orphans_among(connection, released_by_cut(before, cut, clip))
            reason = ReleaseReason.REPLACED if outcome.changes_clip else ReleaseReason.STALE
            # A stale cut's objects may have been the clip's until the clip's latest change.
            at = clip.updated_at + self._release_delay
            events += announcements.released(clip, objects, reason, cause_id=reported.event_id, at=at)
        return RecordedCut(outcome, clip), events

    async def _consider(self, connection: AsyncConnection, cut: Cut) -> tuple[Clip | None, Clip | None]:
        values = {**cut_statements.columns_of(cut), "offer": cut_offer(cut)}
        parameters = {f"cut_{name}": value for name, value in values.items()}
        return await self._transition(connection, cut_statements.CONSIDER_CUT, cut.clip_id, parameters)

    async def act(self, request: ActionRequest, clip_id: UUID) -> tuple[ActionOutcome, Clip | None]:
        """Do what an account asks of a clip, and return the outcome and the clip afterwards."""
        [acted] = await self.act_on_many(request, [clip_id])
        return acted

    async def act_on_many(
        self, request: ActionRequest, clip_ids: Sequence[UUID]
    ) -> list[tuple[ActionOutcome, Clip | None]]:
        """Do what an account asks of several clips, in one transaction.

        Returns:
            the outcome and the clip afterwards (None: no such clip), in the order of ``clip_ids``.
        """
        results: dict[UUID, tuple[ActionOutcome, Clip | None]] = {}
        events: list[Event[Any]] = []
        async with transaction(self._engine) as connection:
            # Several rows of an account are locked only under the account's lock, because the limit of
            # ephemeral clips locks them in another order. Rows of other accounts are not locked at all.
            if request.action in MAY_MAKE_EPHEMERAL or len(clip_ids) > 1:
                await self._lock_accounts(connection, [request.account_id])
            of_others = await self._clips_of_others(connection, request, clip_ids)
            for clip_id in sorted(set(clip_ids)):  # by clip id, as in record()
                if clip_id in of_others:
                    clip = of_others[clip_id]
                    results[clip_id] = outcome_of_action(request, clip), clip
                    continue
                results[clip_id] = outcome, acted = await self._act(connection, request, clip_id)
                if outcome is ActionOutcome.DONE and acted is not None:
                    events.append(announcements.done(request.action, acted))
            await self._outbox.write(connection, events)
        return [results[clip_id] for clip_id in clip_ids]

    async def _clips_of_others(
        self, connection: AsyncConnection, request: ActionRequest, clip_ids: Sequence[UUID]
    ) -> dict[UUID, Clip]:
        """Return those of several clips that belong to other accounts. A clip's account never changes."""
        if len(clip_ids) == 1:
            return {}
        parameters = {"account": request.account_id, "clip_ids": list(clip_ids)}
        rows = await connection.execute(action_statements.OF_OTHER_ACCOUNTS, parameters)
        return {clip.clip_id: clip for clip in map(clip_from_row, rows.mappings())}

    async def _act(
        self, connection: AsyncConnection, request: ActionRequest, clip_id: UUID
    ) -> tuple[ActionOutcome, Clip | None]:
        full = request.action in MAY_MAKE_EPHEMERAL and await self._is_full(connection, request.account_id)
        parameters = {
            "account": request.account_id,
            "full": full,
            "new_title": request.title,
            "slug": secrets.token_urlsafe(SLUG_BYTES),
            "undo": self._undo,
            "republishes": request.republishes,
            **(asdict(request.options) if request.options else {}),
        }
        statement = action_statements.ACT[request.action]
        before, after = await self._transition(connection, statement, clip_id, parameters)
        outcome = outcome_of_action(request, before, full=full)
        _check_agreement(outcome is ActionOutcome.DONE, after is not None)
        if before and after and after.share_slug not in {None, before.share_slug}:
            await connection.execute(action_statements.RECORD_SLUG, {"slug": after.share_slug})
        return outcome, after or before

    async def _is_full(self, connection: AsyncConnection, account: str) -> bool:
        """Whether an account, which is locked, has as many ephemeral clips as it may have."""
        if self.cap is None:
            return False
        result = await connection.execute(action_statements.COUNT_EPHEMERAL, {"account": account})
        count: int = result.scalar_one()
        return count >= self.cap

    async def purge(self, limit: int, cutoff: datetime | None) -> ExpirationResult:
        """Purge at most ``limit`` of the clips that were due at ``cutoff``, the earliest first.

        Publications whose end has come end as well, at most ``limit`` of them: these clips are kept.

        Args:
            limit: the most clips to purge, and the most publications to end.
            cutoff: None, or a moment in the future, stands for now by the database's clock.

        Returns:
            what was done. ``more`` may count a clip that another transaction holds, to purge or to keep it.
        """
        due = {"limit": limit, "cutoff": cutoff}
        async with transaction(self._engine) as connection:
            rows = await connection.execute(purge_statements.PURGE, due)
            purged = [clip_from_row(row) for row in rows.mappings()]
            rows = await connection.execute(purge_statements.END_PUBLICATIONS, due)
            unpublished = [clip_from_row(row) for row in rows.mappings()]
            left = (await connection.execute(purge_statements.STILL_DUE, {"cutoff": cutoff})).one()
            events = [announcements.done(ClipAction.UNPUBLISH, clip) for clip in unpublished]
            for clip in purged:
                events += announcements.purged(clip, at=last_watchable_at(clip) + self._release_delay)
            await self._outbox.write(connection, events)
        return ExpirationResult(expired=len(purged), more=left.more, cutoff=left.cutoff)

    async def due(self, cutoff: datetime | None = None, *, detailed: bool = False) -> DueClips:
        """Return what a purge with this cutoff would purge; ``detailed``: also by day and by account."""
        return await preview_purge(self._engine, cutoff, detailed=detailed)

    async def get(self, clip_id: UUID) -> Clip | None:
        """Return a clip, also one that is purged; None: no such clip."""
        return await self._one(lookup_statements.GET, {"clip_id": clip_id})

    async def get_shared(self, slug: str) -> Clip | None:
        """Return the published clip under a share slug; None: no clip is published under it now."""
        return await self._one(lookup_statements.GET_SHARED, {"slug": slug})

    async def was_shared(self, slug: str) -> bool:
        """Whether a clip was ever published under a share slug."""
        async with reading(self._reader) as connection:
            return bool((await connection.execute(lookup_statements.WAS_SHARED, {"slug": slug})).scalar_one())

    async def orphans(self, bucket: str, keys: Iterable[str]) -> set[str]:
        """Return the keys that no clip owns and whose clip has not changed within the release delay.

        An object is released within that delay after its clip's latest change: a presigned URL may work until
        then.
        """
        async with transaction(self._engine) as connection:
            # First the owners, then the changes: a clip that gets another object in between has just changed.
            orphans = await self._orphans_among(connection, {StoredKey(bucket, key) for key in keys})
            clip_ids = {each.key: clip_of(each.key) for each in orphans}
            changed = await connection.execute(
                lookup_statements.CHANGED_WITHIN,
                {"clip_ids": [each for each in clip_ids.values() if each], "delay": self._release_delay},
            )
            recent = set(changed.scalars())
        return {key for key, clip_id in clip_ids.items() if clip_id not in recent}

    async def check(self) -> None:
        """Check that the database answers, takes writes, and has every table and column of this version."""
        async with transaction(self._engine) as connection:
            for statement in lookup_statements.READINESS:
                await connection.execute(statement)

    async def _transition(
        self, connection: AsyncConnection, statement: Select[Any], clip_id: UUID, parameters: dict[str, Any]
    ) -> tuple[Clip | None, Clip | None]:
        """Run a guarded update.

        Returns:
            the clip before (None: no such clip) and after (None: the guard refused the update).
        """
        result = await connection.execute(
            statement, {**parameters, "of_clip": clip_id, "retention": self._retention}
        )
        row = result.mappings().one_or_none()
        if row is None:
            return None, None
        return clip_from_row(row, "before_"), clip_from_row(row, "after_") if row["after_clip_id"] else None

    async def _lock_accounts(self, connection: AsyncConnection, accounts: Iterable[str]) -> None:
        """With a cap, let one transaction at a time add to an account's ephemeral clips.

        Accounts are locked before any row and in their order, so that a transaction that holds a row never
        waits for an account.
        """
        if self.cap is not None:
            for account in sorted(set(accounts)):
                await connection.execute(cut_statements.LOCK_ACCOUNT, {"account": account})

    async def _expire_surplus(self, connection: AsyncConnection, accounts: Iterable[str]) -> list[Event[Any]]:
        """Let the ephemeral clips above the cap expire now; the next purge takes them."""
        if self.cap is None:
            return []
        events = []
        for account in sorted(accounts):
            parameters = {"account": account, "cap": self.cap}
            rows = await connection.execute(cut_statements.EXPIRE_SURPLUS, parameters)
            events += [announcements.available(clip_from_row(row)) for row in rows.mappings()]
        return events

    async def _orphans_among(
        self, connection: AsyncConnection, objects: Iterable[StoredKey]
    ) -> frozenset[StoredKey]:
        by_bucket: dict[str, list[str]] = defaultdict(list)
        for each in objects:
            by_bucket[each.bucket].append(each.key)
        orphans: set[StoredKey] = set()
        for bucket, keys in by_bucket.items():
            found = await connection.execute(lookup_statements.ORPHANS, {"bucket": bucket, "keys": keys})
            orphans |= {StoredKey(bucket, key) for key in found.scalars()}
        return frozenset(orphans)

    async def _one(self, statement: Select[Any], parameters: dict[str, Any]) -> Clip | None:
        async with reading(self._reader) as connection:
            row = (await connection.execute(statement, parameters)).mappings().one_or_none()
        return clip_from_row(row) if row is not None else None


def _check_agreement(rule: bool, guard: bool) -> None:
    if rule != guard:
        raise RuntimeError(
            f"the rule in Python says {rule}, the guard in SQL says {guard}: the transaction is rolled back"
        )
