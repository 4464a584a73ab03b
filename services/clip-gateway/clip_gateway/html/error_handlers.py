"""Which error is answered with which page: the same way for the pages of streamers and for public ones."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Protocol

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from clip_gateway.domain import Refused
from clip_shared.errors import TransientError
from clip_shared.http.problems import allowed_methods

RETRY_AFTER_SECONDS = 5


class ErrorPages(Protocol):
    """The pages that errors are answered with."""

    def refused(self, request: Request, refused: Refused) -> Response:
        """Return the page for a request that a rule refuses."""

    def error(
        self, request: Request, status: HTTPStatus, *, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Return the page for any other error."""

    def outage(self, request: Request) -> Response:
        """Return the page for an outage of something that the gateway needs: 503 with Retry-After."""


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


def retry_after(refused: Refused) -> dict[str, str]:
    """Return the header that says when to ask again, if the refusal knows."""
    wait = refused.retry_after_seconds
    return {} if wait is None else {"Retry-After": str(wait)}
