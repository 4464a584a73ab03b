"""The registry's answers and outages, in the gateway's words."""

import asyncio
from collections.abc import Callable
from uuid import UUID

import httpx
import pytest

from clip_gateway import registry_client
from clip_gateway.domain import Action, Refusal, Refused
from clip_gateway.registry_client import ATTEMPTS, HttpRegistry, open_http
from clip_shared.errors import TransientError
from tests.unit.clip_gateway.fakes import a_clip

CLIP = a_clip()
CLIP_ID = CLIP.clip_id
Step = httpx.Response | Exception


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_client, "FIRST_PAUSE_SECONDS", 0)


class Server:
    """Answers with each step in turn, the last one again and again; keeps the requests."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.requests: list[httpx.Request] = []
        self.http = httpx.AsyncClient(base_url="http://registry", transport=httpx.MockTransport(self._serve))
        self.registry = HttpRegistry(self.http)

    def _serve(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return step


def found() -> httpx.Response:
    return httpx.Response(200, text=CLIP.model_dump_json())


OUTAGES: list[Step] = [
    httpx.ConnectError("refused"),
    httpx.ReadTimeout("slow"),
    httpx.RemoteProtocolError("closed"),
    httpx.Response(500),
    httpx.Response(503),
]


@pytest.mark.parametrize("outage", OUTAGES)
async def test_reads_are_tried_again(outage: Step) -> None:
    server = Server(outage, outage, found())
    assert await server.registry.get(CLIP_ID) == CLIP
    assert len(server.requests) == ATTEMPTS


@pytest.mark.parametrize("outage", OUTAGES)
async def test_an_outage_that_lasts_is_said_to_be_one(outage: Step) -> None:
    server = Server(outage)
    with pytest.raises(TransientError):
        await server.registry.clips_of("ann", statuses=(), limit=10, cursor=None)
    assert len(server.requests) == ATTEMPTS


@pytest.mark.parametrize("outage", OUTAGES)
async def test_writes_are_tried_once(outage: Step) -> None:
    server = Server(outage)
    with pytest.raises(TransientError):
        await server.registry.act(Action.KEEP, CLIP_ID, "ann")
    assert len(server.requests) == 1


async def test_all_attempts_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_client, "DEADLINE_SECONDS", 0.05)
    http = httpx.AsyncClient(
        base_url="http://registry",
        transport=httpx.MockTransport(lambda _request: asyncio.sleep(60)),  # type: ignore[arg-type]  # never answers
    )
    with pytest.raises(TransientError, match="did not answer within"):
        await HttpRegistry(http).get(CLIP_ID)


def problem(status: int, **members: str) -> httpx.Response:
    """How the registry refuses."""
    return httpx.Response(status, json=members, headers={"Content-Type": "application/problem+json"})


@pytest.mark.parametrize("status", [403, 404, 409, 422, 499])
async def test_what_something_on_the_way_says_is_no_answer_of_the_registry(status: int) -> None:
    """An ingress without a backend says 404: every clip was "not there", and the gateway ready."""
    page = httpx.Response(status, html="<h1>default backend</h1>")
    registry = Server(page).registry
    with pytest.raises(TransientError):
        await registry.get(CLIP_ID)
    with pytest.raises(TransientError):
        await registry.act(Action.UNKEEP, CLIP_ID, "ann")
    with pytest.raises(TransientError):
        await registry.clips_of("ann", statuses=(), limit=10, cursor="x")
    with pytest.raises(TransientError):
        await registry.check()


async def test_a_clip_that_is_not_there_is_none() -> None:
    assert await Server(problem(404)).registry.get(CLIP_ID) is None


@pytest.mark.parametrize(
    ("status", "reason"),
    [(403, Refusal.NOT_OWNER), (404, Refusal.UNKNOWN), (409, Refusal.NOT_ALLOWED)],
)
async def test_refusals_of_an_action(status: int, reason: Refusal) -> None:
    with pytest.raises(Refused) as refused:
        await Server(problem(status)).registry.act(Action.UNKEEP, CLIP_ID, "ann")
    assert refused.value.reason is reason
    assert refused.value.detail is None


async def test_why_an_action_is_not_allowed_is_passed_on() -> None:
    answer = problem(409, detail="Your 20 unkept clips are the most that there may be.")
    with pytest.raises(Refused) as refused:
        await Server(answer).registry.act(Action.UNKEEP, CLIP_ID, "ann")
    assert refused.value.detail == "Your 20 unkept clips are the most that there may be."


Call = Callable[[HttpRegistry], object]


@pytest.mark.parametrize("status", [401, 403, 418, 301])
async def test_a_registry_that_does_not_take_us_is_an_outage_to_callers(status: int) -> None:
    with pytest.raises(TransientError):
        await Server(httpx.Response(status)).registry.get(CLIP_ID)


@pytest.mark.parametrize(
    "text", ["", "<html>", "{}", CLIP.model_dump_json().replace('"available"', '"gone"')]
)
async def test_an_answer_that_breaks_the_contract_is_an_outage(text: str) -> None:
    with pytest.raises(TransientError):
        await Server(httpx.Response(200, text=text)).registry.get(CLIP_ID)


async def test_only_a_cursor_can_be_the_callers_mistake() -> None:
    refusing = Server(problem(422)).registry
    with pytest.raises(Refused) as refused:
        await refusing.clips_of("ann", statuses=(), limit=10, cursor="x")
    assert refused.value.reason is Refusal.BAD_CURSOR
    with pytest.raises(TransientError):
        await refusing.clips_of("ann", statuses=(), limit=10, cursor=None)


async def test_what_goes_over_the_wire() -> None:
    server = Server(httpx.Response(200, json={"items": [], "next_cursor": None}))
    await server.registry.clips_of("ann", statuses=[CLIP.status], limit=7, cursor="a+b=")
    assert str(server.requests[0].url).endswith(
        "/v1/accounts/ann/clips?limit=7&status=available&cursor=a%2Bb%3D"
    )
    server.steps = [found()]
    await server.registry.act(Action.PUBLISH, CLIP_ID, "ann")
    assert server.requests[1].url.path == f"/v1/clips/{CLIP_ID}/publish"
    assert server.requests[1].content == b'{"account_id":"ann"}'


async def test_the_token_goes_along_and_no_proxy_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with open_http("http://registry", "a-service-token") as http:
        assert http.headers["authorization"] == "Bearer a-service-token"
        assert not any(http._mounts.values())


async def test_readiness_needs_one_answer_and_then_forgives_outages() -> None:
    server = Server(httpx.ConnectError("refused"))
    with pytest.raises(TransientError):
        await server.registry.check()
    server.steps = [httpx.Response(401)]
    with pytest.raises(TransientError):
        await server.registry.check()
    server.steps = [problem(404)]
    assert await server.registry.check() is None
    assert server.requests[-1].url.path == f"/v1/clips/{UUID(int=0)}"
    server.steps = [httpx.ConnectError("refused")]
    assert "503" in str(await server.registry.check())
