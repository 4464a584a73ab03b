"""The registry, as the gateway sees it: its internal HTTP API behind five methods."""

import asyncio
import random
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Protocol, TypeVar
from uuid import UUID

import httpx
import structlog
from pydantic import BaseModel, ValidationError

from clip_gateway.domain import Action, Refusal, Refused
from clip_shared.errors import TransientError
from clip_shared.problems import ProblemResponse
from clip_shared.registry_api import Actor, ClipPage, ClipRecord, ClipStatus

log = structlog.get_logger()

# A person waits: all attempts together must end before they lose patience.
DEADLINE_SECONDS = 6.0
ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.1
TIMEOUT = httpx.Timeout(2.0, connect=1.0, pool=2.0)
# Less than the server keeps idle connections (75 s), or a write now and then meets one that just closed.
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=3.0)

_NOBODY = UUID(int=0)
_TRY_AGAIN = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
_REFUSALS: Mapping[int, Refusal] = {
    HTTPStatus.FORBIDDEN: Refusal.NOT_OWNER,
    HTTPStatus.NOT_FOUND: Refusal.UNKNOWN,
    HTTPStatus.CONFLICT: Refusal.NOT_ALLOWED,
}

Answer = TypeVar("Answer", bound=BaseModel)


class Registry(Protocol):
    """What the gateway asks of the registry. Every method raises TransientError when it is out of reach."""

    async def get(self, clip_id: UUID) -> ClipRecord | None:
        """The clip, also a purged or expired one."""

    async def clips_of(
        self, account_id: str, *, statuses: Iterable[ClipStatus], limit: int, cursor: str | None
    ) -> ClipPage:
        """An account's living clips, newest first; no statuses: all. Raises Refused (BAD_CURSOR)."""

    async def act(self, action: Action, clip_id: UUID, account_id: str) -> ClipRecord:
        """Do it; again is fine. Raises Refused (UNKNOWN, NOT_OWNER, NOT_ALLOWED)."""


def open_http(url: str, token: str) -> httpx.AsyncClient:
    """The client for a registry; close it in the end. Proxies of the environment never see the token."""
    return httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=TIMEOUT,
        limits=LIMITS,
        trust_env=False,
    )


class HttpRegistry:
    """The registry over HTTP. Reads are tried up to three times; writes once, because a person can repeat."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._was_reached = False

    async def get(self, clip_id: UUID) -> ClipRecord | None:
        """The clip, also a purged or expired one."""
        response = await self._read(f"/v1/clips/{clip_id}")
        is_unknown = response.status_code == HTTPStatus.NOT_FOUND and _is_of_the_registry(response)
        return None if is_unknown else _parse(ClipRecord, response)

    async def clips_of(
        self, account_id: str, *, statuses: Iterable[ClipStatus], limit: int, cursor: str | None
    ) -> ClipPage:
        """An account's living clips, newest first; no statuses: all.

        Raises:
            Refused: the cursor is not one of the registry's.
        """
        query: dict[str, Any] = {"limit": limit, "status": list(statuses)}
        if cursor is not None:
            query["cursor"] = cursor
        response = await self._read(f"/v1/accounts/{account_id}/clips", query)
        refused = response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY and _is_of_the_registry(response)
        if refused and cursor is not None:
            raise Refused(Refusal.BAD_CURSOR)
        return _parse(ClipPage, response)

    async def act(self, action: Action, clip_id: UUID, account_id: str) -> ClipRecord:
        """Do what an account asks of a clip.

        Raises:
            Refused: unknown or purged, somebody else's, or not allowed from the clip's status.
        """
        body = Actor(account_id=account_id).model_dump()
        response = await self._send("POST", f"/v1/clips/{clip_id}/{action}", json=body)
        reason = _REFUSALS.get(response.status_code) if _is_of_the_registry(response) else None
        if reason is not None:
            raise Refused(reason, _detail(response) if reason is Refusal.NOT_ALLOWED else None)
        return _parse(ClipRecord, response)

    async def check(self) -> str | None:
        """Whether the registry answers and takes our token.

        Once it has answered, an outage is a shortfall only: callers are better told so (503, Retry-After)
        by us than sent away by a load balancer that has nobody left.

        Raises:
            TransientError: it has never answered.
        """
        try:
            await self.get(_NOBODY)
        except TransientError as error:
            if not self._was_reached:
                raise
            return f"callers get 503: {error}"
        self._was_reached = True
        return None

    async def _read(self, path: str, query: dict[str, Any] | None = None) -> httpx.Response:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                for attempt in range(ATTEMPTS - 1):
                    try:
                        return await self._send("GET", path, params=query)
                    except TransientError:
                        longest = FIRST_PAUSE_SECONDS * 2**attempt
                        await asyncio.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - jitter
                return await self._send("GET", path, params=query)
        except TimeoutError as error:
            raise TransientError(f"the registry did not answer within {DEADLINE_SECONDS:.0f} s") from error

    async def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, path, **content)
        except httpx.TransportError as error:
            raise TransientError(f"the registry cannot be reached: {error!r}") from error
        if response.is_server_error:
            raise TransientError(f"the registry answered {response.status_code}")
        return response


def _is_of_the_registry(response: httpx.Response) -> bool:
    """Return whether the registry itself refused, and not something on the way to it."""
    content_type: str = response.headers.get("content-type", "")
    return content_type.startswith(str(ProblemResponse.media_type))


def _detail(response: httpx.Response) -> str | None:
    """Return what a problem says; None where the answer is not a problem with a detail."""
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return None
    return detail if isinstance(detail, str) else None


def _parse(model: type[Answer], response: httpx.Response) -> Answer:
    """The answer as a model. What fits no contract is an outage to our caller, and an error to us."""
    if not response.is_success:
        log.error(
            "the registry refused a request of ours", status=response.status_code, body=response.text[:500]
        )
        raise TransientError(f"the registry answered {response.status_code}")
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        log.exception("the registry's answer breaks the contract")
        raise TransientError("the registry's answer cannot be read") from error
