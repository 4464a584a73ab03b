"""What a streamer does on the pages: forms, which answer with a redirect, or with the parts that changed.

A form names the page to come back to in its field ``back``. The page's script sends the same forms and takes
the changed parts in place (``HX-Request-Type: partial``). Everything else follows the redirect.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import TypeAdapter
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from clip_gateway.addresses import FIRST_PAGE, own_path
from clip_gateway.auth import Caller
from clip_gateway.domain import Refusal, Refused, owned, owned_or_none
from clip_gateway.html.rendering import NO_STORE, Renderer
from clip_gateway.pages.cards import card_of
from clip_gateway.pages.gallery import notice_of
from clip_gateway.pages.notices import CompletedAction
from clip_gateway.pages.usage_bar import UsageBar
from clip_gateway.parts import GatewayParts
from clip_shared.contracts.events import Title
from clip_shared.contracts.registry_api import (
    MAX_BATCH,
    Actor,
    BatchOutcome,
    BatchRequest,
    ClipAction,
    ClipRecord,
    PublishRequest,
    RenameRequest,
)
from clip_shared.errors import TransientError

log = structlog.get_logger()

CLIP = "/clips/{clip_id:uuid}"
# What the fields of a form are at most: `back`, `action` and the ids of a batch, with room for more.
MAX_FIELDS = MAX_BATCH + 20
_BATCH_ACTIONS = {ClipAction.KEEP, ClipAction.UNKEEP, ClipAction.DELETE, ClipAction.RESTORE}
_TITLE: TypeAdapter[str] = TypeAdapter(Title)
_CHANGED = {BatchOutcome.DONE, BatchOutcome.UNCHANGED}


def create_router(parts: GatewayParts, renderer: Renderer) -> APIRouter:
    """The forms of clips and of the feed."""
    router = APIRouter()
    hands = _ClipForms(parts, renderer)
    _add_actions(router, parts, hands)
    _add_batch(router, parts, hands)
    _add_feed(router, parts)
    return router


def _add_actions(router: APIRouter, parts: GatewayParts, hands: "_ClipForms") -> None:
    def add(path: str, action: ClipAction) -> None:
        @router.post(path, name=f"page-{action}")
        async def act(
            request: Request, clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.writer)]
        ) -> Response:
            """Do it to one clip: a form."""
            return await hands.act(request, caller, clip_id, action)

    add(f"{CLIP}/keep", ClipAction.KEEP)
    add(f"{CLIP}/unkeep", ClipAction.UNKEEP)
    add(f"{CLIP}/publish", ClipAction.PUBLISH)
    add(f"{CLIP}/unpublish", ClipAction.UNPUBLISH)
    add(f"{CLIP}/delete", ClipAction.DELETE)
    add(f"{CLIP}/restore", ClipAction.RESTORE)
    add(f"{CLIP}/rename", ClipAction.RENAME)


def _add_batch(router: APIRouter, parts: GatewayParts, hands: "_ClipForms") -> None:
    @router.post("/clips/batch")
    async def act_on_many(
        request: Request, caller: Annotated[Caller, Depends(parts.sign_in.writer)]
    ) -> Response:
        """Do the same to many clips: a form."""
        return await hands.act_on_many(request, caller)


def _add_feed(router: APIRouter, parts: GatewayParts) -> None:
    @router.post("/feed")
    async def switch_feed(
        request: Request, caller: Annotated[Caller, Depends(parts.sign_in.writer)]
    ) -> Response:
        """Switch the feed of the caller's published clips on or off: field ``feed``."""
        form = await _form(request)
        if form.get("feed") == "on":
            await parts.registry.open_feed(caller.account_id)
        elif form.get("feed") == "off":
            await parts.registry.close_feed(caller.account_id)
        return _back_to(_back_of(form))


@dataclass(frozen=True)
class _Outcome:
    """What became of an action: the clips that it changed, and how many it could not change."""

    action: ClipAction
    clips: list[ClipRecord]
    failed: int = 0


class _ClipForms:
    """Does what a form asks, and answers it."""

    def __init__(self, parts: GatewayParts, renderer: Renderer) -> None:
        self._parts = parts
        self._renderer = renderer

    async def act(self, request: Request, caller: Caller, clip_id: UUID, action: ClipAction) -> Response:
        """Do something to one clip.

        Raises:
            Refused: the clip is not the caller's, or it cannot be done from its status.
        """
        form = await _form(request)
        try:
            # The registry asks the same again, and in one step with the change: this is the second lock.
            owned(await self._parts.registry.get(clip_id), caller.account_id)
            asked = _request_of(action, caller, form)
            clip = owned(await self._parts.registry.act(action, clip_id, asked), caller.account_id)
        except Refused as refused:
            if not _takes_parts(request):
                raise
            return self._refuse(request, refused)
        self._parts.metrics.acted(action)
        log.info("clip changed", clip_id=str(clip_id), action=action, status=clip.status)
        return await self._answer(request, caller, _back_of(form), _Outcome(action, [clip]))

    async def act_on_many(self, request: Request, caller: Caller) -> Response:
        """Do the same to the clips that a form names; to none where it names none."""
        form = await _form(request)
        back = _back_of(form)
        action, ids = _action_of(form), _ids_of(form)
        if action is None or not ids:
            return Response(status_code=HTTPStatus.NO_CONTENT) if _takes_parts(request) else _back_to(back)
        results = (
            await self._parts.registry.act_on_many(
                BatchRequest(account_id=caller.account_id, action=action, clip_ids=ids)
            )
        ).results
        shown = (owned_or_none(each.clip, caller.account_id) for each in results if each.outcome in _CHANGED)
        changed = [clip for clip in shown if clip is not None]
        self._parts.metrics.acted(action, sum(each.outcome is BatchOutcome.DONE for each in results))
        log.info("clips changed", action=action, asked=len(ids), changed=len(changed))
        return await self._answer(request, caller, back, _Outcome(action, changed, len(ids) - len(changed)))

    async def _answer(self, request: Request, caller: Caller, back: str, outcome: _Outcome) -> Response:
        if not _takes_parts(request):
            return _back_to(_confirmed(back, outcome))
        return self._renderer.page(
            request,
            "acted.html",
            cards=[card_of(clip, self._parts) for clip in outcome.clips],
            usage=await self._usage_of(caller),
            report=notice_of(outcome.action, outcome.clips, outcome.failed),
            back=back,
        )

    async def _usage_of(self, caller: Caller) -> UsageBar | None:
        """The account's usage, or None: what was done is done, though the registry is gone since."""
        try:
            return UsageBar.of(await self._parts.registry.usage_of(caller.account_id))
        except TransientError:
            return None

    def _refuse(self, request: Request, refused: Refused) -> Response:
        self._parts.metrics.refused(refused.reason)
        return self._renderer.page(
            request,
            "refused.html",
            status=_REFUSED.get(refused.reason, HTTPStatus.NOT_FOUND),
            refused=refused,
        )


_REFUSED = {Refusal.NOT_OWNER: HTTPStatus.FORBIDDEN, Refusal.NOT_ALLOWED: HTTPStatus.CONFLICT}


async def _form(request: Request) -> FormData:
    return await request.form(max_files=0, max_fields=MAX_FIELDS)


def _back_of(form: FormData) -> str:
    return own_path(str(form.get("back", FIRST_PAGE)))


def _takes_parts(request: Request) -> bool:
    return request.headers.get("hx-request-type") == "partial"


def _request_of(action: ClipAction, caller: Caller, form: FormData) -> Actor:
    """What a form asks of the registry.

    Raises:
        HTTPException: a field says nothing that could be done.
    """
    try:
        if action is ClipAction.RENAME:
            # Without what a title must not have; so that what is left must be a title.
            title = _TITLE.validate_python(str(form.get("title", "")))
            return RenameRequest(account_id=caller.account_id, title=title)
        if action is ClipAction.PUBLISH:
            return PublishRequest(account_id=caller.account_id, **_options_of(form))
    except ValueError as error:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY) from error
    return Actor(account_id=caller.account_id)


def _options_of(form: FormData) -> dict[str, Any]:
    """How to publish: a form with the field ``options`` says everything, another one nothing."""
    if "options" not in form:
        return {}
    until = str(form.get("until", ""))
    return {
        "until": _moment(until) if until else None,
        "embed": "embed" in form,
        "downloadable": "downloadable" in form,
        "indexable": "indexable" in form,
    }


def _moment(text: str) -> datetime:
    """A moment of a form, in UTC where it does not say.

    Raises:
        ValueError: it is none.
    """
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _action_of(form: FormData) -> ClipAction | None:
    try:
        action = ClipAction(str(form.get("action", "")))
    except ValueError:
        return None
    return action if action in _BATCH_ACTIONS else None


def _ids_of(form: FormData) -> tuple[UUID, ...]:
    """The clips that a form names, each once; what is no id is left out."""
    ids = []
    for text in form.getlist("ids"):
        try:
            ids.append(UUID(str(text)))
        except ValueError:
            continue
    return tuple(dict.fromkeys(ids))[:MAX_BATCH]


def _confirmed(back: str, outcome: _Outcome) -> str:
    """The address of the page to come back to, which says what was done, at the clip where it still is."""
    ids = tuple(clip.clip_id for clip in outcome.clips)
    undoable = ids if outcome.action is ClipAction.DELETE else ()
    address = CompletedAction(outcome.action, len(ids), outcome.failed, undoable).added_to(back)
    is_one_that_stays = len(ids) == 1 and outcome.action is not ClipAction.DELETE
    return f"{address}#clip-{ids[0]}" if is_one_that_stays else address


def _back_to(address: str) -> Response:
    return RedirectResponse(address, HTTPStatus.SEE_OTHER, headers=NO_STORE)
