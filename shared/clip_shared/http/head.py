"""Answer HEAD wherever GET is answered."""

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class AnswerHead:
    """ASGI middleware: the answer to HEAD is that to GET without its body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, HEAD as GET."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            scope["method"] = "HEAD"  # for the server, which then expects no body
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)
            scope["method"] = "GET"

        scope["method"] = "GET"
        scope.setdefault("state", {})["head"] = True
        try:
            await self._app(scope, receive, send_head)
        finally:
            scope["method"] = "HEAD"  # for the middleware outside, which counts requests


def is_head(request: Request) -> bool:
    """Return whether a request is HEAD, although its handler sees GET."""
    return bool(getattr(request.state, "head", False))
