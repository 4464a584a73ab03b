"""The public data of a published clip and of a feed. Pure: no I/O, no clock.

Public pages, previews and feeds get only these models. They hold no account id, no highlight id and no
object key: so no template can show one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from clip_gateway.addresses import PublicAddresses
from clip_gateway.domain import Refusal, Refused
from clip_shared.contracts.registry_api import ClipRecord, ClipStatus, FeedPage, Publication

VIDEO_TYPE = "video/mp4"
# For a larger video chat clients show a broken preview, or do not show one.
LARGEST_PREVIEW_BYTES = 100_000_000


@dataclass(frozen=True, kw_only=True)
class PublicClip:
    """A published clip, with the addresses that the options of its publication allow.

    Attributes:
        poster_url: None: the clip has no poster.
        embed_url: the player for other sites; None: the owner does not allow embedding.
        download_url: None: the owner does not allow downloads.
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
        """Whether chat clients can play the video in a preview."""
        return self.size_bytes <= LARGEST_PREVIEW_BYTES

    @classmethod
    def of(cls, clip: ClipRecord, addresses: PublicAddresses, now: datetime) -> Self:
        """Return the public data of a clip.

        Raises:
            Refused: UNPUBLISHED: the clip is not published at ``now``.
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
    """Return the publication of a clip. The registry checks the same: a defect in one check shows no clip.

    Raises:
        Refused: UNPUBLISHED: the clip is not published at ``now``, or its publication has ended.
    """
    publication = clip.publication
    if publication is None or clip.status is not ClipStatus.PUBLISHED:
        raise Refused(Refusal.UNPUBLISHED)
    if publication.until is not None and publication.until <= now:
        raise Refused(Refusal.UNPUBLISHED)
    return publication


@dataclass(frozen=True, kw_only=True)
class PublicFeed:
    """The published clips of one streamer, the latest first. Its addresses do not reveal the account."""

    clips: tuple[PublicClip, ...]
    updated_at: datetime
    atom_url: str
    json_url: str

    @classmethod
    def of(cls, slug: str, page: FeedPage, addresses: PublicAddresses, now: datetime) -> Self:
        """Return the feed at a slug, with the clips that are published at ``now``."""
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
        except Refused:  # its publication ended after the registry's query
            continue
