"""Errors as pages: what happened, in words, and what can be done."""

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from clip_gateway.addresses import FIRST_PAGE, PublicAddresses, own_path
from clip_gateway.domain import Refusal, Refused
from clip_gateway.html import error_handlers
from clip_gateway.html.error_handlers import RETRY_AFTER_SECONDS, retry_after
from clip_gateway.html.rendering import NO_STORE, Renderer
from clip_gateway.parts import GatewayParts

log = structlog.get_logger()

_SIGN_IN = {Refusal.NOT_SIGNED_IN, Refusal.INVALID_TOKEN, Refusal.EXPIRED_TOKEN}


def install(app: FastAPI, parts: GatewayParts, renderer: Renderer) -> None:
    """Answer every error with a page; a guest is sent to sign in."""
    error_handlers.install(app, _ErrorPages(parts, renderer), invalid=HTTPStatus.UNPROCESSABLE_ENTITY)


class _ErrorPages:
    def __init__(self, parts: GatewayParts, renderer: Renderer) -> None:
        self._metrics = parts.metrics
        self._addresses = parts.addresses
        self._renderer = renderer

    def refused(self, request: Request, refused: Refused) -> Response:
        """Send a guest who opened a page to sign in; tell everybody else why not."""
        self._metrics.refused(refused.reason)
        if refused.reason is Refusal.MISPLACED:
            log.error("a clip's object is not among its account's clips", path=request.url.path)
        if refused.reason in _SIGN_IN and request.method == "GET":
            target = self._addresses.login_address(_page_of(request, self._addresses))
            if target:
                return RedirectResponse(target, HTTPStatus.SEE_OTHER, headers=NO_STORE)
        status = _STATUS[refused.reason]
        return self.error(request, status, reason=refused.reason, headers=retry_after(refused))

    def error(
        self,
        request: Request,
        status: HTTPStatus,
        *,
        reason: Refusal | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        page = _page_of(request, self._addresses)
        login = self._addresses.login_address(page)
        shown = {"code": status.value, "reason": reason, "page": page, "login": login}
        response = self._renderer.page(request, "error.html", status=status, **shown)
        response.headers.update(headers or {})
        return response

    def outage(self, request: Request) -> Response:
        status = HTTPStatus.SERVICE_UNAVAILABLE
        is_change = request.method != "GET"
        page = _page_of(request, self._addresses)
        response = self._renderer.page(
            request, "outage.html", status=status, page=page, is_change=is_change, seconds=RETRY_AFTER_SECONDS
        )
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response


def _page_of(request: Request, addresses: PublicAddresses) -> str:
    """The page that a person can open again: the one asked for, or the one that a form was sent from."""
    if request.method == "GET":
        return own_path(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
    sender = urlsplit(request.headers.get("referer", ""))
    if f"{sender.scheme}://{sender.netloc}".lower() != addresses.origin:
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
