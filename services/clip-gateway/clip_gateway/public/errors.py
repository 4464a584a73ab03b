"""Public errors, in neutral words: a visitor learns whether a link was good once, and no more."""

from collections.abc import Mapping
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request, Response

from clip_gateway.domain import Refusal, Refused
from clip_gateway.html import error_handlers
from clip_gateway.html.error_handlers import RETRY_AFTER_SECONDS, retry_after
from clip_gateway.html.rendering import Renderer
from clip_gateway.parts import GatewayParts
from clip_gateway.public.responses import NOINDEX, framing

log = structlog.get_logger()

_STATUS = {Refusal.UNPUBLISHED: HTTPStatus.GONE, Refusal.TOO_MANY: HTTPStatus.TOO_MANY_REQUESTS}


def install(app: FastAPI, parts: GatewayParts, renderer: Renderer) -> None:
    """Answer every error with a page that needs no sign-in; in a frame, with one that may be framed."""
    error_handlers.install(app, _ErrorPages(parts, renderer), invalid=HTTPStatus.BAD_REQUEST)


class _ErrorPages:
    def __init__(self, parts: GatewayParts, renderer: Renderer) -> None:
        self._metrics = parts.metrics
        self._renderer = renderer
        self._framing = framing(parts.addresses)

    def refused(self, request: Request, refused: Refused) -> Response:
        self._metrics.refused(refused.reason)
        if refused.reason is Refusal.MISPLACED:
            log.error("a published clip's object is not among its account's clips", path=request.url.path)
        status = _STATUS.get(refused.reason, HTTPStatus.NOT_FOUND)
        return self.error(request, status, headers=retry_after(refused))

    def outage(self, request: Request) -> Response:
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return self.error(request, HTTPStatus.SERVICE_UNAVAILABLE, headers=headers)

    def error(
        self, request: Request, status: HTTPStatus, *, headers: Mapping[str, str] | None = None
    ) -> Response:
        is_frame = request.url.path.startswith("/e/")
        template = "embed-error.html" if is_frame else "public-error.html"
        response = self._renderer.page(request, template, status=status, code=status.value)
        framed = self._framing if is_frame else {}
        response.headers.update({**NOINDEX, **framed, "Vary": "Accept-Language", **(headers or {})})
        return response
