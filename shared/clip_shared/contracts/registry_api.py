"""The wire models of the registry's internal HTTP API, which the gateway and the janitor call.

Calls carry ``Authorization: Bearer <REGISTRY_TOKEN>``, a token that allows what the caller's job needs: the
gateway clips and their actions, the janitor expirations, notices and orphans. Errors are
``application/problem+json``: 401 for an unknown token, 403 for the other service's.
"""

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from clip_shared.contracts.events import (
    BucketName,
    ClipOrigin,
    Contract,
    CutReceipt,
    HighlightKind,
    Identifier,
    ObjectKey,
    PositiveSeconds,
    PurgeReason,
    Score,
    Seconds,
    SkipReason,
    Text,
    Time,
    Title,
)


class ClipStatus(StrEnum):
    """The status of a clip."""

    AVAILABLE = "available"
    KEPT = "kept"
    PUBLISHED = "published"
    DELETED = "deleted"  # by its owner, who can still restore it
    PURGED = "purged"


class ClipAction(StrEnum):
    """What an owner can do with a clip. The value is the last part of the path."""

    KEEP = "keep"
    UNKEEP = "unkeep"
    PUBLISH = "publish"
    UNPUBLISH = "unpublish"
    DELETE = "delete"
    RESTORE = "restore"
    RENAME = "rename"


class ClipOrder(StrEnum):
    """In which order clips are listed. Equal clips are in the order of their ids."""

    NEWEST = "newest"
    OLDEST = "oldest"
    EXPIRING = "expiring"  # clips that never expire come last
    LONGEST = "longest"
    SHORTEST = "shortest"
    BEST = "best"  # clips without a score come last


class Publication(Contract):
    """How a published clip is public."""

    revision: int = Field(ge=1, description="The number of the clip's video that is public.")
    until: Time | None = Field(description="When it stops being public; null: never by itself.")
    embed: bool = Field(description="Whether sites that the platform allows may embed it.")
    downloadable: bool = Field(description="Whether visitors may download it.")
    indexable: bool = Field(description="Whether search engines may list it.")


class CutOffer(Contract):
    """A newer cut of a clip's highlight, which did not replace the clip because the owner keeps it."""

    kind: HighlightKind
    title: Title
    score: Score | None
    start_seconds: Seconds
    end_seconds: Seconds
    highlight_event_id: Identifier
    highlight_detected_at: AwareDatetime


class ClipRecord(Contract):
    """Everything that the registry knows about a clip."""

    clip_id: UUID
    stream_highlight_id: Identifier
    twitch_account_id: Identifier
    source_vod_id: Identifier
    kind: HighlightKind
    origin: ClipOrigin
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
    revision: int = Field(ge=1, description="The number of the clip's video, from 1; every new cut adds 1.")
    expires_at: AwareDatetime | None
    expires_in_seconds: float | None = Field(
        description="Seconds until expiry by the database's clock; 0 or less: expired; null: never."
    )
    kept_at: AwareDatetime | None
    kept_by: Identifier | None
    published_at: AwareDatetime | None
    share_slug: str | None
    publication: Publication | None
    deleted_at: AwareDatetime | None
    purged_at: AwareDatetime | None
    purge_reason: PurgeReason | None
    offer: CutOffer | None = Field(description="The newest cut that did not replace a kept or published one.")
    highlight_event_id: Identifier
    highlight_detected_at: AwareDatetime
    version: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class ClipPage(Contract):
    """A page of clips in the requested order. ``next_cursor`` is null on the last page."""

    items: tuple[ClipRecord, ...]
    next_cursor: str | None


class StatusUsage(Contract):
    """The number of clips, and their bytes in the free bucket."""

    clips: int
    bytes: int


class AccountUsage(Contract):
    """How many clips an account has. An expired clip that is not yet purged counts as available."""

    by_status: dict[ClipStatus, StatusUsage] = Field(
        description="Every status except purged, also without clips."
    )
    clip_limit: int | None = Field(description="Most unkept clips of an account; null: no limit.")
    next_to_expire: tuple[ClipRecord, ...] = Field(
        description="The available clips that expire first, at most three."
    )


class SkippedHighlight(Contract):
    """A highlight that became no clip. It is remembered for 30 days."""

    stream_highlight_id: Identifier
    source_vod_id: Identifier
    kind: HighlightKind
    reason: SkipReason
    message: Text = Field(description="Why, in a sentence for people.")
    skipped_at: AwareDatetime


class VodSummary(Contract):
    """How many highlights of a VOD became clips. Deleted and purged clips count as highlights only."""

    source_vod_id: Identifier
    highlights: int
    clips: int
    skipped: int
    latest_at: AwareDatetime = Field(description="When the newest of its highlights was detected.")


class VodPage(Contract):
    """An account's VODs with highlights, latest first; at most 100."""

    items: tuple[VodSummary, ...]


class VodDetail(Contract):
    """A VOD, and why its other highlights became no clips; at most 200 of these."""

    summary: VodSummary
    skips: tuple[SkippedHighlight, ...]


class Feed(Contract):
    """The feed of an account's published clips. Only the owner knows its address, and may share it."""

    slug: str
    created_at: AwareDatetime


class FeedPage(Contract):
    """An account's published clips, latest first; at most 50."""

    items: tuple[ClipRecord, ...]
    updated_at: AwareDatetime


class Actor(Contract):
    """The account that asks."""

    account_id: Identifier


class PublishRequest(Actor):
    """Make a clip public, or change how it is public. A field that is left out has its default."""

    until: Time | None = None
    embed: bool = True
    downloadable: bool = False
    indexable: bool = False


class RenameRequest(Actor):
    """Give a clip another title."""

    title: Title = Field(min_length=1)


MAX_BATCH = 100


class BatchRequest(Actor):
    """Do the same action with many clips. ``rename`` is not allowed."""

    action: ClipAction
    clip_ids: Annotated[tuple[UUID, ...], Field(min_length=1, max_length=MAX_BATCH)]


class BatchOutcome(StrEnum):
    """The outcome for one clip of a batch."""

    DONE = "done"
    UNCHANGED = "unchanged"  # it already was in the requested state
    UNKNOWN = "unknown"  # there is no such clip, or it is purged
    NOT_OWNER = "not_owner"
    NOT_ALLOWED = "not_allowed"  # not allowed in the clip's status
    FULL = "full"  # the account has as many unkept clips as it may have


class BatchResult(Contract):
    """The outcome for one clip. ``clip`` is null when the caller may not see it."""

    clip_id: UUID
    outcome: BatchOutcome
    clip: ClipRecord | None


class BatchResults(Contract):
    """A result for each clip, in the order of the request."""

    results: tuple[BatchResult, ...]


# Any time that a clip can have: a database stores fewer years than JSON can say.
ClipTime = Annotated[
    AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), lt=datetime(2200, 1, 1, tzinfo=UTC))
]


class ExpirationRequest(Contract):
    """Purge at most ``limit`` clips that were due at ``cutoff`` (default and maximum: the database's now)."""

    limit: Annotated[int, Field(ge=1, le=5000)] = 500
    cutoff: ClipTime | None = None


class ExpirationResult(Contract):
    """How many clips were purged, whether more are due, and the cutoff for the next call."""

    expired: int
    more: bool
    cutoff: AwareDatetime


class DueOnDay(Contract):
    """The clips that are due since one day (UTC)."""

    day: date
    clips: int
    bytes: int


class DueOfAccount(Contract):
    """An account's clips that are due."""

    account_id: Identifier
    clips: int
    bytes: int


class DueDetails(Contract):
    """What is due, in detail, for a person who decides whether to purge it."""

    bytes: int
    days: tuple[DueOnDay, ...]
    accounts: int
    largest: tuple[DueOfAccount, ...] = Field(description="The accounts with most clips, at most twenty.")


class DueClips(Contract):
    """How many clips a purge at ``cutoff`` would purge. Deleted clips become due as well."""

    due: int
    ephemeral: int = Field(description="All clips that will expire: available or deleted.")
    cutoff: AwareDatetime
    details: DueDetails | None = Field(description="Null unless requested.")


class ExpiryNoticeRequest(Contract):
    """Announce what expires soon. At most ``limit`` clips are looked at, from the time ``since`` on."""

    limit: Annotated[int, Field(ge=1, le=5000)] = 500
    since: ClipTime | None = None


class ExpiryNoticeResult(Contract):
    """How many accounts were told, whether more may follow, and the ``since`` for the next call."""

    notified: int
    more: bool
    reached: AwareDatetime | None = None


class ObjectKeys(Contract):
    """Objects of one bucket."""

    bucket: BucketName
    keys: Annotated[tuple[ObjectKey, ...], Field(max_length=1000)]


class OrphanKeys(Contract):
    """The keys among those of the request that no clip owns: orphans."""

    keys: tuple[ObjectKey, ...]
