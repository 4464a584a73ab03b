"""Response headers that protect the users of our pages: content security policy, framing, TLS."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clip_gateway.addresses import PublicAddresses
from clip_gateway.html.style import STYLE_SOURCE

# Only responses under this path may be loaded by pages of other sites: media of published clips.
_CROSS_ORIGIN_PATH = "/m/"


class SecurityHeaders:
    """ASGI middleware that adds the headers to every response that does not have them.

    A response with its own content security policy decides itself which sites may frame it: it gets no
    X-Frame-Options.
    """

    def __init__(self, app: ASGIApp, addresses: PublicAddresses) -> None:
        self._app = app
        headers = {
            "content-security-policy": content_security_policy(addresses),
            "cross-origin-opener-policy": "same-origin",
            "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
            # Not no-referrer: browsers would then send our own forms with "Origin: null".
            "referrer-policy": "same-origin",
            "x-content-type-options": "nosniff",
        }
        if addresses.speaks_tls:
            headers["strict-transport-security"] = "max-age=31536000"
        self._headers = _encoded(headers)
        self._no_framing = _encoded({"x-frame-options": "DENY"})
        self._same_origin = _encoded({"cross-origin-resource-policy": "same-origin"})
        self._cross_origin = _encoded({"cross-origin-resource-policy": "cross-origin"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and add the headers to its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        resource_policy = (
            self._cross_origin if scope["path"].startswith(_CROSS_ORIGIN_PATH) else self._same_origin
        )

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                framing = () if b"content-security-policy" in given else self._no_framing
                ours = (*self._headers, *framing, *resource_policy)
                more = [(name, value) for name, value in ours if name not in given]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._app(scope, receive, with_headers)


def _encoded(headers: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.encode(), value.encode()) for name, value in headers.items())


def content_security_policy(addresses: PublicAddresses, *, frame_ancestors: str = "'none'") -> str:
    """Return the policy: our own files, the inline style of our pages, and media from the storage."""
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


def framing_headers(addresses: PublicAddresses) -> dict[str, str]:
    """Return the headers of a page that the sites in EMBED_ORIGINS may show in a frame."""
    ancestors = " ".join(addresses.embed_origins) or "'none'"
    return {
        "Content-Security-Policy": content_security_policy(addresses, frame_ancestors=ancestors),
        # Sites that isolate themselves from others (COEP) embed only what carries this header.
        "Cross-Origin-Resource-Policy": "cross-origin",
    }


def _form_targets(addresses: PublicAddresses) -> list[str]:
    """Return our own origin, and that of LOGOUT_URL: browsers also check where a form's answer redirects."""
    logout = urlsplit(addresses.logout_url or "")
    return ["'self'", *([f"{logout.scheme}://{logout.netloc}"] if logout.netloc else [])]
