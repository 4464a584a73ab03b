"""``docs/reference/http.md``: every address of every port, from the applications themselves."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry

import clip_gateway.app
import clip_registry.app
from clip_gateway import pages, public
from clip_gateway.parts import GatewayParts
from clip_gateway.settings import GatewaySettings
from clip_shared.http.operations import create_app
from tests.reference.json_schema import fields_of, name_of, type_of, with_default
from tests.reference.markdown import code, codes, document, fence, first_sentence, prose, table

METHODS = ("get", "post", "put", "patch", "delete")
PROBLEM = "application/problem+json"
ABOUT = """\
The public may reach only the gateway's `HTTP_PORT`
([deployment](../deployment.md#in-front-of-the-gateway)). The OpenAPI 3.1 documents have every schema and
example of the two JSON APIs: [clip-gateway.json](openapi/clip-gateway.json),
[clip-registry.json](openapi/clip-registry.json)."""
GATEWAY = """\
On the gateway's `HTTP_PORT`, for streamers and their programs ([sign-in](../deployment.md#sign-in))."""
PUBLIC = """\
On the gateway's `HTTP_PORT`, without sign-in. A share link that is no longer valid is answered with 410, an
unknown one with 404, and too many requests of one address with 429
([public pages](../decisions/0039-public-pages.md))."""
PAGES = """\
On the gateway's `HTTP_PORT`, for streamers in a browser. A guest is redirected to `LOGIN_URL`. Forms are
answered with 303 to a page."""
REGISTRY = """\
On the registry's `HTTP_PORT`, for the gateway (with `REGISTRY_GATEWAY_TOKEN`) and the janitor (with
`REGISTRY_JANITOR_TOKEN`: expirations, notices, orphans). Parameters and bodies:
[clip-registry.json](openapi/clip-registry.json)."""
OPERATIONS = """\
On every service's `OPERATIONS_PORT`, without sign-in: for Prometheus and the orchestrator, never for the
public."""
ERRORS = """\
Errors are `application/problem+json` (RFC 9457). Answers with 429 and 503 have the header `Retry-After`."""


def page() -> str:
    """Return the page."""
    gateway, registry = clip_gateway.app.api_document(), clip_registry.app.api_document()
    parts = _parts()
    return document(
        "HTTP",
        ABOUT,
        "## Gateway: the API",
        GATEWAY,
        prose(gateway["info"]["description"]),
        _calls(gateway),
        "### Parameters and bodies",
        _asked(gateway),
        "### A clip",
        _model(gateway, "ClipView"),
        fence(json.dumps(_example(gateway, "ClipView"), indent=2, ensure_ascii=False), "json"),
        "### Errors",
        ERRORS,
        _errors(gateway),
        "## Gateway: published clips",
        PUBLIC,
        _pages(public.create(parts)),
        "## Gateway: pages",
        PAGES,
        _pages(pages.create(parts)),
        "## Registry: the internal API",
        REGISTRY,
        _calls(registry),
        "## Operations",
        OPERATIONS,
        _operations(),
    )


def _parts() -> GatewayParts:
    """Return the gateway's parts without connections."""
    anywhere = "https://clips.example"
    settings = {
        "free_storage_bucket": "clips",
        "free_storage_access_key": "x",
        "free_storage_secret_key": "x",
        "public_url": anywhere,
        "registry_url": anywhere,
        "registry_token": "of no registry at all",
        "jwt_jwks_url": anywhere,
        "jwt_issuer": anywhere,
        "jwt_audience": "clips",
    }
    parts: GatewayParts = clip_gateway.app.build(GatewaySettings.model_validate(settings)).state.parts
    return parts


def _operations_of(found: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path, operations in found["paths"].items():
        for method in METHODS:
            if method in operations:
                yield f"{method.upper()} {path}", operations[method]


def _calls(api: Mapping[str, Any]) -> str:
    """Return the table of an API's calls, with their answers and refusals."""
    rows = []
    for call, operation in _operations_of(api):
        answers = {status: _body(answer) for status, answer in operation["responses"].items()}
        refusals = [status for status in answers if "$ref" in operation["responses"][status]]
        given = [f"{code(status)} {answers[status]}".strip() for status in answers if status not in refusals]
        rows.append((code(call), prose(operation.get("description")), ", ".join(given), codes(refusals)))
    return table(("call", "effect", "answers", "refusals"), rows)


def _body(answer: Mapping[str, Any]) -> str:
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return name_of(schema)


def _asked(api: Mapping[str, Any]) -> str:
    """Return the table of query parameters and fields of bodies."""
    definitions = api["components"]["schemas"]
    rows: list[tuple[str, ...]] = []
    for call, operation in _operations_of(api):
        for each in operation.get("parameters", ()):
            if each["in"] == "query":
                kind, meaning = type_of(each["schema"], definitions), with_default(each["schema"])
                rows.append((code(call), code(each["name"]), kind, meaning))
        fields = fields_of(definitions.get(_sent(operation), {}), definitions)
        rows.extend((code(call), code(each.path), each.type, each.meaning) for each in fields)
    return table(("call", "parameter or field", "type", "meaning"), rows)


def _sent(operation: Mapping[str, Any]) -> str:
    """Return the name of the model of a call's body."""
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return name_of(schema) or next(filter(None, map(name_of, schema.get("anyOf", ()))), "")


def _model(api: Mapping[str, Any], name: str) -> str:
    definitions = api["components"]["schemas"]
    rows = [(code(each.path), each.type, each.meaning) for each in fields_of(definitions[name], definitions)]
    return table(("field", "type", "meaning"), rows)


def _example(api: Mapping[str, Any], name: str) -> Any:
    return api["components"]["schemas"][name]["examples"][0]


def _errors(api: Mapping[str, Any]) -> str:
    problems = [answer["content"][PROBLEM]["example"] for answer in api["components"]["responses"].values()]
    rows = [(code(each["status"]), each["title"], each["detail"]) for each in problems]
    return table(("status", "title", "meaning"), sorted(rows))


def _pages(app: FastAPI) -> str:
    """Return the table of pages; pages with the same description share a row."""
    shared: dict[str, list[str]] = {}
    for call, operation in _operations_of(app.openapi()):
        shared.setdefault(prose(operation["description"]), []).append(call)
    return _described((calls, text) for text, calls in shared.items())


def _operations() -> str:
    """Return the table of the operations port, which is the same for every service."""
    app = create_app("any", registry=CollectorRegistry(), checks={})
    found = {each.path: each.endpoint for each in app.routes if isinstance(each, APIRoute)}
    return _described(([f"GET {path}"], first_sentence(found[path].__doc__)) for path in found)


def _described(rows: Iterable[tuple[Sequence[str], str]]) -> str:
    return table(("address", "does"), [(codes(calls), text) for calls, text in rows])
