"""The wire models of the registry's internal HTTP API, which the gateway and the janitor call.

Calls carry ``Authorization: Bearer <REGISTRY_TOKEN>``, a token that allows what the caller's job needs: the
gateway clips and their transitions, the janitor expirations, notices and unknown objects. Errors are
``application/problem+json``: 401 for an unknown token, 403 for the other service's.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from clip_shared.events import (
    BucketName,
    Contract,
    CutReceipt,
    HighlightKind,
    Identifier,
    ObjectKey,
    PositiveSeconds,
    Score,
    Title,
)


class ClipStatus(StrEnum):
    """Where a clip is in its life."""

    AVAILABLE = "available"
    KEPT = "kept"
    PUBLISHED = "published"
    PURGED = "purged"


class ClipRecord(Contract):
    """Everything the registry knows about a clip."""

    clip_id: UUID
    stream_highlight_id: Identifier
    twitch_account_id: Identifier
    source_vod_id: Identifier
    kind: HighlightKind
    title: Title
    score: Score | None
    status: ClipStatus
    bucket: BucketName
    object_key: ObjectKey
    poster_key: ObjectKey | None
    content_type: str
    file_size_bytes: int
    duration_seconds: PositiveSeconds
    cut_receipt: CutReceipt
    expires_at: AwareDatetime | None
    expires_in_seconds: float | None = Field(
        description="Seconds until expiry by the database's clock; 0 or less: expired; null: never."
    )
    kept_at: AwareDatetime | None
    kept_by: Identifier | None
    published_at: AwareDatetime | None
    share_slug: str | None
    purged_at: AwareDatetime | None
    highlight_event_id: Identifier
    highlight_detected_at: AwareDatetime
    version: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class ClipPage(Contract):
    """A page of clips, newest first; ``next_cursor`` is null on the last one."""

    items: tuple[ClipRecord, ...]
    next_cursor: str | None


class AccountTotals(Contract):
    """How many clips of each living status an account has, and their bytes in the free bucket."""

    available: int
    kept: int
    published: int
    bytes: int


class Actor(Contract):
    """Who asks for a transition."""

    account_id: Identifier


# Any moment that a clip can have. Databases know fewer years than JSON does.
Moment = Annotated[
    AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), lt=datetime(2200, 1, 1, tzinfo=UTC))
]


class ExpirationRequest(Contract):
    """Purge at most ``limit`` clips that were due at ``cutoff`` (default and maximum: the database's now)."""

    limit: Annotated[int, Field(ge=1, le=5000)] = 500
    cutoff: Moment | None = None


class ExpirationResult(Contract):
    """How many clips were purged, whether more are due, and the cutoff to pass on with the next call."""

    expired: int
    more: bool
    cutoff: AwareDatetime


class ExpiryNoticeRequest(Contract):
    """Announce what expires soon; look at no more than ``limit`` clips, from the moment ``since`` on."""

    limit: Annotated[int, Field(ge=1, le=5000)] = 500
    since: Moment | None = None


class ExpiryNoticeResult(Contract):
    """How many accounts were told, whether there may be more to tell, and the ``since`` of the next call."""

    notified: int
    more: bool
    reached: AwareDatetime | None = None


class ObjectKeys(Contract):
    """Objects of one bucket."""

    bucket: BucketName
    keys: Annotated[tuple[ObjectKey, ...], Field(max_length=1000)]


class UnknownObjects(Contract):
    """Those of the asked objects that no clip owns."""

    keys: tuple[ObjectKey, ...]
