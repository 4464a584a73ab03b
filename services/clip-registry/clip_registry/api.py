"""The internal HTTP API, for the gateway and the janitor. Models: :mod:`clip_shared.registry_api`."""

import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from clip_registry.domain import LIVING, Action, Answer, Clip
from clip_registry.metrics import Metrics
from clip_registry.store import Store
from clip_shared.events import Identifier
from clip_shared.problems import Problem
from clip_shared.registry_api import (
    AccountTotals,
    Actor,
    ClipPage,
    ClipRecord,
    ClipStatus,
    ExpirationRequest,
    ExpirationResult,
    ExpiryNoticeRequest,
    ExpiryNoticeResult,
    ObjectKeys,
    UnknownObjects,
)

MAX_PAGE = 200
DEFAULT_PAGE = 50
SLUG = re.compile("[A-Za-z0-9_-]{1,64}")

AccountId = Annotated[Identifier, Path()]
Position = tuple[datetime, UUID]


class Caller(StrEnum):
    """Who calls, by its token; each may do what its job needs, and no more."""

    GATEWAY = "gateway"
    JANITOR = "janitor"


def create_router(store: Store, metrics: Metrics, tokens: Mapping[Caller, SecretStr]) -> APIRouter:
    """The routes, each behind the token of the service that it is for."""
    router = APIRouter(prefix="/v1")
    for_gateway, for_janitor = (
        APIRouter(dependencies=[Depends(_requires(caller, tokens))])
        for caller in (Caller.GATEWAY, Caller.JANITOR)
    )
    _add_queries(for_gateway, store)
    _add_actions(for_gateway, store, metrics)
    _add_housekeeping(for_janitor, store, metrics)
    router.include_router(for_gateway)
    router.include_router(for_janitor)
    return router


def _requires(
    expected: Caller, tokens: Mapping[Caller, SecretStr]
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


def _add_queries(router: APIRouter, store: Store) -> None:
    @router.get("/clips/{clip_id}")
    async def get_clip(clip_id: UUID) -> ClipRecord:
        """One clip; a purged one too."""
        return _record_of(await store.get(clip_id))

    @router.get("/accounts/{account_id}/clips")
    async def list_clips(
        account_id: AccountId,
        status: Annotated[list[ClipStatus] | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> ClipPage:
        """An account's clips, newest first, without those that have expired."""
        statuses = set(status or LIVING)
        if ClipStatus.PURGED in statuses:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "Purged clips are not listed.")
        after = _position_of(cursor) if cursor is not None else None
        clips = await store.list_clips(account_id, statuses, limit=limit + 1, after=after)
        page = clips[:limit]
        return ClipPage(
            items=tuple(map(_record_of, page)),
            next_cursor=_cursor_of(page[-1]) if len(clips) > limit else None,
        )

    @router.get("/accounts/{account_id}/totals")
    async def totals(account_id: AccountId) -> AccountTotals:
        """How much of each an account has, without what has expired."""
        return await store.totals(account_id)

    @router.get("/shares/{slug}")
    async def shared(slug: str) -> ClipRecord:
        """The published clip behind a share link."""
        return _record_of(await store.get_shared(slug) if SLUG.fullmatch(slug) else None)


def _add_actions(router: APIRouter, store: Store, metrics: Metrics) -> None:
    def add(action: Action) -> None:
        @router.post(f"/clips/{{clip_id}}/{action}", name=action)
        async def act(clip_id: UUID, actor: Actor) -> ClipRecord:
            decision, clip = await store.act(action, clip_id, actor.account_id)
            metrics.acted(action, decision)
            if decision in _REFUSALS:
                status, detail = _REFUSALS[decision]
                words = {"action": action, "status": clip.status if clip else None, "cap": store.cap}
                raise Problem(status, detail.format(**words))
            return _record_of(clip)

    for action in Action:
        add(action)


_REFUSALS = {
    Answer.UNKNOWN: (HTTPStatus.NOT_FOUND, "There is no such clip."),
    Answer.NOT_OWNER: (HTTPStatus.FORBIDDEN, "The clip belongs to another account."),
    Answer.NOT_ALLOWED: (HTTPStatus.CONFLICT, "Cannot {action} a clip that is {status}."),
    Answer.FULL: (
        HTTPStatus.CONFLICT,
        "Cannot {action} a clip at the limit of {cap} unkept clips: one of them would expire at once."
        " Keep one of those, or wait until one expires.",
    ),
}


def _add_housekeeping(router: APIRouter, store: Store, metrics: Metrics) -> None:
    @router.post("/expirations")
    async def expire(request: ExpirationRequest) -> ExpirationResult:
        """Purge what is due. ``more`` with ``expired`` 0: others hold what is left; pause, then ask again."""
        result = await store.expire(request.limit, request.cutoff)
        metrics.expired(result)
        return result

    @router.post("/expiry-notices")
    async def notify(request: ExpiryNoticeRequest) -> ExpiryNoticeResult:
        """Tell accounts what of theirs expires soon: once for each account and day."""
        result = await store.notify(request.limit, request.since)
        metrics.notified(result)
        return result

    @router.post("/objects/unknown")
    async def unknown_objects(objects: ObjectKeys) -> UnknownObjects:
        """Those of the objects that no clip owns and no URL can still show, in the order asked."""
        unknown = await store.unknown_objects(objects.bucket, objects.keys)
        metrics.objects_asked(len(objects.keys), unknown=len(unknown))
        return UnknownObjects(keys=tuple(key for key in objects.keys if key in unknown))


def _record_of(clip: Clip | None) -> ClipRecord:
    if clip is None:
        raise Problem(HTTPStatus.NOT_FOUND, "There is no such clip.")
    return ClipRecord.model_validate(asdict(clip))


def _cursor_of(clip: Clip) -> str:
    return urlsafe_b64encode(f"{clip.created_at.isoformat()} {clip.clip_id}".encode()).decode()


def _position_of(cursor: str) -> Position:
    try:
        created_at, clip_id = urlsafe_b64decode(cursor).decode().split(" ")
        moment = datetime.fromisoformat(created_at)
        # As the database will have it. Near the ends of the calendar that overflows.
        position = moment.astimezone(UTC), UUID(clip_id)
    except (ValueError, OverflowError) as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "The cursor is not one of ours.") from error
    if moment.tzinfo is None:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "The cursor is not one of ours.")
    return position
