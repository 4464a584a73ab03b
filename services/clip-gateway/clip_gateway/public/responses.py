"""Responses of the public routes: how browsers and proxies may cache them, and search engines list them."""

from http import HTTPStatus

from fastapi import Request, Response

from clip_gateway.etags import is_among, weak_etag
from clip_gateway.html.rendering import NOINDEX

# A cache must ask before each use, because a clip can be unpublished at any time; mostly the answer is 304.
_REVALIDATED = {"Cache-Control": "public, no-cache", "Vary": "Accept-Language"}


def revalidated(request: Request, body: str, media_type: str, headers: dict[str, str]) -> Response:
    """Return the body with an ETag, or 304 if the request names that ETag."""
    etag = weak_etag(body.encode())
    headers = {**_REVALIDATED, "ETag": etag, **headers}
    if is_among(etag, request.headers.get("if-none-match", "")):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def indexing_headers(*, is_indexable: bool) -> dict[str, str]:
    """Return the header that keeps search engines away, unless the owner allows them."""
    return {} if is_indexable else NOINDEX
