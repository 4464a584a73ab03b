"""A clip as its owner sees it, for the JSON API and for the pages. It does not show where objects are stored.

Templates show a button if the action is possible (``"keep" in clip.actions``), and a link if it is not None
(``clip.links.watch``).
"""

from typing import Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from clip_gateway.addresses import PublicAddresses
from clip_gateway.domain import actions_of, days_left, is_expired, is_watchable
from clip_shared.contracts.events import ClipOrigin, CutReceipt, HighlightKind
from clip_shared.contracts.registry_api import ClipAction, ClipRecord, ClipStatus, CutOffer, Publication

Method = Literal["POST", "PATCH", "DELETE"]
_REQUESTS: dict[ClipAction, tuple[Method, str]] = {
    ClipAction.KEEP: ("POST", "/keep"),
    ClipAction.UNKEEP: ("DELETE", "/keep"),
    ClipAction.PUBLISH: ("POST", "/publish"),
    ClipAction.UNPUBLISH: ("DELETE", "/publish"),
    ClipAction.DELETE: ("DELETE", ""),
    ClipAction.RESTORE: ("POST", "/restore"),
    ClipAction.RENAME: ("PATCH", ""),
}


class ClipLinks(BaseModel):
    """Paths on this host that can be fetched now; null: not possible now."""

    self_: str = Field(serialization_alias="self", description="The clip itself.")
    watch: str | None = Field(description="Redirects to the video; null if the clip is expired or deleted.")
    download: str | None = Field(description="Redirects to the video as a file; null like `watch`.")
    poster: str | None = Field(
        description="Redirects to the poster; null like `watch`, or if the clip has no poster."
    )
    vod: str = Field(description="The clip's VOD, with the outcome of its highlights.")

    @classmethod
    def of(cls, clip: ClipRecord) -> Self:
        """Return the links of a clip."""
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
    """A request that applies an action to the clip."""

    method: Method = Field(description="The HTTP method.")
    href: str = Field(description="The path on this host.")

    @classmethod
    def of(cls, action: ClipAction, clip_id: UUID) -> Self:
        """Return the request that applies an action to a clip."""
        method, suffix = _REQUESTS[action]
        return cls(method=method, href=path_of(clip_id) + suffix)


class VodWindow(BaseModel):
    """The part of a VOD that a clip contains."""

    id: str = Field(description="Id of the VOD.")
    start_seconds: float = Field(description="Seconds from the start of the VOD.")
    end_seconds: float = Field(description="Seconds from the start of the VOD.")

    @classmethod
    def of(cls, clip: ClipRecord) -> Self:
        """Return the window of a clip, as it was cut."""
        receipt = clip.cut_receipt
        return cls(
            id=clip.source_vod_id,
            start_seconds=receipt.actual_start_seconds,
            end_seconds=receipt.actual_end_seconds,
        )


class OfferView(BaseModel):
    """A newer cut of the same highlight, which did not replace a clip that its owner kept."""

    title: str = Field(description="Title of the newer cut.")
    kind: HighlightKind = Field(description="How the detector found the highlight.")
    score: float | None = Field(description="The detector's score, higher is better; null: it gave none.")
    start_seconds: float = Field(description="Seconds from the start of the VOD.")
    end_seconds: float = Field(description="Seconds from the start of the VOD.")
    detected_at: AwareDatetime = Field(description="When the detector found it.")

    @classmethod
    def of(cls, offer: CutOffer) -> Self:
        """Return the view of an offer."""
        return cls(
            title=offer.title,
            kind=offer.kind,
            score=offer.score,
            start_seconds=offer.start_seconds,
            end_seconds=offer.end_seconds,
            detected_at=offer.highlight_detected_at,
        )


class PublicationView(Publication):
    """The options of a published clip, and the address of its embedded player."""

    embed_url: str | None = Field(
        description="The player for other sites; null if embedding is switched off."
    )

    @classmethod
    def of(cls, publication: Publication, slug: str, addresses: PublicAddresses) -> Self:
        """Return the view of a publication under its slug."""
        embed_url = addresses.embed_url(slug) if publication.embed else None
        return cls(**publication.model_dump(), embed_url=embed_url)


class ClipView(BaseModel):
    """A clip, as its owner sees it."""

    id: UUID = Field(description="Id of the clip. It is derived from the highlight's id and never changes.")
    title: str = Field(description="Title from the detector, or from the owner after a rename.")
    kind: HighlightKind = Field(description="How the detector found the highlight.")
    origin: ClipOrigin = Field(description="Who requested the cut.")
    status: ClipStatus = Field(description="Status of the clip.")
    expired: bool = Field(
        description="The clip is past its time: not watchable, and it can be kept until it is purged."
    )
    score: float | None = Field(description="The detector's score, higher is better; null: it gave none.")
    duration_seconds: float = Field(description="Length of the video in seconds.")
    size_bytes: int = Field(description="Size of the video in bytes.")
    revision: int = Field(description="Number of the clip's video: 1, and one more for every new cut.")
    vod: VodWindow = Field(description="The part of the VOD that the clip contains.")
    cut: CutReceipt = Field(description="What was requested of the cutter, and what it did.")
    created_at: AwareDatetime = Field(description="When the clip became available.")
    expires_at: AwareDatetime | None = Field(
        description="When the clip expires, or a deleted clip is due to be purged; null: it does not expire."
    )
    expires_in_days: int | None = Field(
        description="Days until `expires_at`, rounded up; null: the clip does not expire."
    )
    kept_at: AwareDatetime | None = Field(description="When the clip was kept; null: it is not kept.")
    kept_by: str | None = Field(description="The account that kept the clip; null: it is not kept.")
    published_at: AwareDatetime | None = Field(
        description="When the clip was published; null: it is not published."
    )
    share_url: str | None = Field(description="The public page; null: the clip is not published.")
    publication: PublicationView | None = Field(
        description="The options of the publication; null: the clip is not published."
    )
    deleted_at: AwareDatetime | None = Field(
        description="When the clip was deleted; null: it is not deleted."
    )
    offer: OfferView | None = Field(
        description="A newer cut of the same highlight; null: no newer cut is waiting."
    )
    links: ClipLinks = Field(description="What can be fetched now.")
    actions: dict[ClipAction, ActionLink] = Field(description="The actions that are possible now.")

    @classmethod
    def of(cls, clip: ClipRecord, addresses: PublicAddresses) -> Self:
        """Return the view of a clip that is not purged."""
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
    """Return the path of a clip in the JSON API."""
    return f"/v1/clips/{clip_id}"
