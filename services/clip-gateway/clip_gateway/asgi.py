"""The application of the public port: it sends every request to the API, the public pages or the pages.

Around the three stands the middleware of all requests, the outermost first: client addresses from proxies,
the request timer, HEAD, security headers, the limit of bodies.
"""

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from clip_gateway import api, pages, public
from clip_gateway.body_limit import BodyLimit
from clip_gateway.metrics import RequestTimer
from clip_gateway.parts import GatewayParts
from clip_gateway.security_headers import SecurityHeaders
from clip_shared.http.head import AnswerHead

# Paths that begin with one of these go to the JSON API.
API_PATHS = ("/v1/", "/docs", "/openapi.json")


def create(parts: GatewayParts) -> ASGIApp:
    """Create the application of the public port."""
    app: ASGIApp = _PathDispatcher(api.create(parts), public.create(parts), pages.create(parts))
    app = BodyLimit(app)
    app = SecurityHeaders(app, parts.addresses)
    app = AnswerHead(app)
    app = RequestTimer(app, metrics=parts.metrics)
    return _behind_proxies(parts.trusted_proxies, app)


def _behind_proxies(proxies: tuple[str, ...], app: ASGIApp) -> ASGIApp:
    """Take a client's address from X-Forwarded-For, if one of these proxies sent the request."""
    # Uvicorn has its own types for ASGI.
    return ProxyHeadersMiddleware(app, list(proxies)) if proxies else app  # type: ignore[arg-type, return-value]


class _PathDispatcher:
    """Chooses the application by the beginning of the path."""

    def __init__(self, api_app: ASGIApp, public_app: ASGIApp, pages_app: ASGIApp) -> None:
        self._api = api_app
        self._public = public_app
        self._pages = pages_app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app_for(scope)(scope, receive, send)

    def _app_for(self, scope: Scope) -> ASGIApp:
        path = scope["path"] if scope["type"] == "http" else ""
        if path.startswith(API_PATHS):
            return self._api
        return self._public if path.startswith(public.PATHS) else self._pages
