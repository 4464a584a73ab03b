"""The client of the registry's internal HTTP API (see :mod:`clip_shared.contracts.registry_api`).

It sends requests, tries them again, measures them, and reads the answers. Which requests a service sends, and
what a refusal means to it, stands in the ``registry`` module of the service.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Self, TypeVar

import aiohttp
import structlog
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ValidationError

from clip_shared.backoff import backoff_seconds
from clip_shared.contracts.problems import PROBLEM_MEDIA_TYPE
from clip_shared.contracts.registry_metrics import RegistryCallMetrics
from clip_shared.errors import TransientError

log = structlog.get_logger()

# The wait for a free connection counts.
CONNECT_SECONDS = 2.0
TCP_CONNECT_SECONDS = 1.0
MAX_CONNECTIONS = 100
# The server keeps an idle connection for 75 s: with less here, no request meets one that it has just closed.
IDLE_SECONDS = 3.0
LONGEST_PAUSE_SECONDS = 5.0
MAX_LOGGED_BYTES = 500

Answered = TypeVar("Answered", bound=BaseModel)


class RegistryCall(StrEnum):
    """Every call to the registry. The values are labels of the metric ``clips_registry_call_seconds``."""

    CLIP = "clip"
    CLIPS = "clips"
    ACT = "act"
    BATCH = "batch"
    USAGE = "usage"
    VODS = "vods"
    VOD = "vod"
    SHARE = "share"
    FEED_OF = "feed_of"
    OPEN_FEED = "open_feed"
    CLOSE_FEED = "close_feed"
    FEED = "feed"
    DUE = "due"
    PURGE = "expire"
    NOTIFY = "notify"
    ORPHANS = "unknown_objects"


@dataclass(frozen=True, kw_only=True)
class CallPolicy:
    """How long a call waits, and how often it is tried.

    Attributes:
        answer_seconds: the longest wait for the next part of an answer.
        attempts: how often the call is tried, in all.
        first_pause_seconds: the longest pause after attempt 1; it doubles with each attempt.
        deadline_seconds: the longest time for all attempts and pauses together; None: no limit.
    """

    answer_seconds: float
    attempts: int = 1
    first_pause_seconds: float = 0.1
    deadline_seconds: float | None = None


@dataclass(frozen=True)
class RegistryAnswer:
    """An answer below 500, of the registry or of something on the way to it."""

    status: int
    content_type: str
    body: bytes

    @property
    def refusal(self) -> int | None:
        """The status, where the registry itself refused the request; a proxy on the way sends no problem."""
        return self.status if self.content_type == PROBLEM_MEDIA_TYPE else None

    @property
    def detail(self) -> str | None:
        """What a refusal says to a person; None where it says nothing."""
        try:
            detail = json.loads(self.body)["detail"]
        except (ValueError, KeyError, TypeError):
            return None
        return detail if isinstance(detail, str) else None

    def require_success(self) -> None:
        """Accept nothing but success.

        Raises:
            TransientError: the status is not 2xx. Only a person can mend this (a wrong token, versions that
                do not match), and until then the work has to wait.
        """
        if HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES:
            return
        body = self.body[:MAX_LOGGED_BYTES].decode(errors="replace")
        log.error("the registry refused a request of ours", status=self.status, body=body)
        raise TransientError(f"the registry answered {self.status}")

    def read(self, model: type[Answered]) -> Answered:
        """Return the answer as a model of the API.

        Raises:
            TransientError: the status is not 2xx, or the body is not such a model.
        """
        self.require_success()
        try:
            return model.model_validate_json(self.body)
        except ValidationError as error:
            log.exception("the registry's answer breaks the contract", model=model.__name__)
            raise TransientError(f"the registry's answer does not fit {model.__name__}") from error


class RegistryClient:
    """Connections to the registry, as a context manager. Proxies of the environment never see the token."""

    def __init__(self, url: str, token: str, metrics: RegistryCallMetrics | None = None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._metrics = metrics or RegistryCallMetrics(CollectorRegistry())
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(
        self,
        call: RegistryCall,
        method: str,
        path: str,
        policy: CallPolicy,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: BaseModel | None = None,
    ) -> RegistryAnswer:
        """Send a request, and send it again while there is no answer, or an answer of 500 or above.

        Raises:
            TransientError: no attempt was answered below 500, or the deadline of ``policy`` has passed.
        """
        request = _Request(call, method, path, policy, query, body)
        try:
            async with asyncio.timeout(policy.deadline_seconds):
                return await self._try(request)
        except TimeoutError as error:
            raise TransientError(f"the registry did not answer within {policy.deadline_seconds} s") from error

    async def _try(self, request: "_Request") -> RegistryAnswer:
        policy = request.policy
        for attempt in range(1, policy.attempts):
            try:
                return await self._send(request)
            except TransientError as error:
                log.debug("the registry will be asked again", call=request.call, error=str(error))
                pause = backoff_seconds(
                    attempt, first=policy.first_pause_seconds, longest=LONGEST_PAUSE_SECONDS
                )
                await asyncio.sleep(pause)
        return await self._send(request)

    async def _send(self, request: "_Request") -> RegistryAnswer:
        try:
            with self._metrics.attempt(request.call) as attempt:
                answer = await self._exchange(request)
                attempt.status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TransientError(f"the registry cannot be reached: {error!r}") from error
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise TransientError(f"the registry answered {answer.status}")
        return answer

    async def _exchange(self, request: "_Request") -> RegistryAnswer:
        assert self._session is not None, "used outside its context"  # noqa: S101 - a mistake of ours
        timeout = aiohttp.ClientTimeout(
            connect=CONNECT_SECONDS,
            sock_connect=TCP_CONNECT_SECONDS,
            sock_read=request.policy.answer_seconds,
        )
        async with self._session.request(
            request.method,
            self._url + request.path,
            params=request.query,
            data=request.content,
            headers={"Content-Type": "application/json"} if request.content else None,
            timeout=timeout,
            allow_redirects=False,
        ) as response:
            return RegistryAnswer(response.status, response.content_type, await response.read())


@dataclass(frozen=True)
class _Request:
    call: RegistryCall
    method: str
    path: str
    policy: CallPolicy
    query: Sequence[tuple[str, str]]
    body: BaseModel | None

    @property
    def content(self) -> bytes | None:
        return self.body.model_dump_json(exclude_none=True).encode() if self.body else None
