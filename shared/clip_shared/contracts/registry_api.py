"""The wire models of the registry's internal HTTP API, which the gateway and the janitor call.

Calls carry ``Authorization: Bearer <REGISTRY_TOKEN>``, a token that allows what the caller's job needs: the
gateway clips and their transitions, the janitor expirations, notices and unknown objects. Errors are
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
    """Where a clip is in its life."""

    AVAILABLE = "available"
    KEPT = "kept"
    PUBLISHED = "published"
    DELETED = "deleted"  # by its owner, who can still restore it
    PURGED = "purged"


class ClipAction(StrEnum):
    """What an owner can do to a clip; the last part of the path that does it."""

    KEEP = "keep"
    UNKEEP = "unkeep"
    PUBLISH = "publish"
    UNPUBLISH = "unpublish"
    DELETE = "delete"
    RESTORE = "restore"
    RENAME = "rename"


class ClipOrder(StrEnum):
    """In which order clips are listed. Ties are broken by the clip's id."""

    NEWEST = "newest"
    OLDEST = "oldest"
    EXPIRING = "expiring"  # the first to expire first; what does not expire comes last
    LONGEST = "longest"
    SHORTEST = "shortest"
    BEST = "best"  # the highest score first; what has none comes last


class Publication(Contract):
    """How a published clip is public."""

    revision: int = Field(ge=1, description="Which video of the clip is public.")
    until: Time | None = Field(description="When it stops being public; null: never by itself.")
    embed: bool = Field(description="Whether sites that the platform allows may embed it.")
    downloadable: bool = Field(description="Whether visitors may download it.")
    indexable: bool = Field(description="Whether search engines may list it.")


class CutOffer(Contract):
    """A newer cut of a clip's highlight, which a detector offered and the owner's clip did not become."""

    kind: HighlightKind
    title: Title
    score: Score | None
    start_seconds: Seconds
    end_seconds: Seconds
    highlight_event_id: Identifier
    highlight_detected_at: AwareDatetime


class ClipRecord(Contract):
    """Everything the registry knows about a clip."""

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
    revision: int = Field(ge=1, description="Counts the videos that the clip has had.")
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
    """A page of clips in the order asked for; ``next_cursor`` is null on the last one."""

    items: tuple[ClipRecord, ...]
    next_cursor: str | None


class StatusUsage(Contract):
    """How many clips, and their bytes in the free bucket."""

    clips: int
    bytes: int


class AccountUsage(Contract):
    """What an account has. An expired clip that is not yet purged counts as available."""

    by_status: dict[ClipStatus, StatusUsage] = Field(
        description="All statuses but purged, also those with no clip."
    )
    clip_limit: int | None = Field(description="Most unkept clips of an account; null: no limit.")
    next_to_expire: tuple[ClipRecord, ...] = Field(
        description="The available clips that expire first, at most three."
    )


class SkippedHighlight(Contract):
    """A highlight that became no clip. Forgotten after 30 days."""

    stream_highlight_id: Identifier
    source_vod_id: Identifier
    kind: HighlightKind
    reason: SkipReason
    message: Text = Field(description="Why, in a sentence for a person.")
    skipped_at: AwareDatetime


class VodSummary(Contract):
    """What became of a VOD's highlights. Deleted and purged clips count as highlights, not as clips."""

    source_vod_id: Identifier
    highlights: int
    clips: int
    skipped: int
    latest_at: AwareDatetime = Field(description="When the newest of its highlights was detected.")


class VodPage(Contract):
    """An account's VODs with highlights, the latest first; at most 100."""

    items: tuple[VodSummary, ...]


class VodDetail(Contract):
    """What became of each highlight of a VOD that is no clip; at most 200 of them."""

    summary: VodSummary
    skips: tuple[SkippedHighlight, ...]


class Feed(Contract):
    """Where an account's published clips can be followed: an address that only its owner gives away."""

    slug: str
    created_at: AwareDatetime


class FeedPage(Contract):
    """An account's published clips, the latest published first; at most 50."""

    items: tuple[ClipRecord, ...]
    updated_at: AwareDatetime


class Actor(Contract):
    """Who asks for a transition."""

    account_id: Identifier


class PublishRequest(Actor):
    """Make a clip public, or change how it is: what is not said is as the defaults say."""

    until: Time | None = None
    embed: bool = True
    downloadable: bool = False
    indexable: bool = False


class RenameRequest(Actor):
    """Give a clip another title."""

    title: Title = Field(min_length=1)


MAX_BATCH = 100


class BatchRequest(Actor):
    """Do the same to many clips; ``rename`` is not among what can be done."""

    action: ClipAction
    clip_ids: Annotated[tuple[UUID, ...], Field(min_length=1, max_length=MAX_BATCH)]


class BatchOutcome(StrEnum):
    """What became of one clip of a batch."""

    DONE = "done"
    UNCHANGED = "unchanged"  # it already was as asked
    UNKNOWN = "unknown"  # no such clip, or purged
    NOT_OWNER = "not_owner"
    NOT_ALLOWED = "not_allowed"  # not from the clip's status
    FULL = "full"  # the account has all the unkept clips that it may have


class BatchResult(Contract):
    """What became of one clip; ``clip`` is null where the caller may not see it."""

    clip_id: UUID
    outcome: BatchOutcome
    clip: ClipRecord | None


class BatchResults(Contract):
    """A result for each clip, in the order asked."""

    results: tuple[BatchResult, ...]


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


class DueOnDay(Contract):
    """Clips that are due, by the day (UTC) of their expiry."""

    day: date
    clips: int
    bytes: int


class DueOfAccount(Contract):
    """An account's clips that are due."""

    account_id: Identifier
    clips: int
    bytes: int


class DueDetails(Contract):
    """What is due, for a person who is to decide about it."""

    bytes: int
    days: tuple[DueOnDay, ...]
    accounts: int
    largest: tuple[DueOfAccount, ...] = Field(description="The accounts with most clips, at most twenty.")


class DueClips(Contract):
    """What a purge at ``cutoff`` would purge; nothing is changed. Deleted clips are due as well."""

    due: int
    ephemeral: int = Field(description="All clips that expire some time: available or deleted.")
    cutoff: AwareDatetime
    details: DueDetails | None = Field(description="Null unless asked for.")


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
