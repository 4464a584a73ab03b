"""What became of each highlight of a VOD: clips, skips, and what is left when both are gone."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clip_registry.clips.store import ClipStore
from clip_registry.domain.clips import Clip
from clip_registry.reports import ReportedCut
from clip_shared.contracts.events import HighlightKind, SkipReason
from clip_shared.contracts.registry_api import ClipAction, SkippedHighlight, VodSummary
from tests.integration.clip_registry.conftest import Database
from tests.unit.clip_registry.cuts import HOUR, NOON, a_cut, a_skip, an_action


async def a_clip(store: ClipStore, highlight: str, **changes: Any) -> Clip:
    [recorded] = await store.record([ReportedCut(a_cut(highlight, **changes), highlight)])
    return recorded.clip


async def skips_of(store: ClipStore, vod_id: str = "vod-1", account: str = "ann") -> list[SkippedHighlight]:
    detail = await store.queries.vod_of(account, vod_id)
    return list(detail.skips) if detail else []


def counted(summary: VodSummary) -> tuple[int, int, int]:
    return summary.highlights, summary.clips, summary.skipped


async def test_a_skip_is_told_as_it_came(store: ClipStore) -> None:
    await store.skips.record(a_skip())
    [skip] = await skips_of(store)
    assert skip == SkippedHighlight(
        stream_highlight_id="hl-1",
        source_vod_id="vod-1",
        kind=HighlightKind.REFINED,
        reason=SkipReason.TOO_SHORT,
        message="The highlight is shorter than a second.",
        skipped_at=NOON + HOUR,
    )


@pytest.mark.parametrize(
    ("later", "is_newer"),
    [
        ({"highlight_detected_at": NOON + HOUR}, True),
        ({"highlight_event_id": "event-6"}, True),
        ({"skipped_at": NOON + 2 * HOUR}, True),
        ({}, False),
        ({"skipped_at": NOON}, False),
        ({"highlight_event_id": "event-4", "skipped_at": NOON + 2 * HOUR}, False),
        ({"highlight_detected_at": NOON - HOUR, "highlight_event_id": "event-9"}, False),
    ],
)
async def test_the_newest_skip_of_a_highlight_is_known(
    store: ClipStore, later: dict[str, Any], is_newer: bool
) -> None:
    await store.skips.record(a_skip())
    await store.skips.record(a_skip(reason="source_missing", **later))
    [skip] = await skips_of(store)
    assert skip.reason == ("source_missing" if is_newer else "too_short")


async def test_a_skip_of_the_future_was_now(store: ClipStore) -> None:
    await store.skips.record(a_skip(skipped_at=datetime(2199, 1, 1, tzinfo=UTC)))
    [skip] = await skips_of(store)
    assert abs(datetime.now(UTC) - skip.skipped_at) < timedelta(minutes=1)


async def test_every_highlight_of_a_vod_is_counted_once(store: ClipStore, database: Database) -> None:
    kept, purged, _, _ = [await a_clip(store, f"hl-{n}") for n in range(4)]
    await store.act(an_action(ClipAction.KEEP), kept.clip_id)
    await database.expire(purged)
    await store.purge(10, None)
    for highlight in ("hl-3", "hl-8", "hl-9"):  # the first of them became a clip all the same
        await store.skips.record(a_skip(highlight))
    detail = await store.queries.vod_of("ann", "vod-1")
    assert detail is not None
    assert counted(detail.summary) == (6, 3, 2)
    assert {skip.stream_highlight_id for skip in detail.skips} == {"hl-8", "hl-9"}
    assert (await store.queries.vods_of("ann")).items == (detail.summary,)


async def test_an_expired_clip_is_a_clip_until_it_is_purged(store: ClipStore, database: Database) -> None:
    await database.expire(await a_clip(store, "hl-1"))
    detail = await store.queries.vod_of("ann", "vod-1")
    assert detail is not None
    assert counted(detail.summary) == (1, 1, 0)


async def test_vods_are_listed_by_their_latest_highlight(store: ClipStore) -> None:
    await a_clip(store, "hl-1", source_vod_id="early", at=NOON)
    await a_clip(store, "hl-2", source_vod_id="late", at=NOON + HOUR)
    await store.skips.record(a_skip("hl-3", source_vod_id="early", highlight_detected_at=NOON + 2 * HOUR))
    await store.skips.record(a_skip("hl-4", source_vod_id="skips", highlight_detected_at=NOON - HOUR))
    await a_clip(store, "hl-5", source_vod_id="late", account="bob", at=NOON + 9 * HOUR)
    page = await store.queries.vods_of("ann")
    assert [(vod.source_vod_id, counted(vod), vod.latest_at) for vod in page.items] == [
        ("early", (2, 1, 1), NOON + 2 * HOUR),
        ("late", (1, 1, 0), NOON + HOUR),
        ("skips", (1, 0, 1), NOON - HOUR),
    ]


async def test_a_vod_is_its_accounts_alone(store: ClipStore) -> None:
    await a_clip(store, "hl-1", source_vod_id="vod-1")
    await store.skips.record(a_skip("hl-2"))
    assert await store.queries.vod_of("bob", "vod-1") is None
    assert await store.queries.vod_of("ann", "vod-2") is None
    assert (await store.queries.vods_of("bob")).items == ()


async def test_lists_of_vods_and_of_skips_have_an_end(database: Database, store: ClipStore) -> None:
    await database.run(
        """INSERT INTO skipped_highlights
        SELECT 'hl-' || n, 'ann', 'vod-' || greatest(n - 205, 0), 'refined', 'too_short', 'Too short.', 'e',
               CAST('2026-03-01' AS timestamptz) + n * interval '1 second', now()
        FROM generate_series(1, 320) n"""
    )
    assert [vod.source_vod_id for vod in (await store.queries.vods_of("ann")).items] == [
        f"vod-{n}" for n in range(115, 15, -1)
    ]
    skips = await skips_of(store, "vod-0")
    assert [skip.stream_highlight_id for skip in skips] == [f"hl-{n}" for n in range(205, 5, -1)]
