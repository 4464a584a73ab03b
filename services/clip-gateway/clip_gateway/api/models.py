"""The public wire models of the JSON API, besides :mod:`clip_gateway.views`."""

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
    """The statuses that can be asked for."""

    AVAILABLE = ClipStatus.AVAILABLE
    KEPT = ClipStatus.KEPT
    PUBLISHED = ClipStatus.PUBLISHED
    DELETED = ClipStatus.DELETED


class ClipListParameters(BaseModel):
    """Which clips, and in which order: the query of the list."""

    status: list[StatusFilter] = Field(
        default=[], description="Any of these statuses; without it all but `deleted`."
    )
    kind: list[HighlightKind] = Field(default=[], description="Any of these kinds.")
    vod: Identifier | None = Field(default=None, description="Cut from this VOD.")
    title: Title | None = Field(default=None, description="With this in the title, in any case.")
    order: ClipOrder = Field(
        default=ClipOrder.NEWEST, description="What does not expire, or has no score, comes last."
    )
    limit: int = Field(default=DEFAULT_PAGE, ge=1, le=MAX_PAGE, description="Most clips of a page.")
    cursor: str | None = Field(
        default=None,
        max_length=200,
        description="`next_cursor` of the page before, with the same filters and order.",
    )

    def to_query(self) -> ClipQuery:
        """What the registry is asked."""
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
    """A page of clips; ``next_cursor`` asks for the next in the same order, and is null on the last."""

    items: list[ClipView]
    next_cursor: str | None


class ClipChanges(BaseModel):
    """What of a clip its owner can change."""

    title: NewTitle = Field(description="The new title.")


class PublishOptions(BaseModel):
    """How a clip becomes public. What is not said is as the defaults say, also when it is public already."""

    until: Time | None = Field(
        default=None,
        description="When it stops being public; null: never by itself.",
    )
    embed: bool = Field(default=True, description="Whether sites that the platform allows may embed it.")
    downloadable: bool = Field(default=False, description="Whether visitors may download it.")
    indexable: bool = Field(default=False, description="Whether search engines may list it.")


class Batch(BaseModel):
    """The same for many clips."""

    action: BatchAction = Field(description="What is done to each of them.")
    ids: list[UUID] = Field(min_length=1, max_length=MAX_BATCH, description="The clips.")


class BatchItem(BaseModel):
    """What became of one clip of a batch."""

    id: UUID
    outcome: BatchOutcome = Field(
        description="`unchanged`: it already was so. `full`: the limit of unkept clips is reached."
    )
    clip: ClipView | None = Field(description="The clip as it is now; null where the caller may not see it.")

    @classmethod
    def of(cls, result: BatchResult, account_id: str, addresses: PublicAddresses) -> Self:
        """What became of a clip, for its owner."""
        clip = owned_or_none(result.clip, account_id)
        return cls(
            id=result.clip_id, outcome=result.outcome, clip=ClipView.of(clip, addresses) if clip else None
        )


class BatchAnswer(BaseModel):
    """A result for each clip, in the order asked."""

    results: list[BatchItem]


class StatusUsageView(BaseModel):
    """How many clips there are of a status, and how large they are together."""

    clips: int
    bytes: int


class UsageView(BaseModel):
    """What an account has. Nothing of it counts against the quota of its own recordings."""

    by_status: dict[ClipStatus, StatusUsageView] = Field(
        description="Expired clips that are not yet purged count as available."
    )
    clip_limit: int | None = Field(
        description="Most unkept clips; null: no limit. With one more, one of them expires at once."
    )
    next_to_expire: list[ClipView] = Field(description="What expires first, at most three clips.")

    @classmethod
    def of(cls, usage: AccountUsage, addresses: PublicAddresses) -> Self:
        """The view of an account's usage."""
        return cls(
            by_status={
                status: StatusUsageView(clips=each.clips, bytes=each.bytes)
                for status, each in usage.by_status.items()
            },
            clip_limit=usage.clip_limit,
            next_to_expire=[ClipView.of(clip, addresses) for clip in usage.next_to_expire],
        )


class VodView(BaseModel):
    """What became of a VOD's highlights."""

    id: str
    highlights: int = Field(description="All of them: clips, skips, and clips that are gone.")
    clips: int
    skipped: int
    latest_at: AwareDatetime = Field(description="When the newest of its highlights was detected.")

    @classmethod
    def of(cls, vod: VodSummary) -> Self:
        """The view of a VOD."""
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
    """A highlight that became no clip."""

    kind: HighlightKind
    reason: SkipReason
    message: str = Field(description="Why, in a sentence.")
    skipped_at: AwareDatetime

    @classmethod
    def of(cls, skip: SkippedHighlight) -> Self:
        """The view of a skip."""
        return cls(kind=skip.kind, reason=skip.reason, message=skip.message, skipped_at=skip.skipped_at)


class VodDetailView(VodView):
    """What became of a VOD's highlights, and why some of them are no clips (at most 200 reasons)."""

    skips: list[SkipView] = Field(description="Highlights that became no clip in the last 30 days.")

    @classmethod
    def of_detail(cls, vod: VodDetail) -> Self:
        """The view of a VOD with its skips."""
        summary = VodView.of(vod.summary)
        return cls(**summary.model_dump(), skips=[SkipView.of(each) for each in vod.skips])


class FeedView(BaseModel):
    """Where an account's published clips can be followed. Whoever knows an address can read it."""

    atom_url: str
    json_url: str
    created_at: AwareDatetime

    @classmethod
    def of(cls, feed: Feed, addresses: PublicAddresses) -> Self:
        """The addresses of a feed."""
        return cls(
            atom_url=addresses.feed_url(feed.slug, "atom"),
            json_url=addresses.feed_url(feed.slug, "json"),
            created_at=feed.created_at,
        )
