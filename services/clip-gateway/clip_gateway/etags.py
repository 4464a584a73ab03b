"""Entity tags (RFC 9110 §8.8.3): the name of a version of a response body."""

import hashlib


def strong_etag(body: bytes) -> str:
    """Return the strong tag of a body that is sent byte for byte."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def weak_etag(body: bytes) -> str:
    """Return the weak tag of a body that may also be sent compressed."""
    return f"W/{strong_etag(body)}"


def is_among(etag: str, if_none_match: str) -> bool:
    """Return whether an If-None-Match header names the tag, by weak comparison (RFC 9110 §13.1.2)."""
    named = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return "*" in named or etag.removeprefix("W/") in named
