"""Routes that read a streamer's clips: lists, single clips, and redirects to their media."""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse

from clip_gateway.api.models import ClipList, ClipListParameters
from clip_gateway.api.private_routes import NOT_KEPT, private_router
from clip_gateway.auth import Caller
from clip_gateway.domain import Rendition, owned, present, split_owned, watchable
from clip_gateway.parts import GatewayParts
from clip_gateway.views import ClipView
from clip_shared.http.head import is_head
from clip_shared.http.openapi import Responses, errors

log = structlog.get_logger()

_MEDIA: Responses = {
    HTTPStatus.FOUND.value: {
        "description": "Redirect to a presigned URL. It works for some minutes, for this request's method.",
        "headers": {"Location": {"description": "The URL.", "schema": {"type": "string", "format": "uri"}}},
    },
    **errors(HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS),
}


def create_router(parts: GatewayParts) -> APIRouter:
    """Create the routes that read clips."""
    router = private_router("clips")
    _add_queries(router, parts)
    _add_media(router, parts)
    return router


def _add_queries(router: APIRouter, parts: GatewayParts) -> None:
    @router.get("/v1/clips", responses=errors(HTTPStatus.UNPROCESSABLE_ENTITY))
    async def list_clips(
        caller: Annotated[Caller, Depends(parts.sign_in.reader)],
        parameters: Annotated[ClipListParameters, Query()],
    ) -> ClipList:
        """List the caller's clips, in pages. Expired clips are listed until they are purged."""
        page = await parts.registry.clips_of(caller.account_id, parameters.to_query())
        mine, foreign = split_owned(page.items, caller.account_id)
        if foreign:
            log.error(
                "the registry listed clips of other accounts",
                clip_ids=[str(each.clip_id) for each in foreign],
            )
        items = [ClipView.of(clip, parts.addresses) for clip in mine]
        return ClipList(items=items, next_cursor=page.next_cursor)

    # An id that is not a UUID belongs to no clip: 404, like any other unknown id.
    @router.get("/v1/clips/{clip_id:uuid}", responses=errors(HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND))
    async def get_clip(clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.reader)]) -> ClipView:
        """Return one of the caller's clips. An expired or deleted clip is returned until it is purged."""
        return ClipView.of(owned(await parts.registry.get(clip_id), caller.account_id), parts.addresses)


def _add_media(router: APIRouter, parts: GatewayParts) -> None:
    async def redirect(rendition: Rendition, clip_id: UUID, caller: Caller, request: Request) -> Response:
        parts.limits.count_presign(caller.account_id)
        clip = watchable(await parts.registry.get(clip_id), caller.account_id)
        # A URL is signed for one method: a client that asks with HEAD also follows the redirect with HEAD.
        head = is_head(request)
        url = parts.presigner.url(present(rendition, clip), seconds_left=clip.expires_in_seconds, head=head)
        parts.metrics.presigned(rendition)
        return RedirectResponse(url, HTTPStatus.FOUND, headers={"Cache-Control": NOT_KEPT})

    @router.get(
        "/v1/clips/{clip_id:uuid}/watch",
        status_code=HTTPStatus.FOUND,
        response_class=Response,
        responses=_MEDIA,
    )
    async def watch(
        clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.reader)], request: Request
    ) -> Response:
        """Redirect to the video, for playing."""
        return await redirect(Rendition.WATCH, clip_id, caller, request)

    @router.get(
        "/v1/clips/{clip_id:uuid}/download",
        status_code=HTTPStatus.FOUND,
        response_class=Response,
        responses=_MEDIA,
    )
    async def download(
        clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.reader)], request: Request
    ) -> Response:
        """Redirect to the video, for saving under a readable file name."""
        return await redirect(Rendition.DOWNLOAD, clip_id, caller, request)

    @router.get(
        "/v1/clips/{clip_id:uuid}/poster",
        status_code=HTTPStatus.FOUND,
        response_class=Response,
        responses=_MEDIA,
    )
    async def poster(
        clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.reader)], request: Request
    ) -> Response:
        """Redirect to the poster of the clip, a JPEG."""
        return await redirect(Rendition.POSTER, clip_id, caller, request)
