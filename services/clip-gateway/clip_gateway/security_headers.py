"""The headers that protect whoever opens one of our pages."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clip_gateway.addresses import PublicAddresses
from clip_gateway.html.style import STYLE_SOURCE

# The only addresses whose answers other sites show in pages of theirs: media of published clips.
_SHOWN_ELSEWHERE = "/m/"


class SecurityHeaders:
    """ASGI middleware: what every answer says, unless its route says otherwise.

    A route that says who may frame it (in a policy of its own) is not told that nobody may.
    """

    def __init__(self, app: ASGIApp, addresses: PublicAddresses) -> None:
        self._app = app
        headers = {
            "content-security-policy": content_security_policy(addresses),
            "cross-origin-opener-policy": "same-origin",
            "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
            # With no-referrer, browsers would send our own forms with "Origin: null".
            "referrer-policy": "same-origin",
            "x-content-type-options": "nosniff",
        }
        if addresses.speaks_tls:
            headers["strict-transport-security"] = "max-age=31536000"
        self._headers = _encoded(headers)
        self._nobody_frames = _encoded({"x-frame-options": "DENY"})
        self._for_us = _encoded({"cross-origin-resource-policy": "same-origin"})
        self._for_all = _encoded({"cross-origin-resource-policy": "cross-origin"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and add to its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        readers = self._for_all if scope["path"].startswith(_SHOWN_ELSEWHERE) else self._for_us

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                framing = () if b"content-security-policy" in given else self._nobody_frames
                ours = (*self._headers, *framing, *readers)
                more = [(name, value) for name, value in ours if name not in given]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._app(scope, receive, with_headers)


def _encoded(headers: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.encode(), value.encode()) for name, value in headers.items())


def content_security_policy(addresses: PublicAddresses, *, frame_ancestors: str = "'none'") -> str:
    """Nothing but our own files, the style that our pages carry, and media from the storage."""
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            f"style-src 'self' {STYLE_SOURCE}",
            "connect-src 'self'",
            "manifest-src 'self'",
            f"img-src 'self' {addresses.media_origin}",
            f"media-src 'self' {addresses.media_origin}",
            f"form-action {' '.join(_form_targets(addresses))}",
            "base-uri 'none'",
            f"frame-ancestors {frame_ancestors}",
        ]
    )


def _form_targets(addresses: PublicAddresses) -> list[str]:
    """Us, and where the answer to our sign-out leads: browsers hold redirects of forms to this as well."""
    logout = urlsplit(addresses.logout_url or "")
    return ["'self'", *([f"{logout.scheme}://{logout.netloc}"] if logout.netloc else [])]
