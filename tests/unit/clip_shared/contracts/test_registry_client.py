"""The client of the registry: what it tries again, and what it makes of answers and outages."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from tests.support.registry_server import (
    OUTAGES,
    TOKEN,
    ScriptedServer,
    answering,
    client_of,
    connect_slowly,
    hang_up,
    refusing,
    say_nothing,
)

from clip_shared.contracts.registry_client import CallPolicy, RegistryAnswer, RegistryCall, RegistryClient
from clip_shared.contracts.registry_metrics import RegistryCallMetrics
from clip_shared.errors import TransientError

ONCE = CallPolicy(answer_seconds=1)
THRICE = replace(ONCE, attempts=3, first_pause_seconds=0.001)


class FeedAnswer(BaseModel):
    slug: str


FOUND = answering(200, '{"slug": "a"}')


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    connect_slowly(monkeypatch)


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer(FOUND)


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[RegistryClient]:
    async with client_of(server) as client:
        yield client


async def read(client: RegistryClient, policy: CallPolicy = THRICE) -> RegistryAnswer:
    return await client.ask(RegistryCall.FEED, "GET", "/v1/feeds/a", policy)


async def write(client: RegistryClient, policy: CallPolicy = ONCE) -> RegistryAnswer:
    return await client.ask(
        RegistryCall.ACT, "POST", "/v1/clips/a/keep", policy, body=FeedAnswer(slug="größe")
    )


@pytest.mark.parametrize("outage", OUTAGES)
async def test_a_call_is_tried_again(server: ScriptedServer, client: RegistryClient, outage: str) -> None:
    server.does(OUTAGES[outage], OUTAGES[outage], FOUND)
    assert (await write(client, THRICE)).read(FeedAnswer) == FeedAnswer(slug="a")
    assert [body for _, body in server.requests] == ['{"slug":"größe"}'.encode()] * 3


@pytest.mark.parametrize("outage", OUTAGES)
async def test_an_outage_that_lasts_is_a_transient_error(
    server: ScriptedServer, client: RegistryClient, outage: str
) -> None:
    server.does(OUTAGES[outage])
    with pytest.raises(TransientError):
        await read(client)
    # aiohttp itself repeats a read at once where a connection is closed on it.
    assert len(server.requests) == 3 * (2 if outage == "closed" else 1)


@pytest.mark.parametrize("outage", OUTAGES)
async def test_a_call_that_is_tried_once_is_sent_once(
    server: ScriptedServer, client: RegistryClient, outage: str
) -> None:
    server.does(OUTAGES[outage])
    with pytest.raises(TransientError):
        await write(client)
    assert len(server.requests) == 1


@pytest.mark.parametrize("outage", ["closed", "half an answer"])
async def test_a_write_on_a_connection_that_was_used_before_is_sent_once(
    server: ScriptedServer, client: RegistryClient, outage: str
) -> None:
    server.does(FOUND, OUTAGES[outage])
    await read(client)
    with pytest.raises(TransientError):
        await write(client)
    assert len(server.requests) == 2


async def test_a_registry_that_does_not_listen_is_a_transient_error() -> None:
    async with RegistryClient("http://127.0.0.1:1", TOKEN) as client:
        with pytest.raises(TransientError, match="cannot be reached"):
            await read(client)


async def test_all_attempts_together_are_bounded(server: ScriptedServer, client: RegistryClient) -> None:
    server.does(say_nothing)
    with pytest.raises(TransientError, match="did not answer within"):
        await read(client, replace(THRICE, deadline_seconds=0.05))


async def test_a_caller_who_leaves_takes_the_request_along(
    server: ScriptedServer, client: RegistryClient
) -> None:
    server.does(say_nothing)
    asking = asyncio.create_task(read(client))
    while not server.requests:
        await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    server.does(FOUND)
    assert (await read(client)).status == 200


@pytest.mark.parametrize("status", [301, 401, 403, 404, 418, 422])
async def test_a_refusal_is_neither_tried_again_nor_read(
    server: ScriptedServer, client: RegistryClient, status: int
) -> None:
    server.does(answering(status))
    answer = await read(client)
    assert len(server.requests) == 1
    with pytest.raises(TransientError, match=str(status)):
        answer.read(FeedAnswer)


async def test_a_redirect_is_not_followed_with_our_token(
    server: ScriptedServer, client: RegistryClient
) -> None:
    async def redirect(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    server.does(redirect, FOUND)
    assert (await read(client)).status == 302
    assert len(server.requests) == 1


@pytest.mark.parametrize("text", ["", "<html>", "{}", '{"slug": 1}'])
async def test_an_answer_that_breaks_the_contract_is_a_transient_error(
    server: ScriptedServer, client: RegistryClient, text: str
) -> None:
    server.does(answering(200, text))
    with pytest.raises(TransientError, match="does not fit FeedAnswer"):
        (await read(client)).read(FeedAnswer)


async def test_only_a_problem_is_a_refusal_of_the_registry_itself(
    server: ScriptedServer, client: RegistryClient
) -> None:
    server.does(refusing(409, '{"detail": "Not from this status."}'))
    answer = await read(client)
    assert (answer.refusal, answer.detail) == (409, "Not from this status.")
    for step in (answering(404, "<h1>default backend</h1>", "text/html"), refusing(404, "no JSON")):
        server.does(step)
        assert (await read(client)).detail is None
    server.does(answering(404, "{}"))
    assert (await read(client)).refusal is None


async def test_the_token_goes_along_and_no_proxy_sees_it(
    monkeypatch: pytest.MonkeyPatch, server: ScriptedServer
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with client_of(server) as client:
        await read(client)
    assert server.requests[0][0].headers["authorization"] == f"Bearer {TOKEN}"


async def test_a_registry_under_a_path(server: ScriptedServer) -> None:
    async with client_of(server, "/clips/") as client:
        await read(client)
    assert server.requests[0][0].path == "/clips/v1/feeds/a"


async def test_every_attempt_is_measured(server: ScriptedServer) -> None:
    prometheus = CollectorRegistry()
    metrics = RegistryCallMetrics(prometheus, [RegistryCall.FEED])
    server.does(answering(503), hang_up, refusing(404), FOUND)
    async with client_of(server) as listening, RegistryClient(listening._url, TOKEN, metrics) as client:
        await ask_twice(client)
    counts = {
        outcome: prometheus.get_sample_value(
            "clips_registry_call_seconds_count", {"call": "feed", "outcome": outcome}
        )
        for outcome in ("answered", "refused", "failed")
    }
    assert counts == {"answered": 1, "refused": 1, "failed": 2}


async def ask_twice(client: RegistryClient) -> None:
    for policy in (THRICE, ONCE):
        await client.ask(RegistryCall.FEED, "POST", "/v1/feeds/a", policy)
