"""The internal HTTP API, as :mod:`clip_shared.contracts.registry_api` describes it."""

import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from clip_registry.api.accounts import REFUSED, REFUSED_OR_UNKNOWN, SLUG, add_feeds, add_queries
from clip_registry.api.responses import refusals
from clip_registry.clips.records import record_of
from clip_registry.clips.store import ClipStore
from clip_registry.domain.actions import ActionOutcome, ActionRequest
from clip_registry.domain.clips import Clip, PublicationOptions
from clip_registry.metrics import RegistryMetrics
from clip_shared.contracts.registry_api import (
    Actor,
    BatchOutcome,
    BatchRequest,
    BatchResult,
    BatchResults,
    ClipAction,
    ClipRecord,
    DueClips,
    ExpirationRequest,
    ExpirationResult,
    ExpiryNoticeRequest,
    ExpiryNoticeResult,
    Moment,
    ObjectKeys,
    PublishRequest,
    RenameRequest,
    UnknownObjects,
)
from clip_shared.http.problems import Problem

OF_ACTION = refusals(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)

Act = Callable[[ActionRequest, UUID], Awaitable[ClipRecord]]


class ApiClient(StrEnum):
    """Who calls, by its token; each may do what its job needs, and no more."""

    GATEWAY = "gateway"
    JANITOR = "janitor"


def create_router(
    store: ClipStore, metrics: RegistryMetrics, tokens: Mapping[ApiClient, SecretStr]
) -> APIRouter:
    """The routes, each behind the token of the service that it is for."""
    router = APIRouter(prefix="/v1")
    for_gateway, for_janitor = (
        APIRouter(dependencies=[Depends(_requires(caller, tokens))])
        for caller in (ApiClient.GATEWAY, ApiClient.JANITOR)
    )
    _add_clips(for_gateway, store)
    add_queries(for_gateway, store.queries)
    add_feeds(for_gateway, store.feeds)
    _add_actions(for_gateway, store, metrics)
    _add_housekeeping(for_janitor, store, metrics)
    router.include_router(for_gateway)
    router.include_router(for_janitor)
    return router


def _requires(
    expected: ApiClient, tokens: Mapping[ApiClient, SecretStr]
) -> Callable[..., Coroutine[Any, Any, None]]:
    known = {caller: token.get_secret_value().encode() for caller, token in tokens.items()}
    bearer = HTTPBearer(auto_error=False)

    async def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        token = given.credentials.encode() if given else b""
        callers = [caller for caller, secret in known.items() if secrets.compare_digest(token, secret)]
        if not callers:
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "A valid service token is required.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if expected not in callers:
            raise Problem(HTTPStatus.FORBIDDEN, f"This is for the {expected}; you are the {callers[0]}.")

    return check


def _add_clips(router: APIRouter, store: ClipStore) -> None:
    @router.get("/clips/{clip_id}", responses=REFUSED_OR_UNKNOWN)
    async def get_clip(clip_id: UUID) -> ClipRecord:
        """One clip; a purged one too."""
        return _record_of(await store.get(clip_id))

    @router.get("/shares/{slug}", responses=refusals(HTTPStatus.NOT_FOUND, HTTPStatus.GONE))
    async def shared(slug: str) -> ClipRecord:
        """The published clip behind a share link."""
        is_slug = SLUG.fullmatch(slug) is not None
        clip = await store.get_shared(slug) if is_slug else None
        if clip is None and is_slug and await store.was_given_out(slug):
            raise Problem(HTTPStatus.GONE, "The clip is not public any more.")
        return _record_of(clip)


def _add_actions(router: APIRouter, store: ClipStore, metrics: RegistryMetrics) -> None:
    async def act(wish: ActionRequest, clip_id: UUID) -> ClipRecord:
        decision, clip = await store.act(wish, clip_id)
        metrics.acted(wish.action, decision)
        if decision in _REFUSALS:
            status, detail = _REFUSALS[decision]
            words = {"action": wish.action, "status": clip.status if clip else None, "cap": store.cap}
            raise Problem(status, detail.format(**words))
        return _record_of(clip)

    _add_keeping(router, act)
    _add_publishing(router, act)
    _add_deleting(router, act)

    @router.post("/clips/{clip_id}/rename", responses=OF_ACTION)
    async def rename(clip_id: UUID, request: RenameRequest) -> ClipRecord:
        """Give it another title."""
        wish = ActionRequest(action=ClipAction.RENAME, account_id=request.account_id, title=request.title)
        return await act(wish, clip_id)

    @router.post("/batches", responses=REFUSED)
    async def batch(request: BatchRequest) -> BatchResults:
        """Do the same to many clips. Publishing leaves those alone that are public already."""
        if request.action is ClipAction.RENAME:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "Clips are renamed one by one.")
        acted = await store.act_on_many(_wish_of(request), request.clip_ids)
        for decision, _ in acted:
            metrics.acted(request.action, decision)
        results = (_result_of(*each) for each in zip(request.clip_ids, acted, strict=True))
        return BatchResults(results=tuple(results))


def _add_keeping(router: APIRouter, act: Act) -> None:
    @router.post("/clips/{clip_id}/keep", responses=OF_ACTION)
    async def keep(clip_id: UUID, actor: Actor) -> ClipRecord:
        """Let it never expire. An expired clip can be kept until it is purged."""
        return await act(ActionRequest(action=ClipAction.KEEP, account_id=actor.account_id), clip_id)

    @router.post("/clips/{clip_id}/unkeep", responses=OF_ACTION)
    async def unkeep(clip_id: UUID, actor: Actor) -> ClipRecord:
        """Let it go: a full new retention window begins."""
        return await act(ActionRequest(action=ClipAction.UNKEEP, account_id=actor.account_id), clip_id)


def _add_publishing(router: APIRouter, act: Act) -> None:
    @router.post("/clips/{clip_id}/publish", responses=OF_ACTION)
    async def publish(clip_id: UUID, request: PublishRequest) -> ClipRecord:
        """Make it public, or change how it is."""
        if request.until is not None and request.until <= datetime.now(UTC):
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "until is in the past.")
        return await act(_publishing(request), clip_id)

    @router.post("/clips/{clip_id}/unpublish", responses=OF_ACTION)
    async def unpublish(clip_id: UUID, actor: Actor) -> ClipRecord:
        """Let its share link die; it stays kept."""
        return await act(ActionRequest(action=ClipAction.UNPUBLISH, account_id=actor.account_id), clip_id)


def _add_deleting(router: APIRouter, act: Act) -> None:
    @router.post("/clips/{clip_id}/delete", responses=OF_ACTION)
    async def delete(clip_id: UUID, actor: Actor) -> ClipRecord:
        """Delete it. Until it is purged it can be restored."""
        return await act(ActionRequest(action=ClipAction.DELETE, account_id=actor.account_id), clip_id)

    @router.post("/clips/{clip_id}/restore", responses=OF_ACTION)
    async def restore(clip_id: UUID, actor: Actor) -> ClipRecord:
        """Take its deletion back: it is what it was."""
        return await act(ActionRequest(action=ClipAction.RESTORE, account_id=actor.account_id), clip_id)


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


def _wish_of(request: BatchRequest) -> ActionRequest:
    if request.action is ClipAction.PUBLISH:
        return _publishing(PublishRequest(account_id=request.account_id), republishes=False)
    return ActionRequest(action=request.action, account_id=request.account_id)


def _result_of(clip_id: UUID, acted: tuple[ActionOutcome, Clip | None]) -> BatchResult:
    decision, clip = acted
    is_hidden = clip is None or decision in {ActionOutcome.UNKNOWN, ActionOutcome.NOT_OWNER}
    return BatchResult(
        clip_id=clip_id,
        outcome=BatchOutcome(decision),
        clip=None if is_hidden else _record_of(clip),
    )


_REFUSALS = {
    ActionOutcome.UNKNOWN: (HTTPStatus.NOT_FOUND, "There is no such clip."),
    ActionOutcome.NOT_OWNER: (HTTPStatus.FORBIDDEN, "The clip belongs to another account."),
    ActionOutcome.NOT_ALLOWED: (HTTPStatus.CONFLICT, "Cannot {action} a clip that is {status}."),
    ActionOutcome.FULL: (
        HTTPStatus.CONFLICT,
        "Cannot {action} a clip at the limit of {cap} unkept clips: one of them would expire at once."
        " Keep one of those, or wait until one expires.",
    ),
}


def _add_housekeeping(router: APIRouter, store: ClipStore, metrics: RegistryMetrics) -> None:
    @router.get("/expirations", responses=REFUSED)
    async def due(
        *,
        cutoff: Annotated[Moment | None, Query(description="Default and maximum: now.")] = None,
        detailed: Annotated[bool, Query(description="By day and by account, too: slow for many.")] = False,
    ) -> DueClips:
        """What a purge would purge. Nothing is changed."""
        return await store.due(cutoff, detailed=detailed)

    @router.post("/expirations", responses=REFUSED)
    async def expire(request: ExpirationRequest) -> ExpirationResult:
        """Purge what is due. ``more`` with ``expired`` 0: others hold what is left; pause, then ask again."""
        result = await store.expire(request.limit, request.cutoff)
        metrics.expired(result)
        return result

    @router.post("/expiry-notices", responses=REFUSED)
    async def notify(request: ExpiryNoticeRequest) -> ExpiryNoticeResult:
        """Tell accounts what of theirs expires soon: once for each account and day."""
        result = await store.notify(request.limit, request.since)
        metrics.notified(result)
        return result

    @router.post("/objects/unknown", responses=REFUSED)
    async def unknown_objects(objects: ObjectKeys) -> UnknownObjects:
        """Those of the objects that no clip owns and no URL can still show, in the order asked."""
        unknown = await store.unknown_objects(objects.bucket, objects.keys)
        metrics.objects_asked(len(objects.keys), unknown=len(unknown))
        return UnknownObjects(keys=tuple(key for key in objects.keys if key in unknown))


def _record_of(clip: Clip | None) -> ClipRecord:
    if clip is None:
        raise Problem(HTTPStatus.NOT_FOUND, "There is no such clip.")
    return record_of(vars(clip))
