"""Accounts are told what of theirs expires soon: once for each account and day."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from clip_registry.clips.store import ClipStore
from clip_registry.domain.clips import Clip
from clip_registry.reports import ReportedCut
from clip_shared.contracts import events
from clip_shared.contracts.events import ClipExpiring
from clip_shared.contracts.registry_api import ClipAction, ExpiryNoticeResult
from tests.integration.clip_registry.conftest import Database
from tests.unit.clip_registry.cuts import a_cut, an_action

NOON = "12:00"
EXPIRING = "clip.expiring.v1"


@pytest.fixture
def store(database: Database) -> ClipStore:
    return database.store(notice_days=1)


async def expires(
    database: Database, name: str, *, in_days: int, at: str = NOON, account: str = "ann", status: str = ""
) -> Clip:
    """A clip that expires so many days from today (UTC), at that time of day."""
    store = database.store()
    cut = a_cut(name, account=account)
    [recorded] = await store.record([ReportedCut(cut, f"created-{name}")])
    if status:
        await store.act(an_action(ClipAction(status), account), cut.clip_id)
    else:
        await let_expire(database, recorded.clip, in_days=in_days, at=at)
    await database.run("DELETE FROM outbox")
    return recorded.clip


async def let_expire(database: Database, clip: Clip, *, in_days: int, at: str = NOON) -> None:
    await database.run(
        "UPDATE generated_clips SET expires_at = ((now() AT TIME ZONE 'UTC')::date + CAST(:days AS int)"
        " + CAST(CAST(:at AS text) AS time)) AT TIME ZONE 'UTC' WHERE clip_id = :clip_id",
        days=in_days,
        at=at,
        clip_id=clip.clip_id,
    )


async def today(database: Database) -> date:
    [[found]] = await database.run("SELECT (now() AT TIME ZONE 'UTC')::date")
    assert isinstance(found, date)
    return found


async def notices(database: Database) -> list[tuple[str, list[str]]]:
    """The account and the clips of each notice in the outbox, in the order of the accounts."""
    return sorted(
        (data["twitch_account_id"], data["clip_ids"])
        for kind, data in await database.events()
        if kind == EXPIRING
    )


def ids(*clips: Clip) -> list[str]:
    return [str(each.clip_id) for each in clips]


async def test_an_account_is_told_once_of_all_that_expires_on_a_day(
    database: Database, store: ClipStore
) -> None:
    late = await expires(database, "late", in_days=1, at="23:59:59.999")
    early = await expires(database, "early", in_days=1, at="00:00")
    theirs = await expires(database, "theirs", in_days=1, account="bob")
    result = await store.notices.send(10)
    assert (result.notified, result.more) == (2, False)
    assert await notices(database) == [("ann", ids(early, late)), ("bob", ids(theirs))]
    assert (await store.notices.send(10)).notified == 0
    assert len(await database.events()) == 2


async def test_a_notice_names_the_day_and_is_the_accounts(database: Database, store: ClipStore) -> None:
    clip = await expires(database, "one", in_days=1)
    await store.notices.send(10)
    [row] = await database.run("SELECT queue, headers, payload FROM outbox")
    notice = ClipExpiring.model_validate_json(row.payload)
    end = datetime.combine(await today(database) + timedelta(days=2), datetime.min.time(), UTC)
    assert (notice.expires_before, notice.clip_count, notice.clip_ids) == (end, 1, (clip.clip_id,))
    assert (row.queue, row.headers["ce_partitionkey"]) == ("clip-lifecycle", "ann")


async def test_nothing_is_said_of_what_expires_later_or_is_kept_or_gone(
    database: Database, store: ClipStore
) -> None:
    await expires(database, "expired", in_days=-1)
    await expires(database, "later", in_days=2, at="00:00")
    for action in ("keep", "publish"):
        await expires(database, action, in_days=1, status=action)
    await store.purge(10, None)
    await expires(database, "expired-too", in_days=-1)
    await database.run("DELETE FROM outbox")
    assert (await store.notices.send(10)).notified == 0
    assert await database.events() == []


async def test_after_a_tick_was_missed_what_expires_today_is_told_too(
    database: Database, store: ClipStore
) -> None:
    today_still = await expires(database, "today", in_days=0, at="23:59:59.999")
    tomorrow = await expires(database, "tomorrow", in_days=1)
    assert (await store.notices.send(10)).notified == 2
    assert await notices(database) == sorted([("ann", ids(today_still)), ("ann", ids(tomorrow))])


@pytest.mark.parametrize(("days", "told"), [(0, 0), (1, 1), (2, 2), (3, 3)])
async def test_the_lead_is_counted_in_days(database: Database, days: int, told: int) -> None:
    for in_days in (1, 2, 3, 4):
        await expires(database, f"in-{in_days}", in_days=in_days)
    assert (await database.store(notice_days=days).notices.send(10)).notified == told


async def test_a_call_looks_at_so_many_clips_and_the_next_goes_on_there(
    database: Database, store: ClipStore
) -> None:
    for number in range(6):
        at = f"12:{number:02}"
        await expires(database, f"hl-{number}", in_days=1, at=at, account=f"account-{number // 2}")
    first = await store.notices.send(3)
    second = await store.notices.send(3, first.reached)
    assert [(each.notified, each.more) for each in (first, second)] == [(2, True), (1, False)]
    assert first.reached is not None
    assert second.reached is not None
    assert [each.reached.strftime("%H:%M") for each in (first, second) if each.reached] == ["12:02", "12:05"]
    found = await notices(database)
    assert [(account, len(clips)) for account, clips in found] == [(f"account-{n}", 2) for n in range(3)]
    assert await store.notices.send(3, second.reached) == ExpiryNoticeResult(notified=0, more=False)


async def test_clips_of_one_moment_are_all_told_of(database: Database, store: ClipStore) -> None:
    for number in range(7):
        await expires(database, f"hl-{number}", in_days=1, account=f"account-{number}")
    result = await store.notices.send(2)
    while result.more:
        result = await store.notices.send(2, result.reached)
    assert [account for account, _ in await notices(database)] == [f"account-{n}" for n in range(7)]


async def test_what_is_kept_and_let_go_again_is_told_of_on_its_new_day(
    database: Database, store: ClipStore
) -> None:
    clip = await expires(database, "one", in_days=1)
    await store.notices.send(10)
    await store.act(an_action(ClipAction.KEEP), clip.clip_id)
    assert (await store.notices.send(10)).notified == 0
    await store.act(an_action(ClipAction.UNKEEP), clip.clip_id)
    assert (await store.notices.send(10)).notified == 0
    # A day has passed, and then five more, for this clip: now it expires on a day that was not told of.
    await let_expire(database, clip, in_days=0, at="23:59:59.999")
    assert (await store.notices.send(10)).notified == 1
    assert await notices(database) == [("ann", ids(clip))] * 2


async def test_what_joins_a_day_later_is_not_told_of_again(database: Database, store: ClipStore) -> None:
    await expires(database, "first", in_days=1)
    await store.notices.send(10)
    await expires(database, "second", in_days=1)
    assert (await store.notices.send(10)).notified == 0


async def test_ticks_that_overlap_tell_everyone_once(database: Database, store: ClipStore) -> None:
    for number in range(60):
        await expires(database, f"hl-{number}", in_days=1, account=f"account-{number % 30}")

    async def tick() -> int:
        total = 0
        result = await store.notices.send(4)
        while result.more:
            total += result.notified
            result = await store.notices.send(4, result.reached)
        return total + result.notified

    assert sum(await asyncio.gather(*(tick() for _ in range(6)))) == 30
    accounts = [account for account, _ in await notices(database)]
    assert len(accounts) == len(set(accounts)) == 30
    [[ids_used]] = await database.run("SELECT count(DISTINCT headers->>'ce_id') FROM outbox")
    assert ids_used == 30


async def test_a_notice_that_is_not_committed_is_given_later(
    database: Database, store: ClipStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await expires(database, "one", in_days=1)

    async def fail(*_: Any) -> None:
        raise RuntimeError("just before the commit")

    with monkeypatch.context() as broken:
        broken.setattr(database.outbox, "write", fail)
        with pytest.raises(RuntimeError):
            await store.notices.send(10)
    assert (await store.notices.send(10)).notified == 1


async def test_an_event_stays_small_however_many_clips_there_are(
    database: Database, store: ClipStore
) -> None:
    cuts = [a_cut(f"hl-{number}") for number in range(events.MAX_EXPIRING_CLIP_IDS + 5)]
    await store.record([ReportedCut(cut, "created") for cut in cuts])
    await database.run("DELETE FROM outbox")
    await database.run("UPDATE generated_clips SET expires_at = expires_at - interval '6 days'")
    assert (await store.notices.send(10)).notified == 1  # though it looks at ten clips, it tells of all
    [(_, notice)] = await database.events()
    assert (len(notice["clip_ids"]), notice["clip_count"]) == (events.MAX_EXPIRING_CLIP_IDS, len(cuts))


async def test_notices_of_days_that_are_over_are_deleted(database: Database, store: ClipStore) -> None:
    await database.run(
        "INSERT INTO expiry_notices SELECT (now() AT TIME ZONE 'UTC')::date - n, 'ann', now()"
        " FROM generate_series(-1, 4) n"
    )
    await store.notices.send(3)
    days = [row.cohort for row in await database.run("SELECT cohort FROM expiry_notices ORDER BY cohort")]
    now = await today(database)
    assert len(days) == 3
    await store.notices.send(3)
    days = [row.cohort for row in await database.run("SELECT cohort FROM expiry_notices ORDER BY cohort")]
    assert days == [now, now + timedelta(days=1)]
