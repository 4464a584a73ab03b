"""What the world may know of a published clip. Pure: no I/O, no clock.

These models are all that public pages, previews and feeds are made of: they hold no account id, no
highlight id and no object key, so that no template can show one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from clip_gateway.addresses import PublicAddresses
from clip_gateway.domain import Refusal, Refused
from clip_shared.contracts.registry_api import ClipRecord, ClipStatus, FeedPage, Publication

VIDEO_TYPE = "video/mp4"
# Chat clients show no preview of a larger video, or a broken one.
LARGEST_PREVIEW_BYTES = 100_000_000


@dataclass(frozen=True, kw_only=True)
class PublicClip:
    """A published clip, and the addresses that its publication allows.

    Attributes:
        poster_url: None: the clip has no poster.
        embed_url: the player for other sites; None: the owner does not want it.
        download_url: None: the owner does not want it.
    """

    title: str
    duration_seconds: float
    size_bytes: int
    published_at: datetime
    updated_at: datetime
    until: datetime | None
    is_indexable: bool
    share_url: str
    media_url: str
    poster_url: str | None
    embed_url: str | None
    download_url: str | None

    @property
    def fits_a_preview(self) -> bool:
        """Whether chat clients can play the video inside a conversation."""
        return self.size_bytes <= LARGEST_PREVIEW_BYTES

    @classmethod
    def of(cls, clip: ClipRecord, addresses: PublicAddresses, now: datetime) -> Self:
        """The public side of a clip.

        Raises:
            Refused: the clip is not public now (UNPUBLISHED).
        """
        publication, slug, published_at = publication_of(clip, now), clip.share_slug, clip.published_at
        if slug is None or published_at is None:
            raise Refused(Refusal.UNPUBLISHED)
        revision, share_url = publication.revision, addresses.share_url(slug)
        return cls(
            title=clip.title or "Clip",
            duration_seconds=clip.duration_seconds,
            size_bytes=clip.file_size_bytes,
            published_at=published_at,
            updated_at=clip.updated_at,
            until=publication.until,
            is_indexable=publication.indexable,
            share_url=share_url,
            media_url=addresses.media_url(slug, revision, "mp4"),
            poster_url=addresses.media_url(slug, revision, "jpg") if clip.poster_key else None,
            embed_url=addresses.embed_url(slug) if publication.embed else None,
            download_url=f"{share_url}/download" if publication.downloadable else None,
        )


def publication_of(clip: ClipRecord, now: datetime) -> Publication:
    """How a clip is public. The registry asks the same: this is the second lock.

    Raises:
        Refused: the clip is not published, or no longer (UNPUBLISHED).
    """
    publication = clip.publication
    if publication is None or clip.status is not ClipStatus.PUBLISHED:
        raise Refused(Refusal.UNPUBLISHED)
    if publication.until is not None and publication.until <= now:
        raise Refused(Refusal.UNPUBLISHED)
    return publication


@dataclass(frozen=True, kw_only=True)
class PublicFeed:
    """The published clips of one streamer, the latest first, at an address that says nothing of them."""

    clips: tuple[PublicClip, ...]
    updated_at: datetime
    atom_url: str
    json_url: str

    @classmethod
    def of(cls, slug: str, page: FeedPage, addresses: PublicAddresses, now: datetime) -> Self:
        """The feed at a slug, with the clips that are public now."""
        return cls(
            clips=tuple(_public(page.items, addresses, now)),
            updated_at=page.updated_at,
            atom_url=addresses.feed_url(slug, "atom"),
            json_url=addresses.feed_url(slug, "json"),
        )


def _public(clips: Iterable[ClipRecord], addresses: PublicAddresses, now: datetime) -> Iterable[PublicClip]:
    for clip in clips:
        try:
            yield PublicClip.of(clip, addresses, now)
        except Refused:  # its time ran out after the registry looked
            continue
