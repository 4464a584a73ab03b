"""The registry, as the janitor sees it: its internal HTTP API behind a few methods."""

import asyncio
import random
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import httpx
import structlog
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from clip_shared.contracts.events import Contract
from clip_shared.contracts.registry_api import (
    DueClips,
    ExpirationRequest,
    ExpirationResult,
    ExpiryNoticeRequest,
    ExpiryNoticeResult,
    ObjectKeys,
    UnknownObjects,
)
from clip_shared.contracts.registry_calls import RegistryCalls
from clip_shared.errors import TransientError

log = structlog.get_logger()

ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.2
# A purge of thousands is one statement; it takes seconds at most.
TIMEOUT = httpx.Timeout(15.0, connect=2.0)
# More than the registry allows itself for the details of all that is due.
DETAILS_TIMEOUT = httpx.Timeout(150.0, connect=2.0)
# Less than the server keeps idle connections (75 s), so that no call meets one that just closed.
LIMITS = httpx.Limits(max_connections=4, keepalive_expiry=3.0)

Answer = TypeVar("Answer", bound=Contract)


class Registry(Protocol):
    """What the janitor asks of the registry."""

    async def expire(self, limit: int, cutoff: datetime | None) -> ExpirationResult:
        """Purge at most ``limit`` clips that were due at ``cutoff`` (None: now). Raises TransientError."""

    async def due(self, *, detailed: bool = False) -> DueClips:
        """What is due now; nothing is changed. Raises TransientError."""

    async def notify(self, limit: int, since: datetime | None) -> ExpiryNoticeResult:
        """Tell accounts what of theirs expires soon, ``since`` the last call's end. Raises TransientError."""

    async def unknown_objects(self, bucket: str, keys: Sequence[str]) -> set[str]:
        """Those of up to 1000 objects that no clip owns. Raises TransientError."""


def open_http(url: str, token: str) -> httpx.AsyncClient:
    """The client for a registry; close it in the end. Proxies of the environment never see the token."""
    return httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=TIMEOUT,
        limits=LIMITS,
        trust_env=False,
    )


class Call(StrEnum):
    """Every call that the janitor makes, as metrics name it."""

    DUE = "due"
    EXPIRE = "expire"
    NOTIFY = "notify"
    UNKNOWN_OBJECTS = "unknown_objects"


class HttpRegistry:
    """The registry over HTTP. Calls are tried up to three times: a purge that is asked twice is one purge."""

    def __init__(self, http: httpx.AsyncClient, calls: RegistryCalls | None = None) -> None:
        self._http = http
        self._calls = calls or RegistryCalls(CollectorRegistry(), Call)

    async def due(self, *, detailed: bool = False) -> DueClips:
        """What is due now; nothing is changed. ``detailed``: by day and account, which may take a minute.

        Raises:
            TransientError: the registry is out of reach, or its answer is none that we know.
        """
        timeout = DETAILS_TIMEOUT if detailed else TIMEOUT
        query = {"detailed": detailed}
        response = await self._try(Call.DUE, "GET", "/v1/expirations", params=query, timeout=timeout)
        return _read(response, DueClips)

    async def expire(self, limit: int, cutoff: datetime | None) -> ExpirationResult:
        """Purge at most ``limit`` clips that were due at ``cutoff`` (None: now).

        When an answer is lost, its clips are purged all the same, and missing from the count.

        Raises:
            TransientError: the registry is out of reach, or its answer is none that we know.
        """
        body = ExpirationRequest(limit=limit, cutoff=cutoff)
        return await self._ask(Call.EXPIRE, "/v1/expirations", body, ExpirationResult)

    async def notify(self, limit: int, since: datetime | None) -> ExpiryNoticeResult:
        """Tell accounts what of theirs expires soon; asked twice, it tells nobody twice.

        At most ``limit`` clips are looked at, from ``since`` on: None, then where the last call ended.

        Raises:
            TransientError: the registry is out of reach, or its answer is none that we know.
        """
        body = ExpiryNoticeRequest(limit=limit, since=since)
        return await self._ask(Call.NOTIFY, "/v1/expiry-notices", body, ExpiryNoticeResult)

    async def unknown_objects(self, bucket: str, keys: Sequence[str]) -> set[str]:
        """Those of up to 1000 objects that no clip owns.

        Raises:
            TransientError: the registry is out of reach, or its answer is none that we know.
        """
        body = ObjectKeys(bucket=bucket, keys=tuple(keys))
        answer = await self._ask(Call.UNKNOWN_OBJECTS, "/v1/objects/unknown", body, UnknownObjects)
        return set(answer.keys)

    async def check(self) -> None:
        """Whether the registry answers and takes our token.

        Raises:
            TransientError: it does not.
        """
        nothing = ObjectKeys(bucket="clips", keys=())  # a question within our rights that costs nothing
        content = nothing.model_dump(mode="json")
        response = await self._send(Call.UNKNOWN_OBJECTS, "POST", "/v1/objects/unknown", json=content)
        if not response.is_success:
            raise _unexpected(response)

    async def _ask(self, call: Call, path: str, body: Contract, answer: type[Answer]) -> Answer:
        response = await self._try(call, "POST", path, json=body.model_dump(mode="json"))
        return _read(response, answer)

    async def _try(self, call: Call, method: str, path: str, **content: Any) -> httpx.Response:
        for attempt in range(ATTEMPTS - 1):
            try:
                return await self._send(call, method, path, **content)
            except TransientError as error:
                log.info("the registry will be asked again", error=str(error))
                longest = FIRST_PAUSE_SECONDS * 4**attempt
                await asyncio.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - jitter, not a secret
        return await self._send(call, method, path, **content)

    async def _send(self, call: Call, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            with self._calls.timed(call) as answered:
                response = await self._http.request(method, path, **content)
                answered.status = response.status_code
        except httpx.TransportError as error:
            raise TransientError(f"the registry cannot be reached: {error!r}") from error
        if response.is_server_error:
            raise TransientError(f"the registry answered {response.status_code}")
        return response


def _read(response: httpx.Response, answer: type[Answer]) -> Answer:
    if not response.is_success:
        raise _unexpected(response)
    try:
        return answer.model_validate_json(response.content)
    except ValidationError as error:
        raise TransientError(f"the registry's answer breaks the contract: {error}") from error


def _unexpected(response: httpx.Response) -> TransientError:
    """A refusal that only a person can mend (a wrong token, versions that do not match): wait for it."""
    log.error("the registry refused a request of ours", status=response.status_code, body=response.text[:500])
    return TransientError(f"the registry answered {response.status_code}")
