"""How public answers may be cached, framed and indexed."""

import hashlib
from http import HTTPStatus

from fastapi import Request, Response
from starlette.datastructures import Headers

from clip_gateway.addresses import PublicAddresses
from clip_gateway.security_headers import content_security_policy

# A cache asks again each time, because a clip may be unpublished at any moment: mostly it is told 304.
_ASK_AGAIN = {"Cache-Control": "public, no-cache", "Vary": "Accept-Language"}
NOINDEX = {"X-Robots-Tag": "noindex"}


def cached(request: Request, body: str, media_type: str, headers: dict[str, str]) -> Response:
    """The body, or 304 to whoever has it already."""
    # Weak: the same page may be sent compressed.
    tag = f'W/"{hashlib.sha256(body.encode()).hexdigest()[:32]}"'
    headers = {**_ASK_AGAIN, "ETag": tag, **headers}
    if _has(request.headers, tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def _has(headers: Headers, tag: str) -> bool:
    """Whether If-None-Match names the tag (RFC 9110 §13.1.2: weak comparison)."""
    known = [each.strip().removeprefix("W/") for each in headers.get("if-none-match", "").split(",")]
    return tag.removeprefix("W/") in known or known == ["*"]


def framing(addresses: PublicAddresses) -> dict[str, str]:
    """The headers of what the allowed sites may show in a frame, also those that are isolated from others."""
    ancestors = " ".join(addresses.embed_origins) or "'none'"
    return {
        "Content-Security-Policy": content_security_policy(addresses, frame_ancestors=ancestors),
        "Cross-Origin-Resource-Policy": "cross-origin",
    }


def indexing(*, is_indexable: bool) -> dict[str, str]:
    """The header that keeps search engines away, unless the owner invites them."""
    return {} if is_indexable else NOINDEX
