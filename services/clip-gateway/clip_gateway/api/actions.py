"""What owners do to their clips."""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends

from clip_gateway.api.models import Batch, BatchAnswer, BatchItem, ClipChanges, PublishOptions
from clip_gateway.api.private_routes import private_router
from clip_gateway.auth import Caller
from clip_gateway.domain import owned
from clip_gateway.parts import GatewayParts
from clip_gateway.views import ClipView
from clip_shared.contracts.registry_api import (
    Actor,
    BatchOutcome,
    BatchRequest,
    ClipAction,
    PublishRequest,
    RenameRequest,
)
from clip_shared.http.openapi import errors

log = structlog.get_logger()

_REFUSALS = errors(HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
_WITH_BODY = errors(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)


def create_router(parts: GatewayParts) -> APIRouter:
    """What can be done to clips."""
    router = private_router("/v1/clips", "clips")
    _add_retention(router, parts)
    _add_publishing(router, parts)
    _add_changes(router, parts)
    _add_batches(router, parts)
    return router


async def _act(parts: GatewayParts, action: ClipAction, clip_id: UUID, request: Actor) -> ClipView:
    """Do what an account asks of its clip.

    Raises:
        Refused: unknown, somebody else's, or not allowed from the clip's status.
    """
    # The registry asks the same again, and in one step with the change: this is the second lock.
    owned(await parts.registry.get(clip_id), request.account_id)
    clip = await parts.registry.act(action, clip_id, request)
    parts.metrics.acted(action)
    log.info("clip changed", clip_id=str(clip_id), action=action, status=clip.status)
    return ClipView.of(owned(clip, request.account_id), parts.addresses)


def _add_retention(router: APIRouter, parts: GatewayParts) -> None:
    @router.post("/{clip_id:uuid}/keep", responses=_REFUSALS)
    async def keep(clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.writer)]) -> ClipView:
        """Keep a clip: it no longer expires. Works until it is purged, also after it has expired."""
        return await _act(parts, ClipAction.KEEP, clip_id, Actor(account_id=caller.account_id))

    @router.delete("/{clip_id:uuid}/keep", responses=_REFUSALS)
    async def unkeep(clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.writer)]) -> ClipView:
        """Let a kept clip go: it expires after a full new retention time."""
        return await _act(parts, ClipAction.UNKEEP, clip_id, Actor(account_id=caller.account_id))


def _add_publishing(router: APIRouter, parts: GatewayParts) -> None:
    @router.post("/{clip_id:uuid}/publish", responses=_REFUSALS | _WITH_BODY)
    async def publish(
        clip_id: UUID,
        caller: Annotated[Caller, Depends(parts.sign_in.writer)],
        options: PublishOptions | None = None,
    ) -> ClipView:
        """Make a clip public under `share_url`, or change how it is public. Its video stays the same."""
        asked = (options or PublishOptions()).model_dump()
        request = PublishRequest(account_id=caller.account_id, **asked)
        return await _act(parts, ClipAction.PUBLISH, clip_id, request)

    @router.delete("/{clip_id:uuid}/publish", responses=_REFUSALS)
    async def unpublish(clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.writer)]) -> ClipView:
        """Take a clip's public page away, for good; the clip is kept."""
        return await _act(parts, ClipAction.UNPUBLISH, clip_id, Actor(account_id=caller.account_id))


def _add_changes(router: APIRouter, parts: GatewayParts) -> None:
    @router.patch("/{clip_id:uuid}", responses=_REFUSALS | _WITH_BODY)
    async def rename(
        clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.writer)], changes: ClipChanges
    ) -> ClipView:
        """Give a clip another title."""
        request = RenameRequest(account_id=caller.account_id, title=changes.title)
        return await _act(parts, ClipAction.RENAME, clip_id, request)

    @router.delete("/{clip_id:uuid}", responses=_REFUSALS)
    async def delete(clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.writer)]) -> ClipView:
        """Delete a clip: nobody sees it any more. It can be restored until it is purged, minutes later."""
        return await _act(parts, ClipAction.DELETE, clip_id, Actor(account_id=caller.account_id))

    @router.post("/{clip_id:uuid}/restore", responses=_REFUSALS)
    async def restore(clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.writer)]) -> ClipView:
        """Take a deletion back: the clip is what it was, with its share link."""
        return await _act(parts, ClipAction.RESTORE, clip_id, Actor(account_id=caller.account_id))


def _add_batches(router: APIRouter, parts: GatewayParts) -> None:
    @router.post("/batch", responses=errors(HTTPStatus.FORBIDDEN) | _WITH_BODY)
    async def change_many(
        batch: Batch, caller: Annotated[Caller, Depends(parts.sign_in.writer)]
    ) -> BatchAnswer:
        """Do the same to up to 100 clips, each for itself. To publish takes the default options."""
        request = BatchRequest(account_id=caller.account_id, action=batch.action, clip_ids=tuple(batch.ids))
        results = (await parts.registry.act_on_many(request)).results
        done = sum(each.outcome is BatchOutcome.DONE for each in results)
        parts.metrics.acted(batch.action, done)
        log.info("clips changed", action=batch.action, asked=len(results), done=done)
        return BatchAnswer(
            results=[BatchItem.of(each, caller.account_id, parts.addresses) for each in results]
        )
