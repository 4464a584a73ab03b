"""A clip as a row, as the :class:`Clip` of the rules, and as the :class:`ClipRecord` of the API."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Double, FromClause, RowMapping, cast, extract, func

from clip_registry.domain.clips import Clip
from clip_shared.contracts.events import ClipOrigin, PurgeReason
from clip_shared.contracts.registry_api import ClipRecord, ClipStatus

_CLIP_FIELDS = tuple(field.name for field in fields(Clip))
_ENUMS: Mapping[str, Callable[[str], StrEnum]] = {
    "status": ClipStatus,
    "deleted_from": ClipStatus,
    "purge_reason": PurgeReason,
    "origin": ClipOrigin,
}
_RECORD_FIELDS = tuple(name for name in ClipRecord.model_fields if name != "publication")
# The row of a deleted clip keeps what a restore needs; the clip is not kept or published meanwhile.
_HIDDEN_WHEN_DELETED = ("kept_at", "kept_by", "published_at", "share_slug")
_PUBLICATION = {
    "revision": "published_revision",
    "until": "published_until",
    "embed": "published_embed",
    "downloadable": "published_downloadable",
    "indexable": "published_indexable",
}


def clip_columns(source: FromClause, prefix: str = "") -> list[ColumnElement[Any]]:
    """Return the columns of a clip, and the seconds until it expires by the database's clock.

    Each column is labelled with ``prefix`` before its name.
    """
    seconds = cast(extract("epoch", source.c.expires_at - func.now()), Double)
    return [
        *(column.label(prefix + column.name) for column in source.c),
        seconds.label(f"{prefix}expires_in_seconds"),
    ]


def clip_from_row(row: RowMapping, prefix: str = "") -> Clip:
    """Return the clip of a row that was selected with ``clip_columns(…, prefix)``."""
    values = {name: row[prefix + name] for name in _CLIP_FIELDS}
    known = {name: kind(values[name]) for name, kind in _ENUMS.items() if values[name] is not None}
    return Clip(**{**values, **known})


def clip_record(clip: Mapping[str, Any] | RowMapping) -> ClipRecord:
    """Return the API's record of a clip, given as a row of ``clip_columns`` or as the fields of a Clip."""
    values = {name: clip[name] for name in _RECORD_FIELDS}
    if clip["status"] == ClipStatus.DELETED:
        values |= dict.fromkeys(_HIDDEN_WHEN_DELETED)
    is_public = clip["status"] == ClipStatus.PUBLISHED
    publication = {name: clip[column] for name, column in _PUBLICATION.items()} if is_public else None
    return ClipRecord.model_validate({**values, "publication": publication})
