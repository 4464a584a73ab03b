"""Rules of the pages: filters and completed actions in an address, the usage bar."""

from urllib.parse import parse_qsl, urlsplit
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_gateway.pages.filters import PAGE_SIZE, GalleryFilters
from clip_gateway.pages.notices import CompletedAction
from clip_gateway.pages.usage_bar import UsageBar
from clip_shared.contracts.events import HighlightKind
from clip_shared.contracts.registry_api import AccountUsage, ClipAction, ClipOrder, ClipStatus, StatusUsage

FILTERS = st.builds(
    GalleryFilters,
    status=st.sampled_from([None, ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.DELETED]),
    kind=st.sampled_from([None, *HighlightKind]),
    vod=st.none() | st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    title=st.text(st.characters(exclude_categories=["C", "Z"]), max_size=50),
    order=st.sampled_from(ClipOrder),
    cursor=st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=50),
)
ACTIONS = st.sampled_from(ClipAction)
COUNTS = st.integers(0, 100)
IDS = st.lists(st.uuids(), max_size=5, unique=True).map(tuple)


def parameters_of(address: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(address).query))


@given(FILTERS)
def test_an_address_holds_all_filters(filters: GalleryFilters) -> None:
    assert GalleryFilters.of(parameters_of(filters.link(cursor=filters.cursor))) == filters


@given(FILTERS)
def test_a_changed_filter_begins_at_the_first_page(filters: GalleryFilters) -> None:
    assert "cursor" not in parameters_of(filters.link(kind=HighlightKind.REFINED))


@given(st.dictionaries(st.sampled_from(["status", "kind", "vod", "title", "order", "cursor"]), st.text()))
def test_invalid_parameters_are_ignored(parameters: dict[str, str]) -> None:
    query = GalleryFilters.of(parameters).query()
    assert query.limit == PAGE_SIZE
    assert query.vod_id is None or query.vod_id.isascii()
    assert "\0" not in (query.title or "")


def test_purged_clips_cannot_be_asked_for() -> None:
    assert GalleryFilters.of({"status": "purged"}) == GalleryFilters()


@given(ACTIONS, COUNTS, COUNTS, IDS)
def test_a_page_reads_the_completed_action_from_its_address(
    action: ClipAction, count: int, failed: int, ids: tuple[UUID, ...]
) -> None:
    done = CompletedAction(action, count, failed, ids)
    address = done.added_to("/?status=kept&title=a+b&done=keep&count=9&clip=x#old")
    parts = urlsplit(address)
    assert CompletedAction.of(parse_qsl(parts.query)) == done
    assert parts.path == "/"
    assert parts.fragment == ""
    assert {"status": "kept", "title": "a b"}.items() <= parameters_of(address).items()


@pytest.mark.parametrize(
    "query", ["", "done=explode", "done=keep&count=-1", "done=keep&count=101", "done=keep&clip=1"]
)
def test_an_invalid_action_in_an_address_is_ignored(query: str) -> None:
    assert CompletedAction.of(parse_qsl(query)) is None


def usage_of(**bytes_by_status: int) -> AccountUsage:
    counted = {ClipStatus(name): StatusUsage(clips=1, bytes=each) for name, each in bytes_by_status.items()}
    return AccountUsage(by_status=counted, clip_limit=None, next_to_expire=())


@given(st.integers(0, 10**13), st.integers(0, 10**13), st.integers(0, 10**13))
def test_the_parts_of_the_usage_bar_lie_side_by_side_and_fill_it(
    available: int, kept: int, published: int
) -> None:
    usage = usage_of(available=available, kept=kept, published=published, deleted=10**9)
    bar = UsageBar.of(usage)
    assert (bar.clips, bar.bytes) == (3, available + kept + published)
    ends = [0.0, *(part.start + part.share for part in bar.parts)]
    for part, end in zip(bar.parts, ends, strict=False):
        assert part.start == pytest.approx(end, abs=0.02)
    assert ends[-1] == pytest.approx(100 if bar.bytes else 0, abs=0.05)


def test_an_account_without_clips_has_an_empty_bar() -> None:
    bar = UsageBar.of(AccountUsage(by_status={}, clip_limit=5, next_to_expire=()))
    assert (bar.clips, bar.bytes, bar.clip_limit) == (0, 0, 5)
    assert all(part.share == 0 for part in bar.parts)


def test_ids_in_an_address_are_bounded() -> None:
    pairs = [("done", "delete"), *(("clip", str(uuid4())) for _ in range(150))]
    done = CompletedAction.of(pairs)
    assert done is not None
    assert len(done.clip_ids) == 100
