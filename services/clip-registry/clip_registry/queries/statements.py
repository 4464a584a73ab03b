"""The SQL of what an account sees: its clips, its usage, its VODs.

Conditions on the status are constants (``AVAILABLE``, ``NOT_PURGED``), not parameters: the generic plan of a
prepared statement can use a partial index only when it sees the constant.
"""

from functools import cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    Double,
    Integer,
    Select,
    Text,
    Uuid,
    bindparam,
    exists,
    false,
    func,
    literal_column,
    select,
    true,
    tuple_,
    union_all,
)

from clip_registry.database.rows import clip_columns
from clip_registry.database.tables import (
    AVAILABLE,
    NOT_PURGED,
    skipped_highlights,
)
from clip_registry.database.tables import generated_clips as clips
from clip_registry.domain.clips import VISIBLE
from clip_registry.queries.clip_lists import DESCENDING, SORT_FIELDS
from clip_shared.contracts.registry_api import ClipOrder

ACCOUNT: ColumnElement[str] = bindparam("account", type_=Text)
LIMIT: ColumnElement[int] = bindparam("limit", type_=Integer)
OF_ACCOUNT = clips.c.twitch_account_id == ACCOUNT


# Lists: parameters account, statuses, limit; kinds, vod_id, title where clips are filtered by them; value,
# clip_id of the position after which a page begins.

# A clip without the value is sorted as if it had this one: last.
_MISSING: dict[str, ColumnElement[Any]] = {
    "expires_at": literal_column("'infinity'::timestamptz", DateTime(timezone=True)),
    "score": literal_column("'-infinity'::float8", Double),
}


def _sortable(name: str, value: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(value, _MISSING[name]) if name in _MISSING else value


@cache
def list_clips(order: ClipOrder, filters: frozenset[str], *, continues: bool) -> Select[Any]:
    """Build the list of an account's clips.

    ``filters``: those of kinds, vod_id and title that are given; ``continues``: after a position. A condition
    that is not asked for is not in the statement, so that every combination gets a plan of its own.
    """
    name = SORT_FIELDS[order]
    key = _sortable(name, clips.c[name])
    conditions: dict[str, ColumnElement[bool]] = {
        "kinds": clips.c.kind == func.any(bindparam("kinds", type_=ARRAY(Text))),
        "vod_id": clips.c.source_vod_id == bindparam("vod_id", type_=Text),
        "title": func.strpos(func.lower(clips.c.title), func.lower(bindparam("title", type_=Text))) > 0,
    }
    listed = select(*clip_columns(clips)).where(
        NOT_PURGED,
        OF_ACCOUNT,
        clips.c.status == func.any(bindparam("statuses", type_=ARRAY(Text))),
        *(conditions[each] for each in sorted(filters)),
    )
    if continues:
        value = _sortable(name, bindparam("value", type_=clips.c[name].type))
        here, last = tuple_(key, clips.c.clip_id), tuple_(value, bindparam("clip_id", type_=Uuid))
        listed = listed.where(here < last if order in DESCENDING else here > last)
    sorting = (key.desc(), clips.c.clip_id.desc()) if order in DESCENDING else (key, clips.c.clip_id)
    return listed.order_by(*sorting).limit(LIMIT)


# Usage: parameter account.

USAGE = (
    select(clips.c.status, func.count().label("clips"), func.sum(clips.c.file_size_bytes).label("bytes"))
    .where(NOT_PURGED, OF_ACCOUNT)
    .group_by(clips.c.status)
)
NEXT_TO_EXPIRE = (
    select(*clip_columns(clips))
    .where(AVAILABLE, OF_ACCOUNT)
    .order_by(clips.c.expires_at, clips.c.clip_id)
    .limit(LIMIT)
)


# VODs: parameters account and limit; for a single VOD also vod_id.

# A highlight that was skipped once and has a clip is not counted as skipped.
_SKIPPED = ~exists().where(clips.c.stream_highlight_id == skipped_highlights.c.stream_highlight_id)
_OF_VOD: ColumnElement[str] = bindparam("vod_id", type_=Text)


def _summaries(*, of_one: bool) -> Select[Any]:
    def of(table: Any) -> list[ColumnElement[bool]]:
        of_vod = [table.c.source_vod_id == _OF_VOD] if of_one else []
        return [table.c.twitch_account_id == ACCOUNT, *of_vod]

    highlights = union_all(
        select(
            clips.c.source_vod_id,
            clips.c.highlight_detected_at,
            clips.c.status.in_([literal_column(f"'{status}'") for status in VISIBLE]).label("is_clip"),
            false().label("is_skipped"),
        ).where(*of(clips)),
        select(
            skipped_highlights.c.source_vod_id,
            skipped_highlights.c.highlight_detected_at,
            false(),
            true(),
        ).where(*of(skipped_highlights), _SKIPPED),
    ).subquery("highlights")
    latest = func.max(highlights.c.highlight_detected_at)
    return (
        select(
            highlights.c.source_vod_id,
            func.count().label("highlights"),
            func.count().filter(highlights.c.is_clip).label("clips"),
            func.count().filter(highlights.c.is_skipped).label("skipped"),
            latest.label("latest_at"),
        )
        .group_by(highlights.c.source_vod_id)
        .order_by(latest.desc(), highlights.c.source_vod_id)
        .limit(LIMIT)
    )


VODS = _summaries(of_one=False)
VOD = _summaries(of_one=True)
SKIPS_OF_VOD = (
    select(skipped_highlights)
    .where(
        skipped_highlights.c.twitch_account_id == ACCOUNT,
        skipped_highlights.c.source_vod_id == _OF_VOD,
        _SKIPPED,
    )
    .order_by(skipped_highlights.c.highlight_detected_at.desc(), skipped_highlights.c.stream_highlight_id)
    .limit(LIMIT)
)
