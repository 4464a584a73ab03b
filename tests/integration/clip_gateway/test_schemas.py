"""Requests generated from the OpenAPI document are answered as documented, and never with 5xx."""

import asyncio
import socket
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st

from clip_gateway import app as gateway_app
from clip_registry.database.engine import open_engine
from tests.integration.clip_gateway.conftest import (
    RealRegistrySetup,
    gateway_settings,
    serving,
)
from tests.integration.clip_registry.conftest import Database
from tests.integration.documented import BOUNDED, CHECKS
from tests.integration.threads import served
from tests.unit.clip_gateway.tokens import hs256

Document = dict[str, Any]


class Urls(NamedTuple):
    """Address of the API, and of clips: two of the caller's, an expired one, and another account's."""

    gateway: str
    clips: tuple[UUID, ...]


async def _serve(database_url: str, urls: Future[Urls], stop: asyncio.Event) -> None:
    engine = open_engine(database_url, pool_size=4, statement_timeout_seconds=10)
    with (
        socket.create_server(("127.0.0.1", 0)) as for_registry,
        socket.create_server(("127.0.0.1", 0)) as for_gateway,
    ):
        listeners = (for_registry, for_gateway)
        registry_url, gateway_url = (f"http://127.0.0.1:{each.getsockname()[1]}" for each in listeners)
        setup = RealRegistrySetup(Database(database_url, engine), registry_url)
        clips = [await setup.add(account) for account in ("ann", "ann", "bob")]
        await setup.expire(clips[1])
        gateway = gateway_app.build(gateway_settings(registry_url=registry_url, presigns_per_minute=100_000))
        async with (
            setup.client,
            serving(setup.app(), for_registry),
            gateway.router.lifespan_context(gateway),
            serving(gateway.state.api, for_gateway),
        ):
            urls.set_result(Urls(gateway_url, tuple(clips)))
            await stop.wait()
    await engine.dispose()


@pytest.fixture(scope="module")
def urls(registry_database_url: str) -> Iterator[Urls]:
    """Gateway and registry in their own thread and event loop: the tests' requests block."""
    with served(partial(_serve, registry_database_url)) as found:
        yield found


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
PLAIN = {"clip_id": UUID(int=0), "vod_id": "x"}


def hostile_paths(document: Document) -> Iterator[tuple[str, str]]:
    """The method and path of every operation, with each of its parameters replaced by each hostile value."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                for value in HOSTILE.values():
                    quoted = quote(value, safe="", errors="surrogateescape")
                    changed = {parameter["name"]: quoted} if parameter["in"] == "path" else {}
                    query = f"?{parameter['name']}={quoted}" if parameter["in"] == "query" else ""
                    yield method, path.format(**(PLAIN | changed)) + query


GATEWAY = gateway_app.api_document()
TO_GATEWAY = {"Authorization": f"Bearer {hs256()}"}


def operations(document: Document) -> list[Any]:
    """The operations of the API, by name."""
    schema: Any = schemathesis.openapi.from_dict(document)
    schema.config.generation.update(with_security_parameters=False)
    found = [each.ok() for each in schema.get_all_operations()]
    # What takes clips away comes last: all others would meet deleted clips alone.
    return sorted(found, key=lambda each: each.label in _LAST)


_LAST = {"DELETE /v1/clips/{clip_id}", "POST /v1/clips/{clip_id}/restore"}


def check(operation: Any, url: str, headers: dict[str, str], clips: tuple[UUID, ...]) -> None:
    """Send generated parameters and bodies, also for existing clips; answers are as documented."""

    @BOUNDED
    @given(case=operation.as_strategy(), clip_id=st.sampled_from([None, *clips]))
    def ask(case: schemathesis.Case[Any], clip_id: UUID | None) -> None:
        if clip_id is not None and "clip_id" in case.path_parameters:
            case.path_parameters["clip_id"] = str(clip_id)
        case.call_and_validate(url, headers=headers, checks=CHECKS, allow_redirects=False)

    ask()


@pytest.mark.parametrize("operation", operations(GATEWAY), ids=lambda each: each.label)
def test_the_gateway(operation: Any, urls: Urls) -> None:
    check(operation, urls.gateway, TO_GATEWAY, urls.clips)


@pytest.mark.parametrize("operation", operations(GATEWAY), ids=lambda each: each.label)
def test_the_gateway_without_a_good_token(operation: Any, urls: Urls) -> None:
    check(operation, urls.gateway, {"Authorization": f"Bearer {hs256(aud='others')}"}, urls.clips)


def test_no_parameter_ends_in_a_server_error(urls: Urls) -> None:
    with httpx.Client(base_url=urls.gateway, headers=TO_GATEWAY) as client:
        answers = {
            f"{method} {path[:200]}": client.request(method, path, json={}).status_code
            for method, path in hostile_paths(GATEWAY)
        }
    assert len(answers) > 100
    assert {what: status for what, status in answers.items() if status >= 500} == {}
