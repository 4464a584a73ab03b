"""The page of one clip: watching it, and everything that its owner can do to it."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from clip_gateway.auth import Caller
from clip_gateway.domain import owned
from clip_gateway.html.rendering import Renderer
from clip_gateway.pages.notices import CompletedAction
from clip_gateway.parts import GatewayParts
from clip_gateway.views import ClipView
from clip_shared.contracts.registry_api import ClipAction, ClipStatus

# What a clip is after an action: a page that is loaded again later must not say what no longer holds.
_RESULTS = {
    ClipAction.KEEP: {ClipStatus.KEPT, ClipStatus.PUBLISHED},
    ClipAction.UNKEEP: {ClipStatus.AVAILABLE},
    ClipAction.PUBLISH: {ClipStatus.PUBLISHED},
    ClipAction.UNPUBLISH: {ClipStatus.KEPT},
    ClipAction.DELETE: {ClipStatus.DELETED},
    ClipAction.RESTORE: {ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.PUBLISHED},
    ClipAction.RENAME: {ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.PUBLISHED},
}


def create_router(parts: GatewayParts, renderer: Renderer) -> APIRouter:
    """The player. An expired or deleted clip has the page too: there it can be kept, or restored."""
    router = APIRouter()

    @router.get("/clips/{clip_id:uuid}")
    async def show(
        request: Request, clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.reader)]
    ) -> Response:
        """The page of one clip, with its player."""
        record = owned(await parts.registry.get(clip_id), caller.account_id)
        clip = ClipView.of(record, parts.addresses)
        return renderer.page(
            request,
            "player.html",
            account=caller.account_id,
            clip=clip,
            here=f"/clips/{clip_id}",
            done=_done(request, clip),
            url_seconds=parts.presigner.seconds(record.expires_in_seconds),
        )

    return router


def _done(request: Request, clip: ClipView) -> ClipAction | None:
    """What the address says was done to the clip, if that is how the clip is."""
    done = CompletedAction.of(request.query_params.multi_items())
    return done.action if done and not done.failed and clip.status in _RESULTS[done.action] else None
