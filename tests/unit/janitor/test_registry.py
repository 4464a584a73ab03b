"""What the janitor asks of the registry, and what it makes of the registry's answers."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from clip_shared.contracts.registry_api import DueClips
from clip_shared.errors import TransientError
from janitor import registry as janitor_registry
from janitor.registry import CALL, HttpJanitorRegistry
from tests.support.registry_server import OUTAGES, ScriptedServer, answering, client_of, connect_slowly
from tests.unit.janitor.fakes import NOON

ANSWER = {"expired": 3, "more": True, "cutoff": "2026-03-01T12:00:00Z", "something": "new"}
FOUND = answering(200, json.dumps(ANSWER))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    connect_slowly(monkeypatch)
    for name in ("CALL", "CHECK"):
        policy = getattr(janitor_registry, name)
        quick = replace(policy, answer_seconds=1, first_pause_seconds=0.001)
        monkeypatch.setattr(janitor_registry, name, quick)


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer(FOUND)


@pytest.fixture
async def registry(server: ScriptedServer) -> AsyncIterator[HttpJanitorRegistry]:
    async with client_of(server) as client:
        yield HttpJanitorRegistry(client)


def bodies(server: ScriptedServer) -> list[Any]:
    return [json.loads(body) for _, body in server.requests]


@pytest.mark.parametrize("outage", OUTAGES)
async def test_a_call_is_tried_again(
    server: ScriptedServer, registry: HttpJanitorRegistry, outage: str
) -> None:
    server.does(OUTAGES[outage], OUTAGES[outage], FOUND)
    result = await registry.purge(500, NOON)
    assert (result.expired, result.more, result.cutoff) == (3, True, NOON)
    assert bodies(server) == [{"limit": 500, "cutoff": "2026-03-01T12:00:00Z"}] * CALL.attempts


@pytest.mark.parametrize("outage", OUTAGES)
async def test_an_outage_that_lasts_is_said_to_be_one(
    server: ScriptedServer, registry: HttpJanitorRegistry, outage: str
) -> None:
    server.does(OUTAGES[outage])
    with pytest.raises(TransientError):
        await registry.purge(500, None)
    assert len(server.requests) == CALL.attempts


@pytest.mark.parametrize(
    "answer", [answering(401), answering(422), answering(200, "<html>"), answering(200, "{}")]
)
async def test_what_only_a_person_can_mend_waits_for_one(
    server: ScriptedServer, registry: HttpJanitorRegistry, answer: Any
) -> None:
    server.does(answer)
    with pytest.raises(TransientError):
        await registry.purge(500, None)
    assert len(server.requests) == 1


async def test_what_is_due_is_asked_for(server: ScriptedServer, registry: HttpJanitorRegistry) -> None:
    due = DueClips(due=1, ephemeral=2, cutoff=NOON, details=None)
    server.does(answering(200, due.model_dump_json()))
    assert (await registry.due()).due == 1
    assert (await registry.due(detailed=True)).ephemeral == 2
    assert [(request.path, dict(request.query)) for request, _ in server.requests] == [
        ("/v1/expirations", {}),
        ("/v1/expirations", {"detailed": "true"}),
    ]


async def test_notices_and_orphans_are_asked_for(
    server: ScriptedServer, registry: HttpJanitorRegistry
) -> None:
    server.does(answering(200, json.dumps({"notified": 2, "more": True, "reached": NOON.isoformat()})))
    assert (await registry.notify(7, NOON)).reached == NOON
    assert bodies(server) == [{"limit": 7, "since": "2026-03-01T12:00:00Z"}]
    assert server.requests[0][0].path == "/v1/expiry-notices"
    server.does(answering(503), answering(200, json.dumps({"keys": ["b"]})))
    assert await registry.orphans("clips", ["a", "b"]) == {"b"}
    assert bodies(server)[1] == {"bucket": "clips", "keys": ["a", "b"]}
    assert server.requests[1][0].path == "/v1/objects/unknown"


async def test_readiness_wants_an_answer_to_our_token(
    server: ScriptedServer, registry: HttpJanitorRegistry
) -> None:
    server.does(answering(200, '{"keys": []}'))
    await registry.check()
    for answer in (answering(401), answering(403), *OUTAGES.values()):
        server.does(answer)
        with pytest.raises(TransientError):
            await registry.check()
        assert len(server.requests) == 1
