"""Which clips of an account are listed, in which order, and where the next page begins. Pure: no I/O, no SQL.

A cursor holds the position of the last listed clip: the value that it is sorted by, and its id. The next page
begins after that position, also when clips before it have come or gone meanwhile.
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
    """The text is not a cursor that :func:`cursor_after` returned for this order."""


@dataclass(frozen=True)
class ListPosition:
    """A clip's position in a list. ``value``: what it is sorted by; None: the clip has no such value."""

    value: SortValue
    clip_id: UUID


@dataclass(frozen=True, kw_only=True)
class ClipFilter:
    """Which clips are listed. No kinds: every kind. ``title``: a part of the title, in any case."""

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
    """Return the cursor of the page that begins after a clip."""
    value = getattr(clip, SORT_FIELDS[order])
    text = value.isoformat() if isinstance(value, datetime) else NO_VALUE if value is None else repr(value)
    return urlsafe_b64encode(f"{order} {text} {clip.clip_id}".encode()).decode()


def position_of(cursor: str, order: ClipOrder) -> ListPosition:
    """Return the position in a cursor.

    Raises:
        BadCursor: the text is no cursor, or one of another order.
    """
    try:
        made_for, value, clip_id = urlsafe_b64decode(cursor).decode().split(" ")
        position = ListPosition(_read(value, SORT_FIELDS[order]), UUID(clip_id))
    except (ValueError, OverflowError) as error:
        raise BadCursor("The cursor is not valid: use next_cursor of a page.") from error
    if made_for != order:
        raise BadCursor(f"The cursor is one of order {made_for}, not of {order}.")
    return position


def _read(value: str, field: str) -> SortValue:
    return None if value == NO_VALUE and field in NULLABLE else _READERS[field](value)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    # As the database has it. This overflows near the ends of the calendar.
    return moment.astimezone(UTC)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


_READERS: Mapping[str, Callable[[str], SortValue]] = {
    "created_at": _moment,
    "expires_at": _moment,
    "duration_seconds": _number,
    "score": _number,
}
