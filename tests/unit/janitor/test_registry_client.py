"""The registry's answers and outages, in the janitor's words."""

import json

import httpx
import pytest

from clip_shared.errors import TransientError
from janitor import registry_client
from janitor.registry_client import ATTEMPTS, HttpRegistry, open_http
from tests.unit.janitor.fakes import NOON

Step = httpx.Response | Exception
ANSWER = {"expired": 3, "more": True, "cutoff": "2026-03-01T12:00:00Z", "something": "new"}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_client, "FIRST_PAUSE_SECONDS", 0)


class Server:
    """Answers with each step in turn, the last one again and again; keeps the requests."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.requests: list[httpx.Request] = []
        http = httpx.AsyncClient(base_url="http://registry", transport=httpx.MockTransport(self._serve))
        self.registry = HttpRegistry(http)

    def _serve(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return step


OUTAGES: list[Step] = [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.Response(503)]


@pytest.mark.parametrize("outage", OUTAGES)
async def test_a_call_is_tried_again(outage: Step) -> None:
    server = Server(outage, outage, httpx.Response(200, json=ANSWER))
    result = await server.registry.expire(500, NOON)
    assert (result.expired, result.more, result.cutoff) == (3, True, NOON)
    bodies = [json.loads(request.content) for request in server.requests]
    assert bodies == [{"limit": 500, "cutoff": "2026-03-01T12:00:00Z"}] * ATTEMPTS


@pytest.mark.parametrize("outage", OUTAGES)
async def test_an_outage_that_lasts_is_said_to_be_one(outage: Step) -> None:
    server = Server(outage)
    with pytest.raises(TransientError):
        await server.registry.expire(500, None)
    assert len(server.requests) == ATTEMPTS


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(401),
        httpx.Response(422),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={}),
    ],
)
async def test_what_only_a_person_can_mend_waits_for_one(answer: httpx.Response) -> None:
    server = Server(answer)
    with pytest.raises(TransientError):
        await server.registry.expire(500, None)
    assert len(server.requests) == 1


async def test_notices_and_unknown_objects_are_asked_for() -> None:
    notices = Server(httpx.Response(200, json={"notified": 2, "more": True, "reached": NOON.isoformat()}))
    assert (await notices.registry.notify(7, NOON)).reached == NOON
    assert json.loads(notices.requests[0].content) == {"limit": 7, "since": "2026-03-01T12:00:00Z"}
    objects = Server(httpx.Response(503), httpx.Response(200, json={"keys": ["b"]}))
    assert await objects.registry.unknown_objects("clips", ["a", "b"]) == {"b"}
    assert json.loads(objects.requests[1].content) == {"bucket": "clips", "keys": ["a", "b"]}
    assert [each.requests[0].url.path for each in (notices, objects)] == [
        *("/v1/expiry-notices", "/v1/objects/unknown"),
    ]


async def test_readiness_wants_an_answer_to_our_token() -> None:
    await Server(httpx.Response(200, json={"keys": []})).registry.check()
    for answer in (httpx.Response(401), httpx.Response(403), *OUTAGES):
        with pytest.raises(TransientError):
            await Server(answer).registry.check()


async def test_the_token_goes_along_and_no_proxy_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with open_http("http://registry", "a-service-token") as http:
        assert http.headers["authorization"] == "Bearer a-service-token"
        assert not any(http._mounts.values())
