"""Request and response models of the JSON API; a clip itself is in :mod:`clip_gateway.views`."""

from enum import StrEnum
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from clip_gateway.addresses import PublicAddresses
from clip_gateway.domain import ClipQuery, owned_or_none
from clip_gateway.views import ClipView
from clip_shared.contracts.events import HighlightKind, Identifier, SkipReason, Time, Title
from clip_shared.contracts.registry_api import (
    MAX_BATCH,
    AccountUsage,
    BatchOutcome,
    BatchResult,
    ClipAction,
    ClipOrder,
    ClipStatus,
    Feed,
    SkippedHighlight,
    VodDetail,
    VodSummary,
)

MAX_PAGE = 100
DEFAULT_PAGE = 50

NewTitle = Annotated[Title, Field(min_length=1)]
BatchAction = Literal[
    ClipAction.KEEP,
    ClipAction.UNKEEP,
    ClipAction.PUBLISH,
    ClipAction.UNPUBLISH,
    ClipAction.DELETE,
    ClipAction.RESTORE,
]


class StatusFilter(StrEnum):
    """The statuses that a list can be filtered by."""

    AVAILABLE = ClipStatus.AVAILABLE
    KEPT = ClipStatus.KEPT
    PUBLISHED = ClipStatus.PUBLISHED
    DELETED = ClipStatus.DELETED


class ClipListParameters(BaseModel):
    """Query parameters of the list of clips."""

    status: list[StatusFilter] = Field(
        default=[], description="Clips with one of these statuses; without it all but `deleted`."
    )
    kind: list[HighlightKind] = Field(default=[], description="Clips of one of these kinds.")
    vod: Identifier | None = Field(default=None, description="Clips of this VOD.")
    title: Title | None = Field(
        default=None, description="Clips with this text in the title; case does not matter."
    )
    order: ClipOrder = Field(
        default=ClipOrder.NEWEST,
        description="Order of the list. Clips that do not expire, or have no score, come last.",
    )
    limit: int = Field(default=DEFAULT_PAGE, ge=1, le=MAX_PAGE, description="Most clips in one page.")
    cursor: str | None = Field(
        default=None,
        max_length=200,
        description="`next_cursor` of the previous page, with the same filters and order.",
    )

    def to_query(self) -> ClipQuery:
        """Return the same filters as a query to the registry."""
        return ClipQuery(
            statuses=tuple(ClipStatus(each) for each in self.status),
            kinds=tuple(self.kind),
            vod_id=self.vod,
            title=self.title or None,
            order=self.order,
            limit=self.limit,
            cursor=self.cursor,
        )


class ClipList(BaseModel):
    """A page of clips; ``next_cursor`` is the cursor of the next page, and null on the last page."""

    items: list[ClipView]
    next_cursor: str | None


class ClipChanges(BaseModel):
    """A new title for a clip."""

    title: NewTitle = Field(description="The new title.")


class PublishOptions(BaseModel):
    """Options of a publication. An option that is left out has its default, also on a published clip."""

    until: Time | None = Field(
        default=None,
        description="When the publication ends; null: it does not end by itself.",
    )
    embed: bool = Field(default=True, description="Whether the sites in EMBED_ORIGINS may embed the clip.")
    downloadable: bool = Field(default=False, description="Whether visitors may download the clip.")
    indexable: bool = Field(default=False, description="Whether search engines may list the clip's page.")


class Batch(BaseModel):
    """One action for many clips."""

    action: BatchAction = Field(description="The action.")
    ids: list[UUID] = Field(min_length=1, max_length=MAX_BATCH, description="The clips.")


class BatchItem(BaseModel):
    """The result for one clip of a batch."""

    id: UUID
    outcome: BatchOutcome = Field(
        description="`unchanged`: the clip already had the wanted status."
        " `full`: the limit of unkept clips is reached."
    )
    clip: ClipView | None = Field(description="The clip as it is now; null: the caller does not own it.")

    @classmethod
    def of(cls, result: BatchResult, account_id: str, addresses: PublicAddresses) -> Self:
        """Return the result, with the clip only if the account owns it."""
        clip = owned_or_none(result.clip, account_id)
        return cls(
            id=result.clip_id, outcome=result.outcome, clip=ClipView.of(clip, addresses) if clip else None
        )


class BatchAnswer(BaseModel):
    """A result for every clip, in the order of `ids`."""

    results: list[BatchItem]


class StatusUsageView(BaseModel):
    """Number and total size in bytes of the clips with one status."""

    clips: int
    bytes: int


class UsageView(BaseModel):
    """Clips of an account. They do not count against the account's quota for VODs."""

    by_status: dict[ClipStatus, StatusUsageView] = Field(
        description="Number and size by status. Expired clips that are not purged count as `available`."
    )
    clip_limit: int | None = Field(
        description="Most unkept clips; null: no limit."
        " A clip above the limit makes another unkept clip expire at once."
    )
    next_to_expire: list[ClipView] = Field(description="The clips that expire first, at most three.")

    @classmethod
    def of(cls, usage: AccountUsage, addresses: PublicAddresses) -> Self:
        """Return the view of an account's usage."""
        return cls(
            by_status={
                status: StatusUsageView(clips=each.clips, bytes=each.bytes)
                for status, each in usage.by_status.items()
            },
            clip_limit=usage.clip_limit,
            next_to_expire=[ClipView.of(clip, addresses) for clip in usage.next_to_expire],
        )


class VodView(BaseModel):
    """What happened to the highlights of a VOD."""

    id: str
    highlights: int = Field(
        description="All highlights: clips, skipped highlights, and clips that are purged."
    )
    clips: int
    skipped: int
    latest_at: AwareDatetime = Field(description="When its newest highlight was detected.")

    @classmethod
    def of(cls, vod: VodSummary) -> Self:
        """Return the view of a VOD."""
        return cls(
            id=vod.source_vod_id,
            highlights=vod.highlights,
            clips=vod.clips,
            skipped=vod.skipped,
            latest_at=vod.latest_at,
        )


class VodList(BaseModel):
    """VODs with highlights, the latest first; at most 100."""

    items: list[VodView]


class SkipView(BaseModel):
    """A skipped highlight: it did not become a clip."""

    kind: HighlightKind
    reason: SkipReason
    message: str = Field(description="The reason, in a sentence.")
    skipped_at: AwareDatetime

    @classmethod
    def of(cls, skip: SkippedHighlight) -> Self:
        """Return the view of a skipped highlight."""
        return cls(kind=skip.kind, reason=skip.reason, message=skip.message, skipped_at=skip.skipped_at)


class VodDetailView(VodView):
    """What happened to the highlights of a VOD, with the skipped ones (at most 200)."""

    skips: list[SkipView] = Field(description="Highlights that were skipped in the last 30 days.")

    @classmethod
    def of_detail(cls, vod: VodDetail) -> Self:
        """Return the view of a VOD with its skipped highlights."""
        summary = VodView.of(vod.summary)
        return cls(**summary.model_dump(), skips=[SkipView.of(each) for each in vod.skips])


class FeedView(BaseModel):
    """Addresses of the feed of an account's published clips. Every client that knows one can read it."""

    atom_url: str
    json_url: str
    created_at: AwareDatetime

    @classmethod
    def of(cls, feed: Feed, addresses: PublicAddresses) -> Self:
        """Return the addresses of a feed."""
        return cls(
            atom_url=addresses.feed_url(feed.slug, "atom"),
            json_url=addresses.feed_url(feed.slug, "json"),
            created_at=feed.created_at,
        )
