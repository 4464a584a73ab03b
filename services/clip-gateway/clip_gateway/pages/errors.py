"""Errors as pages: what happened, in words, and what can be done."""

from http import HTTPStatus
from urllib.parse import urlsplit

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from clip_gateway.domain import Refusal, Refused
from clip_gateway.html.rendering import NO_STORE, Renderer
from clip_gateway.parts import Parts
from clip_gateway.site import FIRST_PAGE, Site, own_path
from clip_shared.errors import TransientError
from clip_shared.problems import allowed_methods

log = structlog.get_logger()

RETRY_AFTER_SECONDS = 5
_SIGN_IN = {Refusal.NOT_SIGNED_IN, Refusal.INVALID_TOKEN, Refusal.EXPIRED_TOKEN}


def install(app: FastAPI, parts: Parts, renderer: Renderer) -> None:
    """Answer every error with a page; a guest is sent to sign in."""
    pages = _ErrorPages(parts, renderer)

    @app.exception_handler(Refused)
    async def on_refused(request: Request, refused: Refused) -> Response:
        return pages.refused(request, refused)

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(allowed_methods(request))
        return pages.error(request, HTTPStatus(error.status_code), headers=headers)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, _error: RequestValidationError) -> Response:
        return pages.error(request, HTTPStatus.UNPROCESSABLE_ENTITY)

    @app.exception_handler(TransientError)
    async def on_outage(request: Request, _error: TransientError) -> Response:
        return pages.outage(request)

    @app.exception_handler(Exception)
    async def on_defect(request: Request, _error: Exception) -> Response:
        return pages.error(request, HTTPStatus.INTERNAL_SERVER_ERROR)


class _ErrorPages:
    def __init__(self, parts: Parts, renderer: Renderer) -> None:
        self._metrics = parts.metrics
        self._site = parts.site
        self._renderer = renderer

    def refused(self, request: Request, refused: Refused) -> Response:
        """Send a guest who opened a page to sign in; tell everybody else why not."""
        self._metrics.refused(refused.reason)
        if refused.reason is Refusal.MISPLACED:
            log.error("a clip's object is not among its account's clips", path=request.url.path)
        if refused.reason in _SIGN_IN and request.method == "GET":
            target = self._site.login_address(_page_of(request, self._site))
            if target:
                return RedirectResponse(target, HTTPStatus.SEE_OTHER, headers=NO_STORE)
        wait = refused.retry_after_seconds
        headers = {} if wait is None else {"Retry-After": str(wait)}
        return self.error(request, _STATUS[refused.reason], reason=refused.reason, headers=headers)

    def error(
        self,
        request: Request,
        status: HTTPStatus,
        *,
        reason: Refusal | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        page = _page_of(request, self._site)
        login = self._site.login_address(page)
        shown = {"code": status.value, "reason": reason, "page": page, "login": login}
        response = self._renderer.page(request, "error.html", status=status, **shown)
        response.headers.update(headers or {})
        return response

    def outage(self, request: Request) -> Response:
        status = HTTPStatus.SERVICE_UNAVAILABLE
        is_change = request.method != "GET"
        page = _page_of(request, self._site)
        response = self._renderer.page(
            request, "outage.html", status=status, page=page, is_change=is_change, seconds=RETRY_AFTER_SECONDS
        )
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response


def _page_of(request: Request, site: Site) -> str:
    """The page that a person can open again: the one asked for, or the one that a form was sent from."""
    if request.method == "GET":
        return own_path(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
    sender = urlsplit(request.headers.get("referer", ""))
    if f"{sender.scheme}://{sender.netloc}".lower() != site.origin:
        return FIRST_PAGE
    return own_path(sender.path + (f"?{sender.query}" if sender.query else ""))


_STATUS = {
    Refusal.NOT_SIGNED_IN: HTTPStatus.UNAUTHORIZED,
    Refusal.INVALID_TOKEN: HTTPStatus.UNAUTHORIZED,
    Refusal.EXPIRED_TOKEN: HTTPStatus.UNAUTHORIZED,
    Refusal.CROSS_ORIGIN: HTTPStatus.FORBIDDEN,
    Refusal.NOT_OWNER: HTTPStatus.FORBIDDEN,
    Refusal.UNKNOWN: HTTPStatus.NOT_FOUND,
    Refusal.PURGED: HTTPStatus.NOT_FOUND,
    Refusal.EXPIRED: HTTPStatus.NOT_FOUND,
    Refusal.DELETED: HTTPStatus.NOT_FOUND,
    Refusal.UNPUBLISHED: HTTPStatus.GONE,
    Refusal.NO_POSTER: HTTPStatus.NOT_FOUND,
    Refusal.MISPLACED: HTTPStatus.NOT_FOUND,
    Refusal.NOT_ALLOWED: HTTPStatus.CONFLICT,
    Refusal.TOO_MANY: HTTPStatus.TOO_MANY_REQUESTS,
    Refusal.TOO_LATE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Refusal.BAD_CURSOR: HTTPStatus.UNPROCESSABLE_ENTITY,
}
