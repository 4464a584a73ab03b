"""The limit on the size of request bodies: enough for the largest form or batch."""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A batch of 100 clips as JSON takes 5 kB, the longest title in a form 2.5 kB.
LARGEST_BODY_BYTES = 32 * 1024


class BodyLimit:
    """ASGI middleware: reading a larger body raises HTTPException 413, which the application answers.

    A Content-Length over the limit is refused at once. A smaller one is not trusted: bytes are counted.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count the bytes of its body while it is read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        left = -1 if announced.isdecimal() and int(announced) > LARGEST_BODY_BYTES else LARGEST_BODY_BYTES

        async def counted() -> Message:
            nonlocal left
            if left >= 0:
                message = await receive()
                left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"The body of the request is larger than {LARGEST_BODY_BYTES} bytes.",
                )
            return message

        await self._app(scope, counted, send)
