"""Routes of development only: the API's OpenAPI document, and a page that shows it."""

import json
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from clip_gateway.api.openapi_document import describe
from clip_gateway.html.rendering import Renderer
from clip_gateway.parts import GatewayParts


def create_router(app: FastAPI, parts: GatewayParts) -> APIRouter:
    """Create the routes of the document: as JSON, and as our own page, which loads nothing from a CDN."""
    router = APIRouter(include_in_schema=False)
    renderer = Renderer(parts.addresses)

    @router.get("/openapi.json")
    async def openapi() -> JSONResponse:
        return JSONResponse(describe(app, parts.sign_in.cookie_name))

    @router.get("/docs")
    async def docs(request: Request) -> Response:
        document = describe(app, parts.sign_in.cookie_name)
        return renderer.page(request, "docs.html", api=document, calls=_calls(document))

    return router


def _calls(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the page shows of every operation: path, parameters, request body and answers."""
    return [
        {
            "method": method.upper(),
            "path": path,
            "about": operation["description"],
            "parameters": [_parameter(document, each) for each in operation.get("parameters", ())],
            "body": _example(document, operation.get("requestBody", {})),
            "answers": [_answer(document, status, each) for status, each in operation["responses"].items()],
        }
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


def _parameter(document: dict[str, Any], parameter: dict[str, Any]) -> dict[str, Any]:
    schema = parameter["schema"]
    choices = document["components"]["schemas"].get(_name(schema.get("items", schema)), {})
    return {
        "name": parameter["name"],
        "place": parameter["in"],
        "required": parameter["required"],
        "about": parameter.get("description", ""),
        "choices": choices.get("enum", ()),
    }


def _answer(document: dict[str, Any], status: str, answer: dict[str, Any]) -> dict[str, Any]:
    shared = document["components"]["responses"]
    return {
        "status": status,
        "about": shared.get(_name(answer), answer)["description"],
        "example": _example(document, answer),
    }


def _example(document: dict[str, Any], sent: dict[str, Any]) -> str | None:
    """Return an example of a JSON body, indented; None: there is no JSON body."""
    schema = sent.get("content", {}).get("application/json", {}).get("schema")
    if schema is None:
        return None
    # The schema of an optional body is `anyOf` of a model and null.
    model = document["components"]["schemas"][_name(schema) or _name(schema["anyOf"][0])]
    return json.dumps(model["examples"][0], indent=2, ensure_ascii=False)


def _name(reference: dict[str, Any]) -> str:
    """Return the name in a ``$ref``; empty if the schema is not a reference."""
    pointer: str = reference.get("$ref", "")
    return pointer.rpartition("/")[2]
