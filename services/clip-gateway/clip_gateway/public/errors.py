"""Public errors, in neutral words: a visitor learns whether a link was good once, and no more."""

from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from clip_gateway.domain import Refusal, Refused
from clip_gateway.html.rendering import Renderer
from clip_gateway.parts import Parts
from clip_gateway.public.answers import NOINDEX, framing
from clip_shared.errors import TransientError
from clip_shared.problems import allowed_methods

log = structlog.get_logger()

RETRY_AFTER_SECONDS = 5
_STATUS = {Refusal.UNPUBLISHED: HTTPStatus.GONE, Refusal.TOO_MANY: HTTPStatus.TOO_MANY_REQUESTS}


def install(app: FastAPI, parts: Parts, renderer: Renderer) -> None:
    """Answer every error with a page that needs no sign-in; in a frame, with one that may be framed."""
    pages = _ErrorPages(parts, renderer)

    @app.exception_handler(Refused)
    async def on_refused(request: Request, refused: Refused) -> Response:
        return pages.refused(request, refused)

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(allowed_methods(request))
        return pages.page(request, HTTPStatus(error.status_code), headers)

    @app.exception_handler(RequestValidationError)
    async def on_nonsense(request: Request, _error: RequestValidationError) -> Response:
        return pages.page(request, HTTPStatus.BAD_REQUEST)

    @app.exception_handler(TransientError)
    async def on_outage(request: Request, _error: TransientError) -> Response:
        return pages.page(request, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": str(RETRY_AFTER_SECONDS)})

    @app.exception_handler(Exception)
    async def on_defect(request: Request, _error: Exception) -> Response:
        return pages.page(request, HTTPStatus.INTERNAL_SERVER_ERROR)


class _ErrorPages:
    def __init__(self, parts: Parts, renderer: Renderer) -> None:
        self._metrics = parts.metrics
        self._renderer = renderer
        self._framing = framing(parts.site)

    def refused(self, request: Request, refused: Refused) -> Response:
        self._metrics.refused(refused.reason)
        if refused.reason is Refusal.MISPLACED:
            log.error("a published clip's object is not among its account's clips", path=request.url.path)
        wait = refused.retry_after_seconds
        headers = {} if wait is None else {"Retry-After": str(wait)}
        return self.page(request, _STATUS.get(refused.reason, HTTPStatus.NOT_FOUND), headers)

    def page(self, request: Request, status: HTTPStatus, headers: dict[str, str] | None = None) -> Response:
        is_frame = request.url.path.startswith("/e/")
        template = "embed-error.html" if is_frame else "public-error.html"
        response = self._renderer.page(request, template, status=status, code=status.value)
        framed = self._framing if is_frame else {}
        response.headers.update({**NOINDEX, **framed, "Vary": "Accept-Language", **(headers or {})})
        return response
