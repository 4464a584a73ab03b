"""The SQL that finds a clip, orphans, and what the schema lacks."""

from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Interval,
    Select,
    Text,
    Uuid,
    bindparam,
    cast,
    exists,
    func,
    or_,
    select,
)

from clip_registry.clips.guarded_updates import NOW, SLUG
from clip_registry.database.rows import clip_columns
from clip_registry.database.tables import (
    NOT_PURGED,
    metadata,
    share_slugs,
)
from clip_registry.database.tables import generated_clips as clips
from clip_shared.contracts.registry_api import ClipStatus

GET = select(*clip_columns(clips)).where(clips.c.clip_id == bindparam("clip_id"))
GET_SHARED = select(*clip_columns(clips)).where(
    clips.c.share_slug == SLUG,
    clips.c.status == ClipStatus.PUBLISHED,
    or_(clips.c.published_until.is_(None), clips.c.published_until > NOW),
)
WAS_SHARED = select(exists().where(share_slugs.c.share_slug == SLUG))


def _orphans() -> Select[Any]:
    asked = func.unnest(cast(bindparam("keys"), ARRAY(Text))).column_valued("asked")

    def owned(column: ColumnElement[str | None]) -> ColumnElement[bool]:
        return exists(
            select(clips.c.clip_id).where(NOT_PURGED, column == asked, clips.c.bucket == bindparam("bucket"))
        )

    return select(asked).where(~owned(clips.c.object_key), ~owned(clips.c.poster_key))


ORPHANS = _orphans()
CHANGED_WITHIN = select(clips.c.clip_id).where(
    clips.c.clip_id == func.any(bindparam("clip_ids", type_=ARRAY(Uuid))),
    clips.c.updated_at > NOW - bindparam("delay", type_=Interval),
)


# These select every column of every table, and no row: they fail where the schema lacks a column or a table.
# FOR UPDATE locks nothing here, and fails on a server that takes no writes.
READINESS = tuple(select(table).limit(0).with_for_update() for table in metadata.sorted_tables)
