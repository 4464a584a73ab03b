"""oEmbed 1.0 (https://oembed.com): tells a site how to show the clip behind a share link."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, HTTPException, Query, Request, Response

from clip_gateway.addresses import PublicAddresses
from clip_gateway.domain import Refusal, Refused
from clip_gateway.html.rendering import NOINDEX
from clip_gateway.parts import GatewayParts
from clip_gateway.public.dependencies import PublicDependencies
from clip_gateway.public.published_clips import PublicClip
from clip_gateway.public.responses import revalidated

# Scripts of other sites may read the answer: it holds only what the share page shows.
_FOR_EVERY_SITE = {"Access-Control-Allow-Origin": "*"}


@dataclass(frozen=True)
class PlayerSize:
    """Width and height of an embedded player, in CSS pixels."""

    width: int
    height: int

    def within(self, max_width: int | None, max_height: int | None) -> "PlayerSize":
        """Return the largest size of the same shape within the limits; None: no limit."""
        width = min(self.width, max_width or self.width)
        if max_height is not None:
            width = min(width, max_height * self.width // self.height)
        return PlayerSize(max(1, width), max(1, width * self.height // self.width))


PLAYER_SIZE = PlayerSize(1280, 720)


def discovery_url(addresses: PublicAddresses, clip: PublicClip) -> str:
    """Return the address of a clip's oEmbed answer, for the head of its share page."""
    return f"{addresses.public_url}/oembed?{urlencode({'url': clip.share_url, 'format': 'json'})}"


def create_router(parts: GatewayParts, dependencies: PublicDependencies) -> APIRouter:
    """Create the route of oEmbed."""
    router = APIRouter()
    addresses = parts.addresses

    @router.get("/oembed")
    async def describe(
        request: Request,
        url: Annotated[str, Query(max_length=500)] = "",
        maxwidth: Annotated[int | None, Query(ge=1)] = None,
        maxheight: Annotated[int | None, Query(ge=1)] = None,
        format: str = "json",  # noqa: A002 - the standard's name
    ) -> Response:
        """Describe a published clip for a site that embeds it (oEmbed 1.0, JSON)."""
        if format != "json":
            raise HTTPException(HTTPStatus.NOT_IMPLEMENTED)
        record = await dependencies.published_clip(_slug_of(url, addresses))
        clip = PublicClip.of(record, addresses, datetime.now(UTC))
        body = json.dumps(_description(clip, addresses, PLAYER_SIZE.within(maxwidth, maxheight)))
        return revalidated(request, body, "application/json", {**NOINDEX, **_FOR_EVERY_SITE})

    return router


def _slug_of(url: str, addresses: PublicAddresses) -> str:
    """Return the slug in a share link or in the address of an embedded player.

    Raises:
        Refused: UNKNOWN: the URL is not an address of this gateway.
    """
    try:
        asked = urlsplit(url)
    except ValueError:
        raise Refused(Refusal.UNKNOWN) from None
    page = f"{asked.scheme}://{asked.netloc}{asked.path}"
    for prefix in (addresses.share_url(""), addresses.embed_url("")):
        if page.startswith(prefix):
            return page.removeprefix(prefix)
    raise Refused(Refusal.UNKNOWN)


def _description(clip: PublicClip, addresses: PublicAddresses, size: PlayerSize) -> dict[str, Any]:
    description: dict[str, Any] = {
        "version": "1.0",
        "type": "link",
        "title": clip.title,
        "provider_name": "Clips",
        "provider_url": addresses.public_url,
    }
    if clip.poster_url:
        shown = {
            "thumbnail_url": clip.poster_url,
            "thumbnail_width": PLAYER_SIZE.width,
            "thumbnail_height": PLAYER_SIZE.height,
        }
        description |= shown
    if clip.embed_url:
        player = {"html": _iframe(clip, clip.embed_url, size), "width": size.width, "height": size.height}
        description |= {"type": "video", **player}
    return description


def _iframe(clip: PublicClip, embed_url: str, size: PlayerSize) -> str:
    shown = f'width="{size.width}" height="{size.height}"'
    # On a narrower page the player shrinks and keeps its shape.
    shape = f"{PLAYER_SIZE.width}/{PLAYER_SIZE.height}"
    style = f'style="border:0;max-width:100%;height:auto;aspect-ratio:{shape}"'
    allowed = 'allow="picture-in-picture" allowfullscreen'
    address, title = escape(embed_url), escape(clip.title)
    return f'<iframe src="{address}" title="{title}" {shown} {style} {allowed}></iframe>'
