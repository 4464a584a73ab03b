"""What the APIs' OpenAPI documents allow, or forbid, is answered: as documented, and never with 5xx."""

import asyncio
import socket
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from clip_gateway.app import build
from clip_registry.database import open_engine
from tests.integration.clip_gateway.conftest import (
    JANITOR_TOKEN,
    TOKEN,
    RealWorld,
    gateway_settings,
    registry_app,
    serving,
)
from tests.integration.clip_registry.conftest import Database
from tests.unit.clip_gateway.tokens import hs256

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]
BOUNDED = settings(
    max_examples=10,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Urls(NamedTuple):
    """Where the APIs are."""

    registry: str
    gateway: str


async def _serve(database_url: str, urls: Future[Urls], stop: asyncio.Event) -> None:
    engine = open_engine(database_url, pool_size=4, statement_timeout_seconds=10)
    with (
        socket.create_server(("127.0.0.1", 0)) as for_registry,
        socket.create_server(("127.0.0.1", 0)) as for_gateway,
    ):
        listeners = (for_registry, for_gateway)
        where = Urls(*(f"http://127.0.0.1:{each.getsockname()[1]}" for each in listeners))
        world = RealWorld(Database(database_url, engine), where.registry)
        await world.add("ann")
        gateway = build(gateway_settings(registry_url=where.registry))
        async with (
            world.http,
            serving(world.app(), for_registry),
            gateway.router.lifespan_context(gateway),
            serving(gateway.state.api, for_gateway),
        ):
            urls.set_result(where)
            await stop.wait()
    await engine.dispose()


@pytest.fixture(scope="module")
def urls(registry_database_url: str) -> Iterator[Urls]:
    """Both APIs in a thread and loop of their own: who asks them here blocks."""
    found: Future[Urls] = Future()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(
        target=loop.run_until_complete, args=(_serve(registry_database_url, found, stop),)
    )
    thread.start()
    try:
        yield found.result(20)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def _cursor(moment: str) -> str:
    return urlsafe_b64encode(f"{moment} {UUID(int=0)}".encode()).decode()


# What a generator rarely comes upon, in place of any parameter.
HOSTILE = {
    "NUL": "\x00",
    "long": "x" * 5000,
    "not UTF-8": "\udcff",
    "dots": "../x",
    "percent": "%",
    "first moment": _cursor("0001-01-01T00:00:00+23:59"),
    "last moment": _cursor("9999-12-31T23:59:59-23:59"),
    "naive moment": _cursor("2026-01-01T00:00:00"),
}
PLAIN = {"clip_id": UUID(int=0), "account_id": "ann", "slug": "x"}


def hostile_paths(app: FastAPI) -> Iterator[tuple[str, str]]:
    """The method and path of every operation, with each of its parameters replaced by each hostile value."""
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                for value in HOSTILE.values():
                    quoted = quote(value, safe="", errors="surrogateescape")
                    changed = {parameter["name"]: quoted} if parameter["in"] == "path" else {}
                    query = f"?{parameter['name']}={quoted}" if parameter["in"] == "query" else ""
                    yield method, path.format(**(PLAIN | changed)) + query


def _schema(app: FastAPI) -> Any:
    schema = schemathesis.openapi.from_dict(app.openapi())
    schema.config.generation.update(with_security_parameters=False)
    return schema


NO_STORE: Any = None  # the document is of the routes alone
REGISTRY, GATEWAY = registry_app(NO_STORE), build(gateway_settings()).state.api
TO_GATEWAY = {"Authorization": f"Bearer {hs256()}"}


def to_registry(path: str) -> dict[str, str]:
    """The token of the service that a path is for."""
    token = JANITOR_TOKEN if path.startswith(("/v1/expir", "/v1/objects")) else TOKEN
    return {"Authorization": f"Bearer {token}"}


def operations(app: FastAPI) -> list[Any]:
    """What the API can be asked, each with a name of its own."""
    return [found.ok() for found in _schema(app).get_all_operations()]


def check(operation: Any, url: str, headers: dict[str, str]) -> None:
    """Ask with generated parameters and bodies; the answers are as documented."""

    @BOUNDED
    @given(case=operation.as_strategy())
    def ask(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(url, headers=headers, checks=CHECKS)

    ask()


@pytest.mark.parametrize("operation", operations(REGISTRY), ids=lambda each: each.label)
def test_the_registry(operation: Any, urls: Urls) -> None:
    check(operation, urls.registry, to_registry(operation.path))


@pytest.mark.parametrize("operation", operations(GATEWAY), ids=lambda each: each.label)
def test_the_gateway(operation: Any, urls: Urls) -> None:
    check(operation, urls.gateway, TO_GATEWAY)


def test_no_parameter_ends_in_a_server_error(urls: Urls) -> None:
    apis = ((REGISTRY, urls.registry, to_registry), (GATEWAY, urls.gateway, lambda _path: TO_GATEWAY))
    answers: dict[str, httpx.Response] = {}
    for app, url, headers_of in apis:
        with httpx.Client(base_url=url) as client:
            answers |= {
                f"{method} {url}{path[:200]}": client.request(method, path, json={}, headers=headers_of(path))
                for method, path in hostile_paths(app)
            }
    assert len(answers) > 100
    assert {what: each.status_code for what, each in answers.items() if each.status_code >= 500} == {}
