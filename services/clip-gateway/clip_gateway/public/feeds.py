"""A streamer's published clips as a feed: Atom (RFC 4287) and JSON Feed 1.1 (https://jsonfeed.org)."""

import json
import re
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from clip_gateway.html.rendering import NOINDEX, Renderer
from clip_gateway.parts import GatewayParts
from clip_gateway.public.dependencies import checked_slug
from clip_gateway.public.published_clips import VIDEO_TYPE, PublicClip, PublicFeed
from clip_gateway.public.responses import revalidated

ATOM = "application/atom+xml"
JSON_FEED = "application/feed+json"
# XML 1.0 §2.2 forbids these characters, and titles may have them. Titles never have control characters.
_NOT_IN_XML = re.compile("[\ufffe\uffff]")
# Scripts of other sites may read a feed: every client that knows the address may.
_HEADERS = {**NOINDEX, "Access-Control-Allow-Origin": "*"}


def create_router(parts: GatewayParts, renderer: Renderer) -> APIRouter:
    """Create the routes of the feeds."""
    router = APIRouter()

    async def feed_of(slug: str) -> PublicFeed:
        page = await parts.registry.feed(checked_slug(slug))
        return PublicFeed.of(slug, page, parts.addresses, datetime.now(UTC))

    @router.get("/f/{slug}.atom")
    async def atom(request: Request, slug: str) -> Response:
        """Show the feed of an account's published clips as Atom."""
        body = renderer.text(request, "feed.xml", feed=await feed_of(slug), video_type=VIDEO_TYPE)
        return revalidated(request, _NOT_IN_XML.sub("", body), ATOM, _HEADERS)

    @router.get("/f/{slug}.json")
    async def json_feed(request: Request, slug: str) -> Response:
        """Show the feed of an account's published clips as JSON Feed 1.1."""
        feed = await feed_of(slug)
        # The same title and contents as in the Atom feed, in the reader's language.
        title = renderer.text(request, "feed-title.txt")
        items = [_item(clip, renderer.text(request, "feed-item.html", clip=clip)) for clip in feed.clips]
        body = json.dumps(
            {
                "version": "https://jsonfeed.org/version/1.1",
                "title": title,
                "feed_url": feed.json_url,
                "items": items,
            }
        )
        return revalidated(request, body, JSON_FEED, _HEADERS)

    return router


def _item(clip: PublicClip, content: str) -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": clip.share_url,
        "url": clip.share_url,
        "title": clip.title,
        "content_html": content,
        "date_published": clip.published_at.isoformat(),
        "date_modified": clip.updated_at.isoformat(),
        "attachments": [
            {
                "url": clip.media_url,
                "mime_type": VIDEO_TYPE,
                "size_in_bytes": clip.size_bytes,
                "duration_in_seconds": clip.duration_seconds,
            }
        ],
    }
    return {**item, "image": clip.poster_url} if clip.poster_url else item
