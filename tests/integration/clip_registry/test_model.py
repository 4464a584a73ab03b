"""The registry against a model of it: any sequence of events, actions, ticks and crashes, on PostgreSQL.

After every step the store holds what the model holds, and the promises hold: nobody who was written "kept"
loses the clip, no object is forgotten or taken from under a clip, versions have no gap, nothing is written
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

from clip_registry.clips.store import ClipStore
from clip_registry.database.engine import open_engine
from clip_registry.domain.actions import ActionOutcome, ActionRequest
from clip_registry.domain.clips import Cut, CutPosition, StoredKey
from clip_registry.domain.cuts import CutOutcome
from clip_registry.reports import ReportedCut
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
class ModelClip:
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


# What an owner is written and what the clip then is, by what it was. Restored, it is what it was before.
ACTIONS: dict[ClipAction, dict[ClipStatus, tuple[ActionOutcome, ClipStatus]]] = {
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


class RegistryModel:
    """What the registry should do, in the plainest words: no database, no clock.

    A highlight is from ``long_ago``, before any purge of this test, or from after all of them.
    """

    def __init__(self, cap: int | None, long_ago: datetime) -> None:
        self.cap = cap
        self.evicted = 0
        self._long_ago = long_ago
        self.clips: dict[UUID, ModelClip] = {}

    def consider(self, cuts: list[Cut]) -> list[CutOutcome]:
        outcomes = [self._consider(cut) for cut in cuts]
        for cut, outcome in zip(cuts, outcomes, strict=True):
            if outcome.changes_clip:
                self._expire_surplus(cut.twitch_account_id)
        return outcomes

    def _consider(self, cut: Cut) -> CutOutcome:
        clip = self.clips.get(cut.clip_id)
        if clip is None:
            self.clips[cut.clip_id] = ModelClip.begin(cut)
            return CutOutcome.CREATED
        if cut.twitch_account_id != clip.cut.twitch_account_id:
            return CutOutcome.FOREIGN
        if cut == clip.cut:
            return CutOutcome.REPEATED
        if cut.is_owners in clip.judged and cut.position <= clip.judged[cut.is_owners]:
            return CutOutcome.STALE
        clip.judged[cut.is_owners] = cut.position
        outcome = self._outcome(clip, cut)
        if outcome is CutOutcome.OFFERED:
            clip.offer = cut.highlight_event_id
        if outcome.changes_clip:
            _replace_video(clip, cut)
        return outcome

    def _outcome(self, clip: ModelClip, cut: Cut) -> CutOutcome:
        if clip.status is PURGED:
            came_after = cut.highlight_detected_at > self._long_ago
            revives = (
                cut.is_owners and came_after if clip.reason == "deleted" else cut.is_owners or came_after
            )
            return CutOutcome.RECUT if revives else CutOutcome.STALE
        if cut.is_owners:
            return CutOutcome.REPLACED
        if clip.status is AVAILABLE:
            return CutOutcome.STALE if clip.cut.is_owners else CutOutcome.REPLACED
        return CutOutcome.OFFERED if cut.position > clip.cut.position else CutOutcome.STALE

    def act(self, request: ActionRequest, clip_id: UUID) -> ActionOutcome:
        clip = self.clips.get(clip_id)
        if clip is None or clip.status is PURGED:
            return ActionOutcome.UNKNOWN
        if request.account_id != clip.cut.twitch_account_id:
            return ActionOutcome.NOT_OWNER
        if request.action is ClipAction.RESTORE and clip.was is not None:
            outcome, status = DONE, clip.was
        else:
            outcome, status = ACTIONS[request.action][clip.status]
        if outcome is DONE and _is_so_already(clip, request):
            return UNCHANGED
        is_let_go = status is AVAILABLE and clip.status is not AVAILABLE
        if outcome is DONE and is_let_go and len(self._ephemeral_of(request.account_id)) == self.cap:
            return ActionOutcome.FULL
        if outcome is DONE:
            _apply(clip, request, status)
        return outcome

    def purge(self, clip_ids: set[UUID]) -> None:
        for clip_id in clip_ids:
            clip = self.clips[clip_id]
            assert clip.status in {AVAILABLE, DELETED}
            assert clip.over
            clip.status, clip.was, clip.version = PURGED, None, clip.version + 1
            clip.reason = clip.reason or "expired"
            clip.is_renamed, clip.offer, clip.ended = False, None, False

    def end(self, clip_ids: set[UUID]) -> None:
        for clip_id in clip_ids:
            clip = self.clips[clip_id]
            assert (clip.status, clip.ended) == (PUBLISHED, True)
            clip.status, clip.ended, clip.version = KEPT, False, clip.version + 1

    def _expire_surplus(self, account: str) -> None:
        theirs = sorted(self._ephemeral_of(account), key=_worth, reverse=True)
        for clip in theirs[self.cap :] if self.cap is not None else []:
            clip.over, clip.reason = True, "evicted"
            clip.version += 1
            self.evicted += 1

    def _ephemeral_of(self, account: str) -> list[ModelClip]:
        return [
            clip
            for clip in self.clips.values()
            if clip.is_ephemeral and clip.cut.twitch_account_id == account
        ]


def _replace_video(clip: ModelClip, cut: Cut) -> None:
    """The clip has this video now."""
    clip.title = clip.title if clip.is_renamed else cut.title
    clip.cut, clip.offer = cut, None
    clip.version, clip.revision = clip.version + 1, clip.revision + 1
    if clip.status is not DELETED:
        clip.over, clip.reason = False, None
    if clip.status is PURGED:
        clip.status = AVAILABLE


def _is_so_already(clip: ModelClip, request: ActionRequest) -> bool:
    if request.action is ClipAction.RENAME:
        return clip.title == request.title
    return (
        request.action is ClipAction.PUBLISH
        and clip.status is PUBLISHED
        and not clip.ended
        and request.options is not None
        and clip.downloadable == request.options.downloadable
    )


def _apply(clip: ModelClip, request: ActionRequest, status: ClipStatus) -> None:
    clip.version += 1
    if request.action is ClipAction.RENAME:
        clip.title, clip.is_renamed = request.title or "", True
        return
    if request.options is not None:
        clip.downloadable, clip.ended = request.options.downloadable, False
    if request.action is ClipAction.UNPUBLISH:
        clip.ended = False
    is_deleted = status is DELETED
    clip.was = clip.status if is_deleted else None
    clip.status, clip.over, clip.reason = status, False, "deleted" if is_deleted else None


def _worth(clip: ModelClip) -> tuple[float, datetime, UUID]:
    score = clip.cut.score
    return (-1 if score is None else score), clip.cut.highlight_detected_at, clip.cut.clip_id


@dataclass
class WrittenEvents:
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


class ModelDatabase:
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


class CrashBeforeCommit(Exception):
    """The registry died just before it committed."""


class RegistryMachine(RuleBasedStateMachine):
    """The steps, and what must be so after each."""

    postgres: ModelDatabase
    happened: Counter[str]

    @initialize(
        cap=st.sampled_from([2, None, 1]),
        first=st.lists(cuts, min_size=3, max_size=6),
    )
    def begin(self, cap: int | None, first: list[dict[str, Any]]) -> None:
        self.postgres.sql(
            "TRUNCATE generated_clips, share_slugs, expiry_notices, outbox, outbox_dlq RESTART IDENTITY"
        )
        self.store: ClipStore = self.postgres.database.store(cap=cap, notice_days=NOTICE_DAYS)
        self.now = datetime.now(UTC)
        self.model = RegistryModel(cap, long_ago=self.now)
        self.cuts: dict[tuple[str, str], Cut] = {}
        self.history: list[Cut] = []
        self.promised: set[UUID] = set()
        self.written = WrittenEvents()
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
        recorded = self.postgres.run(self.store.record([_report(cut) for cut in batch]))
        outcomes = self.model.consider(batch)
        assert [each.outcome for each in recorded] == outcomes
        self.happened.update(outcomes)
        return outcomes

    @rule(batch=st.lists(cuts, min_size=1, max_size=4))
    def cuts_arrive(self, batch: list[dict[str, Any]]) -> None:
        arrived = [self.cut(drawn) for drawn in batch]
        self.history += arrived
        self.deliver(arrived)

    @rule(data=st.data(), drawn=cuts)
    def a_newer_cut_arrives(self, data: st.DataObject, drawn: dict[str, Any]) -> None:
        """Newer than every other, of a clip that there is."""
        self.times += 1
        of = self.model.clips[self._one_of(data)].cut
        newest = {"highlight": of.stream_highlight_id, "account": of.twitch_account_id, "is_new": True}
        newer = {"event": f"newer-{self.times}", "hours": 3 + self.times}
        self.cuts_arrive([{**drawn, **newest, **newer}])

    def _one_of(self, data: st.DataObject) -> UUID:
        """A clip that there is."""
        return data.draw(st.sampled_from(list(self.model.clips)))

    @rule(data=st.data())
    def some_arrive_again_in_another_order(self, data: st.DataObject) -> None:
        self.deliver(data.draw(st.lists(st.sampled_from(self.history), min_size=1, max_size=6)))

    @rule()
    def everything_is_replayed_from_zero(self) -> None:
        assert not any(outcome.changes_clip for outcome in self.deliver(self.history))

    # Requests of streamers.

    @rule(data=st.data(), action=st.sampled_from(ClipAction))
    def an_owner_acts(self, data: st.DataObject, action: ClipAction) -> None:
        clip_id = self._one_of(data)
        self._act(action, clip_id, self.model.clips[clip_id].cut.twitch_account_id)

    @rule(data=st.data(), action=st.sampled_from(ClipAction))
    def a_stranger_acts(self, data: st.DataObject, action: ClipAction) -> None:
        self._act(action, self._one_of(data), "stranger")

    @rule(action=st.sampled_from(ClipAction))
    def every_owner_acts(self, action: ClipAction) -> None:
        for clip_id, clip in self.model.clips.items():
            self._act(action, clip_id, clip.cut.twitch_account_id)

    @rule()
    def every_owner_keeps_and_unkeeps(self) -> None:
        self.every_owner_acts(ClipAction.KEEP)
        self.every_owner_acts(ClipAction.UNKEEP)

    def _act(self, action: ClipAction, clip_id: UUID, account: str) -> None:
        request = self._request_for(action, account)
        outcome, after = self.postgres.run(self.store.act(request, clip_id))
        assert outcome is self.model.act(request, clip_id)
        self.happened[outcome] += 1
        if outcome not in {DONE, UNCHANGED}:
            return
        assert after is not None
        if after.status in {KEPT, PUBLISHED}:
            self.promised.add(clip_id)
        else:
            self.promised.discard(clip_id)

    def _request_for(self, action: ClipAction, account: str) -> ActionRequest:
        self.times += 1
        if action is ClipAction.PUBLISH:
            return an_action(action, account, options=replace(OPTIONS, downloadable=self.times % 2 == 0))
        return an_action(action, account)

    # Time, and ticks.

    @rule(data=st.data())
    def time_runs_out(self, data: st.DataObject) -> None:
        for clip_id in data.draw(st.sets(st.sampled_from(list(self.model.clips)), min_size=1)):
            self.times += 1
            if self._let_expire(clip_id, -timedelta(minutes=self.times)):
                self.model.clips[clip_id].over = True

    @rule(data=st.data(), limit=st.sampled_from([EVERYTHING, 1]))
    def an_end_comes_near_and_a_tick_comes(self, data: st.DataObject, limit: int) -> None:
        clip_id = self._one_of(data)
        if not self.model.clips[clip_id].over:
            self._let_expire(clip_id, HOUR)
        self.a_tick_gives_notice(limit)

    def _let_expire(self, clip_id: UUID, span: timedelta) -> bool:
        return bool(
            self.postgres.sql(
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
        self.every_owner_acts(ClipAction.PUBLISH)
        for clip_id in data.draw(st.sets(st.sampled_from(list(self.model.clips)), min_size=1)):
            self._let_end(clip_id)
        self.a_tick_purges(limit)

    def _let_end(self, clip_id: UUID) -> None:
        self.times += 1
        ended = self.postgres.sql(
            "UPDATE generated_clips SET published_until = now() - CAST(:span AS interval)"
            " WHERE clip_id = :clip_id AND status = 'published' RETURNING clip_id",
            span=timedelta(minutes=self.times),
            clip_id=clip_id,
        )
        if ended:
            self.model.clips[clip_id].ended = True

    @rule(data=st.data())
    def time_runs_out_and_a_tick_comes(self, data: st.DataObject) -> None:
        self.time_runs_out(data)
        self.a_tick_purges(EVERYTHING)

    @rule(limit=st.sampled_from([1, 2, EVERYTHING]))
    def a_tick_purges(self, limit: int) -> None:
        due = self.postgres.sql(
            "SELECT clip_id FROM generated_clips"
            " WHERE status IN ('available', 'deleted') AND expires_at <= now() ORDER BY expires_at, clip_id"
        )
        ended = self.postgres.sql(
            "SELECT clip_id FROM generated_clips WHERE status = 'published' AND published_until <= now()"
            " ORDER BY published_until, clip_id"
        )
        assert {row.clip_id for row in due} == {
            clip_id
            for clip_id, clip in self.model.clips.items()
            if clip.status in {AVAILABLE, DELETED} and clip.over
        }
        result = self.postgres.run(self.store.purge(limit, None))
        more = limit < max(len(due), len(ended))
        assert (result.expired, result.more) == (min(limit, len(due)), more)
        self.happened["purged"] += result.expired
        self.happened["ended"] += len(ended)
        self.model.end({row.clip_id for row in ended[:limit]})
        self.model.purge({row.clip_id for row in due[:limit]})

    @rule(limit=st.sampled_from([1, EVERYTHING]))
    def a_tick_gives_notice(self, limit: int) -> None:
        soon = self.postgres.sql(
            "SELECT DISTINCT twitch_account_id AS account, (expires_at AT TIME ZONE 'UTC')::date AS day"
            " FROM generated_clips WHERE status = 'available' AND expires_at > now()"
        )
        last_day = datetime.now(UTC).date() + timedelta(days=NOTICE_DAYS)
        due = {(row.account, row.day) for row in soon if row.day <= last_day} - self._noticed_days()
        result = self.postgres.run(self.store.notices.send(limit))
        assert result.notified == min(limit, len(due))
        self.happened["notified"] += result.notified
        assert len(due - self._noticed_days()) == len(due) - result.notified

    def _noticed_days(self) -> set[tuple[str, date]]:
        rows = self.postgres.sql("SELECT twitch_account_id, cohort FROM expiry_notices")
        return {(row.twitch_account_id, row.cohort) for row in rows}

    # Crashes. One after the commit is an event that arrives again.

    @rule(data=st.data(), drawn=cuts, action=st.sampled_from(ClipAction))
    def the_registry_dies_before_it_commits(
        self, data: st.DataObject, drawn: dict[str, Any], action: ClipAction
    ) -> None:
        clip = self.model.clips[self._one_of(data)]
        work: Callable[[], Coroutine[Any, Any, Any]] = data.draw(
            st.sampled_from(
                [
                    lambda: self.store.record([_report(self.cut(drawn))]),
                    lambda: self.store.purge(EVERYTHING, None),
                    lambda: self.store.notices.send(EVERYTHING),
                    lambda: self.store.act(
                        self._request_for(action, clip.cut.twitch_account_id), clip.cut.clip_id
                    ),
                ]
            )
        )
        outbox = self.postgres.database.outbox
        write = outbox.write

        async def write_and_die(*arguments: Any) -> None:
            await write(*arguments)
            raise CrashBeforeCommit

        with pytest.MonkeyPatch.context() as patch, suppress(CrashBeforeCommit):
            patch.setattr(outbox, "write", write_and_die)
            self.postgres.run(work())

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
        assert self.rows.keys() == self.model.clips.keys()
        for clip_id, clip in self.model.clips.items():
            row = self.rows[clip_id]
            assert (row.status, row.version) == (clip.status, clip.version)
            assert (row.highlight_event_id, row.object_key, row.poster_key) == (
                *(clip.cut.highlight_event_id, clip.cut.object_key, clip.cut.poster_key),
            )
            assert (row.kind, row.score, row.origin) == (clip.cut.kind, clip.cut.score, clip.cut.origin)
            assert (row.title, row.revision, row.purge_reason) == (clip.title, clip.revision, clip.reason)
            assert (row.offer and row.offer["highlight_event_id"]) == clip.offer
            assert row.deleted_from == clip.was
            is_kept = clip.status in {KEPT, PUBLISHED}
            assert (row.expires_at is None) == is_kept
            assert (row.kept_by is not None) == (clip.decided in {KEPT, PUBLISHED})
            assert (row.share_slug is not None) == (clip.decided is PUBLISHED)
            if clip.decided is PUBLISHED:
                assert row.published_downloadable == clip.downloadable
            if not is_kept:
                assert row.over == clip.over

    def who_was_told_kept_has_the_clip(self) -> None:
        assert {self.rows[clip_id].status for clip_id in self.promised} <= {KEPT, PUBLISHED}

    def every_object_is_a_clips_or_released(self) -> None:
        owned = {
            each
            for clip in self.model.clips.values()
            if clip.status is not PURGED
            for each in clip.cut.objects
        }
        assert not self.written.released & owned
        theirs = {clip_id: clip.cut.twitch_account_id for clip_id, clip in self.model.clips.items()}
        delivered = (cut for cut in self.history if cut.twitch_account_id == theirs.get(cut.clip_id))
        lost = {each for cut in delivered for each in cut.objects} - owned - self.written.released
        assert not lost

    def versions_are_told_one_by_one(self) -> None:
        assert self.written.versions == {
            clip_id: list(range(1, clip.version + 1)) for clip_id, clip in self.model.clips.items()
        }

    def an_account_is_told_of_a_day_once(self) -> None:
        assert len(self.written.notices) == len(set(self.written.notices))

    def the_cap_holds(self) -> None:
        living = Counter(
            row.twitch_account_id for row in self.rows.values() if row.status == AVAILABLE and not row.over
        )
        assert self.model.cap is None or max(living.values(), default=0) <= self.model.cap

    def teardown(self) -> None:
        self.happened["evicted"] += self.model.evicted

    def look(self) -> None:
        rows = self.postgres.sql("SELECT *, expires_at <= now() AS over FROM generated_clips")
        self.rows = {row.clip_id: row for row in rows}
        written = self.postgres.sql(
            "SELECT id, headers, payload FROM outbox WHERE id > :seen ORDER BY id", seen=self.written.seen
        )
        for row in written:
            self.written.seen = row.id
            self.written.add(row.headers["ce_id"], row.headers["ce_type"], json.loads(row.payload))


def _report(cut: Cut) -> ReportedCut:
    return ReportedCut(cut, f"created-{cut.highlight_event_id}")


@pytest.fixture
def machine(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[RegistryMachine]]:
    postgres = ModelDatabase(migrated_url)
    monkeypatch.setattr(RegistryMachine, "postgres", postgres, raising=False)
    monkeypatch.setattr(RegistryMachine, "happened", Counter(), raising=False)
    yield RegistryMachine
    postgres.close()


@pytest.mark.timeout(180)
def test_whatever_happens_the_promises_hold(machine: type[RegistryMachine]) -> None:
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
