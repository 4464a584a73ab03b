"""Errors of the HTTP APIs as ``application/problem+json`` (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from clip_shared.contracts.problems import PROBLEM_MEDIA_TYPE
from clip_shared.errors import ClipsError, PermanentError, TransientError

RETRY_AFTER_SECONDS = 5
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


class Problem(ClipsError):
    """An error for the caller, who reads ``title`` and ``detail``."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        title: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title or status.phrase
        self.detail = detail
        self.headers = dict(headers or {})


class ProblemResponse(JSONResponse):
    """A problem on the wire."""

    media_type = PROBLEM_MEDIA_TYPE


def respond(problem: Problem, **extra: object) -> ProblemResponse:
    """Return the response for a problem; ``extra`` adds members to its body."""
    body = {
        "type": "about:blank",
        "status": problem.status.value,
        "title": problem.title,
        "detail": problem.detail,
    }
    return ProblemResponse(
        {**body, **extra},
        status_code=problem.status,
        headers={"Cache-Control": "no-store", **problem.headers},
    )


def install_problem_handlers(app: FastAPI) -> None:
    """Make every error of an app a problem: its own, the framework's, refused data (422), outages (503)."""

    @app.exception_handler(Problem)
    async def on_problem(_request: Request, problem: Problem) -> ProblemResponse:
        return respond(problem)

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> ProblemResponse:
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(allowed_methods(request))
        return respond(Problem(HTTPStatus(error.status_code), str(error.detail), headers=headers))

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_request: Request, error: RequestValidationError) -> ProblemResponse:
        problems = [{"at": ".".join(map(str, e["loc"])), "problem": e["msg"]} for e in error.errors()]
        return respond(
            Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "The request is not valid."),
            problems=jsonable_encoder(problems),
        )

    @app.exception_handler(Exception)
    async def on_surprise(_request: Request, _error: Exception) -> ProblemResponse:
        return respond(Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here; it was logged."))

    @app.exception_handler(PermanentError)
    async def on_refusal(_request: Request, _error: PermanentError) -> ProblemResponse:
        return respond(
            Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "The request cannot be carried out as it is.")
        )

    @app.exception_handler(TransientError)
    async def on_outage(_request: Request, _error: TransientError) -> ProblemResponse:
        detail = "Something that this service depends on is down. Try again shortly."
        retry = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return respond(Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=retry))


def allowed_methods(request: Request) -> list[str]:
    """Return the methods that a request's path allows. Starlette names the methods of only one route."""
    routes = request.app.router.routes

    def is_answered(method: str) -> bool:
        # HEAD is answered wherever GET is, by AnswerHead.
        scope = {**request.scope, "method": "GET" if method == "HEAD" else method}
        return any(route.matches(scope)[0] is Match.FULL for route in routes)

    return [method for method in _METHODS if is_answered(method)]
