"""Cursors: they say where a list goes on, and belong to one order."""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_registry.queries.clip_lists import BadCursor, ListPosition, cursor_after, position_of
from clip_shared.contracts.registry_api import ClipOrder
from tests.unit.clip_gateway.fakes import a_clip

MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
LENGTHS = st.floats(min_value=0, exclude_min=True, allow_infinity=False)


@given(
    clip=st.builds(
        lambda **fields: a_clip().model_copy(update=fields),
        clip_id=st.uuids(),
        created_at=MOMENTS,
        expires_at=st.none() | MOMENTS,
        duration_seconds=LENGTHS,
        score=st.none() | NUMBERS,
    )
)
def test_a_cursor_is_the_place_of_its_clip(clip: object) -> None:
    fields = ("created_at", "created_at", "expires_at", "duration_seconds", "duration_seconds", "score")
    for order, field in zip(ClipOrder, fields, strict=True):
        expected = ListPosition(getattr(clip, field), clip.clip_id)  # type: ignore[attr-defined]  # a ClipRecord
        cursor = cursor_after(clip, order)  # type: ignore[arg-type]
        assert len(cursor) <= 200
        assert position_of(cursor, order) == expected


@pytest.mark.parametrize("order", ClipOrder)
@pytest.mark.parametrize("other", ClipOrder)
def test_a_cursor_belongs_to_the_order_that_made_it(order: ClipOrder, other: ClipOrder) -> None:
    cursor = cursor_after(a_clip(), order)
    if order is other:
        assert position_of(cursor, other).value is not None
    else:
        with pytest.raises(BadCursor):
            position_of(cursor, other)


def crafted(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("cursor", "order"),
    [
        ("", ClipOrder.NEWEST),
        ("!", ClipOrder.NEWEST),
        ("é", ClipOrder.NEWEST),
        ("YWJj", ClipOrder.NEWEST),
        (crafted(f"newest 2026-01-01T00:00:00 {UUID(int=0)}"), ClipOrder.NEWEST),
        (crafted(f"newest 0001-01-01T00:00:00+14:00 {UUID(int=0)}"), ClipOrder.NEWEST),
        (crafted(f"newest 9999-12-31T23:59:59-14:00 {UUID(int=0)}"), ClipOrder.NEWEST),
        (crafted("newest 2026-01-01T00:00:00+00:00 1"), ClipOrder.NEWEST),
        (crafted(f"newest 0.5 {UUID(int=0)}"), ClipOrder.NEWEST),
        (crafted(f"newest - {UUID(int=0)}"), ClipOrder.NEWEST),
        (crafted(f"longest - {UUID(int=0)}"), ClipOrder.LONGEST),
        (crafted(f"best nan {UUID(int=0)}"), ClipOrder.BEST),
        (crafted(f"best inf {UUID(int=0)}"), ClipOrder.BEST),
        (crafted(f"longest 1e999 {UUID(int=0)}"), ClipOrder.LONGEST),
        (crafted(f"longest 2026-01-01T00:00:00+00:00 {UUID(int=0)}"), ClipOrder.LONGEST),
    ],
)
def test_what_we_never_gave_out_is_refused(cursor: str, order: ClipOrder) -> None:
    with pytest.raises(BadCursor):
        position_of(cursor, order)


@given(cursor=st.text(max_size=200), order=st.sampled_from(ClipOrder))
def test_any_other_text_is_refused_and_nothing_else_is_raised(cursor: str, order: ClipOrder) -> None:
    with pytest.raises(BadCursor):
        position_of(cursor, order)
