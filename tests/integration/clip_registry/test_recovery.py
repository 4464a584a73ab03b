"""What a recovery makes of histories that are hard to tell apart: of cuts that a clip took or refused."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from clip_registry.domain.clips import Clip, Cut
from clip_registry.recovery.recovery import Recovery
from clip_registry.recovery.topic_history import ClipHistory, TopicHistory
from clip_shared.contracts.events import (
    ClipAvailable,
    ClipKept,
    ClipLifecycle,
    ClipUnkept,
    Event,
)
from clip_shared.contracts.registry_api import ClipStatus
from tests.integration.clip_registry.conftest import Database
from tests.unit.clip_registry.cuts import a_created_event, a_cut

# Long past, so that no clip of these tests is one of a time to come.
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
WEEK = timedelta(days=7)
FIRST, SECOND, THIRD = (
    a_cut(event=f"event-{number}", at=START + timedelta(minutes=number)) for number in range(3)
)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def change(data_type: type[ClipLifecycle], version: int, minutes: float, **more: Any) -> Event[Any]:
    clip = {
        "clip_id": FIRST.clip_id,
        "stream_highlight_id": "hl-1",
        "twitch_account_id": "ann",
        "source_vod_id": "vod-1",
    }
    return Event.new(data_type(**clip, version=version, **more), source="clip-registry", time=at(minutes))


def available(version: int, minutes: float, *, expires_at: datetime | None = None) -> Event[Any]:
    shown = {"title": "A fine moment", "kind": "heuristic", "duration_seconds": 2.0}
    return change(ClipAvailable, version, minutes, **shown, expires_at=expires_at or at(minutes) + WEEK)


def kept(version: int, minutes: float) -> Event[Any]:
    return change(ClipKept, version, minutes, kept_at=at(minutes), kept_by="ann")


def unkept(version: int, minutes: float) -> Event[Any]:
    return change(ClipUnkept, version, minutes, expires_at=at(minutes) + WEEK)


async def recovered(
    database: Database, cuts: Sequence[tuple[Cut, float]], changes: Sequence[Event[Any]]
) -> Clip:
    """Recover a clip that the database does not know, from cuts at minutes and changes."""
    history = ClipHistory(
        [a_created_event(cut).model_copy(update={"time": at(minutes)}) for cut, minutes in cuts],
        {each.data.version: each for each in changes},
    )
    past = TopicHistory()
    past.clips[FIRST.clip_id] = history
    store = database.store()
    tally = await Recovery(database.engine, store, bucket=None, apply=True).recover(past)
    assert tally.gaps == []
    clip = await store.get(UUID(str(FIRST.clip_id)))
    assert clip is not None
    return clip


def seen(clip: Clip) -> tuple[ClipStatus, int, str]:
    return clip.status, clip.version, clip.highlight_event_id


async def test_a_cut_that_a_kept_clip_refused_stays_refused(database: Database) -> None:
    """Its objects are gone: the clip must not become it after an un-keep."""
    clip = await recovered(database, [(FIRST, 0), (SECOND, 2)], [available(1, 0.1), kept(2, 1), unkept(3, 3)])
    assert seen(clip) == (ClipStatus.AVAILABLE, 3, "event-0")


async def test_the_cut_after_a_refused_one_is_taken(database: Database) -> None:
    changes = [available(1, 0.1), kept(2, 1), unkept(3, 3), available(4, 4.1), kept(5, 5)]
    clip = await recovered(database, [(FIRST, 0), (SECOND, 2), (THIRD, 4)], changes)
    assert seen(clip) == (ClipStatus.KEPT, 5, "event-2")


async def test_a_cut_that_was_judged_only_after_the_unkeep_is_taken(database: Database) -> None:
    changes = [available(1, 0.1), kept(2, 1), unkept(3, 3), available(4, 3.1)]
    clip = await recovered(database, [(FIRST, 0), (SECOND, 2.99)], changes)
    assert seen(clip) == (ClipStatus.AVAILABLE, 4, "event-1")


async def test_a_cut_that_was_judged_only_after_the_keep_is_refused(database: Database) -> None:
    """It must not take the version of the keeping: the clip would be purged."""
    clip = await recovered(database, [(FIRST, 0), (SECOND, 0.99)], [available(1, 0.1), kept(2, 1)])
    assert seen(clip) == (ClipStatus.KEPT, 2, "event-0")


async def test_a_cutter_whose_clock_is_ahead_loses_no_clip(database: Database) -> None:
    clip = await recovered(database, [(FIRST, 0.5)], [available(1, 0.1), kept(2, 1)])
    assert seen(clip) == (ClipStatus.KEPT, 2, "event-0")


async def test_an_eviction_takes_no_later_cut(database: Database) -> None:
    changes = [available(1, 0.1), available(2, 1, expires_at=at(1)), available(3, 1.6)]
    clip = await recovered(database, [(FIRST, 0), (SECOND, 1.5)], changes)
    assert seen(clip) == (ClipStatus.AVAILABLE, 3, "event-1")
    clip = await recovered(database, [], changes)  # again: nothing is left to do
    assert seen(clip) == (ClipStatus.AVAILABLE, 3, "event-1")
