"""Routes whose answers belong to one caller: shared caches must not store them. GET answers have an ETag."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from clip_gateway.etags import is_among, strong_etag

# A browser may store the answer, and must ask before every use whether it has changed.
REVALIDATED = {"Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie"}
# No cache may store presigned URLs or the answers to changes.
NOT_KEPT = "no-store"


def private_router(tag: str) -> APIRouter:
    """Create a router of private routes, which the OpenAPI document groups under ``tag``."""
    return APIRouter(
        tags=[tag],
        route_class=PrivateRoute,
        generate_unique_id_function=lambda route: route.name,
    )


class PrivateRoute(APIRoute):
    """A route whose GET answers carry an ETag, and are 304 if the request names that ETag."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's handler, with caching headers added to its responses."""
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
