"""Which of an account's clips are listed, in which order, and where a list goes on. Pure: no I/O, no SQL.

A cursor is the last listed clip's place in its order: what it is sorted by, and its id. The next page begins
after that place, whatever came and went before it meanwhile.
"""

import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from clip_registry.domain.clips import VISIBLE
from clip_shared.contracts.events import HighlightKind
from clip_shared.contracts.registry_api import ClipOrder, ClipRecord, ClipStatus
from clip_shared.errors import ClipsError

SortValue = datetime | float | None
NO_VALUE = "-"


class BadCursor(ClipsError):
    """The text is not a cursor of ours, or not one of this order."""


@dataclass(frozen=True)
class ListPosition:
    """A clip's place in a list: ``value`` is what its order sorts by; None: the clip has no such value."""

    value: SortValue
    clip_id: UUID


@dataclass(frozen=True, kw_only=True)
class ClipFilter:
    """Which clips are listed. No kinds: all of them. ``title``: a part of it, in upper or lower case."""

    statuses: frozenset[ClipStatus] = frozenset(VISIBLE)
    kinds: frozenset[HighlightKind] = frozenset()
    vod_id: str | None = None
    title: str | None = None


SORT_FIELDS: Mapping[ClipOrder, str] = {
    ClipOrder.NEWEST: "created_at",
    ClipOrder.OLDEST: "created_at",
    ClipOrder.EXPIRING: "expires_at",
    ClipOrder.LONGEST: "duration_seconds",
    ClipOrder.SHORTEST: "duration_seconds",
    ClipOrder.BEST: "score",
}
NULLABLE = frozenset({"expires_at", "score"})
DESCENDING = frozenset({ClipOrder.NEWEST, ClipOrder.LONGEST, ClipOrder.BEST})


def cursor_after(clip: ClipRecord, order: ClipOrder) -> str:
    """The cursor of the page that begins after a clip."""
    value = getattr(clip, SORT_FIELDS[order])
    text = value.isoformat() if isinstance(value, datetime) else NO_VALUE if value is None else repr(value)
    return urlsafe_b64encode(f"{order} {text} {clip.clip_id}".encode()).decode()


def position_of(cursor: str, order: ClipOrder) -> ListPosition:
    """The place that a cursor of this order names.

    Raises:
        BadCursor: we never made it, or made it for another order.
    """
    try:
        made_for, value, clip_id = urlsafe_b64decode(cursor).decode().split(" ")
        place = ListPosition(_read(value, SORT_FIELDS[order]), UUID(clip_id))
    except (ValueError, OverflowError) as error:
        raise BadCursor("The cursor is not one of ours.") from error
    if made_for != order:
        raise BadCursor(f"The cursor belongs to another order than {order}.")
    return place


def _read(value: str, field: str) -> SortValue:
    return None if value == NO_VALUE and field in NULLABLE else _READERS[field](value)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment without its zone")
    # As the database will have it. Near the ends of the calendar that overflows.
    return moment.astimezone(UTC)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a number that a clip can have")
    return number


_READERS: Mapping[str, Callable[[str], SortValue]] = {
    "created_at": _moment,
    "expires_at": _moment,
    "duration_seconds": _number,
    "score": _number,
}
