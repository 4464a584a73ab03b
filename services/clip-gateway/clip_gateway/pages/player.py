"""The page of one clip: the player, and every action that its owner can take."""

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

# Statuses after an action. A page that is loaded again later shows no notice that is no longer true.
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
    """Create the route of a clip's page. An expired or deleted clip has it too: to keep or restore it."""
    router = APIRouter()

    @router.get("/clips/{clip_id:uuid}")
    async def show(
        request: Request, clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.reader)]
    ) -> Response:
        """Show one clip with its player."""
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
    """Return the action that the address names, if the clip's status agrees with it."""
    done = CompletedAction.of(request.query_params.multi_items())
    return done.action if done and not done.failed and clip.status in _RESULTS[done.action] else None
