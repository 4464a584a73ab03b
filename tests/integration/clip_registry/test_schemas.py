"""The internal API answers as its OpenAPI document says, whatever it is asked."""

import asyncio
import json
import socket
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest
import schemathesis
from hypothesis import given

from clip_registry.app import api_document
from clip_registry.database.engine import open_engine
from clip_registry.migrations.run import migrate
from clip_registry.reports import ReportedCut
from tests.integration.clip_gateway.conftest import JANITOR_TOKEN, TOKEN, registry_app, serving
from tests.integration.clip_registry.conftest import Database, fresh_database
from tests.integration.documented import BOUNDED, CHECKS
from tests.integration.threads import served
from tests.unit.clip_registry.cuts import a_cut, a_skip

ROOT = Path(__file__).parents[3]
DOCUMENT = api_document()
FOR_THE_JANITOR = ("/v1/expir", "/v1/objects")


class Known(NamedTuple):
    """Where the API is, and what is there."""

    url: str
    clip_id: str
    share_slug: str
    feed_slug: str

    def parameters(self, path: str) -> dict[str, str]:
        """Path parameters that something answers to."""
        slug = self.feed_slug if path.startswith("/v1/feeds") else self.share_slug
        return {"clip_id": self.clip_id, "account_id": "ann", "vod_id": "vod-1", "slug": slug}


async def _serve(database_url: str, found: Future[Known], stop: asyncio.Event) -> None:
    engine = open_engine(database_url, pool_size=4, statement_timeout_seconds=10)
    store = Database(database_url, engine).store(notice_days=1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with serving(registry_app(store), listener):
            await store.record([ReportedCut(a_cut(each), each) for each in ("hl-1", "hl-2")])
            await store.skips.record(a_skip("hl-3"))
            feed = await store.feeds.open("ann")
            slug = await _published(url, a_cut("hl-2").clip_id)
            found.set_result(Known(url, str(a_cut("hl-1").clip_id), slug, feed.slug))
            await stop.wait()
    await engine.dispose()


async def _published(url: str, clip_id: UUID) -> str:
    path = f"/v1/clips/{clip_id}/publish"
    async with httpx.AsyncClient(base_url=url, headers=token_for(path)) as client:
        published = await client.post(path, json={"account_id": "ann"})
    return str(published.raise_for_status().json()["share_slug"])


@pytest.fixture(scope="module")
def known(database_url: str) -> Iterator[Known]:
    """The API on a database of its own: others leave clips behind, with the same highlights."""
    with fresh_database(database_url) as url:
        asyncio.run(migrate(url, wait_seconds=30))
        with served(partial(_serve, url)) as found:
            yield found


def operations() -> list[Any]:
    """What the API can be asked, each with a name of its own."""
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.config.generation.update(with_security_parameters=False)
    found: Any = schema.get_all_operations()
    return [each.ok() for each in found]


def token_for(path: str) -> dict[str, str]:
    """The token of the service that a path is for."""
    return bearer(JANITOR_TOKEN if path.startswith(FOR_THE_JANITOR) else TOKEN)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("is_known", [False, True], ids=["anything", "what is there"])
@pytest.mark.parametrize("operation", operations(), ids=lambda each: each.label)
def test_answers_are_as_documented(operation: Any, is_known: bool, known: Known) -> None:
    """Asked for anything, and for what is there; by whom it belongs to."""

    @BOUNDED
    @given(case=operation.as_strategy())
    def ask(case: schemathesis.Case[Any]) -> None:
        if is_known:
            given_here = case.path_parameters or {}
            parameters = known.parameters(operation.path)
            case.path_parameters = {name: parameters[name] for name in given_here}
            if isinstance(case.body, dict) and "account_id" in case.body:
                case.body["account_id"] = "ann"
        case.call_and_validate(known.url, headers=token_for(operation.path), checks=CHECKS)

    ask()


@pytest.mark.parametrize("operation", operations(), ids=lambda each: each.label)
def test_refused_callers_are_documented(operation: Any, known: Known) -> None:
    ours = token_for(operation.path)
    [others] = [each for each in (bearer(TOKEN), bearer(JANITOR_TOKEN)) if each != ours]
    body: dict[str, Any] = {"body": {}} if operation.body else {}
    case = operation.Case(path_parameters=known.parameters(operation.path), **body)
    for headers, status in ((bearer("nobody's"), 401), (others, 403)):
        assert case.call_and_validate(known.url, headers=headers, checks=CHECKS).status_code == status


# What a generator rarely comes upon, in place of any parameter.
HOSTILE = {
    "NUL": "\x00",
    "long": "x" * 5000,
    "not UTF-8": "\udcff",
    "dots": "../x",
    "percent": "%",
    **{
        f"cursor {value}": urlsafe_b64encode(f"newest {value} {UUID(int=0)}".encode()).decode()
        for value in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-01T00:00:00", "-")
    },
}


def hostile_calls(known: Known) -> Iterator[tuple[str, str]]:
    """The method and path of every operation, with each of its parameters replaced by each hostile value."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", ()):
                for value in HOSTILE.values():
                    quoted = quote(value, safe="", errors="surrogateescape")
                    changed = {parameter["name"]: quoted} if parameter["in"] == "path" else {}
                    query = f"?{parameter['name']}={quoted}" if parameter["in"] == "query" else ""
                    yield method, path.format(**(known.parameters(path) | changed)) + query


def test_no_parameter_ends_in_a_server_error(known: Known) -> None:
    with httpx.Client(base_url=known.url) as client:
        answers = {
            f"{method} {path[:200]}": client.request(method, path, headers=token_for(path)).status_code
            for method, path in hostile_calls(known)
        }
    assert len(answers) > 100
    assert {what: status for what, status in answers.items() if status >= 500} == {}


def test_what_a_path_does_not_take_is_said_in_allow(known: Known) -> None:
    """Of every path, also of those that two methods share."""
    with httpx.Client(base_url=known.url) as client:
        for path, methods in DOCUMENT["paths"].items():
            response = client.patch(path.format(**known.parameters(path)), headers=token_for(path))
            expected = {each.upper() for each in methods} | ({"HEAD"} if "get" in methods else set())
            assert response.status_code == 405
            assert set(response.headers["allow"].split(", ")) == expected, path


def test_the_document_is_the_one_that_is_checked_in() -> None:
    """If not: make openapi."""
    checked_in = ROOT / "docs" / "reference" / "openapi" / "clip-registry.json"
    assert json.loads(checked_in.read_text()) == DOCUMENT
