"""A clip as its owner sees it: what the JSON API answers, and what pages are made of.

``ClipView.of(record, site)`` makes it. Where a clip's objects lie stays inside. Templates ask what can be
done now with ``"keep" in clip.actions``, and show a link only where it is not None: ``clip.links.watch``.
"""

from typing import Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from clip_gateway.addresses import PublicAddresses
from clip_gateway.domain import actions_of, days_left, is_expired, is_watchable
from clip_shared.contracts.events import ClipOrigin, CutReceipt, HighlightKind
from clip_shared.contracts.registry_api import ClipAction, ClipRecord, ClipStatus, CutOffer, Publication

Method = Literal["POST", "PATCH", "DELETE"]
_CALLS: dict[ClipAction, tuple[Method, str]] = {
    ClipAction.KEEP: ("POST", "/keep"),
    ClipAction.UNKEEP: ("DELETE", "/keep"),
    ClipAction.PUBLISH: ("POST", "/publish"),
    ClipAction.UNPUBLISH: ("DELETE", "/publish"),
    ClipAction.DELETE: ("DELETE", ""),
    ClipAction.RESTORE: ("POST", "/restore"),
    ClipAction.RENAME: ("PATCH", ""),
}


class ClipLinks(BaseModel):
    """What can be fetched now, relative to this host; null: not now."""

    self_: str = Field(serialization_alias="self", description="This clip.")
    watch: str | None = Field(description="Redirects to the video; null once expired or deleted.")
    download: str | None = Field(description="Redirects to the video as a file; null as for watch.")
    poster: str | None = Field(description="Redirects to a picture; null as for watch, or without one.")
    vod: str = Field(description="What became of the highlights of the clip's VOD.")

    @classmethod
    def of(cls, clip: ClipRecord) -> Self:
        """The links of a clip."""
        path = path_of(clip.clip_id)
        watchable = is_watchable(clip)
        return cls(
            self_=path,
            watch=f"{path}/watch" if watchable else None,
            download=f"{path}/download" if watchable else None,
            poster=f"{path}/poster" if watchable and clip.poster_key else None,
            vod=f"/v1/vods/{clip.source_vod_id}",
        )


class ActionLink(BaseModel):
    """A request that does something."""

    method: Method = Field(description="How it is asked for.")
    href: str = Field(description="Relative to this host.")

    @classmethod
    def of(cls, action: ClipAction, clip_id: UUID) -> Self:
        """The request that does it to a clip."""
        method, rest = _CALLS[action]
        return cls(method=method, href=path_of(clip_id) + rest)


class VodWindow(BaseModel):
    """The part of a VOD that a clip shows."""

    id: str = Field(description="The VOD.")
    start_seconds: float = Field(description="From the start of the VOD.")
    end_seconds: float = Field(description="From the start of the VOD.")

    @classmethod
    def of(cls, clip: ClipRecord) -> Self:
        """The part that a clip shows."""
        receipt = clip.cut_receipt
        return cls(
            id=clip.source_vod_id,
            start_seconds=receipt.actual_start_seconds,
            end_seconds=receipt.actual_end_seconds,
        )


class OfferView(BaseModel):
    """A newer cut of the same highlight, which did not replace a clip that its owner kept."""

    title: str = Field(description="Its title.")
    kind: HighlightKind = Field(description="How the detector came to it.")
    score: float | None = Field(description="How good the detector thinks it is.")
    start_seconds: float = Field(description="From the start of the VOD.")
    end_seconds: float = Field(description="From the start of the VOD.")
    detected_at: AwareDatetime = Field(description="When it was detected.")

    @classmethod
    def of(cls, offer: CutOffer) -> Self:
        """The view of an offer."""
        return cls(
            title=offer.title,
            kind=offer.kind,
            score=offer.score,
            start_seconds=offer.start_seconds,
            end_seconds=offer.end_seconds,
            detected_at=offer.highlight_detected_at,
        )


class PublicationView(Publication):
    """How a published clip is public, and where others may embed it."""

    embed_url: str | None = Field(description="The player for other sites; null where they may not embed it.")

    @classmethod
    def of(cls, publication: Publication, slug: str, addresses: PublicAddresses) -> Self:
        """The view of how a clip is public under its slug."""
        embed_url = addresses.embed_url(slug) if publication.embed else None
        return cls(**publication.model_dump(), embed_url=embed_url)


class ClipView(BaseModel):
    """A clip, as its owner sees it."""

    id: UUID = Field(description="The clip. It follows from the highlight, and never changes.")
    title: str = Field(description="The detector's title, or the owner's.")
    kind: HighlightKind = Field(description="How the detector came to the highlight.")
    origin: ClipOrigin = Field(description="Who asked for the cut.")
    status: ClipStatus = Field(description="Where it is in its life.")
    expired: bool = Field(description="Its time is up: it can be kept until it is purged, not watched.")
    score: float | None = Field(description="How good the detector thinks it is; higher is better.")
    duration_seconds: float = Field(description="Length of the video.")
    size_bytes: int = Field(description="Size of the video.")
    revision: int = Field(description="Counts the videos that the clip has had.")
    vod: VodWindow = Field(description="The part of the VOD that it shows.")
    cut: CutReceipt = Field(description="What was asked of the cutter, and what it did.")
    created_at: AwareDatetime = Field(description="When it became available.")
    expires_at: AwareDatetime | None = Field(
        description="When it expires, or if deleted, when it is due to be purged; null: it stays."
    )
    expires_in_days: int | None = Field(description="Days left until then, rounded up; null: it stays.")
    kept_at: AwareDatetime | None = Field(description="When it was kept; null: it is not kept.")
    kept_by: str | None = Field(description="The account that kept it.")
    published_at: AwareDatetime | None = Field(description="When it was published; null: it is not public.")
    share_url: str | None = Field(description="The public page; null unless published.")
    publication: PublicationView | None = Field(description="How it is public; null unless published.")
    deleted_at: AwareDatetime | None = Field(description="When it was deleted; null: it is not.")
    offer: OfferView | None = Field(description="A newer cut of the same highlight; null: there is none.")
    links: ClipLinks = Field(description="What can be fetched now.")
    actions: dict[ClipAction, ActionLink] = Field(description="What can be done now.")

    @classmethod
    def of(cls, clip: ClipRecord, addresses: PublicAddresses) -> Self:
        """The view of a clip that has not been purged."""
        slug = clip.share_slug if clip.status is ClipStatus.PUBLISHED else None
        public = clip.publication if slug else None
        return cls(
            id=clip.clip_id,
            title=clip.title,
            kind=clip.kind,
            origin=clip.origin,
            status=clip.status,
            expired=is_expired(clip),
            score=clip.score,
            duration_seconds=clip.duration_seconds,
            size_bytes=clip.file_size_bytes,
            revision=clip.revision,
            vod=VodWindow.of(clip),
            cut=clip.cut_receipt,
            created_at=clip.created_at,
            expires_at=clip.expires_at,
            expires_in_days=days_left(clip.expires_in_seconds),
            kept_at=clip.kept_at,
            kept_by=clip.kept_by,
            published_at=clip.published_at,
            share_url=addresses.share_url(slug) if slug else None,
            publication=PublicationView.of(public, slug, addresses) if public and slug else None,
            deleted_at=clip.deleted_at,
            offer=OfferView.of(clip.offer) if clip.offer else None,
            links=ClipLinks.of(clip),
            actions={each: ActionLink.of(each, clip.clip_id) for each in actions_of(clip)},
        )


def path_of(clip_id: UUID) -> str:
    """Where the JSON API answers about a clip."""
    return f"/v1/clips/{clip_id}"
