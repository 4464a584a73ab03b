"""The SQL of what accounts do with their clips.

Parameters of every action: ``of_clip``, ``account``, ``retention``; of some actions: ``full``, ``slug``,
``new_title``, ``undo``, ``republishes``, and the options of publishing.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    Boolean,
    ColumnElement,
    DateTime,
    Interval,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    func,
    literal,
    null,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import insert

from clip_registry.clips.guarded_updates import (
    EXPIRY,
    NOW,
    RETENTION,
    SLUG,
    UNDELETED,
    UNPUBLISHED,
    Columns,
    guarded_update,
)
from clip_registry.database.rows import clip_columns
from clip_registry.database.tables import (
    AVAILABLE,
    share_slugs,
)
from clip_registry.database.tables import generated_clips as clips
from clip_registry.domain.actions import TRANSITIONS
from clip_shared.contracts.events import PurgeReason
from clip_shared.contracts.registry_api import ClipAction, ClipStatus

# The least time until a restored clip expires, unless the retention is shorter.
LEAST_AFTER_RESTORE = func.least(literal(timedelta(days=1), Interval), RETENTION)


TITLE = bindparam("new_title", type_=Text)
OPTIONS = {
    "published_until": bindparam("until", type_=DateTime(timezone=True)),
    "published_embed": bindparam("embed", type_=Boolean),
    "published_downloadable": bindparam("downloadable", type_=Boolean),
    "published_indexable": bindparam("indexable", type_=Boolean),
}


def _allows(action: ClipAction) -> Callable[[Columns], ColumnElement[bool]]:
    """The guard of :func:`clip_registry.domain.actions.outcome_of_action`."""

    def changes_options(old: Columns) -> ColumnElement[bool]:
        return or_(*(old[name].is_distinct_from(value) for name, value in OPTIONS.items()))

    more: Mapping[ClipAction, Callable[[Columns], ColumnElement[bool]]] = {
        ClipAction.UNKEEP: lambda _: ~bindparam("full", type_=Boolean),
        ClipAction.RESTORE: lambda old: or_(
            old.deleted_from != ClipStatus.AVAILABLE, ~bindparam("full", type_=Boolean)
        ),
        ClipAction.PUBLISH: lambda old: or_(
            old.status != ClipStatus.PUBLISHED,
            and_(bindparam("republishes", type_=Boolean), changes_options(old)),
        ),
        ClipAction.RENAME: lambda old: old.title != TITLE,
    }
    return lambda old: and_(
        old.twitch_account_id == bindparam("account"),
        or_(*(old.status == source for source in sorted(TRANSITIONS[action].sources))),
        *([more[action](old)] if action in more else []),
    )


def _effect(action: ClipAction) -> Callable[[Columns], dict[str, Any]]:
    def kept_since(old: Columns) -> dict[str, Any]:
        return {
            "expires_at": null(),
            "purge_reason": null(),
            "kept_at": func.coalesce(old.kept_at, NOW),
            "kept_by": func.coalesce(old.kept_by, bindparam("account")),
        }

    def published(old: Columns) -> dict[str, Any]:
        # A published clip is kept, too: unpublished, it is kept.
        return {
            **kept_since(old),
            **OPTIONS,
            "published_at": func.coalesce(old.published_at, NOW),
            "share_slug": func.coalesce(old.share_slug, SLUG),
            "published_revision": func.coalesce(old.published_revision, old.revision),
        }

    def deleted(old: Columns) -> dict[str, Any]:
        return {
            "deleted_from": old.status,
            "deleted_at": NOW,
            "expires_at": NOW + bindparam("undo", type_=Interval),
            "expires_at_before_delete": old.expires_at,
            "purge_reason": literal(PurgeReason.DELETED, Text),
        }

    def restored(old: Columns) -> dict[str, Any]:
        left = func.greatest(old.expires_at_before_delete - old.deleted_at, LEAST_AFTER_RESTORE)
        return {
            "status": old.deleted_from,
            "expires_at": case((old.expires_at_before_delete.is_not(None), NOW + left)),
            "purge_reason": null(),
            **UNDELETED,
        }

    effects: Mapping[ClipAction, Callable[[Columns], dict[str, Any]]] = {
        ClipAction.KEEP: kept_since,
        ClipAction.UNKEEP: lambda _: {"expires_at": EXPIRY, "kept_at": null(), "kept_by": null()},
        ClipAction.PUBLISH: published,
        ClipAction.UNPUBLISH: lambda _: UNPUBLISHED,
        ClipAction.DELETE: deleted,
        ClipAction.RESTORE: restored,
        ClipAction.RENAME: lambda _: {"title": TITLE, "renamed_at": NOW},
    }
    target = TRANSITIONS[action].target
    becomes = {"status": literal(target, Text)} if target else {}
    return lambda old: {**effects[action](old), **becomes}


ACT = {action: guarded_update(_allows(action), _effect(action)) for action in ClipAction}
RECORD_SLUG = insert(share_slugs).values(share_slug=SLUG, created_at=NOW)

OF_OTHER_ACCOUNTS = select(*clip_columns(clips)).where(
    clips.c.clip_id == func.any(bindparam("clip_ids", type_=ARRAY(Uuid))),
    clips.c.twitch_account_id != bindparam("account"),
)
UNEXPIRED = or_(clips.c.expires_at.is_(None), clips.c.expires_at > NOW)
COUNT_EPHEMERAL = select(func.count()).where(
    AVAILABLE, UNEXPIRED, clips.c.twitch_account_id == bindparam("account")
)
