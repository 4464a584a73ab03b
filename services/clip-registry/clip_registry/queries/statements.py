"""The registry's SQL that changes no clip: lists, counts, feeds and skips.

Conditions on the status are written out (``AVAILABLE``, ``LIVE``): a prepared statement's generic plan can
use a partial index only when it sees the constant.
"""

from functools import cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    Double,
    Integer,
    Interval,
    Select,
    Text,
    Uuid,
    any_,
    bindparam,
    delete,
    exists,
    false,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from clip_registry.clips.statements import NOW, clip_columns
from clip_registry.database.tables import (
    AVAILABLE,
    LIVE,
    PUBLISHED,
    TO_FORGET,
    TO_TRIM,
    feeds,
    skipped_highlights,
)
from clip_registry.database.tables import generated_clips as clips
from clip_registry.domain.clips import VISIBLE
from clip_registry.queries.clip_lists import DESCENDING, SORT_FIELDS
from clip_shared.contracts.registry_api import ClipOrder

ACCOUNT: ColumnElement[str] = bindparam("account", type_=Text)
LIMIT: ColumnElement[int] = bindparam("limit", type_=Integer)
OF_ACCOUNT = clips.c.twitch_account_id == ACCOUNT


# Lists: parameters account, statuses, limit; kinds, vod_id, title where filtered by them; value, clip_id of
# the place after which a page begins.

# What a clip without the value is sorted as: always last.
_MISSING: dict[str, ColumnElement[Any]] = {
    "expires_at": literal_column("'infinity'::timestamptz", DateTime(timezone=True)),
    "score": literal_column("'-infinity'::float8", Double),
}


def _sortable(name: str, value: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(value, _MISSING[name]) if name in _MISSING else value


@cache
def list_clips(order: ClipOrder, filters: frozenset[str], *, goes_on: bool) -> Select[Any]:
    """An account's clips. ``filters``: those of kinds, vod_id and title that are given.

    A condition that is not asked for is not in the statement, so that each gets a plan of its own.
    """
    name = SORT_FIELDS[order]
    key = _sortable(name, clips.c[name])
    conditions: dict[str, ColumnElement[bool]] = {
        "kinds": clips.c.kind == func.any(bindparam("kinds", type_=ARRAY(Text))),
        "vod_id": clips.c.source_vod_id == bindparam("vod_id", type_=Text),
        "title": func.strpos(func.lower(clips.c.title), func.lower(bindparam("title", type_=Text))) > 0,
    }
    listed = select(*clip_columns(clips)).where(
        LIVE,
        OF_ACCOUNT,
        clips.c.status == func.any(bindparam("statuses", type_=ARRAY(Text))),
        *(conditions[each] for each in sorted(filters)),
    )
    if goes_on:
        value = _sortable(name, bindparam("value", type_=clips.c[name].type))
        here, last = tuple_(key, clips.c.clip_id), tuple_(value, bindparam("clip_id", type_=Uuid))
        listed = listed.where(here < last if order in DESCENDING else here > last)
    sorting = (key.desc(), clips.c.clip_id.desc()) if order in DESCENDING else (key, clips.c.clip_id)
    return listed.order_by(*sorting).limit(LIMIT)


# What an account has: parameter account.

USAGE = (
    select(clips.c.status, func.count().label("clips"), func.sum(clips.c.file_size_bytes).label("bytes"))
    .where(LIVE, OF_ACCOUNT)
    .group_by(clips.c.status)
)
NEXT_TO_EXPIRE = (
    select(*clip_columns(clips))
    .where(AVAILABLE, OF_ACCOUNT)
    .order_by(clips.c.expires_at, clips.c.clip_id)
    .limit(LIMIT)
)


# VODs: parameters account and limit; vod_id for one of them.

# A highlight that has a clip, though it was skipped before or since, is not counted as skipped.
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


# Skips: parameters are the table's columns.


def _put_skip() -> Any:
    new = insert(skipped_highlights).values(
        skipped_at=func.least(bindparam("skipped_at", type_=DateTime(timezone=True)), NOW)
    )

    def age(columns: Any) -> ColumnElement[Any]:
        return tuple_(columns.highlight_detected_at, columns.highlight_event_id, columns.skipped_at)

    return new.on_conflict_do_update(
        index_elements=[skipped_highlights.c.stream_highlight_id],
        set_={name: new.excluded[name] for name in skipped_highlights.c.keys()},  # noqa: SIM118 - not a dict
        where=age(skipped_highlights.c) < age(new.excluded),
    )


PUT_SKIP = _put_skip()


# Feeds: parameters account and slug.

# An update that changes nothing, so that the row is returned whether it is new or was there.
OPEN_FEED = (
    insert(feeds)
    .values(twitch_account_id=ACCOUNT, slug=bindparam("slug", type_=Text), created_at=NOW)
    .on_conflict_do_update(
        index_elements=[feeds.c.twitch_account_id], set_={"twitch_account_id": feeds.c.twitch_account_id}
    )
    .returning(feeds.c.slug, feeds.c.created_at)
)
CLOSE_FEED = delete(feeds).where(feeds.c.twitch_account_id == ACCOUNT)
FEED_OF = select(feeds.c.slug, feeds.c.created_at).where(feeds.c.twitch_account_id == ACCOUNT)
FEED = select(feeds).where(feeds.c.slug == bindparam("slug", type_=Text))
PUBLISHED_CLIPS = (
    select(*clip_columns(clips))
    .where(PUBLISHED, OF_ACCOUNT, or_(clips.c.published_until.is_(None), clips.c.published_until > NOW))
    .order_by(clips.c.published_at.desc(), clips.c.clip_id.desc())
    .limit(LIMIT)
)


# Forgetting: parameters age and limit. What somebody else holds waits for the next round.

OLD = NOW - bindparam("age", type_=Interval)


def _old(key: ColumnElement[Any], *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    # As an array, the rows are found by their key; a join may read the whole table for every batch.
    old = (
        select(key.label("key")).where(*conditions).limit(LIMIT).with_for_update(skip_locked=True).cte("old")
    )
    return key == any_(func.array(select(old.c.key).scalar_subquery(), type_=ARRAY(key.type)))


FORGET_SKIPS = delete(skipped_highlights).where(
    _old(skipped_highlights.c.stream_highlight_id, skipped_highlights.c.skipped_at < OLD)
)
# What people wrote of clips that are gone. Nobody is told: no version, no time of change.
FORGET_TITLES = (
    update(clips)
    .where(_old(clips.c.clip_id, TO_FORGET, clips.c.purged_at < OLD), TO_FORGET)
    .values(title="", offer=null())
)
# The whole row, some time after its title: no event of before the purge can come any more, see decision 0044.
TRIM = delete(clips).where(_old(clips.c.clip_id, TO_TRIM, clips.c.purged_at < OLD), TO_TRIM)
