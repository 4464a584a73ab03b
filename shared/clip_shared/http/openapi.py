"""The OpenAPI 3.1 documents of our HTTP APIs, with all errors."""

from copy import deepcopy
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from clip_shared.contracts.problems import PROBLEM_MEDIA_TYPE, ProblemBody

Responses = dict[int | str, dict[str, Any]]

_OF_FASTAPI = "422"
# Titles and meanings. Python's own phrases differ between its versions.
_ERRORS = {
    HTTPStatus.UNAUTHORIZED: ("Unauthorized", "The caller is not known: no token, or an invalid one."),
    HTTPStatus.FORBIDDEN: ("Forbidden", "The caller may not do this."),
    HTTPStatus.NOT_FOUND: ("Not Found", "It does not exist, or not any more."),
    HTTPStatus.CONFLICT: ("Conflict", "Its status, or a full limit of unkept clips, does not allow it."),
    HTTPStatus.GONE: ("Gone", "It was here, and will not come back."),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("Content Too Large", "The request's body is too large."),
    HTTPStatus.UNPROCESSABLE_ENTITY: (
        "Unprocessable Content",
        "The request is not valid; `problems` says where.",
    ),
    HTTPStatus.TOO_MANY_REQUESTS: ("Too Many Requests", "Too many requests in a short time."),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Service Unavailable", "What this service depends on is down."),
}
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
}
_HEADERS = {
    HTTPStatus.UNAUTHORIZED: {
        "WWW-Authenticate": {"description": "How to sign in.", "schema": {"type": "string"}}
    },
    HTTPStatus.TOO_MANY_REQUESTS: _RETRY_AFTER,
    HTTPStatus.SERVICE_UNAVAILABLE: _RETRY_AFTER,
}


def errors(*statuses: HTTPStatus) -> Responses:
    """Return the ``responses`` of a route that answers ``statuses`` with problems."""
    return {status.value: _error(status) for status in statuses}


def _error(status: HTTPStatus) -> dict[str, Any]:
    title, meaning = _ERRORS[status]
    example = {"type": "about:blank", "status": status.value, "title": title, "detail": meaning}
    content = {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}}
    headers = _HEADERS.get(status)
    return {"description": meaning, "content": content, **({"headers": headers} if headers else {})}


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of an application whose routes name their errors with :func:`errors`.

    The errors that FastAPI adds are left out: ours have another shape.
    """
    found = deepcopy(app.openapi())
    components = found.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = ProblemBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= {**problem.pop("$defs"), "Problem": problem}
    components["responses"] = {}
    for methods in found["paths"].values():
        for operation in methods.values():
            operation["responses"] = _shared(operation["responses"], components["responses"])
    return found


def _shared(answers: dict[str, Any], responses: dict[str, Any]) -> dict[str, Any]:
    """Return an operation's answers. Problems are references to ``responses``, where they are added."""
    found = {}
    for status, answer in sorted(answers.items()):
        if PROBLEM_MEDIA_TYPE in answer.get("content", {}):
            name = _ERRORS[HTTPStatus(int(status))][0].replace(" ", "")
            responses[name] = answer
            found[status] = {"$ref": f"#/components/responses/{name}"}
        elif status != _OF_FASTAPI:
            found[status] = answer
    return found
