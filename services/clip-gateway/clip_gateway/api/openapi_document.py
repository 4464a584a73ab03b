"""The OpenAPI document of the JSON API. It is checked in, and shown at ``/docs`` in development."""

from typing import Any

from fastapi import FastAPI

from clip_gateway.api.examples import EXAMPLES
from clip_shared.http.openapi import document

TITLE = "Clips"
ABOUT = """\
A streamer's clips: watch, download, keep, publish, rename and delete them.

Sign in with a JWT as a bearer token, or with the session cookie. A request that changes something with the
cookie must come from a page of this site. Links are relative to this host.

Every `GET` route answers `HEAD` too. Errors are problems (RFC 9457).
"""
TAGS = [
    {"name": "clips", "description": "The caller's clips, and the actions on them."},
    {"name": "usage", "description": "Number and size of the caller's clips."},
    {"name": "vods", "description": "What happened to the highlights of the caller's VODs."},
    {"name": "feed", "description": "A public feed of the caller's published clips, off by default."},
]
_ETAG = {
    "ETag": {
        "description": "Changes whenever the answer changes; send it as If-None-Match.",
        "schema": {"type": "string"},
    }
}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of the answer that the caller has.",
    "schema": {"type": "string"},
}
_NOT_MODIFIED = {
    "description": "The answer has not changed since the ETag that the caller sent.",
    "headers": _ETAG,
}


def describe(app: FastAPI, cookie_name: str) -> dict[str, Any]:
    """Return the OpenAPI document of the API's application."""
    found = document(app)
    found["info"] = {"title": TITLE, "version": "1", "description": ABOUT}
    found["tags"] = TAGS
    found["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": cookie_name},
    }
    found["security"] = [{"bearer": []}, {"cookie": []}]
    for name, examples in EXAMPLES.items():
        found["components"]["schemas"][name]["examples"] = examples
    for path in found["paths"].values():
        if "get" in path and "200" in path["get"]["responses"]:
            _add_revalidation(path["get"])
    return found


def _add_revalidation(operation: dict[str, Any]) -> None:
    operation.setdefault("parameters", []).append(_IF_NONE_MATCH)
    operation["responses"]["200"]["headers"] = _ETAG
    operation["responses"]["304"] = _NOT_MODIFIED
