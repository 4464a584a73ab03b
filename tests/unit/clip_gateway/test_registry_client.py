"""The registry's answers and outages, in the gateway's words: over a socket, since sockets misbehave."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from clip_gateway import registry_client
from clip_gateway.domain import ClipQuery, Refusal, Refused
from clip_gateway.registry_client import ATTEMPTS, HttpRegistry, open_http
from clip_shared.contracts.events import HighlightKind
from clip_shared.contracts.registry_api import (
    Actor,
    ClipAction,
    ClipOrder,
    ClipStatus,
    PublishRequest,
    RenameRequest,
)
from clip_shared.errors import TransientError
from tests.unit.clip_gateway.fakes import a_clip

CLIP = a_clip()
CLIP_ID = CLIP.clip_id
ANN = Actor(account_id="ann")
TOKEN = "a-service-token"  # noqa: S105 - of this test

Step = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""What the server does with a request."""


def answering(status: int, text: str = "", content_type: str = "application/json") -> Step:
    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type=content_type)

    return answer


def problem(status: int, text: str = "{}") -> Step:
    """How the registry refuses."""
    return answering(status, text, "application/problem+json")


async def hang_up(request: web.BaseRequest) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def break_off(request: web.BaseRequest) -> web.StreamResponse:
    """Half an answer."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"{")
    assert request.transport is not None
    request.transport.abort()
    return response


async def say_nothing(_request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


FOUND = answering(200, CLIP.model_dump_json())
OUTAGES = {
    "closed": hang_up,
    "half an answer": break_off,
    "slow": say_nothing,
    "500": answering(500),
    "503": answering(503),
}


class Server:
    """Does each step in turn, the last one again and again; keeps the requests and their bodies."""

    def __init__(self) -> None:
        self.steps: list[Step] = [FOUND]
        self.requests: list[tuple[web.BaseRequest, bytes]] = []

    def does(self, *steps: Step) -> None:
        self.steps[:] = steps
        self.requests.clear()

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append((request, await request.read()))
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        return await step(request)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_client, "FIRST_PAUSE_SECONDS", 0)
    timeout = aiohttp.ClientTimeout(connect=1, sock_connect=1, sock_read=0.5)
    monkeypatch.setattr(registry_client, "TIMEOUT", timeout)


@pytest.fixture
def server() -> Server:
    return Server()


@asynccontextmanager
async def client_of(server: Server, path: str = "/") -> AsyncIterator[HttpRegistry]:
    async with RawTestServer(server.serve) as listening:  # noqa: SIM117 - the client goes first
        async with open_http(str(listening.make_url(path)), TOKEN) as http:
            yield HttpRegistry(http)


@pytest.fixture
async def registry(server: Server) -> AsyncIterator[HttpRegistry]:
    async with client_of(server) as registry:
        yield registry


@pytest.mark.parametrize("outage", OUTAGES)
async def test_reads_are_tried_again(server: Server, registry: HttpRegistry, outage: str) -> None:
    server.does(OUTAGES[outage], OUTAGES[outage], FOUND)
    assert await registry.get(CLIP_ID) == CLIP
    assert len(server.requests) == ATTEMPTS


@pytest.mark.parametrize("outage", OUTAGES)
async def test_an_outage_that_lasts_is_said_to_be_one(
    server: Server, registry: HttpRegistry, outage: str
) -> None:
    server.does(OUTAGES[outage])
    with pytest.raises(TransientError):
        await registry.clips_of("ann", ClipQuery())
    # aiohttp itself repeats a read at once where a connection is closed on it.
    assert len(server.requests) == ATTEMPTS * (2 if outage == "closed" else 1)


@pytest.mark.parametrize("outage", OUTAGES)
async def test_writes_are_tried_once(server: Server, registry: HttpRegistry, outage: str) -> None:
    server.does(OUTAGES[outage])
    with pytest.raises(TransientError):
        await registry.act(ClipAction.KEEP, CLIP_ID, ANN)
    assert len(server.requests) == 1


@pytest.mark.parametrize("outage", ["closed", "half an answer"])
async def test_a_write_on_a_connection_that_was_used_before_is_tried_once(
    server: Server, registry: HttpRegistry, outage: str
) -> None:
    server.does(FOUND, OUTAGES[outage])
    await registry.get(CLIP_ID)
    with pytest.raises(TransientError):
        await registry.act(ClipAction.KEEP, CLIP_ID, ANN)
    assert len(server.requests) == 2


async def test_a_registry_that_nobody_hears_is_an_outage() -> None:
    async with open_http("http://127.0.0.1:1", TOKEN) as http:
        with pytest.raises(TransientError, match="cannot be reached"):
            await HttpRegistry(http).get(CLIP_ID)


async def test_all_attempts_together_are_bounded(
    monkeypatch: pytest.MonkeyPatch, server: Server, registry: HttpRegistry
) -> None:
    monkeypatch.setattr(registry_client, "DEADLINE_SECONDS", 0.05)
    server.does(say_nothing)
    with pytest.raises(TransientError, match="did not answer within"):
        await registry.get(CLIP_ID)


async def test_a_caller_who_leaves_takes_the_request_along(server: Server, registry: HttpRegistry) -> None:
    server.does(say_nothing)
    asking = asyncio.create_task(registry.get(CLIP_ID))
    while not server.requests:
        await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    server.does(FOUND)
    assert await registry.get(CLIP_ID) == CLIP


@pytest.mark.parametrize("status", [403, 404, 409, 410, 422, 499])
async def test_what_something_on_the_way_says_is_no_answer_of_the_registry(
    server: Server, registry: HttpRegistry, status: int
) -> None:
    """An ingress without a backend says 404: every clip was "not there", and the gateway ready."""
    server.does(answering(status, "<h1>default backend</h1>", "text/html"))
    for call in (
        registry.get(CLIP_ID),
        registry.act(ClipAction.UNKEEP, CLIP_ID, ANN),
        registry.clips_of("ann", ClipQuery(cursor="x")),
        registry.shared("slug"),
        registry.feed_of("ann"),
        registry.close_feed("ann"),
        registry.check(),
    ):
        with pytest.raises(TransientError):
            await call


async def test_what_is_not_there_is_none(server: Server, registry: HttpRegistry) -> None:
    server.does(problem(404))
    assert await registry.get(CLIP_ID) is None
    assert await registry.feed_of("ann") is None


@pytest.mark.parametrize(
    ("status", "reason"),
    [(403, Refusal.NOT_OWNER), (404, Refusal.UNKNOWN), (409, Refusal.NOT_ALLOWED)],
)
async def test_refusals_of_an_action(
    server: Server, registry: HttpRegistry, status: int, reason: Refusal
) -> None:
    server.does(problem(status))
    with pytest.raises(Refused) as refused:
        await registry.act(ClipAction.UNKEEP, CLIP_ID, ANN)
    assert refused.value.reason is reason
    assert refused.value.detail is None


@pytest.mark.parametrize(("status", "reason"), [(404, Refusal.UNKNOWN), (410, Refusal.UNPUBLISHED)])
async def test_refusals_of_a_share_link(
    server: Server, registry: HttpRegistry, status: int, reason: Refusal
) -> None:
    server.does(problem(status))
    with pytest.raises(Refused) as refused:
        await registry.shared("slug")
    assert refused.value.reason is reason


async def test_why_an_action_is_not_allowed_is_passed_on(server: Server, registry: HttpRegistry) -> None:
    server.does(problem(409, '{"detail": "Your 20 unkept clips are the most that there may be."}'))
    with pytest.raises(Refused) as refused:
        await registry.act(ClipAction.UNKEEP, CLIP_ID, ANN)
    assert refused.value.detail == "Your 20 unkept clips are the most that there may be."


@pytest.mark.parametrize("status", [401, 403, 418, 301])
async def test_a_registry_that_does_not_take_us_is_an_outage_to_callers(
    server: Server, registry: HttpRegistry, status: int
) -> None:
    server.does(answering(status))
    with pytest.raises(TransientError):
        await registry.get(CLIP_ID)


async def test_a_redirect_is_not_followed_with_our_token(server: Server, registry: HttpRegistry) -> None:
    async def redirect(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    server.does(redirect, FOUND)
    with pytest.raises(TransientError):
        await registry.get(CLIP_ID)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "text", ["", "<html>", "{}", CLIP.model_dump_json().replace('"available"', '"gone"')]
)
async def test_an_answer_that_breaks_the_contract_is_an_outage(
    server: Server, registry: HttpRegistry, text: str
) -> None:
    server.does(answering(200, text))
    with pytest.raises(TransientError):
        await registry.get(CLIP_ID)


async def test_only_a_cursor_can_be_the_callers_mistake(server: Server, registry: HttpRegistry) -> None:
    server.does(problem(422))
    with pytest.raises(Refused) as refused:
        await registry.clips_of("ann", ClipQuery(cursor="x"))
    assert refused.value.reason is Refusal.BAD_CURSOR
    with pytest.raises(TransientError):
        await registry.clips_of("ann", ClipQuery())


async def test_a_query_goes_over_the_wire(server: Server, registry: HttpRegistry) -> None:
    server.does(answering(200, '{"items": [], "next_cursor": null}'))
    query = ClipQuery(
        statuses=(ClipStatus.AVAILABLE, ClipStatus.KEPT),
        kinds=(HighlightKind.REFINED,),
        title="größe & +1?",
        order=ClipOrder.BEST,
        limit=7,
        cursor="a+b/=",
    )
    await registry.clips_of("ann", query)
    request, _ = server.requests[0]
    assert request.path == "/v1/accounts/ann/clips"
    assert sorted(request.query.items()) == [
        ("cursor", "a+b/="),
        ("kind", "refined"),
        ("limit", "7"),
        ("order", "best"),
        ("status", "available"),
        ("status", "kept"),
        ("title", "größe & +1?"),
    ]


async def test_an_action_goes_over_the_wire(server: Server, registry: HttpRegistry) -> None:
    await registry.act(ClipAction.KEEP, CLIP_ID, ANN)
    await registry.act(ClipAction.RENAME, CLIP_ID, RenameRequest(account_id="ann", title="Größe"))
    await registry.act(ClipAction.PUBLISH, CLIP_ID, PublishRequest(account_id="ann", embed=False))
    bodies = [json.loads(body) for _, body in server.requests]
    assert [request.path for request, _ in server.requests] == [
        f"/v1/clips/{CLIP_ID}/{action}" for action in ("keep", "rename", "publish")
    ]
    assert bodies == [
        {"account_id": "ann"},
        {"account_id": "ann", "title": "Größe"},
        {"account_id": "ann", "embed": False, "downloadable": False, "indexable": False},
    ]
    assert {request.content_type for request, _ in server.requests} == {"application/json"}


async def test_the_token_goes_along_and_no_proxy_sees_it(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with client_of(server) as registry:
        assert await registry.get(CLIP_ID) == CLIP
    assert server.requests[0][0].headers["authorization"] == f"Bearer {TOKEN}"


async def test_a_registry_under_a_path(server: Server) -> None:
    async with client_of(server, "/clips/") as registry:
        await registry.get(CLIP_ID)
    assert server.requests[0][0].path == f"/clips/v1/clips/{CLIP_ID}"


async def test_readiness_needs_one_answer_and_then_forgives_outages(
    server: Server, registry: HttpRegistry
) -> None:
    for step in (hang_up, answering(401)):
        server.does(step)
        with pytest.raises(TransientError):
            await registry.check()
    server.does(problem(404))
    assert await registry.check() is None
    assert server.requests[-1][0].path == f"/v1/clips/{UUID(int=0)}"
    server.does(hang_up)
    assert "503" in str(await registry.check())
