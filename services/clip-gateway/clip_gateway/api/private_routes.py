"""Answers that are one caller's alone, and are sent again only when they have changed."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from clip_gateway.etags import is_among, strong_etag

# A browser may keep the answer, and must ask before each use whether it still holds.
REVALIDATED = {"Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie"}
# Presigned URLs, and what a change answered, must rest in no cache.
NOT_KEPT = "no-store"


def private_router(tag: str) -> APIRouter:
    """Create a router of private routes, which the OpenAPI document groups under ``tag``."""
    return APIRouter(
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
    etag = strong_etag(bytes(response.body))
    headers = {**REVALIDATED, "ETag": etag}
    if if_none_match is not None and is_among(etag, if_none_match):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    response.headers.update(headers)
    return response
