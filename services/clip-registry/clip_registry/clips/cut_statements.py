"""The SQL that records a cut: as a new clip, as the new video of a clip, or as an offer."""

from dataclasses import fields
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Text,
    Update,
    and_,
    bindparam,
    case,
    func,
    literal,
    null,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from clip_registry.clips.guarded_updates import EXPIRY, NOW, RETENTION, Columns, guarded_update
from clip_registry.database.rows import clip_columns
from clip_registry.database.tables import (
    AVAILABLE,
)
from clip_registry.database.tables import generated_clips as clips
from clip_registry.domain.clips import Cut
from clip_shared.contracts.events import ClipOrigin, PurgeReason
from clip_shared.contracts.registry_api import ClipStatus

CUT_COLUMNS = tuple(field.name for field in fields(Cut))
# The newest cuts that a clip has considered: of the detector, and of its owner.
NEWEST_CUT_COLUMNS = ("detector_cut_at", "detector_cut_id", "owner_cut_at", "owner_cut_id")
# A newer cut of the same highlight does not change these.
IDENTITY = ("clip_id", "stream_highlight_id", "twitch_account_id")


def columns_of(cut: Cut) -> dict[str, Any]:
    """Return the parameters of a cut.

    INSERT_CLIP takes them with ``retention``; CONSIDER_CUT takes each with ``cut_`` before its name, and
    ``cut_offer``.
    """
    newest = NEWEST_CUT_COLUMNS[2:] if cut.is_owners else NEWEST_CUT_COLUMNS[:2]
    return {
        **{name: getattr(cut, name) for name in CUT_COLUMNS},
        **dict.fromkeys(NEWEST_CUT_COLUMNS),
        **dict(zip(newest, cut.position, strict=True)),
    }


# Without a conflict target: with one, two first cuts of the same highlight at the same moment can fail on the
# other unique indexes. A cut whose object or highlight belongs to another clip id is inserted by neither
# statement.
INSERT_CLIP = (
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


def _is_new(old: Columns) -> ColumnElement[bool]:
    """Whether the clip has considered neither this cut nor a newer one, as ``Clip.has_considered`` says."""

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
    """Whether a new cut becomes the clip's video."""
    is_later = old.purged_at < _of_cut("highlight_detected_at")
    ends_purge = case(
        (old.purge_reason == PurgeReason.DELETED, and_(CUT_IS_OWNERS, is_later)),
        else_=or_(CUT_IS_OWNERS, is_later),
    )
    return case(
        (old.status == ClipStatus.PURGED, ends_purge),
        else_=or_(CUT_IS_OWNERS, and_(old.status == ClipStatus.AVAILABLE, old.origin != ClipOrigin.OWNER)),
    )


def _offers(old: Columns) -> ColumnElement[bool]:
    """Whether a new cut that does not become the clip's video is offered to its owner."""
    decided = (ClipStatus.KEPT, ClipStatus.PUBLISHED, ClipStatus.DELETED)
    return and_(
        or_(*(old.status == status for status in decided)),
        tuple_(old.highlight_detected_at, old.highlight_event_id) < CUT_POSITION,
    )


def _with_cut(old: Columns) -> dict[str, Any]:
    """The columns of a clip with this video. Its retention starts again; a purged clip is available again."""
    was_purged = old.status == ClipStatus.PURGED
    was_deleted = old.status == ClipStatus.DELETED
    return {
        **{name: _of_cut(name) for name in CUT_COLUMNS if name not in IDENTITY},
        "title": case((old.renamed_at.is_not(None), old.title), else_=_of_cut("title")),
        "revision": old.revision + 1,
        "published_revision": case((old.published_at.is_not(None), old.revision + 1)),
        "status": case((was_purged, literal(ClipStatus.AVAILABLE, Text)), else_=old.status),
        # A deleted clip is purged when it was due before; when it is restored, its retention starts again.
        "expires_at": case((was_deleted, old.expires_at), (old.expires_at.is_not(None), EXPIRY)),
        "expires_at_before_delete": case(
            (old.expires_at_before_delete.is_not(None), old.deleted_at + RETENTION)
        ),
        "created_at": case((was_purged, NOW), else_=old.created_at),
        "purged_at": null(),
        "purge_reason": case((was_deleted, old.purge_reason)),
    }


def _effect(old: Columns) -> dict[str, Any]:
    """The columns of a clip that has considered a new cut. The version grows only with a new video."""
    accepts = _accepts(old)
    offer = bindparam("cut_offer", type_=clips.c.offer.type)
    return {
        **{name: case((accepts, value), else_=old[name]) for name, value in _with_cut(old).items()},
        "offer": case((accepts, null()), (_offers(old), offer), else_=old.offer),
        **{name: func.coalesce(_of_cut(name), old[name]) for name in NEWEST_CUT_COLUMNS},
        "version": old.version + case((accepts, 1), else_=0),
        "updated_at": case((accepts, NOW), else_=old.updated_at),
    }


CONSIDER_CUT = guarded_update(_is_new, _effect)

LOCK_ACCOUNT = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("account", type_=Text), 0)))


def _expire_surplus() -> Update:
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


EXPIRE_SURPLUS = _expire_surplus()
