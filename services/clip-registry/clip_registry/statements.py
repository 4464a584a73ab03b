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

from clip_registry.domain import TRANSITIONS, Action, Cut
from clip_registry.tables import AVAILABLE, LIVE, expiry_notices, metadata, outbox, outbox_dlq
from clip_registry.tables import generated_clips as clips
from clip_shared.events import MAX_EXPIRING_CLIP_IDS
from clip_shared.registry_api import ClipStatus

Columns = Any  # a FROM clause's columns by name: SQLAlchemy types them no further

NOW = func.now()
EXPIRY = NOW + bindparam("retention", type_=Interval)
UNEXPIRED = or_(clips.c.expires_at.is_(None), clips.c.expires_at > NOW)

CUT_COLUMNS = tuple(field.name for field in fields(Cut))
# Who a clip is, and whose: a newer cut of the same highlight does not change that.
IDENTITY = ("clip_id", "stream_highlight_id", "twitch_account_id")


def _row(source: FromClause, prefix: str = "") -> list[ColumnElement[Any]]:
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
                **values(old.c),
                "version": old.c.version + 1,
                "updated_at": NOW,
            }
        )
        .returning(*clips.c)
        .cte("after")
    )
    return select(*_row(old, "before_"), *_row(after, "after_")).select_from(old.outerjoin(after, true()))


# A cut: parameters are its columns (INSERT), and the same prefixed with cut_ (REPLACE), and retention.

# No conflict target: with one, two first cuts of the same highlight at the same moment can fail on the other
# unique indexes. What conflicts by something else than its id has no row for REPLACE to find.
INSERT_CUT = (
    insert(clips)
    .values(status=ClipStatus.AVAILABLE, expires_at=EXPIRY, version=1, created_at=NOW, updated_at=NOW)
    .on_conflict_do_nothing()
    .returning(*_row(clips))
)


def _of_cut(name: str) -> ColumnElement[Any]:
    return bindparam(f"cut_{name}", type_=clips.c[name].type)


def _accepts_cut(old: Columns) -> ColumnElement[bool]:
    """The guard of :func:`clip_registry.domain.judge`."""
    detected_at, event_id = _of_cut("highlight_detected_at"), _of_cut("highlight_event_id")
    return and_(
        old.twitch_account_id == _of_cut("twitch_account_id"),
        old.highlight_event_id != event_id,
        tuple_(old.highlight_detected_at, old.highlight_event_id) < tuple_(detected_at, event_id),
        or_(old.purged_at.is_(None), old.purged_at < detected_at),
    )


def _with_cut(old: Columns) -> dict[str, Any]:
    """The new video. An ephemeral clip's expiry starts anew; a purged clip begins a new life."""
    was_purged = old.status == ClipStatus.PURGED
    return {
        **{name: _of_cut(name) for name in CUT_COLUMNS if name not in IDENTITY},
        "status": case((was_purged, literal(ClipStatus.AVAILABLE, Text)), else_=old.status),
        "expires_at": case((old.expires_at.is_not(None), EXPIRY)),
        "created_at": case((was_purged, NOW), else_=old.created_at),
        "purged_at": null(),
    }


REPLACE_CUT = _guarded_update(_accepts_cut, _with_cut)

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
        .values(expires_at=NOW, version=clips.c.version + 1, updated_at=NOW)
        .returning(*_row(clips))
    )


EVICT_SURPLUS = _evict()


# Owners' actions: parameters of_clip, account, and (where used) retention, slug, full.


def _allows(action: Action) -> Callable[[Columns], ColumnElement[bool]]:
    """The guard of :func:`clip_registry.domain.answer`."""
    return lambda old: and_(
        old.twitch_account_id == bindparam("account"),
        or_(*(old.status == source for source in sorted(TRANSITIONS[action].sources))),
        *([~bindparam("full", type_=Boolean)] if action is Action.UNKEEP else []),
    )


def _effect(action: Action) -> Callable[[Columns], dict[str, Any]]:
    def kept_since(old: Columns) -> dict[str, Any]:
        return {
            "expires_at": null(),
            "kept_at": func.coalesce(old.kept_at, NOW),
            "kept_by": func.coalesce(old.kept_by, bindparam("account")),
        }

    effects: Mapping[Action, Callable[[Columns], dict[str, Any]]] = {
        Action.KEEP: kept_since,
        Action.UNKEEP: lambda _: {"expires_at": EXPIRY, "kept_at": null(), "kept_by": null()},
        # Publishing keeps, so that unpublishing leaves a kept clip.
        Action.PUBLISH: lambda old: {
            **kept_since(old),
            "published_at": NOW,
            "share_slug": bindparam("slug", type_=Text),
        },
        Action.UNPUBLISH: lambda _: {"published_at": null(), "share_slug": null()},
    }
    return lambda old: {**effects[action](old), "status": literal(TRANSITIONS[action].target, Text)}


ACT = {action: _guarded_update(_allows(action), _effect(action)) for action in Action}


# Expiration: parameters cutoff (or null) and limit.

CUTOFF = func.least(func.coalesce(bindparam("cutoff", type_=DateTime(timezone=True)), NOW), NOW)
DUE = and_(AVAILABLE, clips.c.expires_at <= CUTOFF)


def _expire() -> Update:
    # A row that somebody else holds is being kept, or purged by another; either way it is not ours.
    due = (
        select(clips.c.clip_id)
        .where(DUE)
        .order_by(clips.c.expires_at, clips.c.clip_id)
        .limit(bindparam("limit", type_=Integer))
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    # As an array, the rows are found by their key; a join would read all that is due for every batch of it.
    ours = any_(func.array(select(due.c.clip_id).scalar_subquery(), type_=ARRAY(Uuid)))
    return (
        update(clips)
        .where(clips.c.clip_id == ours, DUE)
        .values(status=ClipStatus.PURGED, purged_at=NOW, version=clips.c.version + 1, updated_at=NOW)
        .returning(*_row(clips))
    )


EXPIRE = _expire()
# Not EXISTS (… WHERE due): for an unknown cutoff that is planned as a sequential scan.
EARLIEST = select(func.min(clips.c.expires_at)).where(AVAILABLE).scalar_subquery()
STILL_DUE = select(CUTOFF.label("cutoff"), func.coalesce(EARLIEST <= CUTOFF, False).label("more"))


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

GET = select(*_row(clips)).where(clips.c.clip_id == bindparam("clip_id"))
GET_SHARED = select(*_row(clips)).where(clips.c.share_slug == bindparam("slug"))
LIST = (
    select(*_row(clips))
    .where(
        LIVE,
        UNEXPIRED,
        clips.c.twitch_account_id == bindparam("account"),
        clips.c.status == func.any(bindparam("statuses", type_=ARRAY(Text))),
    )
    .order_by(clips.c.created_at.desc(), clips.c.clip_id.desc())
    .limit(bindparam("limit", type_=Integer))
)
LIST_AFTER = LIST.where(
    tuple_(clips.c.created_at, clips.c.clip_id)
    < tuple_(bindparam("created_at", type_=DateTime(timezone=True)), bindparam("clip_id", type_=Uuid))
)


def _totals() -> Select[Any]:
    def number(status: ClipStatus) -> ColumnElement[int]:
        return func.count().filter(clips.c.status == status).label(status)

    return select(
        number(ClipStatus.AVAILABLE),
        number(ClipStatus.KEPT),
        number(ClipStatus.PUBLISHED),
        func.coalesce(func.sum(clips.c.file_size_bytes), 0).label("bytes"),
    ).where(LIVE, UNEXPIRED, clips.c.twitch_account_id == bindparam("account"))


TOTALS = _totals()


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


# Figures for the metrics.

STATUS_COUNTS = select(clips.c.status, func.count().label("number")).where(LIVE).group_by(clips.c.status)
OVERDUE = select(func.count()).where(AVAILABLE, clips.c.expires_at <= NOW)
# What is due: not what is to leave later. Its age counts from when it was.
OUTBOX_BACKLOG = select(
    func.count(),
    cast(
        func.coalesce(
            extract(
                "epoch", NOW - func.min(func.coalesce(outbox.c.first_attempt_at, outbox.c.next_attempt_at))
            ),
            0,
        ),
        Double,
    ),
).where(or_(outbox.c.attempts_count > 0, outbox.c.next_attempt_at <= NOW))
OUTBOX_DEAD = select(func.count()).select_from(outbox_dlq)
# Every column of every table, and no row: fails where the schema is not (yet) what this version needs; and,
# for the lock that nothing is locked with, where the server takes no writes.
READINESS = tuple(select(table).limit(0).with_for_update() for table in metadata.sorted_tables)
