"""The public JSON API: a streamer's clips, by the streamer alone."""

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.security import APIKeyCookie, HTTPBearer

from clip_gateway.auth import Caller, SignIn
from clip_gateway.domain import (
    Action,
    Refusal,
    Refused,
    View,
    changeable,
    present,
    split_visible,
    visible,
)
from clip_gateway.metrics import Metrics, RequestTimer
from clip_gateway.presign import Presigner
from clip_gateway.registry_client import Registry
from clip_gateway.views import ClipList, ClipView
from clip_shared.head import is_head
from clip_shared.problems import Problem, ProblemResponse, respond
from clip_shared.registry_api import ClipStatus
from clip_shared.service import create_api

log = structlog.get_logger()

MAX_PAGE = 100
DEFAULT_PAGE = 50
# An id that is not a UUID is no clip's: 404, like any other that nobody knows.
CLIP = "/clips/{clip_id:uuid}"


class Filter(StrEnum):
    """The statuses that can be asked for."""

    AVAILABLE = ClipStatus.AVAILABLE
    KEPT = ClipStatus.KEPT
    PUBLISHED = ClipStatus.PUBLISHED


def create(registry: Registry, presigner: Presigner, sign_in: SignIn, metrics: Metrics) -> FastAPI:
    """The public application."""
    app = create_api("clip-gateway")
    app.include_router(_router(registry, presigner, sign_in, metrics))
    _install_refusals(app, metrics)
    app.add_middleware(RequestTimer, metrics=metrics)
    return app


def _router(registry: Registry, presigner: Presigner, sign_in: SignIn, metrics: Metrics) -> APIRouter:
    """The routes. Every one of them needs a caller; what changes something, one who means it."""
    documented = [
        Depends(HTTPBearer(auto_error=False, bearerFormat="JWT")),
        Depends(APIKeyCookie(name=sign_in.cookie_name, auto_error=False)),
    ]
    router = APIRouter(prefix="/v1", dependencies=[Depends(_private), *documented], tags=["clips"])
    _add_queries(router, registry, sign_in)
    _add_views(router, registry, sign_in, metrics, presigner)
    _add_actions(router, registry, sign_in, metrics)
    return router


def _add_queries(router: APIRouter, registry: Registry, sign_in: SignIn) -> None:
    @router.get("/clips")
    async def list_clips(
        caller: Annotated[Caller, Depends(sign_in.reader)],
        status: Annotated[list[Filter] | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> ClipList:
        """The caller's clips, newest first, in pages."""
        statuses = [ClipStatus(each) for each in status or ()]
        page = await registry.clips_of(caller.account_id, statuses=statuses, limit=limit, cursor=cursor)
        shown, foreign = split_visible(page.items, caller.account_id)
        if foreign:
            log.error("the registry listed clips of others", clip_ids=[str(each.clip_id) for each in foreign])
        return ClipList(items=[ClipView.of(clip) for clip in shown], next_cursor=page.next_cursor)

    @router.get(CLIP)
    async def get_clip(clip_id: UUID, caller: Annotated[Caller, Depends(sign_in.reader)]) -> ClipView:
        """One of the caller's clips."""
        return ClipView.of(visible(await registry.get(clip_id), caller.account_id))


def _add_views(
    router: APIRouter, registry: Registry, sign_in: SignIn, metrics: Metrics, presigner: Presigner
) -> None:
    def add(view: View) -> None:
        @router.get(f"{CLIP}/{view}", name=view, status_code=HTTPStatus.FOUND, response_class=Response)
        async def redirect(
            clip_id: UUID, caller: Annotated[Caller, Depends(sign_in.reader)], request: Request
        ) -> Response:
            clip = visible(await registry.get(clip_id), caller.account_id)
            # A URL is signed for one method, and whoever asks with HEAD follows with HEAD.
            head = is_head(request)
            url = presigner.url(present(view, clip), seconds_left=clip.expires_in_seconds, head=head)
            metrics.presigned(view)
            return RedirectResponse(url, HTTPStatus.FOUND, headers=PRIVATE)

    for view in View:
        add(view)


def _add_actions(router: APIRouter, registry: Registry, sign_in: SignIn, metrics: Metrics) -> None:
    def add(method: str, path: str, action: Action) -> None:
        @router.api_route(f"{CLIP}/{path}", methods=[method], name=action)
        async def act(clip_id: UUID, caller: Annotated[Caller, Depends(sign_in.writer)]) -> ClipView:
            # The registry asks the same again, and in one step with the change: this is the second lock.
            changeable(await registry.get(clip_id), caller.account_id)
            clip = await registry.act(action, clip_id, caller.account_id)
            metrics.acted(action)
            log.info("clip changed", clip_id=str(clip_id), action=action, status=clip.status)
            return ClipView.of(visible(clip, caller.account_id))

    add("POST", "keep", Action.KEEP)
    add("DELETE", "keep", Action.UNKEEP)
    add("POST", "publish", Action.PUBLISH)
    add("DELETE", "publish", Action.UNPUBLISH)


# Presigned URLs and private lists must rest in no cache, and travel on in no Referer.
PRIVATE = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def _private(response: Response) -> None:
    response.headers.update(PRIVATE)


# Refusals, in words for the caller.

_CHALLENGE = 'Bearer realm="clips"'
_GONE = (HTTPStatus.NOT_FOUND, "There is no such clip, or not any more.")
_ANSWERS: Mapping[Refusal, tuple[HTTPStatus, str]] = {
    Refusal.NOT_SIGNED_IN: (HTTPStatus.UNAUTHORIZED, "Sign in first."),
    Refusal.INVALID_TOKEN: (HTTPStatus.UNAUTHORIZED, "The sign-in token is not valid here."),
    Refusal.EXPIRED_TOKEN: (HTTPStatus.UNAUTHORIZED, "The sign-in token has expired. Sign in again."),
    Refusal.CROSS_ORIGIN: (
        HTTPStatus.FORBIDDEN,
        "With a cookie, only pages of this site may make changes. Use a bearer token otherwise.",
    ),
    Refusal.NOT_OWNER: (HTTPStatus.FORBIDDEN, "The clip belongs to another account."),
    Refusal.UNKNOWN: _GONE,
    Refusal.PURGED: _GONE,
    Refusal.EXPIRED: _GONE,
    Refusal.MISPLACED: _GONE,
    Refusal.NO_POSTER: (HTTPStatus.NOT_FOUND, "The clip has no poster."),
    Refusal.NOT_ALLOWED: (
        HTTPStatus.CONFLICT,
        "Not in the clip's present status; a published clip must be unpublished before it is let go.",
    ),
    Refusal.BAD_CURSOR: (HTTPStatus.UNPROCESSABLE_ENTITY, "The cursor is not one of ours."),
}
_CHALLENGES: Mapping[Refusal, str] = {
    Refusal.NOT_SIGNED_IN: _CHALLENGE,
    Refusal.INVALID_TOKEN: f'{_CHALLENGE}, error="invalid_token"',
    Refusal.EXPIRED_TOKEN: f'{_CHALLENGE}, error="invalid_token", error_description="expired"',
}


def _install_refusals(app: FastAPI, metrics: Metrics) -> None:
    """Answer every refusal with a problem, and count it."""

    @app.exception_handler(Refused)
    async def on_refused(request: Request, refused: Refused) -> ProblemResponse:
        metrics.refused(refused.reason)
        if refused.reason is Refusal.MISPLACED:
            log.error("a clip's object is not among its account's clips", path=request.url.path)
        status, detail = _ANSWERS[refused.reason]
        challenge = _CHALLENGES.get(refused.reason)
        headers = {"WWW-Authenticate": challenge} if challenge else {}
        return respond(Problem(status, refused.detail or detail, headers=headers))
