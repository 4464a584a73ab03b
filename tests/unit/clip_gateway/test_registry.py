"""The gateway's calls to the registry, and what it makes of the answers."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import pytest

from clip_gateway import registry as gateway_registry
from clip_gateway.domain import ClipQuery, Refusal, Refused
from clip_gateway.registry import READ, HttpGatewayRegistry
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
from tests.support.registry_server import (
    OUTAGES,
    ScriptedServer,
    answering,
    client_of,
    connect_slowly,
    hang_up,
    refusing,
    say_nothing,
)
from tests.unit.clip_gateway.fakes import a_clip

CLIP = a_clip()
CLIP_ID = CLIP.clip_id
ANN = Actor(account_id="ann")
FOUND = answering(200, CLIP.model_dump_json())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    connect_slowly(monkeypatch)
    for name in ("READ", "WRITE"):
        policy = getattr(gateway_registry, name)
        quick = replace(policy, answer_seconds=1, first_pause_seconds=0.001)
        monkeypatch.setattr(gateway_registry, name, quick)


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer(FOUND)


@pytest.fixture
async def registry(server: ScriptedServer) -> AsyncIterator[HttpGatewayRegistry]:
    async with client_of(server) as client:
        yield HttpGatewayRegistry(client)


@pytest.mark.parametrize("outage", OUTAGES)
async def test_reads_are_tried_again(
    server: ScriptedServer, registry: HttpGatewayRegistry, outage: str
) -> None:
    server.does(OUTAGES[outage], OUTAGES[outage], FOUND)
    assert await registry.get(CLIP_ID) == CLIP
    assert len(server.requests) == READ.attempts


@pytest.mark.parametrize("outage", OUTAGES)
async def test_writes_are_tried_once(
    server: ScriptedServer, registry: HttpGatewayRegistry, outage: str
) -> None:
    server.does(OUTAGES[outage])
    with pytest.raises(TransientError):
        await registry.act(ClipAction.KEEP, CLIP_ID, ANN)
    assert len(server.requests) == 1


async def test_all_attempts_together_are_bounded(
    monkeypatch: pytest.MonkeyPatch, server: ScriptedServer, registry: HttpGatewayRegistry
) -> None:
    monkeypatch.setattr(gateway_registry, "READ", replace(READ, deadline_seconds=0.05))
    server.does(say_nothing)
    with pytest.raises(TransientError, match="did not answer within"):
        await registry.get(CLIP_ID)


@pytest.mark.parametrize("status", [403, 404, 409, 410, 422, 499])
async def test_an_answer_of_a_proxy_is_an_outage(
    server: ScriptedServer, registry: HttpGatewayRegistry, status: int
) -> None:
    """An ingress without a backend answers 404: the gateway must not take it for an unknown clip."""
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


async def test_an_unknown_clip_or_feed_is_none(server: ScriptedServer, registry: HttpGatewayRegistry) -> None:
    server.does(refusing(404))
    assert await registry.get(CLIP_ID) is None
    assert await registry.feed_of("ann") is None


@pytest.mark.parametrize(
    ("status", "reason"),
    [(403, Refusal.NOT_OWNER), (404, Refusal.UNKNOWN), (409, Refusal.NOT_ALLOWED)],
)
async def test_refusals_of_an_action(
    server: ScriptedServer, registry: HttpGatewayRegistry, status: int, reason: Refusal
) -> None:
    server.does(refusing(status))
    with pytest.raises(Refused) as refused:
        await registry.act(ClipAction.UNKEEP, CLIP_ID, ANN)
    assert refused.value.reason is reason
    assert refused.value.detail is None


@pytest.mark.parametrize(("status", "reason"), [(404, Refusal.UNKNOWN), (410, Refusal.UNPUBLISHED)])
async def test_refusals_of_a_share_link(
    server: ScriptedServer, registry: HttpGatewayRegistry, status: int, reason: Refusal
) -> None:
    server.does(refusing(status))
    with pytest.raises(Refused) as refused:
        await registry.shared("slug")
    assert refused.value.reason is reason


async def test_why_an_action_is_not_allowed_is_passed_on(
    server: ScriptedServer, registry: HttpGatewayRegistry
) -> None:
    server.does(refusing(409, '{"detail": "Your 20 unkept clips are the most that there may be."}'))
    with pytest.raises(Refused) as refused:
        await registry.act(ClipAction.UNKEEP, CLIP_ID, ANN)
    assert refused.value.detail == "Your 20 unkept clips are the most that there may be."


async def test_only_a_cursor_can_be_the_callers_mistake(
    server: ScriptedServer, registry: HttpGatewayRegistry
) -> None:
    server.does(refusing(422))
    with pytest.raises(Refused) as refused:
        await registry.clips_of("ann", ClipQuery(cursor="x"))
    assert refused.value.reason is Refusal.BAD_CURSOR
    with pytest.raises(TransientError):
        await registry.clips_of("ann", ClipQuery())


async def test_a_query_goes_over_the_wire(server: ScriptedServer, registry: HttpGatewayRegistry) -> None:
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


async def test_an_action_goes_over_the_wire(server: ScriptedServer, registry: HttpGatewayRegistry) -> None:
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


async def test_readiness_needs_one_answer_and_then_forgives_outages(
    server: ScriptedServer, registry: HttpGatewayRegistry
) -> None:
    for step in (hang_up, answering(401)):
        server.does(step)
        with pytest.raises(TransientError):
            await registry.check()
    server.does(refusing(404))
    assert await registry.check() is None
    assert server.requests[-1][0].path == f"/v1/clips/{UUID(int=0)}"
    server.does(hang_up)
    assert "503" in str(await registry.check())
