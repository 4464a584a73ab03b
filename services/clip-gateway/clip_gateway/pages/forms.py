"""Routes that the forms of the pages are sent to: they change clips, or switch the feed.

A form names the page to return to in its field ``back``. Without scripts the answer is a redirect to that
page. The script of the gallery sends the same forms with ``HX-Request-Type: partial`` and gets the changed
parts of the page instead.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import TypeAdapter
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from clip_gateway.addresses import FIRST_PAGE, own_path
from clip_gateway.auth import Caller
from clip_gateway.changes import change_clip, change_clips
from clip_gateway.domain import Refusal, Refused, owned_or_none
from clip_gateway.html.rendering import NO_STORE, Renderer
from clip_gateway.pages.cards import card_of
from clip_gateway.pages.notices import ActionNotice, CompletedAction
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

# Most fields of a form: `back`, `action` and the ids of a batch, with some to spare.
MAX_FIELDS = MAX_BATCH + 20
_BATCH_ACTIONS = {ClipAction.KEEP, ClipAction.UNKEEP, ClipAction.DELETE, ClipAction.RESTORE}
_TITLE: TypeAdapter[str] = TypeAdapter(Title)
_CHANGED = {BatchOutcome.DONE, BatchOutcome.UNCHANGED}


def create_router(parts: GatewayParts, renderer: Renderer) -> APIRouter:
    """Create the routes of all forms but sign-in and sign-out."""
    router = APIRouter()
    forms = _ClipForms(parts, renderer)
    _add_actions(router, parts, forms)
    _add_batch(router, parts, forms)
    _add_feed(router, parts)
    return router


def _add_actions(router: APIRouter, parts: GatewayParts, forms: "_ClipForms") -> None:
    def form_of(action: ClipAction) -> Callable[..., Awaitable[Response]]:
        async def change(
            request: Request, clip_id: UUID, caller: Annotated[Caller, Depends(parts.sign_in.writer)]
        ) -> Response:
            """Form: apply the action to the clip."""
            return await forms.change(request, caller, clip_id, action)

        return change

    router.post("/clips/{clip_id:uuid}/keep")(form_of(ClipAction.KEEP))
    router.post("/clips/{clip_id:uuid}/unkeep")(form_of(ClipAction.UNKEEP))
    router.post("/clips/{clip_id:uuid}/publish")(form_of(ClipAction.PUBLISH))
    router.post("/clips/{clip_id:uuid}/unpublish")(form_of(ClipAction.UNPUBLISH))
    router.post("/clips/{clip_id:uuid}/delete")(form_of(ClipAction.DELETE))
    router.post("/clips/{clip_id:uuid}/restore")(form_of(ClipAction.RESTORE))
    router.post("/clips/{clip_id:uuid}/rename")(form_of(ClipAction.RENAME))


def _add_batch(router: APIRouter, parts: GatewayParts, forms: "_ClipForms") -> None:
    @router.post("/clips/batch")
    async def change_many(
        request: Request, caller: Annotated[Caller, Depends(parts.sign_in.writer)]
    ) -> Response:
        """Form: apply field ``action`` to the clips in the fields ``ids``."""
        return await forms.change_many(request, caller)


def _add_feed(router: APIRouter, parts: GatewayParts) -> None:
    @router.post("/feed")
    async def switch_feed(
        request: Request, caller: Annotated[Caller, Depends(parts.sign_in.writer)]
    ) -> Response:
        """Form: switch the feed of the caller's published clips; field ``feed`` is ``on`` or ``off``."""
        form = await _form(request)
        if form.get("feed") == "on":
            await parts.registry.open_feed(caller.account_id)
        elif form.get("feed") == "off":
            await parts.registry.close_feed(caller.account_id)
        return _back_to(_back_of(form))


@dataclass(frozen=True)
class _Outcome:
    """The clips that an action changed, and how many it could not change."""

    action: ClipAction
    clips: list[ClipRecord]
    failed: int = 0


class _ClipForms:
    """Changes the clips that a form names, and answers the form."""

    def __init__(self, parts: GatewayParts, renderer: Renderer) -> None:
        self._parts = parts
        self._renderer = renderer

    async def change(self, request: Request, caller: Caller, clip_id: UUID, action: ClipAction) -> Response:
        """Apply an action to one clip.

        Raises:
            Refused: the clip is not the caller's, or its status does not allow the action.
        """
        form = await _form(request)
        try:
            clip = await change_clip(self._parts, action, clip_id, _request_of(action, caller, form))
        except Refused as refused:
            if not _takes_parts(request):
                raise
            return self._refuse(request, refused)
        return await self._answer(request, caller, _back_of(form), _Outcome(action, [clip]))

    async def change_many(self, request: Request, caller: Caller) -> Response:
        """Apply one action to the clips that a form names. A form that names no clip changes nothing."""
        form = await _form(request)
        back = _back_of(form)
        action, ids = _action_of(form), _ids_of(form)
        if action is None or not ids:
            return Response(status_code=HTTPStatus.NO_CONTENT) if _takes_parts(request) else _back_to(back)
        asked = BatchRequest(account_id=caller.account_id, action=action, clip_ids=ids)
        results = await change_clips(self._parts, asked)
        shown = (owned_or_none(each.clip, caller.account_id) for each in results if each.outcome in _CHANGED)
        changed = [clip for clip in shown if clip is not None]
        return await self._answer(request, caller, back, _Outcome(action, changed, len(ids) - len(changed)))

    async def _answer(self, request: Request, caller: Caller, back: str, outcome: _Outcome) -> Response:
        if not _takes_parts(request):
            return _back_to(_confirmed(back, outcome))
        return self._renderer.page(
            request,
            "changed.html",
            cards=[card_of(clip, self._parts) for clip in outcome.clips],
            usage=await self._usage_of(caller),
            notice=ActionNotice.of(outcome.action, outcome.clips, outcome.failed),
            back=back,
        )

    async def _usage_of(self, caller: Caller) -> UsageBar | None:
        """Return the account's usage; None if the registry does not answer, because the change is made."""
        try:
            return UsageBar.of(await self._parts.registry.usage_of(caller.account_id))
        except TransientError:
            return None

    def _refuse(self, request: Request, refused: Refused) -> Response:
        self._parts.metrics.refused(refused.reason)
        return self._renderer.page(
            request,
            "refused.html",
            status=_STATUS.get(refused.reason, HTTPStatus.NOT_FOUND),
            refused=refused,
        )


_STATUS = {Refusal.NOT_OWNER: HTTPStatus.FORBIDDEN, Refusal.NOT_ALLOWED: HTTPStatus.CONFLICT}


async def _form(request: Request) -> FormData:
    return await request.form(max_files=0, max_fields=MAX_FIELDS)


def _back_of(form: FormData) -> str:
    return own_path(str(form.get("back", FIRST_PAGE)))


def _takes_parts(request: Request) -> bool:
    return request.headers.get("hx-request-type") == "partial"


def _request_of(action: ClipAction, caller: Caller, form: FormData) -> Actor:
    """Return the request to the registry that a form asks for.

    Raises:
        HTTPException: 422: the title or the end of the publication is not valid.
    """
    try:
        if action is ClipAction.RENAME:
            # Characters that a title must not have are removed; the rest must be a title.
            title = _TITLE.validate_python(str(form.get("title", "")))
            return RenameRequest(account_id=caller.account_id, title=title)
        if action is ClipAction.PUBLISH:
            return PublishRequest(account_id=caller.account_id, **_options_of(form))
    except ValueError as error:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY) from error
    return Actor(account_id=caller.account_id)


def _options_of(form: FormData) -> dict[str, Any]:
    """Return the options of a publication. Only a form with the field ``options`` sets them."""
    if "options" not in form:
        return {}
    until = str(form.get("until", ""))
    return {
        "until": _time(until) if until else None,
        "embed": "embed" in form,
        "downloadable": "downloadable" in form,
        "indexable": "indexable" in form,
    }


def _time(text: str) -> datetime:
    """Parse a time in ISO 8601; without an offset it is in UTC.

    Raises:
        ValueError: the text is not a time in ISO 8601.
    """
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _action_of(form: FormData) -> ClipAction | None:
    try:
        action = ClipAction(str(form.get("action", "")))
    except ValueError:
        return None
    return action if action in _BATCH_ACTIONS else None


def _ids_of(form: FormData) -> tuple[UUID, ...]:
    """Return the clips that a form names, without duplicates. Text that is not an id is left out."""
    ids = []
    for text in form.getlist("ids"):
        try:
            ids.append(UUID(str(text)))
        except ValueError:
            continue
    return tuple(dict.fromkeys(ids))[:MAX_BATCH]


def _confirmed(back: str, outcome: _Outcome) -> str:
    """Return the address of the page to return to, with what was done, scrolled to the clip if it is left."""
    ids = tuple(clip.clip_id for clip in outcome.clips)
    undoable = ids if outcome.action is ClipAction.DELETE else ()
    address = CompletedAction(outcome.action, len(ids), outcome.failed, undoable).added_to(back)
    stays = len(ids) == 1 and outcome.action is not ClipAction.DELETE
    return f"{address}#clip-{ids[0]}" if stays else address


def _back_to(address: str) -> Response:
    return RedirectResponse(address, HTTPStatus.SEE_OTHER, headers=NO_STORE)
