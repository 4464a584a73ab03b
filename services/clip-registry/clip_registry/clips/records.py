"""A clip, as the wire has it."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping

from clip_shared.contracts.registry_api import ClipRecord, ClipStatus

_FIELDS = tuple(name for name in ClipRecord.model_fields if name != "publication")
# What a deleted clip would be again if it were restored is not what it is.
_HIDDEN_WHEN_DELETED = ("kept_at", "kept_by", "published_at", "share_slug")
_PUBLICATION = {
    "revision": "published_revision",
    "until": "published_until",
    "embed": "published_embed",
    "downloadable": "published_downloadable",
    "indexable": "published_indexable",
}


def record_of(clip: Mapping[str, Any] | RowMapping) -> ClipRecord:
    """The record of a clip: of a row with its columns, or of the fields of a Clip."""
    values = {name: clip[name] for name in _FIELDS}
    if clip["status"] == ClipStatus.DELETED:
        values |= dict.fromkeys(_HIDDEN_WHEN_DELETED)
    is_public = clip["status"] == ClipStatus.PUBLISHED
    publication = {name: clip[column] for name, column in _PUBLICATION.items()} if is_public else None
    return ClipRecord.model_validate({**values, "publication": publication})
