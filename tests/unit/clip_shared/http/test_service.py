"""The bootstrap of a service: health, metrics, and errors that callers can read."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from clip_shared.errors import TransientError
from clip_shared.http import operations
from clip_shared.http.api import create_api
from clip_shared.http.operations import Check, create_app, metrics_registry
from clip_shared.http.problems import Problem


async def fine() -> None:
    return None


async def short_of_something() -> str:
    return "free storage is not configured: highlights are skipped"


async def down() -> None:
    raise ConnectionError("refused")


def app_with(checks: Mapping[str, Check]) -> FastAPI:
    return create_app("test", registry=metrics_registry(), checks=checks)


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.mark.parametrize(
    ("checks", "code", "status"),
    [
        ({"a": fine}, 200, "ready"),
        ({"a": fine, "b": short_of_something}, 200, "degraded"),
        ({"a": down, "b": short_of_something}, 503, "failing"),
    ],
)
async def test_readiness_is_the_worst_of_its_checks(checks: dict[str, Check], code: int, status: str) -> None:
    async with client_of(app_with(checks)) as client:
        response = await client.get("/healthz/ready")
    assert response.status_code == code
    assert response.json()["status"] == status
    assert set(response.json()["checks"]) == set(checks)


@pytest.mark.parametrize(
    ("asked", "code"), [("?exclude=bus", 200), ("?exclude=bus&exclude=a", 200), ("?exclude=a", 503)]
)
async def test_readiness_leaves_out_what_it_is_told_to(asked: str, code: int) -> None:
    async with client_of(app_with({"a": fine, "bus": down})) as client:
        response = await client.get(f"/healthz/ready{asked}")
    assert response.status_code == code
    assert set(response.json()["checks"]) == {"a", "bus"} - set(re.findall("exclude=([a-z]+)", asked))


async def test_a_check_that_hangs_counts_as_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "CHECK_TIMEOUT_SECONDS", 0.05)

    async def hang() -> None:
        await asyncio.sleep(60)

    async with client_of(app_with({"slow": hang})) as client:
        response = await client.get("/healthz/ready")
    assert response.status_code == 503
    assert "no answer" in response.json()["checks"]["slow"]["reason"]


async def test_metrics_are_served_for_prometheus() -> None:
    async with client_of(app_with({})) as client:
        response = await client.get("/metrics")
    assert "process_resident_memory_bytes" in response.text


@pytest.mark.parametrize("path", ["/metrics", "/healthz/live", "/healthz/ready"])
async def test_head_is_answered(path: str) -> None:
    async with client_of(app_with({})) as client:
        response = await client.head(path)
    assert (response.status_code, response.content) == (200, b"")


async def test_a_service_that_stops_is_alive_and_not_ready() -> None:
    async def stuck() -> None:
        raise RuntimeError("the consumer has stopped")

    app = create_app("test", registry=metrics_registry(), checks={"a": fine}, check_alive=stuck)
    app.state.stopping = True
    async with client_of(app) as client:
        assert (await client.get("/healthz/live")).status_code == 200
        response = await client.get("/healthz/ready")
    assert (response.status_code, response.json()["status"]) == (503, "stopping")


async def test_every_error_is_a_problem() -> None:
    app = create_api("test")

    @app.get("/teapot")
    async def teapot() -> None:
        raise Problem(HTTPStatus.IM_A_TEAPOT, "No coffee here.")

    @app.get("/outage")
    async def outage() -> None:
        raise TransientError("postgres://user:secret@host is down")

    @app.get("/bug")
    async def bug() -> None:
        raise KeyError("a secret detail")

    @app.get("/number")
    async def number(value: int) -> int:
        return value

    async with client_of(app) as client:
        answers = {
            path: await client.get(path)
            for path in ("/teapot", "/outage", "/bug", "/number?value=x", "/nowhere")
        }
    assert {path: answer.status_code for path, answer in answers.items()} == {
        "/teapot": 418,
        "/outage": 503,
        "/bug": 500,
        "/number?value=x": 422,
        "/nowhere": 404,
    }
    assert {answer.headers["content-type"] for answer in answers.values()} == {"application/problem+json"}
    assert answers["/teapot"].json()["detail"] == "No coffee here."
    assert "secret" not in answers["/outage"].text + answers["/bug"].text
    assert answers["/outage"].headers["retry-after"] == "5"
    assert answers["/number?value=x"].json()["problems"][0]["at"] == "query.value"


async def test_what_a_path_takes_is_said_of_all_its_routes() -> None:
    """Whichever route comes first, however deep they are nested, and with HEAD, which no route names."""
    inner, outer = APIRouter(), APIRouter(prefix="/v1")

    @inner.get("/things/{number}")
    async def show(number: int) -> int:
        return number

    @inner.delete("/things/{number}")
    async def remove(number: int) -> int:
        return number

    @inner.post("/things")
    async def add() -> None: ...

    outer.include_router(inner)
    app = create_api("test")
    app.include_router(outer)
    async with client_of(app) as client:
        refused = [await client.put("/v1/things/1"), await client.delete("/v1/things")]
        unknown = await client.put("/v1/nothing")
    assert [(each.status_code, each.headers["allow"]) for each in refused] == [
        (405, "DELETE, GET, HEAD"),
        (405, "POST"),
    ]
    assert unknown.status_code == 404


async def test_the_lifespan_is_entered_and_left() -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        steps.append("in")
        yield
        steps.append("out")

    app = create_app("test", registry=metrics_registry(), checks={}, lifespan=lifespan)
    async with app.router.lifespan_context(app):
        assert steps == ["in"]
    assert steps == ["in", "out"]
