"""Errors as HTML pages: what happened, in the reader's words, and what to do next.

Streamers and visitors get different pages from the same handlers: a visitor's page tells nothing about the
clip but whether its link was good once.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Protocol
from urllib.parse import urlsplit

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException

from clip_gateway.addresses import FIRST_PAGE, PublicAddresses, own_path
from clip_gateway.domain import Refusal, Refused
from clip_gateway.html.rendering import NO_STORE, NOINDEX, Renderer
from clip_gateway.parts import GatewayParts
from clip_gateway.security_headers import framing_headers
from clip_shared.errors import TransientError
from clip_shared.http.problems import RETRY_AFTER_SECONDS, allowed_methods

log = structlog.get_logger()


class ErrorPages(Protocol):
    """The pages of one application."""

    def refused(self, request: Request, refused: Refused) -> Response:
        """Return the page for a request that a rule refuses."""

    def error(
        self, request: Request, status: HTTPStatus, *, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Return the page for any other error."""

    def outage(self, request: Request) -> Response:
        """Return the page for an outage of the registry or the sign-in service: 503 with Retry-After."""


def install(app: FastAPI, pages: ErrorPages, *, invalid: HTTPStatus) -> None:
    """Answer every error with a page; a request that does not validate gets the status ``invalid``."""

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
        return pages.error(request, invalid)

    @app.exception_handler(TransientError)
    async def on_outage(request: Request, _error: TransientError) -> Response:
        return pages.outage(request)

    @app.exception_handler(Exception)
    async def on_defect(request: Request, _error: Exception) -> Response:
        return pages.error(request, HTTPStatus.INTERNAL_SERVER_ERROR)


def _retry_after(refused: Refused) -> dict[str, str]:
    wait = refused.retry_after_seconds
    return {} if wait is None else {"Retry-After": str(wait)}


_SIGN_IN = {Refusal.NOT_SIGNED_IN, Refusal.INVALID_TOKEN, Refusal.EXPIRED_TOKEN}
_FOR_STREAMERS = {
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


class StreamerErrorPages:
    """Error pages of the application that needs a sign-in. A guest who opens a page is sent to sign in."""

    def __init__(self, parts: GatewayParts, renderer: Renderer) -> None:
        self._metrics = parts.metrics
        self._addresses = parts.addresses
        self._renderer = renderer

    def refused(self, request: Request, refused: Refused) -> Response:
        """Redirect a guest who opened a page to the sign-in; give anyone else a page with the reason."""
        self._metrics.refused(refused.reason)
        if refused.reason is Refusal.MISPLACED:
            log.error("a clip's object is not under its account's prefix", path=request.url.path)
        if refused.reason in _SIGN_IN and request.method == "GET":
            target = self._addresses.login_address(_page_of(request, self._addresses))
            if target:
                return RedirectResponse(target, HTTPStatus.SEE_OTHER, headers=NO_STORE)
        status = _FOR_STREAMERS[refused.reason]
        return self.error(request, status, reason=refused.reason, headers=_retry_after(refused))

    def error(
        self,
        request: Request,
        status: HTTPStatus,
        *,
        reason: Refusal | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Return a page with the status, and the way back to the page that the request came from."""
        page = _page_of(request, self._addresses)
        login = self._addresses.login_address(page)
        shown = {"code": status.value, "reason": reason, "page": page, "login": login}
        response = self._renderer.page(request, "error.html", status=status, **shown)
        response.headers.update(headers or {})
        return response

    def outage(self, request: Request) -> Response:
        """Return a page that loads again by itself, unless the request was a change."""
        status = HTTPStatus.SERVICE_UNAVAILABLE
        is_change = request.method != "GET"
        page = _page_of(request, self._addresses)
        response = self._renderer.page(
            request, "outage.html", status=status, page=page, is_change=is_change, seconds=RETRY_AFTER_SECONDS
        )
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response


def _page_of(request: Request, addresses: PublicAddresses) -> str:
    """Return the page that a person can open again: the requested one, or the one a form was sent from."""
    if request.method == "GET":
        return own_path(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
    sender = urlsplit(request.headers.get("referer", ""))
    if f"{sender.scheme}://{sender.netloc}".lower() != addresses.origin:
        return FIRST_PAGE
    return own_path(sender.path + (f"?{sender.query}" if sender.query else ""))


_FOR_VISITORS = {Refusal.UNPUBLISHED: HTTPStatus.GONE, Refusal.TOO_MANY: HTTPStatus.TOO_MANY_REQUESTS}


class VisitorErrorPages:
    """Error pages of the application without sign-in. Inside another site's frame the page may be framed."""

    def __init__(self, parts: GatewayParts, renderer: Renderer) -> None:
        self._metrics = parts.metrics
        self._renderer = renderer
        self._framing = framing_headers(parts.addresses)

    def refused(self, request: Request, refused: Refused) -> Response:
        """Return 410 if the link was good once, 429 for too many requests, 404 for any other reason."""
        self._metrics.refused(refused.reason)
        if refused.reason is Refusal.MISPLACED:
            log.error("a published clip's object is not under its account's prefix", path=request.url.path)
        status = _FOR_VISITORS.get(refused.reason, HTTPStatus.NOT_FOUND)
        return self.error(request, status, headers=_retry_after(refused))

    def error(
        self, request: Request, status: HTTPStatus, *, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Return a page with the status; for the embedded player, one that fits its frame."""
        is_frame = request.url.path.startswith("/e/")
        template = "embed-error.html" if is_frame else "public-error.html"
        response = self._renderer.page(request, template, status=status, code=status.value)
        framed = self._framing if is_frame else {}
        response.headers.update({**NOINDEX, **framed, "Vary": "Accept-Language", **(headers or {})})
        return response

    def outage(self, request: Request) -> Response:
        """Return 503, with the seconds after which to ask again."""
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return self.error(request, HTTPStatus.SERVICE_UNAVAILABLE, headers=headers)
