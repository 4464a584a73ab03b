"""Guarded updates: a transition, and the clip before and after it, in one statement.

``before`` locks the row and sees its newest committed state; ``after`` updates the row if the guard holds for
that state. A concurrent transition waits at the lock, and then sees what this one left. (``RETURNING OLD.*``
does the same from PostgreSQL 18 on.)

Two rules for a guard or a value. After a wait at the lock, PostgreSQL looks at the updated
table first as the statement's snapshot saw it, and only then at the newest row. So:

- A guard uses the columns of ``before`` alone. A condition on the table would compare the old state, and skip
  the row.
- Every column is set from ``before``. PostgreSQL checks constraints on the row of the first look, which would
  otherwise be half old and half new, and break them.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Interval,
    Select,
    Text,
    Uuid,
    bindparam,
    func,
    null,
    select,
    true,
    update,
)

from clip_registry.database.rows import clip_columns
from clip_registry.database.tables import generated_clips as clips

Columns = Any  # a FROM clause's columns by name: SQLAlchemy types them no further

NOW = func.now()
RETENTION = bindparam("retention", type_=Interval)
EXPIRY = NOW + RETENTION


def guarded_update(
    guard: Callable[[Columns], ColumnElement[bool]],
    values: Callable[[Columns], Mapping[str, Any]],
) -> Select[Any]:
    """Build a guarded update of the clip ``of_clip``.

    It returns the columns ``before_*``, and ``after_*`` (null when the guard refused); no row: no such clip.
    ``guard`` and ``values`` are given the columns of the clip before. Unless ``values`` say otherwise, the
    version grows by one.
    """
    before = select(clips).where(clips.c.clip_id == bindparam("of_clip", type_=Uuid)).with_for_update()
    old = before.cte("before")
    after = (
        update(clips)
        .where(clips.c.clip_id == old.c.clip_id, guard(old.c))
        .values(
            {
                **{each.name: each for each in old.c},
                "version": old.c.version + 1,
                "updated_at": NOW,
                **values(old.c),
            }
        )
        .returning(*clips.c)
        .cte("after")
    )
    columns = (*clip_columns(old, "before_"), *clip_columns(after, "after_"))
    return select(*columns).select_from(old.outerjoin(after, true()))


SLUG = bindparam("slug", type_=Text)

UNDELETED = {"deleted_from": null(), "deleted_at": null(), "expires_at_before_delete": null()}
UNPUBLISHED = {
    "published_at": null(),
    "share_slug": null(),
    "published_revision": null(),
    "published_until": null(),
    "published_embed": null(),
    "published_downloadable": null(),
    "published_indexable": null(),
}
