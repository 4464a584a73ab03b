"""The registry's SQL, built once: the guards of every transition, and the queries.

A transition that replaces something reads the row it replaces in the same statement: ``before`` locks the
row and sees its newest committed state, ``after`` updates it if the guard holds for that very state. A
concurrent transition waits at the lock and then judges what this one left. (RETURNING OLD.* would say the
same more briefly; it needs PostgreSQL 18.)

Two things are easily got wrong there, because after a wait the updated table is first looked at as the
statement's snapshot saw it, and only then anew. Guards may use ``before`` alone: a condition on the table
would compare its old state, and skip the row. And every column is set from ``before``: PostgreSQL checks
constraints on the first look's row, which would otherwise be half old and half new, and fail.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    Boolean,
    ColumnElement,
    Date,
    DateTime,
    Delete,
    Double,
    FromClause,
    Integer,
    Interval,
    Select,
    Text,
    Update,
    Uuid,
    and_,
    any_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    extract,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by, insert

from clip_registry.database.tables import (
    AVAILABLE,
    ENDING,
    LIVE,
    MORTAL,
    expiry_notices,
    metadata,
    share_slugs,
)
from clip_registry.database.tables import generated_clips as clips
from clip_registry.domain.actions import TRANSITIONS
from clip_registry.domain.clips import Cut
from clip_shared.contracts.events import MAX_EXPIRING_CLIP_IDS, ClipOrigin, PurgeReason
from clip_shared.contracts.registry_api import ClipAction, ClipStatus

Columns = Any  # a FROM clause's columns by name: SQLAlchemy types them no further

NOW = func.now()
RETENTION = bindparam("retention", type_=Interval)
EXPIRY = NOW + RETENTION
# What a restored clip lives at least, unless clips live shorter than that.
LEAST_AFTER_RESTORE = func.least(literal(timedelta(days=1), Interval), RETENTION)
UNEXPIRED = or_(clips.c.expires_at.is_(None), clips.c.expires_at > NOW)

CUT_COLUMNS = tuple(field.name for field in fields(Cut))
# The newest cuts that a clip judged. Of a cut, those of who did not ask for it are null.
MARKS = ("detector_cut_at", "detector_cut_id", "owner_cut_at", "owner_cut_id")
# Who a clip is, and whose: a newer cut of the same highlight does not change that.
IDENTITY = ("clip_id", "stream_highlight_id", "twitch_account_id")


def clip_columns(source: FromClause, prefix: str = "") -> list[ColumnElement[Any]]:
    """The columns of one clip, and how long it still lives by the database's clock."""
    seconds = cast(extract("epoch", source.c.expires_at - NOW), Double)
    return [
        *(column.label(prefix + column.name) for column in source.c),
        seconds.label(f"{prefix}expires_in_seconds"),
    ]


def _guarded_update(
    guard: Callable[[Columns], ColumnElement[bool]],
    values: Callable[[Columns], Mapping[str, Any]],
) -> Select[Any]:
    """One row of ``before_*`` and, if the guard held, ``after_*`` columns; no row: no such clip."""
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


# A cut: parameters are its columns, its marks and retention (INSERT); the same prefixed with cut_, and its
# offer (JUDGE).

# No conflict target: with one, two first cuts of the same highlight at the same moment can fail on the other
# unique indexes. What conflicts by something else than its id has no row for JUDGE to find.
INSERT_CUT = (
    insert(clips)
    .values(
        status=ClipStatus.AVAILABLE,
        revision=1,
        expires_at=EXPIRY,
        version=1,
        created_at=NOW,
        updated_at=NOW,
    )
    .on_conflict_do_nothing()
    .returning(*clip_columns(clips))
)


def _of_cut(name: str) -> ColumnElement[Any]:
    return bindparam(f"cut_{name}", type_=clips.c[name].type)


CUT_POSITION = tuple_(_of_cut("highlight_detected_at"), _of_cut("highlight_event_id"))
CUT_IS_OWNERS = _of_cut("origin") == ClipOrigin.OWNER


def _is_news(old: Columns) -> ColumnElement[bool]:
    """Whether :func:`clip_registry.domain.cuts.outcome_of_cut` comes to a verdict that a clip remembers."""

    def newer_than(at: ColumnElement[Any], event_id: ColumnElement[Any]) -> ColumnElement[bool]:
        return or_(at.is_(None), tuple_(at, event_id) < CUT_POSITION)

    return and_(
        old.twitch_account_id == _of_cut("twitch_account_id"),
        old.highlight_event_id != _of_cut("highlight_event_id"),
        case(
            (CUT_IS_OWNERS, newer_than(old.owner_cut_at, old.owner_cut_id)),
            else_=newer_than(old.detector_cut_at, old.detector_cut_id),
        ),
    )


def _accepts(old: Columns) -> ColumnElement[bool]:
    """Whether a cut that is news becomes the clip's."""
    is_later = old.purged_at < _of_cut("highlight_detected_at")
    revives = case(
        (old.purge_reason == PurgeReason.DELETED, and_(CUT_IS_OWNERS, is_later)),
        else_=or_(CUT_IS_OWNERS, is_later),
    )
    return case(
        (old.status == ClipStatus.PURGED, revives),
        else_=or_(CUT_IS_OWNERS, and_(old.status == ClipStatus.AVAILABLE, old.origin != ClipOrigin.OWNER)),
    )


def _offers(old: Columns) -> ColumnElement[bool]:
    """Whether a cut that is news, and does not become the clip's, is offered to its owner."""
    decided = (ClipStatus.KEPT, ClipStatus.PUBLISHED, ClipStatus.DELETED)
    return and_(
        or_(*(old.status == status for status in decided)),
        tuple_(old.highlight_detected_at, old.highlight_event_id) < CUT_POSITION,
    )


def _with_cut(old: Columns) -> dict[str, Any]:
    """The new video. An ephemeral clip's expiry starts anew; a purged clip begins a new life."""
    was_purged = old.status == ClipStatus.PURGED
    was_deleted = old.status == ClipStatus.DELETED
    return {
        **{name: _of_cut(name) for name in CUT_COLUMNS if name not in IDENTITY},
        "title": case((old.renamed_at.is_not(None), old.title), else_=_of_cut("title")),
        "revision": old.revision + 1,
        "published_revision": case((old.published_at.is_not(None), old.revision + 1)),
        "status": case((was_purged, literal(ClipStatus.AVAILABLE, Text)), else_=old.status),
        # A deleted one is purged when it was to be; should it be restored, it lives a full time.
        "expires_at": case((was_deleted, old.expires_at), (old.expires_at.is_not(None), EXPIRY)),
        "expires_at_before_delete": case(
            (old.expires_at_before_delete.is_not(None), old.deleted_at + RETENTION)
        ),
        "created_at": case((was_purged, NOW), else_=old.created_at),
        "purged_at": null(),
        "purge_reason": case((was_deleted, old.purge_reason)),
    }


def _judged(old: Columns) -> dict[str, Any]:
    """What a cut that is news does to a clip. Unless the clip becomes it, its version stays."""
    accepts = _accepts(old)
    offer = bindparam("cut_offer", type_=clips.c.offer.type)
    return {
        **{name: case((accepts, value), else_=old[name]) for name, value in _with_cut(old).items()},
        "offer": case((accepts, null()), (_offers(old), offer), else_=old.offer),
        **{name: func.coalesce(_of_cut(name), old[name]) for name in MARKS},
        "version": old.version + case((accepts, 1), else_=0),
        "updated_at": case((accepts, NOW), else_=old.updated_at),
    }


JUDGE_CUT = _guarded_update(_is_news, _judged)

LOCK_ACCOUNT = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("account", type_=Text), 0)))


def _evict() -> Update:
    surplus = (
        select(clips.c.clip_id)
        .where(clips.c.twitch_account_id == bindparam("account"), AVAILABLE, clips.c.expires_at > NOW)
        .order_by(
            clips.c.score.desc().nulls_last(), clips.c.highlight_detected_at.desc(), clips.c.clip_id.desc()
        )
        .offset(bindparam("cap", type_=Integer))
        .with_for_update()
        .cte("surplus")
    )
    return (
        update(clips)
        .where(clips.c.clip_id == surplus.c.clip_id, AVAILABLE, clips.c.expires_at > NOW)
        .values(
            expires_at=NOW,
            purge_reason=PurgeReason.EVICTED,
            version=clips.c.version + 1,
            updated_at=NOW,
        )
        .returning(*clip_columns(clips))
    )


EVICT_SURPLUS = _evict()


# Owners' actions: parameters of_clip, account, retention; where they are used full, slug, new_title, undo,
# republishes and the options of publishing.

SLUG = bindparam("slug", type_=Text)
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
        # Publishing keeps, so that unpublishing leaves a kept clip.
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


UNDELETED = {"deleted_from": null(), "deleted_at": null(), "expires_at_before_delete": null()}
UNPUBLISHED = {
    "published_at": null(),
    "share_slug": null(),
    "published_revision": null(),
    **{name: null() for name in OPTIONS},
}
ACT = {action: _guarded_update(_allows(action), _effect(action)) for action in ClipAction}
GIVE_OUT_SLUG = insert(share_slugs).values(share_slug=SLUG, created_at=NOW)


# Expiration: parameters cutoff (or null) and limit.

CUTOFF = func.least(func.coalesce(bindparam("cutoff", type_=DateTime(timezone=True)), NOW), NOW)
DUE = and_(MORTAL, clips.c.expires_at <= CUTOFF)
OVER = and_(ENDING, clips.c.published_until <= CUTOFF)


def _in_batches(due: ColumnElement[bool], moment: ColumnElement[Any], values: Mapping[str, Any]) -> Update:
    """Change the rows that are due, the earliest first and no more than ``limit``."""
    # A row that somebody else holds is being kept, or purged by another; either way it is not ours.
    batch = (
        select(clips.c.clip_id)
        .where(due)
        .order_by(moment, clips.c.clip_id)
        .limit(bindparam("limit", type_=Integer))
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    # As an array, the rows are found by their key; a join would read all that is due for every batch of it.
    ours = any_(func.array(select(batch.c.clip_id).scalar_subquery(), type_=ARRAY(Uuid)))
    return (
        update(clips)
        .where(clips.c.clip_id == ours, due)
        .values({**values, "version": clips.c.version + 1, "updated_at": NOW})
        .returning(*clip_columns(clips))
    )


EXPIRE = _in_batches(
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
END_PUBLICATIONS = _in_batches(OVER, clips.c.published_until, {"status": ClipStatus.KEPT, **UNPUBLISHED})


def _still_due() -> Select[Any]:
    # Not EXISTS (… WHERE due): for an unknown cutoff that is planned as a sequential scan.
    first_due = select(func.min(clips.c.expires_at)).where(MORTAL).scalar_subquery()
    first_over = select(func.min(clips.c.published_until)).where(ENDING).scalar_subquery()
    return select(
        CUTOFF.label("cutoff"),
        func.coalesce(func.least(first_due, first_over) <= CUTOFF, False).label("more"),
    )


STILL_DUE = _still_due()


# Notices of what expires soon: parameters days, since (or null) and limit.


UTC: ColumnElement[str] = literal_column("'UTC'")


def _day(moment: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(func.timezone(UTC, moment), Date)


def _start_of(day: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.timezone(UTC, cast(day, DateTime))


TODAY = _day(NOW)


def _notify() -> Select[Any]:
    """A row for each account and day that clips were met of; ``told``: it is for us to tell.

    Looks at ``limit`` clips that nobody was told of, the first to expire first, from ``since`` on.
    """
    day = _day(clips.c.expires_at)
    known = exists().where(
        expiry_notices.c.cohort == day, expiry_notices.c.twitch_account_id == clips.c.twitch_account_id
    )
    met = (
        select(clips.c.twitch_account_id, day.label("cohort"), clips.c.expires_at)
        .where(
            AVAILABLE,
            clips.c.expires_at > NOW,
            clips.c.expires_at >= func.coalesce(bindparam("since", type_=DateTime(timezone=True)), NOW),
            clips.c.expires_at < _start_of(TODAY + 1 + bindparam("days", type_=Integer)),
            ~known,
        )
        .order_by(clips.c.expires_at, clips.c.clip_id)
        .limit(bindparam("limit", type_=Integer))
        .cte("met")
    )
    groups = (
        select(
            met.c.cohort,
            met.c.twitch_account_id,
            func.count().label("met"),
            func.max(met.c.expires_at).label("reached"),
        )
        .group_by(met.c.cohort, met.c.twitch_account_id)
        .cte("groups")
    )
    told = _tell(groups)
    same = and_(groups.c.cohort == told.c.cohort, groups.c.twitch_account_id == told.c.twitch_account_id)
    return select(groups, told.c.cohort.is_not(None).label("told")).select_from(groups.outerjoin(told, same))


def _tell(groups: CTE) -> CTE:
    # In the same order for all who tell at once: they may wait for each other, but never in a circle.
    key = (groups.c.cohort, groups.c.twitch_account_id)
    return (
        insert(expiry_notices)
        .from_select(
            ["cohort", "twitch_account_id", "noticed_at"],
            select(*key, NOW).select_from(groups).order_by(*key),
        )
        .on_conflict_do_nothing()
        .returning(expiry_notices.c.cohort, expiry_notices.c.twitch_account_id)
        .cte("told")
    )


NOTIFY = _notify()


def _expiring() -> Select[Any]:
    """What of an account's expires on a day: for each of two lists, accounts and cohorts."""
    accounts, cohorts = (cast(bindparam(n), ARRAY(t)) for n, t in (("accounts", Text), ("cohorts", Date)))
    asked = func.unnest(accounts, cohorts).table_valued("account", "cohort").render_derived("asked")
    in_order = aggregate_order_by(clips.c.clip_id, clips.c.expires_at, clips.c.clip_id)
    expiring = (
        select(
            func.array_agg(in_order, type_=ARRAY(Uuid))[1:MAX_EXPIRING_CLIP_IDS].label("clip_ids"),
            func.count().label("clip_count"),
        )
        .where(
            clips.c.twitch_account_id == asked.c.account,
            AVAILABLE,
            # Not as ranges of expires_at: by that index, all that expires would be read for each account.
            _day(clips.c.expires_at) == asked.c.cohort,
            clips.c.expires_at - NOW > literal(timedelta(0), Interval),
        )
        .lateral("expiring")
    )
    return select(
        asked.c.account,
        _start_of(asked.c.cohort + 1).label("expires_before"),
        expiring.c.clip_ids,
        expiring.c.clip_count,
    ).where(expiring.c.clip_count > 0)


EXPIRING = _expiring()


def _forget() -> Delete:
    past = (
        select(expiry_notices.c.cohort, expiry_notices.c.twitch_account_id)
        .where(expiry_notices.c.cohort < TODAY)
        .limit(bindparam("limit", type_=Integer))
        .with_for_update(skip_locked=True)
        .cte("past")
    )
    return delete(expiry_notices).where(
        expiry_notices.c.cohort == past.c.cohort,
        expiry_notices.c.twitch_account_id == past.c.twitch_account_id,
    )


FORGET_NOTICES = _forget()


# Queries.

GET = select(*clip_columns(clips)).where(clips.c.clip_id == bindparam("clip_id"))
FOREIGN = select(*clip_columns(clips)).where(
    clips.c.clip_id == func.any(bindparam("clip_ids", type_=ARRAY(Uuid))),
    clips.c.twitch_account_id != bindparam("account"),
)
GET_SHARED = select(*clip_columns(clips)).where(
    clips.c.share_slug == SLUG,
    clips.c.status == ClipStatus.PUBLISHED,
    or_(clips.c.published_until.is_(None), clips.c.published_until > NOW),
)
WAS_GIVEN_OUT = select(exists().where(share_slugs.c.share_slug == SLUG))


COUNT_EPHEMERAL = select(func.count()).where(
    AVAILABLE, UNEXPIRED, clips.c.twitch_account_id == bindparam("account")
)


def _unowned() -> Select[Any]:
    asked = func.unnest(cast(bindparam("keys"), ARRAY(Text))).column_valued("asked")

    def owned(column: ColumnElement[str | None]) -> ColumnElement[bool]:
        return exists(
            select(clips.c.clip_id).where(LIVE, column == asked, clips.c.bucket == bindparam("bucket"))
        )

    return select(asked).where(~owned(clips.c.object_key), ~owned(clips.c.poster_key))


UNOWNED = _unowned()
CHANGED_WITHIN = select(clips.c.clip_id).where(
    clips.c.clip_id == func.any(bindparam("clip_ids", type_=ARRAY(Uuid))),
    clips.c.updated_at > NOW - bindparam("delay", type_=Interval),
)


# Every column of every table, and no row: fails where the schema is not (yet) what this version needs; and,
# for the lock that nothing is locked with, where the server takes no writes.
READINESS = tuple(select(table).limit(0).with_for_update() for table in metadata.sorted_tables)
