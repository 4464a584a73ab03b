"""Routes that change clips on behalf of the account that owns them."""

from datetime import UTC, datetime
from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter

from clip_registry.api.parts import RegistryParts
from clip_registry.api.responses import INVALID, found_clip, refusals
from clip_registry.domain.actions import ActionOutcome, ActionRequest
from clip_registry.domain.clips import Clip, PublicationOptions
from clip_shared.contracts.registry_api import (
    Actor,
    BatchOutcome,
    BatchRequest,
    BatchResult,
    BatchResults,
    ClipAction,
    ClipRecord,
    PublishRequest,
    RenameRequest,
)
from clip_shared.http.problems import Problem

_REFUSALS = refusals(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
_PROBLEMS = {
    ActionOutcome.UNKNOWN: (HTTPStatus.NOT_FOUND, "There is no such clip."),
    ActionOutcome.NOT_OWNER: (HTTPStatus.FORBIDDEN, "The clip belongs to another account."),
    ActionOutcome.NOT_ALLOWED: (HTTPStatus.CONFLICT, "Cannot {action} a clip that is {status}."),
    ActionOutcome.FULL: (
        HTTPStatus.CONFLICT,
        "Cannot {action} a clip at the limit of {cap} unkept clips: one of them would expire at once."
        " Keep one of those, or wait until one expires.",
    ),
}


def add_action_routes(router: APIRouter, parts: RegistryParts) -> None:
    """Add the routes that change clips."""
    _add_keeping(router, parts)
    _add_publishing(router, parts)
    _add_deleting(router, parts)
    _add_renaming(router, parts)
    _add_batches(router, parts)


async def _act(parts: RegistryParts, request: ActionRequest, clip_id: UUID) -> ClipRecord:
    """Do what an account asks of a clip, and return the clip afterwards.

    Raises:
        Problem: the account may not do this now.
    """
    outcome, clip = await parts.store.act(request, clip_id)
    parts.metrics.acted(request.action, outcome)
    if outcome in _PROBLEMS:
        status, detail = _PROBLEMS[outcome]
        words = {
            "action": request.action,
            "status": clip.status if clip else None,
            "cap": parts.store.cap,
        }
        raise Problem(status, detail.format(**words))
    return found_clip(clip)


def _add_keeping(router: APIRouter, parts: RegistryParts) -> None:
    @router.post("/v1/clips/{clip_id}/keep", responses=_REFUSALS)
    async def keep(clip_id: UUID, actor: Actor) -> ClipRecord:
        """Keep a clip: it does not expire. An expired clip can be kept until it is purged."""
        return await _act(parts, ActionRequest(action=ClipAction.KEEP, account_id=actor.account_id), clip_id)

    @router.post("/v1/clips/{clip_id}/unkeep", responses=_REFUSALS)
    async def unkeep(clip_id: UUID, actor: Actor) -> ClipRecord:
        """Stop keeping a clip: it expires after a full retention time from now."""
        return await _act(
            parts, ActionRequest(action=ClipAction.UNKEEP, account_id=actor.account_id), clip_id
        )


def _add_publishing(router: APIRouter, parts: RegistryParts) -> None:
    @router.post("/v1/clips/{clip_id}/publish", responses=_REFUSALS)
    async def publish(clip_id: UUID, request: PublishRequest) -> ClipRecord:
        """Publish a clip, or change how it is public."""
        if request.until is not None and request.until <= datetime.now(UTC):
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "until is in the past.")
        return await _act(parts, _publishing(request), clip_id)

    @router.post("/v1/clips/{clip_id}/unpublish", responses=_REFUSALS)
    async def unpublish(clip_id: UUID, actor: Actor) -> ClipRecord:
        """Unpublish a clip: its share link stops working for good. The clip stays kept."""
        return await _act(
            parts, ActionRequest(action=ClipAction.UNPUBLISH, account_id=actor.account_id), clip_id
        )


def _add_deleting(router: APIRouter, parts: RegistryParts) -> None:
    @router.post("/v1/clips/{clip_id}/delete", responses=_REFUSALS)
    async def delete(clip_id: UUID, actor: Actor) -> ClipRecord:
        """Delete a clip. It can be restored until it is purged."""
        return await _act(
            parts, ActionRequest(action=ClipAction.DELETE, account_id=actor.account_id), clip_id
        )

    @router.post("/v1/clips/{clip_id}/restore", responses=_REFUSALS)
    async def restore(clip_id: UUID, actor: Actor) -> ClipRecord:
        """Restore a deleted clip: it has the status, and the share link, of before."""
        return await _act(
            parts, ActionRequest(action=ClipAction.RESTORE, account_id=actor.account_id), clip_id
        )


def _add_renaming(router: APIRouter, parts: RegistryParts) -> None:
    @router.post("/v1/clips/{clip_id}/rename", responses=_REFUSALS)
    async def rename(clip_id: UUID, request: RenameRequest) -> ClipRecord:
        """Give a clip another title. Later cuts of its highlight keep it."""
        renaming = ActionRequest(action=ClipAction.RENAME, account_id=request.account_id, title=request.title)
        return await _act(parts, renaming, clip_id)


def _add_batches(router: APIRouter, parts: RegistryParts) -> None:
    @router.post("/v1/batches", responses=INVALID)
    async def batch(request: BatchRequest) -> BatchResults:
        """Do the same action to many clips. To publish changes no clip that is public already."""
        if request.action is ClipAction.RENAME:
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "A batch cannot rename clips: call /v1/clips/{clip_id}/rename for each clip.",
            )
        acted = await parts.store.act_on_many(_request_of(request), request.clip_ids)
        for outcome, _ in acted:
            parts.metrics.acted(request.action, outcome)
        results = (
            _result_of(clip_id, outcome, clip)
            for clip_id, (outcome, clip) in zip(request.clip_ids, acted, strict=True)
        )
        return BatchResults(results=tuple(results))


def _request_of(batch: BatchRequest) -> ActionRequest:
    if batch.action is ClipAction.PUBLISH:
        return _publishing(PublishRequest(account_id=batch.account_id), republishes=False)
    return ActionRequest(action=batch.action, account_id=batch.account_id)


def _publishing(request: PublishRequest, *, republishes: bool = True) -> ActionRequest:
    return ActionRequest(
        action=ClipAction.PUBLISH,
        account_id=request.account_id,
        options=PublicationOptions(
            until=request.until,
            embed=request.embed,
            downloadable=request.downloadable,
            indexable=request.indexable,
        ),
        republishes=republishes,
    )


def _result_of(clip_id: UUID, outcome: ActionOutcome, clip: Clip | None) -> BatchResult:
    is_hidden = clip is None or outcome in {ActionOutcome.UNKNOWN, ActionOutcome.NOT_OWNER}
    return BatchResult(
        clip_id=clip_id,
        outcome=BatchOutcome(outcome),
        clip=None if is_hidden else found_clip(clip),
    )
