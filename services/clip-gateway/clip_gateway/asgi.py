"""The public port: JSON under ``/v1``, published clips, pages everywhere else, and what holds for all."""

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from clip_gateway import api, pages, public
from clip_gateway.body_limit import BodyLimit
from clip_gateway.metrics import RequestTimer
from clip_gateway.parts import GatewayParts
from clip_gateway.security_headers import SecurityHeaders
from clip_shared.http.head import AnswerHead

# Whatever begins with one of these is answered by the JSON API, with problems; the rest by pages.
API_PATHS = ("/v1/", "/docs", "/openapi.json")


def create(parts: GatewayParts) -> ASGIApp:
    """The public application."""
    app: ASGIApp = _PathDispatcher(api.create(parts), public.create(parts), pages.create(parts))
    app = BodyLimit(app)
    app = SecurityHeaders(app, parts.addresses)
    app = AnswerHead(app)
    app = RequestTimer(app, metrics=parts.metrics)
    return _behind(parts.trusted_proxies, app)


def _behind(proxies: tuple[str, ...], app: ASGIApp) -> ASGIApp:
    """The application that knows its clients by the addresses that these proxies, and nobody else, name."""
    # Uvicorn describes ASGI in types of its own.
    return ProxyHeadersMiddleware(app, list(proxies)) if proxies else app  # type: ignore[arg-type, return-value]


class _PathDispatcher:
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
