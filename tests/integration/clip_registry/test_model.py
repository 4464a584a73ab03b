"""The registry against a model of it: any sequence of events, wishes, ticks and crashes, on PostgreSQL.

After every step the store holds what the model holds, and the promises hold: nobody who was told "kept"
loses the clip, no object is forgotten or taken from under a clip, versions have no gap, nothing is told
twice as two things.
"""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Self, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from clip_registry.clips.store import ClipStore, ReportedCut
from clip_registry.database.engine import open_engine
from clip_registry.domain.actions import ActionOutcome, ActionRequest
from clip_registry.domain.clips import Cut, CutPosition, StoredKey
from clip_registry.domain.cuts import CutOutcome
from clip_shared.contracts.events import ClipOrigin
from clip_shared.contracts.registry_api import ClipAction, ClipStatus
from tests.integration.clip_registry.conftest import Database
from tests.unit.clip_registry.cuts import HOUR, NOON, OPTIONS, a_cut, an_action

Result = TypeVar("Result")

AVAILABLE, KEPT, PUBLISHED, DELETED, PURGED = ClipStatus
DONE, UNCHANGED, NOT_ALLOWED = ActionOutcome.DONE, ActionOutcome.UNCHANGED, ActionOutcome.NOT_ALLOWED
EXAMPLES, STEPS = 50, 25
NOTICE_DAYS = 1
EVERYTHING = 5000


@dataclass
class Life:
    """A clip in the model.

    ``over``: it has expired (but is not purged). ``was``: what it was before it was deleted. ``ended``: it
    was to be public until a moment that is past. ``judged``: the newest cut that was judged of its owner
    (True) and of detectors (False).
    """

    cut: Cut
    title: str
    judged: dict[bool, CutPosition]
    status: ClipStatus = AVAILABLE
    version: int = 1
    revision: int = 1
    over: bool = False
    was: ClipStatus | None = None
    reason: str | None = None
    is_renamed: bool = False
    offer: str | None = None
    downloadable: bool = False
    ended: bool = False

    @classmethod
    def begin(cls, cut: Cut) -> Self:
        return cls(cut, cut.title, {cut.is_owners: cut.position})

    @property
    def is_ephemeral(self) -> bool:
        return self.status is AVAILABLE and not self.over

    @property
    def decided(self) -> ClipStatus:
        """What it is, or would be again."""
        return self.was or self.status


# What an owner is told and what the clip then is, by what it was. Restored, it is what it was before.
WISHES: dict[ClipAction, dict[ClipStatus, tuple[ActionOutcome, ClipStatus]]] = {
    ClipAction.KEEP: {
        AVAILABLE: (DONE, KEPT),
        KEPT: (UNCHANGED, KEPT),
        PUBLISHED: (UNCHANGED, PUBLISHED),
        DELETED: (NOT_ALLOWED, DELETED),
    },
    ClipAction.UNKEEP: {
        AVAILABLE: (UNCHANGED, AVAILABLE),
        KEPT: (DONE, AVAILABLE),
        PUBLISHED: (NOT_ALLOWED, PUBLISHED),
        DELETED: (NOT_ALLOWED, DELETED),
    },
    ClipAction.PUBLISH: {
        AVAILABLE: (DONE, PUBLISHED),
        KEPT: (DONE, PUBLISHED),
        PUBLISHED: (DONE, PUBLISHED),  # unless nothing would change
        DELETED: (NOT_ALLOWED, DELETED),
    },
    ClipAction.UNPUBLISH: {
        AVAILABLE: (UNCHANGED, AVAILABLE),
        KEPT: (UNCHANGED, KEPT),
        PUBLISHED: (DONE, KEPT),
        DELETED: (NOT_ALLOWED, DELETED),
    },
    ClipAction.DELETE: {
        AVAILABLE: (DONE, DELETED),
        KEPT: (DONE, DELETED),
        PUBLISHED: (DONE, DELETED),
        DELETED: (UNCHANGED, DELETED),
    },
    ClipAction.RESTORE: {
        AVAILABLE: (UNCHANGED, AVAILABLE),
        KEPT: (UNCHANGED, KEPT),
        PUBLISHED: (UNCHANGED, PUBLISHED),
    },
    ClipAction.RENAME: {
        AVAILABLE: (DONE, AVAILABLE),  # unless it has that title
        KEPT: (DONE, KEPT),
        PUBLISHED: (DONE, PUBLISHED),
        DELETED: (NOT_ALLOWED, DELETED),
    },
}


class Model:
    """What the registry should do, in the plainest words: no database, no clock.

    A highlight is from ``long_ago``, before any purge of this test, or from after all of them.
    """

    def __init__(self, cap: int | None, long_ago: datetime) -> None:
        self.cap = cap
        self.evicted = 0
        self._long_ago = long_ago
        self.lives: dict[UUID, Life] = {}

    def offer(self, cuts: list[Cut]) -> list[CutOutcome]:
        verdicts = [self._offer(cut) for cut in cuts]
        for cut, verdict in zip(cuts, verdicts, strict=True):
            if verdict.changes_clip:
                self._evict(cut.twitch_account_id)
        return verdicts

    def _offer(self, cut: Cut) -> CutOutcome:
        life = self.lives.get(cut.clip_id)
        if life is None:
            self.lives[cut.clip_id] = Life.begin(cut)
            return CutOutcome.CREATED
        if cut.twitch_account_id != life.cut.twitch_account_id:
            return CutOutcome.FOREIGN
        if cut == life.cut:
            return CutOutcome.REPEATED
        if cut.is_owners in life.judged and cut.position <= life.judged[cut.is_owners]:
            return CutOutcome.STALE
        life.judged[cut.is_owners] = cut.position
        verdict = self._verdict(life, cut)
        if verdict is CutOutcome.OFFERED:
            life.offer = cut.highlight_event_id
        if verdict.changes_clip:
            _take(life, cut)
        return verdict

    def _verdict(self, life: Life, cut: Cut) -> CutOutcome:
        if life.status is PURGED:
            came_after = cut.highlight_detected_at > self._long_ago
            revives = (
                cut.is_owners and came_after if life.reason == "deleted" else cut.is_owners or came_after
            )
            return CutOutcome.RECUT if revives else CutOutcome.STALE
        if cut.is_owners:
            return CutOutcome.REPLACED
        if life.status is AVAILABLE:
            return CutOutcome.STALE if life.cut.is_owners else CutOutcome.REPLACED
        return CutOutcome.OFFERED if cut.position > life.cut.position else CutOutcome.STALE

    def wish(self, wish: ActionRequest, clip_id: UUID) -> ActionOutcome:
        life = self.lives.get(clip_id)
        if life is None or life.status is PURGED:
            return ActionOutcome.UNKNOWN
        if wish.account_id != life.cut.twitch_account_id:
            return ActionOutcome.NOT_OWNER
        if wish.action is ClipAction.RESTORE and life.was is not None:
            answer, status = DONE, life.was
        else:
            answer, status = WISHES[wish.action][life.status]
        if answer is DONE and _is_so_already(life, wish):
            return UNCHANGED
        is_let_go = status is AVAILABLE and life.status is not AVAILABLE
        if answer is DONE and is_let_go and len(self._ephemeral_of(wish.account_id)) == self.cap:
            return ActionOutcome.FULL
        if answer is DONE:
            _fulfil(life, wish, status)
        return answer

    def purge(self, clip_ids: set[UUID]) -> None:
        for clip_id in clip_ids:
            life = self.lives[clip_id]
            assert life.status in {AVAILABLE, DELETED}
            assert life.over
            life.status, life.was, life.version = PURGED, None, life.version + 1
            life.reason = life.reason or "expired"
            life.is_renamed, life.offer, life.ended = False, None, False

    def end(self, clip_ids: set[UUID]) -> None:
        for clip_id in clip_ids:
            life = self.lives[clip_id]
            assert (life.status, life.ended) == (PUBLISHED, True)
            life.status, life.ended, life.version = KEPT, False, life.version + 1

    def _evict(self, account: str) -> None:
        theirs = sorted(self._ephemeral_of(account), key=_worth, reverse=True)
        for life in theirs[self.cap :] if self.cap is not None else []:
            life.over, life.reason = True, "evicted"
            life.version += 1
            self.evicted += 1

    def _ephemeral_of(self, account: str) -> list[Life]:
        return [
            life
            for life in self.lives.values()
            if life.is_ephemeral and life.cut.twitch_account_id == account
        ]


def _take(life: Life, cut: Cut) -> None:
    """The clip has this video now."""
    life.title = life.title if life.is_renamed else cut.title
    life.cut, life.offer = cut, None
    life.version, life.revision = life.version + 1, life.revision + 1
    if life.status is not DELETED:
        life.over, life.reason = False, None
    if life.status is PURGED:
        life.status = AVAILABLE


def _is_so_already(life: Life, wish: ActionRequest) -> bool:
    if wish.action is ClipAction.RENAME:
        return life.title == wish.title
    return (
        wish.action is ClipAction.PUBLISH
        and life.status is PUBLISHED
        and not life.ended
        and wish.options is not None
        and life.downloadable == wish.options.downloadable
    )


def _fulfil(life: Life, wish: ActionRequest, status: ClipStatus) -> None:
    life.version += 1
    if wish.action is ClipAction.RENAME:
        life.title, life.is_renamed = wish.title or "", True
        return
    if wish.options is not None:
        life.downloadable, life.ended = wish.options.downloadable, False
    if wish.action is ClipAction.UNPUBLISH:
        life.ended = False
    is_deleted = status is DELETED
    life.was = life.status if is_deleted else None
    life.status, life.over, life.reason = status, False, "deleted" if is_deleted else None


def _worth(life: Life) -> tuple[float, datetime, UUID]:
    score = life.cut.score
    return (-1 if score is None else score), life.cut.highlight_detected_at, life.cut.clip_id


@dataclass
class Told:
    """What the registry has written to its outbox."""

    seen: int = 0
    by_id: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    versions: dict[UUID, list[int]] = field(default_factory=lambda: defaultdict(list))
    released: set[StoredKey] = field(default_factory=set)
    notices: list[tuple[str, str]] = field(default_factory=list)

    def add(self, event_id: str, kind: str, data: dict[str, Any]) -> None:
        assert self.by_id.setdefault(event_id, (kind, data)) == (kind, data)
        if "object_key" in data:
            self.released.add(StoredKey(data["bucket"], data["object_key"]))
        elif kind == "clip.expiring.v1":
            self.notices.append((data["twitch_account_id"], data["expires_before"]))
        else:
            self.versions[UUID(data["clip_id"])].append(data["version"])


class World:
    """A database, and a loop of its own to reach it from Hypothesis's synchronous steps."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.Runner()
        engine = open_engine(url, pool_size=2, statement_timeout_seconds=10)
        self.database = Database(url, engine)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._loop.run(work)

    def sql(self, statement: str, **parameters: Any) -> list[Any]:
        return self.run(self.database.run(statement, **parameters))

    def close(self) -> None:
        self.run(self.database.engine.dispose())
        self._loop.close()


highlights = st.sampled_from(["one", "two", "three", "four"])
cuts = st.fixed_dictionaries(
    {
        "highlight": highlights,
        "event": st.sampled_from(["A", "b", "c", "d", "e_", "f-"]),
        "hours": st.integers(0, 3),
        "is_new": st.booleans(),
        "account": st.sampled_from(["ann"] * 5 + ["bob"]),
        "score": st.sampled_from([None, 0.0, 1.0, 2.0]),
        "kind": st.sampled_from(["heuristic", "refined"]),
        "origin": st.sampled_from([ClipOrigin.DETECTOR] * 3 + [ClipOrigin.OWNER]),
        "has_poster": st.booleans(),
    }
)


class Crash(Exception):
    """The registry died just before it committed."""


class Registry(RuleBasedStateMachine):
    """The steps, and what must be so after each."""

    world: World
    happened: Counter[str]

    @initialize(
        cap=st.sampled_from([2, None, 1]),
        first=st.lists(cuts, min_size=3, max_size=6),
    )
    def begin(self, cap: int | None, first: list[dict[str, Any]]) -> None:
        self.world.sql(
            "TRUNCATE generated_clips, share_slugs, expiry_notices, outbox, outbox_dlq RESTART IDENTITY"
        )
        self.store: ClipStore = self.world.database.store(cap=cap, notice_days=NOTICE_DAYS)
        self.now = datetime.now(UTC)
        self.model = Model(cap, long_ago=self.now)
        self.cuts: dict[tuple[str, str], Cut] = {}
        self.history: list[Cut] = []
        self.promised: set[UUID] = set()
        self.told = Told()
        self.times = 0
        self.cuts_arrive(first)

    # Events of the cutter.

    def cut(self, drawn: dict[str, Any]) -> Cut:
        """The cut of an event: what was drawn first stays its content."""
        highlight, event, has_poster = drawn["highlight"], drawn["event"], drawn["has_poster"]
        beginning = self.now + HOUR if drawn["is_new"] else NOON
        cut = a_cut(
            highlight,
            f"{highlight}-{event}",
            beginning + drawn["hours"] * HOUR,
            drawn["account"],
            score=drawn["score"],
            kind=drawn["kind"],
            origin=drawn["origin"],
            **({} if has_poster else {"poster_key": None}),
        )
        return self.cuts.setdefault((highlight, event), cut)

    def deliver(self, batch: list[Cut]) -> list[CutOutcome]:
        recorded = self.world.run(self.store.record([_offer(cut) for cut in batch]))
        verdicts = self.model.offer(batch)
        assert [each.verdict for each in recorded] == verdicts
        self.happened.update(verdicts)
        return verdicts

    @rule(batch=st.lists(cuts, min_size=1, max_size=4))
    def cuts_arrive(self, batch: list[dict[str, Any]]) -> None:
        arrived = [self.cut(drawn) for drawn in batch]
        self.history += arrived
        self.deliver(arrived)

    @rule(data=st.data(), drawn=cuts)
    def a_newer_cut_arrives(self, data: st.DataObject, drawn: dict[str, Any]) -> None:
        """Newer than every other, of a clip that there is."""
        self.times += 1
        of = self.model.lives[self._one_of(data)].cut
        newest = {"highlight": of.stream_highlight_id, "account": of.twitch_account_id, "is_new": True}
        newer = {"event": f"newer-{self.times}", "hours": 3 + self.times}
        self.cuts_arrive([{**drawn, **newest, **newer}])

    def _one_of(self, data: st.DataObject) -> UUID:
        """A clip that there is."""
        return data.draw(st.sampled_from(list(self.model.lives)))

    @rule(data=st.data())
    def some_arrive_again_in_another_order(self, data: st.DataObject) -> None:
        self.deliver(data.draw(st.lists(st.sampled_from(self.history), min_size=1, max_size=6)))

    @rule()
    def everything_is_replayed_from_zero(self) -> None:
        assert not any(verdict.changes_clip for verdict in self.deliver(self.history))

    # Wishes of streamers.

    @rule(data=st.data(), action=st.sampled_from(ClipAction))
    def an_owner_wishes(self, data: st.DataObject, action: ClipAction) -> None:
        clip_id = self._one_of(data)
        self._wish(action, clip_id, self.model.lives[clip_id].cut.twitch_account_id)

    @rule(data=st.data(), action=st.sampled_from(ClipAction))
    def a_stranger_wishes(self, data: st.DataObject, action: ClipAction) -> None:
        self._wish(action, self._one_of(data), "stranger")

    @rule(action=st.sampled_from(ClipAction))
    def everybody_wishes(self, action: ClipAction) -> None:
        for clip_id, life in self.model.lives.items():
            self._wish(action, clip_id, life.cut.twitch_account_id)

    @rule()
    def everybody_keeps_everything_and_lets_go_of_it(self) -> None:
        self.everybody_wishes(ClipAction.KEEP)
        self.everybody_wishes(ClipAction.UNKEEP)

    def _wish(self, action: ClipAction, clip_id: UUID, account: str) -> None:
        wish = self._wish_for(action, account)
        answer, clip = self.world.run(self.store.act(wish, clip_id))
        assert answer is self.model.wish(wish, clip_id)
        self.happened[answer] += 1
        if answer not in {DONE, UNCHANGED}:
            return
        assert clip is not None
        if clip.status in {KEPT, PUBLISHED}:
            self.promised.add(clip_id)
        else:
            self.promised.discard(clip_id)

    def _wish_for(self, action: ClipAction, account: str) -> ActionRequest:
        self.times += 1
        if action is ClipAction.PUBLISH:
            return an_action(action, account, options=replace(OPTIONS, downloadable=self.times % 2 == 0))
        return an_action(action, account)

    # Time, and ticks.

    @rule(data=st.data())
    def time_runs_out(self, data: st.DataObject) -> None:
        for clip_id in data.draw(st.sets(st.sampled_from(list(self.model.lives)), min_size=1)):
            self.times += 1
            if self._let_expire(clip_id, -timedelta(minutes=self.times)):
                self.model.lives[clip_id].over = True

    @rule(data=st.data(), limit=st.sampled_from([EVERYTHING, 1]))
    def an_end_comes_near_and_a_tick_comes(self, data: st.DataObject, limit: int) -> None:
        clip_id = self._one_of(data)
        if not self.model.lives[clip_id].over:
            self._let_expire(clip_id, HOUR)
        self.a_tick_gives_notice(limit)

    def _let_expire(self, clip_id: UUID, span: timedelta) -> bool:
        return bool(
            self.world.sql(
                "UPDATE generated_clips SET expires_at = now() + CAST(:span AS interval)"
                " WHERE clip_id = :clip_id AND status IN ('available', 'deleted') RETURNING clip_id",
                span=span,
                clip_id=clip_id,
            )
        )

    @rule(data=st.data())
    def a_publication_is_over(self, data: st.DataObject) -> None:
        self._let_end(self._one_of(data))

    @rule(data=st.data(), limit=st.sampled_from([1, EVERYTHING]))
    def everything_was_public_for_a_while_and_a_tick_comes(self, data: st.DataObject, limit: int) -> None:
        self.everybody_wishes(ClipAction.PUBLISH)
        for clip_id in data.draw(st.sets(st.sampled_from(list(self.model.lives)), min_size=1)):
            self._let_end(clip_id)
        self.a_tick_purges(limit)

    def _let_end(self, clip_id: UUID) -> None:
        self.times += 1
        ended = self.world.sql(
            "UPDATE generated_clips SET published_until = now() - CAST(:span AS interval)"
            " WHERE clip_id = :clip_id AND status = 'published' RETURNING clip_id",
            span=timedelta(minutes=self.times),
            clip_id=clip_id,
        )
        if ended:
            self.model.lives[clip_id].ended = True

    @rule(data=st.data())
    def time_runs_out_and_a_tick_comes(self, data: st.DataObject) -> None:
        self.time_runs_out(data)
        self.a_tick_purges(EVERYTHING)

    @rule(limit=st.sampled_from([1, 2, EVERYTHING]))
    def a_tick_purges(self, limit: int) -> None:
        due = self.world.sql(
            "SELECT clip_id FROM generated_clips"
            " WHERE status IN ('available', 'deleted') AND expires_at <= now() ORDER BY expires_at, clip_id"
        )
        ended = self.world.sql(
            "SELECT clip_id FROM generated_clips WHERE status = 'published' AND published_until <= now()"
            " ORDER BY published_until, clip_id"
        )
        assert {row.clip_id for row in due} == {
            clip_id
            for clip_id, life in self.model.lives.items()
            if life.status in {AVAILABLE, DELETED} and life.over
        }
        result = self.world.run(self.store.expire(limit, None))
        more = limit < max(len(due), len(ended))
        assert (result.expired, result.more) == (min(limit, len(due)), more)
        self.happened["purged"] += result.expired
        self.happened["ended"] += len(ended)
        self.model.end({row.clip_id for row in ended[:limit]})
        self.model.purge({row.clip_id for row in due[:limit]})

    @rule(limit=st.sampled_from([1, EVERYTHING]))
    def a_tick_gives_notice(self, limit: int) -> None:
        soon = self.world.sql(
            "SELECT DISTINCT twitch_account_id AS account, (expires_at AT TIME ZONE 'UTC')::date AS day"
            " FROM generated_clips WHERE status = 'available' AND expires_at > now()"
        )
        last_day = datetime.now(UTC).date() + timedelta(days=NOTICE_DAYS)
        due = {(row.account, row.day) for row in soon if row.day <= last_day} - self._told_days()
        result = self.world.run(self.store.notify(limit))
        assert result.notified == min(limit, len(due))
        self.happened["notified"] += result.notified
        assert len(due - self._told_days()) == len(due) - result.notified

    def _told_days(self) -> set[tuple[str, date]]:
        rows = self.world.sql("SELECT twitch_account_id, cohort FROM expiry_notices")
        return {(row.twitch_account_id, row.cohort) for row in rows}

    # Crashes. One after the commit is an event that arrives again.

    @rule(data=st.data(), drawn=cuts, action=st.sampled_from(ClipAction))
    def the_registry_dies_before_it_commits(
        self, data: st.DataObject, drawn: dict[str, Any], action: ClipAction
    ) -> None:
        life = self.model.lives[self._one_of(data)]
        work: Callable[[], Coroutine[Any, Any, Any]] = data.draw(
            st.sampled_from(
                [
                    lambda: self.store.record([_offer(self.cut(drawn))]),
                    lambda: self.store.expire(EVERYTHING, None),
                    lambda: self.store.notify(EVERYTHING),
                    lambda: self.store.act(
                        self._wish_for(action, life.cut.twitch_account_id), life.cut.clip_id
                    ),
                ]
            )
        )
        outbox = self.world.database.outbox
        write = outbox.write

        async def write_and_die(*arguments: Any) -> None:
            await write(*arguments)
            raise Crash

        with pytest.MonkeyPatch.context() as patch, suppress(Crash):
            patch.setattr(outbox, "write", write_and_die)
            self.world.run(work())

    # What must be so.

    @invariant()
    def the_promises_hold(self) -> None:
        self.look()
        self.the_store_holds_what_the_model_holds()
        self.who_was_told_kept_has_the_clip()
        self.every_object_is_a_clips_or_released()
        self.versions_are_told_one_by_one()
        self.an_account_is_told_of_a_day_once()
        self.the_cap_holds()

    def the_store_holds_what_the_model_holds(self) -> None:
        assert self.rows.keys() == self.model.lives.keys()
        for clip_id, life in self.model.lives.items():
            row = self.rows[clip_id]
            assert (row.status, row.version) == (life.status, life.version)
            assert (row.highlight_event_id, row.object_key, row.poster_key) == (
                *(life.cut.highlight_event_id, life.cut.object_key, life.cut.poster_key),
            )
            assert (row.kind, row.score, row.origin) == (life.cut.kind, life.cut.score, life.cut.origin)
            assert (row.title, row.revision, row.purge_reason) == (life.title, life.revision, life.reason)
            assert (row.offer and row.offer["highlight_event_id"]) == life.offer
            assert row.deleted_from == life.was
            is_kept = life.status in {KEPT, PUBLISHED}
            assert (row.expires_at is None) == is_kept
            assert (row.kept_by is not None) == (life.decided in {KEPT, PUBLISHED})
            assert (row.share_slug is not None) == (life.decided is PUBLISHED)
            if life.decided is PUBLISHED:
                assert row.published_downloadable == life.downloadable
            if not is_kept:
                assert row.over == life.over

    def who_was_told_kept_has_the_clip(self) -> None:
        assert {self.rows[clip_id].status for clip_id in self.promised} <= {KEPT, PUBLISHED}

    def every_object_is_a_clips_or_released(self) -> None:
        owned = {
            each
            for life in self.model.lives.values()
            if life.status is not PURGED
            for each in life.cut.objects
        }
        assert not self.told.released & owned
        theirs = {clip_id: life.cut.twitch_account_id for clip_id, life in self.model.lives.items()}
        delivered = (cut for cut in self.history if cut.twitch_account_id == theirs.get(cut.clip_id))
        lost = {each for cut in delivered for each in cut.objects} - owned - self.told.released
        assert not lost

    def versions_are_told_one_by_one(self) -> None:
        assert self.told.versions == {
            clip_id: list(range(1, life.version + 1)) for clip_id, life in self.model.lives.items()
        }

    def an_account_is_told_of_a_day_once(self) -> None:
        assert len(self.told.notices) == len(set(self.told.notices))

    def the_cap_holds(self) -> None:
        living = Counter(
            row.twitch_account_id for row in self.rows.values() if row.status == AVAILABLE and not row.over
        )
        assert self.model.cap is None or max(living.values(), default=0) <= self.model.cap

    def teardown(self) -> None:
        self.happened["evicted"] += self.model.evicted

    def look(self) -> None:
        rows = self.world.sql("SELECT *, expires_at <= now() AS over FROM generated_clips")
        self.rows = {row.clip_id: row for row in rows}
        told = self.world.sql(
            "SELECT id, headers, payload FROM outbox WHERE id > :seen ORDER BY id", seen=self.told.seen
        )
        for row in told:
            self.told.seen = row.id
            self.told.add(row.headers["ce_id"], row.headers["ce_type"], json.loads(row.payload))


def _offer(cut: Cut) -> ReportedCut:
    return ReportedCut(cut, f"created-{cut.highlight_event_id}")


@pytest.fixture
def machine(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Registry]]:
    world = World(migrated_url)
    monkeypatch.setattr(Registry, "world", world, raising=False)
    monkeypatch.setattr(Registry, "happened", Counter(), raising=False)
    yield Registry
    world.close()


@pytest.mark.timeout(180)
def test_whatever_happens_the_promises_hold(machine: type[Registry]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=True,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    # Otherwise the steps have become such that this proves little.
    wanted = {*CutOutcome, *ActionOutcome, "purged", "notified", "evicted", "ended"}
    assert wanted - set(+machine.happened) == set()
