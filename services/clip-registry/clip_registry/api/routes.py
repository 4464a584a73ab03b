"""The routes of the internal API, each behind the token of the service that it is for.

The models of requests and answers are in :mod:`clip_shared.contracts.registry_api`.
"""

import secrets
from collections.abc import Callable, Coroutine, Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from clip_registry.api.accounts import add_account_routes
from clip_registry.api.actions import add_action_routes
from clip_registry.api.clips import add_clip_routes
from clip_registry.api.housekeeping import add_housekeeping_routes
from clip_registry.api.parts import RegistryParts
from clip_shared.http.problems import Problem


class ApiClient(StrEnum):
    """The services that call this API, each with a token for the routes that its job needs."""

    GATEWAY = "gateway"
    JANITOR = "janitor"


def create_router(parts: RegistryParts, tokens: Mapping[ApiClient, SecretStr]) -> APIRouter:
    """Create the routes for the gateway and those for the janitor."""
    for_gateway = APIRouter(dependencies=[Depends(_requires(ApiClient.GATEWAY, tokens))])
    add_clip_routes(for_gateway, parts)
    add_account_routes(for_gateway, parts)
    add_action_routes(for_gateway, parts)
    for_janitor = APIRouter(dependencies=[Depends(_requires(ApiClient.JANITOR, tokens))])
    add_housekeeping_routes(for_janitor, parts)
    router = APIRouter()
    router.include_router(for_gateway)
    router.include_router(for_janitor)
    return router


def _requires(
    expected: ApiClient, tokens: Mapping[ApiClient, SecretStr]
) -> Callable[..., Coroutine[Any, Any, None]]:
    known = {client: token.get_secret_value().encode() for client, token in tokens.items()}
    bearer = HTTPBearer(auto_error=False)

    async def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        token = given.credentials.encode() if given else b""
        clients = [client for client, secret in known.items() if secrets.compare_digest(token, secret)]
        if not clients:
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "A valid service token is required.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if expected not in clients:
            raise Problem(
                HTTPStatus.FORBIDDEN, f"This is for the {expected}; the token is that of the {clients[0]}."
            )

    return check
