"""Stable addresses of a published clip's video and poster. They redirect to URLs that live for a minute."""

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from clip_gateway.domain import Refusal, Refused, Rendition, present
from clip_gateway.html.rendering import NOINDEX
from clip_gateway.parts import GatewayParts
from clip_gateway.public.dependencies import PublicDependencies
from clip_gateway.public.published_clips import publication_of
from clip_gateway.public.responses import indexing_headers
from clip_shared.contracts.registry_api import ClipRecord
from clip_shared.http.head import is_head

# A URL that was handed out before a clip is unpublished works for this long.
LONGEST_SECONDS = 60.0
_REVISION = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


def create_router(parts: GatewayParts, dependencies: PublicDependencies) -> APIRouter:
    """Create the routes of a published clip's media."""
    router = APIRouter()
    media = _MediaRedirects(parts)

    @router.get("/m/{slug}/{revision}.mp4")
    async def video(
        request: Request, revision: str, clip: Annotated[ClipRecord, Depends(dependencies.published_clip)]
    ) -> Response:
        """Redirect to a URL of the video that works for at most a minute."""
        _require_published(revision, clip)
        return media.redirect(request, clip, Rendition.WATCH)

    @router.get("/m/{slug}/{revision}.jpg")
    async def poster(
        request: Request, revision: str, clip: Annotated[ClipRecord, Depends(dependencies.published_clip)]
    ) -> Response:
        """Redirect to a URL of the poster that works for at most a minute."""
        _require_published(revision, clip)
        return media.redirect(request, clip, Rendition.POSTER)

    @router.get("/s/{slug}/download")
    async def download(
        request: Request, clip: Annotated[ClipRecord, Depends(dependencies.published_clip)]
    ) -> Response:
        """Redirect to the video as a file, if its owner allows downloads."""
        if not publication_of(clip, datetime.now(UTC)).downloadable:
            raise Refused(Refusal.UNKNOWN)
        return media.redirect(request, clip, Rendition.DOWNLOAD)

    return router


def _require_published(revision: str, clip: ClipRecord) -> None:
    """Require that ``revision`` is the published revision of the clip.

    Raises:
        Refused: it is an earlier revision (UNPUBLISHED), or was never published (UNKNOWN).
    """
    public = publication_of(clip, datetime.now(UTC)).revision
    asked = int(revision) if _REVISION.fullmatch(revision) else None
    if asked is None or asked > public:
        raise Refused(Refusal.UNKNOWN)
    if asked < public:
        raise Refused(Refusal.UNPUBLISHED)


class _MediaRedirects:
    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts

    def redirect(self, request: Request, clip: ClipRecord, rendition: Rendition) -> Response:
        """Return a redirect to a presigned URL of a rendition."""
        now = datetime.now(UTC)
        public = publication_of(clip, now)
        seconds = LONGEST_SECONDS
        if public.until is not None:
            seconds = min(seconds, (public.until - now).total_seconds())
        # A URL is signed for one method: a client that asks with HEAD also follows the redirect with HEAD.
        url = self._parts.presigner.url(present(rendition, clip), seconds_left=seconds, head=is_head(request))
        self._parts.metrics.presigned(rendition)
        headers = {"Cache-Control": "no-store", **indexing_headers(is_indexable=public.indexable)}
        if rendition is Rendition.DOWNLOAD:
            headers |= NOINDEX
        return RedirectResponse(url, HTTPStatus.FOUND, headers=headers)
