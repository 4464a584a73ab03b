"""A server in the registry's place that a test scripts: over a socket, because sockets misbehave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from clip_shared.contracts import registry_client
from clip_shared.contracts.problems import PROBLEM_MEDIA_TYPE
from clip_shared.contracts.registry_client import RegistryClient

TOKEN = "a-service-token"  # noqa: S105 - of tests

Step = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""What the server does with a request."""


def answering(status: int, text: str = "", content_type: str = "application/json") -> Step:
    """Answer."""

    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type=content_type)

    return answer


def refusing(status: int, text: str = "{}") -> Step:
    """Refuse as the registry does."""
    return answering(status, text, PROBLEM_MEDIA_TYPE)


async def hang_up(request: web.BaseRequest) -> web.StreamResponse:
    """Close the connection."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def break_off(request: web.BaseRequest) -> web.StreamResponse:
    """Close the connection in the middle of the answer."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"{")
    assert request.transport is not None
    request.transport.abort()
    return response


async def say_nothing(_request: web.BaseRequest) -> web.StreamResponse:
    """Answer after a minute."""
    await asyncio.sleep(60)
    return web.Response()


OUTAGES = {
    "closed": hang_up,
    "half an answer": break_off,
    "slow": say_nothing,
    "500": answering(500),
    "503": answering(503),
}


class ScriptedServer:
    """Does the steps in turn, the last step again and again. Keeps the requests and their bodies."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.requests: list[tuple[web.BaseRequest, bytes]] = []

    def does(self, *steps: Step) -> None:
        """Do these steps from now on, and forget the requests."""
        self.steps[:] = steps
        self.requests.clear()

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        self.requests.append((request, await request.read()))
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        return await step(request)


def connect_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine take its time to connect: an attempt that is not sent would not be counted."""
    for name in ("CONNECT_SECONDS", "TCP_CONNECT_SECONDS"):
        monkeypatch.setattr(registry_client, name, 60.0)


@asynccontextmanager
async def client_of(server: ScriptedServer, path: str = "/") -> AsyncIterator[RegistryClient]:
    """A client of the server, whose addresses begin with ``path``."""
    async with RawTestServer(server.serve) as listening:  # noqa: SIM117 - the client goes first
        async with RegistryClient(str(listening.make_url(path)), TOKEN) as client:
            yield client
