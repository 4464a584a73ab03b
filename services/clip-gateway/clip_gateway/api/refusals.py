"""Refusals as problems of the JSON API: status, and a sentence for the caller."""

from collections.abc import Mapping
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request

from clip_gateway.domain import Refusal, Refused
from clip_gateway.metrics import GatewayMetrics
from clip_shared.http.problems import Problem, ProblemResponse, respond

log = structlog.get_logger()

_CHALLENGE = 'Bearer realm="clips"'
_GONE = (HTTPStatus.NOT_FOUND, "It does not exist, or no longer exists.")
_ANSWERS: Mapping[Refusal, tuple[HTTPStatus, str]] = {
    Refusal.NOT_SIGNED_IN: (HTTPStatus.UNAUTHORIZED, "Sign in: send a bearer token or the session cookie."),
    Refusal.INVALID_TOKEN: (HTTPStatus.UNAUTHORIZED, "The sign-in token is not valid here."),
    Refusal.EXPIRED_TOKEN: (HTTPStatus.UNAUTHORIZED, "The sign-in token has expired. Sign in again."),
    Refusal.CROSS_ORIGIN: (
        HTTPStatus.FORBIDDEN,
        "With the session cookie only pages of this site may make changes. Use a bearer token.",
    ),
    Refusal.NOT_OWNER: (HTTPStatus.FORBIDDEN, "The clip belongs to another account."),
    Refusal.UNKNOWN: _GONE,
    Refusal.PURGED: _GONE,
    Refusal.EXPIRED: _GONE,
    Refusal.DELETED: _GONE,
    Refusal.UNPUBLISHED: _GONE,
    Refusal.MISPLACED: _GONE,
    Refusal.NO_POSTER: (HTTPStatus.NOT_FOUND, "The clip has no poster."),
    Refusal.NOT_ALLOWED: (HTTPStatus.CONFLICT, "The clip's status does not allow this."),
    Refusal.TOO_MANY: (
        HTTPStatus.TOO_MANY_REQUESTS,
        "Too many requests in a minute. Wait as long as Retry-After says.",
    ),
    Refusal.TOO_LATE: (HTTPStatus.UNPROCESSABLE_ENTITY, "`until` is in the past."),
    Refusal.BAD_CURSOR: (HTTPStatus.UNPROCESSABLE_ENTITY, "`cursor` is not a `next_cursor` of this list."),
}
_CHALLENGES: Mapping[Refusal, str] = {
    Refusal.NOT_SIGNED_IN: _CHALLENGE,
    Refusal.INVALID_TOKEN: f'{_CHALLENGE}, error="invalid_token"',
    Refusal.EXPIRED_TOKEN: f'{_CHALLENGE}, error="invalid_token", error_description="expired"',
}


def install(app: FastAPI, metrics: GatewayMetrics) -> None:
    """Answer every refusal with a problem, and count it in the metrics."""

    @app.exception_handler(Refused)
    async def on_refused(request: Request, refused: Refused) -> ProblemResponse:
        metrics.refused(refused.reason)
        if refused.reason is Refusal.MISPLACED:
            log.error("a clip's object is not under its account's prefix", path=request.url.path)
        status, detail = _ANSWERS[refused.reason]
        return respond(Problem(status, refused.detail or detail, headers=_headers_of(refused)))


def _headers_of(refused: Refused) -> dict[str, str]:
    headers = {}
    if challenge := _CHALLENGES.get(refused.reason):
        headers["WWW-Authenticate"] = challenge
    if refused.retry_after_seconds is not None:
        headers["Retry-After"] = str(refused.retry_after_seconds)
    return headers
