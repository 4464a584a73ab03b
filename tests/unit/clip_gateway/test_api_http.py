"""The API as HTTP: revalidation, methods, limits, and the document that describes it all."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from clip_gateway.app import api_document
from clip_gateway.etags import is_among
from clip_gateway.parts import GatewayParts
from clip_gateway.rate_limits import RateLimits
from tests.unit.clip_gateway.fakes import InMemoryRegistry, a_clip
from tests.unit.clip_gateway.test_api import bearer

DOCUMENT = Path(__file__).parents[3] / "docs/reference/openapi/clip-gateway.json"
JSON_READS = ["/v1/clips", "/v1/clips/{}", "/v1/usage", "/v1/vods", "/v1/vods/vod-1", "/v1/feed"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", JSON_READS)
async def test_an_unchanged_answer_is_304(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, path: str, method: str
) -> None:
    await registry.open_feed("ann")
    path = path.format(registry.put(a_clip()).clip_id)
    first = await guest.get(path, headers=bearer())
    assert first.headers["cache-control"] == "private, no-cache"
    assert first.headers["vary"] == "Authorization, Cookie"
    etag = first.headers["etag"]
    again = await guest.request(method, path, headers={**bearer(), "If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert again.headers["cache-control"] == "private, no-cache"
    other = await guest.request(method, path, headers={**bearer(), "If-None-Match": '"another"'})
    assert (other.status_code, other.headers["etag"]) == (200, etag)
    # A caller that may not see a clip does not learn either that it is unchanged.
    assert (await guest.get(path, headers={"If-None-Match": etag})).status_code == 401


async def test_a_changed_answer_is_sent(guest: httpx.AsyncClient, registry: InMemoryRegistry) -> None:
    path = f"/v1/clips/{registry.put(a_clip()).clip_id}"
    etag = (await guest.get(path, headers=bearer())).headers["etag"]
    kept = await guest.post(f"{path}/keep", headers={**bearer(), "If-None-Match": etag})
    assert (kept.status_code, kept.headers["cache-control"]) == (200, "no-store")
    assert "etag" not in kept.headers
    answer = await guest.get(path, headers={**bearer(), "If-None-Match": etag})
    assert (answer.status_code, answer.json()["status"]) == (200, "kept")


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ('"a"', True),
        ('W/"a"', True),
        ('"b", W/"a" ,"c"', True),
        ("*", True),
        *((header, False) for header in ('"b"', "a", "", ",", '"a', 'w/"a"')),
    ],
)
def test_if_none_match_headers(header: str, *, named: bool) -> None:
    assert is_among('"a"', header) is named


ALLOWED = {
    "/v1/clips": "GET, HEAD",
    "/v1/clips/{}": "DELETE, GET, HEAD, PATCH",
    "/v1/clips/{}/watch": "GET, HEAD",
    "/v1/clips/{}/keep": "DELETE, POST",
    "/v1/clips/{}/publish": "DELETE, POST",
    "/v1/clips/{}/restore": "POST",
    "/v1/clips/batch": "POST",
    "/v1/feed": "DELETE, GET, HEAD, PUT",
}


@pytest.mark.parametrize("path", ALLOWED)
async def test_allow_names_every_method_of_a_path(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, path: str
) -> None:
    full = path.format(registry.put(a_clip()).clip_id)
    refused = [
        answer
        for method in ("BREW", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
        if (answer := await guest.request(method, full, headers=bearer())).status_code == 405
    ]
    assert {each.headers["allow"] for each in refused} == {ALLOWED[path]}
    assert len(refused) == 8 - len(ALLOWED[path].split(", "))


class TestPresigning:
    """Three URLs a minute for each account."""

    @pytest.fixture
    def parts(self, parts: GatewayParts) -> GatewayParts:
        limits = RateLimits(presigns_per_minute=3, visits_per_minute=1)
        return GatewayParts(**{**vars(parts), "limits": limits})

    async def test_presigns_are_limited_by_account(
        self, guest: httpx.AsyncClient, registry: InMemoryRegistry
    ) -> None:
        mine, theirs = registry.put(a_clip()), registry.put(a_clip("bob"))
        path = f"/v1/clips/{mine.clip_id}"
        for view, method in (("watch", "GET"), ("download", "HEAD"), ("poster", "GET")):
            assert (await guest.request(method, f"{path}/{view}", headers=bearer())).status_code == 302
        refused = await guest.get(f"{path}/watch", headers=bearer())
        assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
        assert 1 <= int(refused.headers["retry-after"]) <= 120
        assert (await guest.get(path, headers=bearer())).status_code == 200
        bobs = await guest.get(f"/v1/clips/{theirs.clip_id}/watch", headers=bearer("bob"))
        assert bobs.status_code == 302


def examples(node: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every schema of a document with an example that is given for it."""
    if isinstance(node, dict):
        for each in node.get("examples", ()):
            yield node, each
        if "example" in node:
            yield node["schema"], node["example"]
        for each in node.values():
            yield from examples(each)
    if isinstance(node, list):
        for each in node:
            yield from examples(each)


def test_the_document_that_is_checked_in_is_the_apis() -> None:
    assert json.loads(DOCUMENT.read_text()) == api_document()


def test_every_example_is_what_the_document_says_it_is() -> None:
    document = json.loads(DOCUMENT.read_text())
    found = list(examples(document))
    assert len(found) > 15
    for schema, example in found:
        rooted = {**schema, "components": document["components"]}
        jsonschema.Draft202012Validator(rooted).validate(example)


def test_every_call_says_what_it_refuses() -> None:
    calls = {
        f"{method} {path}": operation["responses"]
        for path, operations in json.loads(DOCUMENT.read_text())["paths"].items()
        for method, operation in operations.items()
    }
    assert len(calls) == 19
    for call, answers in calls.items():
        assert {"401", "503"} <= set(answers), call
        # One's own account's is always there, and reading it is never refused.
        writes = not call.startswith("get ")
        assert ("403" in answers) == (writes or "{clip_id}" in call), call
        assert ("404" in answers) == ("{" in call or call == "get /v1/feed"), call
        assert ("304" in answers) == (not writes and "200" in answers), call
        refused = [answers[each] for each in answers if each >= "4"]
        assert all(each["$ref"].startswith("#/components/responses/") for each in refused), call
