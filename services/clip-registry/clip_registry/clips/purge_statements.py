"""The SQL that purges the clips that are due, and ends the publications whose end has come.

Parameters: ``cutoff`` (null: now) and ``limit``.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    Integer,
    Select,
    Update,
    Uuid,
    and_,
    any_,
    bindparam,
    func,
    null,
    select,
    update,
)

from clip_registry.clips.guarded_updates import NOW, UNDELETED, UNPUBLISHED
from clip_registry.database.rows import clip_columns
from clip_registry.database.tables import (
    CAN_EXPIRE,
    HAS_PUBLICATION_END,
)
from clip_registry.database.tables import generated_clips as clips
from clip_shared.contracts.events import PurgeReason
from clip_shared.contracts.registry_api import ClipStatus

CUTOFF = func.least(func.coalesce(bindparam("cutoff", type_=DateTime(timezone=True)), NOW), NOW)
DUE = and_(CAN_EXPIRE, clips.c.expires_at <= CUTOFF)
PUBLICATION_OVER = and_(HAS_PUBLICATION_END, clips.c.published_until <= CUTOFF)


def _in_batches(due: ColumnElement[bool], moment: ColumnElement[Any], values: Mapping[str, Any]) -> Update:
    """Change at most ``limit`` of the rows that are due, the earliest ``moment`` first."""
    # A row that another transaction holds is being kept or purged there: skip it.
    batch = (
        select(clips.c.clip_id)
        .where(due)
        .order_by(moment, clips.c.clip_id)
        .limit(bindparam("limit", type_=Integer))
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    # With an array, PostgreSQL finds the rows by their key; a join would read every row that is due.
    ours = any_(func.array(select(batch.c.clip_id).scalar_subquery(), type_=ARRAY(Uuid)))
    return (
        update(clips)
        .where(clips.c.clip_id == ours, due)
        .values({**values, "version": clips.c.version + 1, "updated_at": NOW})
        .returning(*clip_columns(clips))
    )


PURGE = _in_batches(
    DUE,
    clips.c.expires_at,
    {
        "status": ClipStatus.PURGED,
        "purged_at": NOW,
        "purge_reason": func.coalesce(clips.c.purge_reason, PurgeReason.EXPIRED),
        "kept_at": null(),
        "kept_by": null(),
        "renamed_at": null(),
        "offer": null(),
        **UNPUBLISHED,
        **UNDELETED,
    },
)
END_PUBLICATIONS = _in_batches(
    PUBLICATION_OVER, clips.c.published_until, {"status": ClipStatus.KEPT, **UNPUBLISHED}
)


def _still_due() -> Select[Any]:
    # Not EXISTS (… WHERE due): for an unknown cutoff, PostgreSQL plans that as a sequential scan.
    first_due = select(func.min(clips.c.expires_at)).where(CAN_EXPIRE).scalar_subquery()
    first_over = select(func.min(clips.c.published_until)).where(HAS_PUBLICATION_END).scalar_subquery()
    return select(
        CUTOFF.label("cutoff"),
        func.coalesce(func.least(first_due, first_over) <= CUTOFF, False).label("more"),
    )


STILL_DUE = _still_due()
