"""Answers that are one caller's alone, and are sent again only when they have changed."""

import hashlib
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

# A browser may keep the answer, and must ask before each use whether it still holds.
REVALIDATED = {"Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie"}
# Presigned URLs, and what a change answered, must rest in no cache.
NOT_KEPT = "no-store"


def private_router(prefix: str, tag: str) -> APIRouter:
    """A router of private routes. Metrics name a route by what its own router knows: the whole prefix."""
    return APIRouter(
        prefix=prefix,
        tags=[tag],
        route_class=PrivateRoute,
        generate_unique_id_function=lambda route: route.name,
    )


class PrivateRoute(APIRoute):
    """A route whose JSON carries an ETag when it is read, and which answers 304 to whoever has it already."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, and what follows it."""
        handle = super().get_route_handler()

        async def handle_privately(request: Request) -> Response:
            response = await handle(request)
            if request.method == "GET" and response.status_code == HTTPStatus.OK:
                return _revalidated(response, request.headers.get("if-none-match"))
            response.headers.setdefault("Cache-Control", NOT_KEPT)
            return response

        return handle_privately


def _revalidated(response: Response, if_none_match: str | None) -> Response:
    etag = f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
    headers = {**REVALIDATED, "ETag": etag}
    if if_none_match is not None and is_among(etag, if_none_match):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    response.headers.update(headers)
    return response


def is_among(etag: str, if_none_match: str) -> bool:
    """Whether an If-None-Match header names a tag (RFC 9110 §13.1.2: whether weak or not)."""
    named = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return "*" in named or etag in named
