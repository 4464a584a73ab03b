"""The page of a published clip, and the player that other sites may embed."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from clip_gateway.domain import Refusal, Refused
from clip_gateway.html.rendering import NOINDEX, Renderer
from clip_gateway.parts import GatewayParts
from clip_gateway.public import media
from clip_gateway.public.dependencies import PublicDependencies
from clip_gateway.public.oembed import PLAYER_SIZE, discovery_url
from clip_gateway.public.published_clips import PublicClip
from clip_gateway.public.responses import indexing_headers, revalidated
from clip_gateway.security_headers import framing_headers
from clip_shared.contracts.registry_api import ClipRecord

HTML = "text/html"


def create_router(parts: GatewayParts, renderer: Renderer, dependencies: PublicDependencies) -> APIRouter:
    """Create the routes of a published clip's page and of its embedded player."""
    router = APIRouter()
    addresses = parts.addresses

    @router.get("/s/{slug}")
    async def show(
        request: Request, record: Annotated[ClipRecord, Depends(dependencies.published_clip)]
    ) -> Response:
        """Show the page of a published clip, with the metadata that chat clients need for a preview."""
        clip = PublicClip.of(record, addresses, datetime.now(UTC))
        oembed_url = discovery_url(addresses, clip)
        shown = {"player_size": PLAYER_SIZE, "oembed_url": oembed_url, "url_seconds": media.LONGEST_SECONDS}
        body = renderer.text(request, "share.html", clip=clip, **shown)
        return revalidated(request, body, HTML, indexing_headers(is_indexable=clip.is_indexable))

    @router.get("/e/{slug}")
    async def embed(
        request: Request, record: Annotated[ClipRecord, Depends(dependencies.published_clip)]
    ) -> Response:
        """Show the player that other sites may embed."""
        clip = PublicClip.of(record, addresses, datetime.now(UTC))
        if clip.embed_url is None:
            raise Refused(Refusal.UNKNOWN)
        body = renderer.text(request, "embed.html", clip=clip, url_seconds=media.LONGEST_SECONDS)
        return revalidated(request, body, HTML, {**framing_headers(addresses), **NOINDEX})

    return router
