"""Routes that change a streamer's clips: keep, publish, rename, delete, and the same for many at once."""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from clip_gateway.api.models import Batch, BatchAnswer, BatchItem, ClipChanges, PublishOptions
from clip_gateway.api.private_routes import private_router
from clip_gateway.auth import Caller
from clip_gateway.changes import change_clip, change_clips
from clip_gateway.parts import GatewayParts
from clip_gateway.views import ClipView
from clip_shared.contracts.registry_api import (
    Actor,
    BatchRequest,
    ClipAction,
    PublishRequest,
    RenameRequest,
)
from clip_shared.http.openapi import errors

_REFUSALS = errors(HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
_WITH_BODY = errors(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)


def create_router(parts: GatewayParts) -> APIRouter:
    """Create the routes that change clips."""
    router = private_router("clips")
    _add_retention(router, parts)
    _add_publishing(router, parts)
    _add_changes(router, parts)
    _add_batches(router, parts)
    return router


async def _change(parts: GatewayParts, action: ClipAction, clip_id: UUID, request: Actor) -> ClipView:
    return ClipView.of(await change_clip(parts, action, clip_id, request), parts.addresses)


def _add_retention(router: APIRouter, parts: GatewayParts) -> None:
    @router.post("/v1/clips/{clip_id:uuid}/keep", responses=_REFUSALS)
    async def keep(clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.writer)]) -> ClipView:
        """Keep a clip: it does not expire any more. An expired clip can be kept until it is purged."""
        return await _change(parts, ClipAction.KEEP, clip_id, Actor(account_id=caller.account_id))

    @router.delete("/v1/clips/{clip_id:uuid}/keep", responses=_REFUSALS)
    async def unkeep(clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.writer)]) -> ClipView:
        """Stop keeping a clip: it expires after a full retention time, counted from now."""
        return await _change(parts, ClipAction.UNKEEP, clip_id, Actor(account_id=caller.account_id))


def _add_publishing(router: APIRouter, parts: GatewayParts) -> None:
    @router.post("/v1/clips/{clip_id:uuid}/publish", responses=_REFUSALS | _WITH_BODY)
    async def publish(
        clip_id: UUID,
        caller: Annotated[Caller, Depends(parts.sign_in.writer)],
        options: PublishOptions | None = None,
    ) -> ClipView:
        """Publish a clip under `share_url`, or change the options of a published clip."""
        asked = (options or PublishOptions()).model_dump()
        request = PublishRequest(account_id=caller.account_id, **asked)
        return await _change(parts, ClipAction.PUBLISH, clip_id, request)

    @router.delete("/v1/clips/{clip_id:uuid}/publish", responses=_REFUSALS)
    async def unpublish(clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.writer)]) -> ClipView:
        """Unpublish a clip: its `share_url` never works again. The clip stays kept."""
        return await _change(parts, ClipAction.UNPUBLISH, clip_id, Actor(account_id=caller.account_id))


def _add_changes(router: APIRouter, parts: GatewayParts) -> None:
    @router.patch("/v1/clips/{clip_id:uuid}", responses=_REFUSALS | _WITH_BODY)
    async def rename(
        clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.writer)], changes: ClipChanges
    ) -> ClipView:
        """Change the title of a clip."""
        request = RenameRequest(account_id=caller.account_id, title=changes.title)
        return await _change(parts, ClipAction.RENAME, clip_id, request)

    @router.delete("/v1/clips/{clip_id:uuid}", responses=_REFUSALS)
    async def delete(clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.writer)]) -> ClipView:
        """Delete a clip. It can be restored until it is purged, some minutes later."""
        return await _change(parts, ClipAction.DELETE, clip_id, Actor(account_id=caller.account_id))

    @router.post("/v1/clips/{clip_id:uuid}/restore", responses=_REFUSALS)
    async def restore(clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.writer)]) -> ClipView:
        """Restore a deleted clip with its former status and share link."""
        return await _change(parts, ClipAction.RESTORE, clip_id, Actor(account_id=caller.account_id))


def _add_batches(router: APIRouter, parts: GatewayParts) -> None:
    @router.post("/v1/clips/batch", responses=errors(HTTPStatus.FORBIDDEN) | _WITH_BODY)
    async def change_many(
        batch: Batch, caller: Annotated[Caller, Depends(parts.sign_in.writer)]
    ) -> BatchAnswer:
        """Apply one action to up to 100 clips, with a result for every clip. Publishing uses the defaults."""
        request = BatchRequest(account_id=caller.account_id, action=batch.action, clip_ids=tuple(batch.ids))
        results = await change_clips(parts, request)
        return BatchAnswer(
            results=[BatchItem.of(each, caller.account_id, parts.addresses) for each in results]
        )
