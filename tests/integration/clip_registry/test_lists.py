"""Lists of an account's clips: as a list of Python would be sorted, filtered and cut into pages."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from clip_registry.clips.store import ClipStore
from clip_registry.domain.clips import VISIBLE
from clip_registry.queries.clip_lists import ClipFilter, cursor_after, position_of
from clip_registry.reports import ReportedCut
from clip_shared.contracts.events import HighlightKind
from clip_shared.contracts.registry_api import ClipAction, ClipOrder, ClipRecord, ClipStatus
from tests.integration.clip_registry.conftest import Database
from tests.unit.clip_registry.cuts import a_cut, an_action

NUMBER = 40
END = float("inf")

# What each order sorts by; several clips are equal in it, and then their ids decide.
KEYS: dict[ClipOrder, Callable[[ClipRecord], Any]] = {
    ClipOrder.NEWEST: lambda clip: clip.created_at,
    ClipOrder.OLDEST: lambda clip: clip.created_at,
    ClipOrder.EXPIRING: lambda clip: clip.expires_at.timestamp() if clip.expires_at else END,
    ClipOrder.LONGEST: lambda clip: clip.duration_seconds,
    ClipOrder.SHORTEST: lambda clip: clip.duration_seconds,
    ClipOrder.BEST: lambda clip: -END if clip.score is None else clip.score,
}
DOWNWARDS = {ClipOrder.NEWEST, ClipOrder.LONGEST, ClipOrder.BEST}


async def fill(store: ClipStore, database: Database) -> None:
    """Clips with few different values, of every status and kind, some of them expired."""
    await store.record([ReportedCut(a_cut(f"hl-{n}", **_features(n)), f"hl-{n}") for n in range(NUMBER)])
    for number in range(0, NUMBER, 5):
        clip_id = a_cut(f"hl-{number}").clip_id
        await store.act(an_action(ClipAction.KEEP), clip_id)
    await database.run(
        """UPDATE generated_clips SET
            created_at = created_at - length(title) * interval '1 minute',
            expires_at = expires_at - length(title) % 3 * interval '100 hours'"""
    )
    await store.record([ReportedCut(a_cut("bobs", account="bob"), "bobs")])


def _features(number: int) -> dict[str, Any]:
    return {
        "score": None if number % 4 == 0 else number % 3 / 10,
        "duration_seconds": 2 + number % 6 / 3,
        "kind": "refined" if number % 2 else "heuristic",
        "source_vod_id": f"vod-{number % 3}",
        "title": "Größe " + "x" * (number % 7),
    }


async def page_by_page(
    store: ClipStore, wanted: ClipFilter, order: ClipOrder, *, size: int = 7
) -> list[ClipRecord]:
    """All of a list, by the cursors of its pages."""
    seen: list[ClipRecord] = []
    after = None
    while page := await store.queries.clips_of("ann", wanted, order, limit=size, after=after):
        assert len(page) <= size
        seen += page
        after = position_of(cursor_after(page[-1], order), order)
    return seen


@pytest.mark.parametrize("order", ClipOrder)
async def test_pages_are_those_of_a_sorted_list(
    store: ClipStore, database: Database, order: ClipOrder
) -> None:
    await fill(store, database)
    rows = await database.run("SELECT clip_id FROM generated_clips WHERE twitch_account_id = 'ann'")
    seen = await page_by_page(store, ClipFilter(), order)
    assert {clip.clip_id for clip in seen} == {row.clip_id for row in rows}
    assert len(seen) == NUMBER

    def place(clip: ClipRecord) -> tuple[Any, UUID]:
        return KEYS[order](clip), clip.clip_id

    assert seen == sorted(seen, key=place, reverse=order in DOWNWARDS)


@pytest.mark.parametrize(
    "wanted",
    [
        ClipFilter(kinds=frozenset({HighlightKind.REFINED})),
        ClipFilter(vod_id="vod-1"),
        ClipFilter(title="GRÖßE XXX"),
        ClipFilter(statuses=frozenset({ClipStatus.KEPT})),
        ClipFilter(
            statuses=frozenset({ClipStatus.AVAILABLE, ClipStatus.PUBLISHED}),
            kinds=frozenset({HighlightKind.HEURISTIC}),
            vod_id="vod-2",
            title="x",
        ),
    ],
)
async def test_filters_are_those_of_a_list(store: ClipStore, database: Database, wanted: ClipFilter) -> None:
    await fill(store, database)
    everything = await page_by_page(store, ClipFilter(), ClipOrder.BEST)
    expected = [clip.clip_id for clip in everything if matches(clip, wanted)]
    assert 0 < len(expected) < NUMBER
    listed = await page_by_page(store, wanted, ClipOrder.BEST, size=3)
    assert [clip.clip_id for clip in listed] == expected


def matches(clip: ClipRecord, wanted: ClipFilter) -> bool:
    return (
        clip.status in wanted.statuses
        and (not wanted.kinds or clip.kind in wanted.kinds)
        and wanted.vod_id in {None, clip.source_vod_id}
        and (wanted.title is None or wanted.title.lower() in clip.title.lower())
    )


async def test_what_comes_and_goes_between_pages_moves_nothing_else(
    store: ClipStore, database: Database
) -> None:
    await store.record([ReportedCut(a_cut(f"hl-{n}", duration_seconds=float(n)), "x") for n in range(1, 8)])
    first = await store.queries.clips_of("ann", ClipFilter(), ClipOrder.LONGEST, limit=3)
    assert [clip.duration_seconds for clip in first] == [7, 6, 5]
    await store.record([ReportedCut(a_cut("longer", duration_seconds=9.0), "x")])
    for clip in (first[-1], first[0]):
        await database.expire(clip.clip_id)
    await store.purge(10, None)
    after = position_of(cursor_after(first[-1], ClipOrder.LONGEST), ClipOrder.LONGEST)
    rest = await store.queries.clips_of("ann", ClipFilter(), ClipOrder.LONGEST, limit=9, after=after)
    assert [clip.duration_seconds for clip in rest] == [4, 3, 2, 1]


async def test_purged_clips_are_never_listed(store: ClipStore, database: Database) -> None:
    await store.record([ReportedCut(a_cut(), "x")])
    await database.expire(a_cut().clip_id)
    wanted = ClipFilter(statuses=frozenset(ClipStatus))
    [expired] = await store.queries.clips_of("ann", wanted, ClipOrder.NEWEST, limit=9)
    assert expired.status in VISIBLE
    assert expired.expires_in_seconds is not None
    assert timedelta(seconds=expired.expires_in_seconds) <= timedelta(0)
    await store.purge(10, None)
    assert await store.queries.clips_of("ann", wanted, ClipOrder.NEWEST, limit=9) == []
