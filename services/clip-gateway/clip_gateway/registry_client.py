"""The registry, as the gateway sees it: its internal HTTP API behind a few methods."""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Protocol, Self, TypeVar
from uuid import UUID

import aiohttp
import structlog
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ValidationError

from clip_gateway.domain import ClipQuery, Refusal, Refused
from clip_shared.contracts.registry_api import (
    AccountUsage,
    Actor,
    BatchRequest,
    BatchResults,
    ClipAction,
    ClipPage,
    ClipRecord,
    Feed,
    FeedPage,
    PublishRequest,
    VodDetail,
    VodPage,
)
from clip_shared.contracts.registry_calls import RegistryCalls
from clip_shared.errors import TransientError
from clip_shared.http.problems import ProblemResponse

log = structlog.get_logger()

# A person waits: all attempts together must end before they lose patience.
DEADLINE_SECONDS = 6.0
ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.1
# ``connect`` counts the wait for one of the connections, too.
TIMEOUT = aiohttp.ClientTimeout(connect=2.0, sock_connect=1.0, sock_read=2.0)
MOST_CONNECTIONS = 100
# Less than the server keeps idle connections (75 s), or a write now and then meets one that just closed.
IDLE_SECONDS = 3.0

_NOBODY = UUID(int=0)
_REFUSALS: Mapping[int, Refusal] = {
    HTTPStatus.FORBIDDEN: Refusal.NOT_OWNER,
    HTTPStatus.NOT_FOUND: Refusal.UNKNOWN,
    HTTPStatus.CONFLICT: Refusal.NOT_ALLOWED,
    HTTPStatus.GONE: Refusal.UNPUBLISHED,
}

Answer = TypeVar("Answer", bound=BaseModel)


class Registry(Protocol):
    """What the gateway asks of the registry. Every method raises TransientError when it is out of reach."""

    async def get(self, clip_id: UUID) -> ClipRecord | None:
        """The clip, also a deleted, purged or expired one."""

    async def clips_of(self, account_id: str, query: ClipQuery) -> ClipPage:
        """An account's clips, also expired ones that are not yet purged. Raises Refused (BAD_CURSOR)."""

    async def act(self, action: ClipAction, clip_id: UUID, request: Actor) -> ClipRecord:
        """Do it; again is fine. Raises Refused (UNKNOWN, NOT_OWNER, NOT_ALLOWED, TOO_LATE).

        ``request`` is a PublishRequest or RenameRequest for those actions.
        """

    async def act_on_many(self, request: BatchRequest) -> BatchResults:
        """Do the same to many clips: a result for each, in the order asked."""

    async def usage_of(self, account_id: str) -> AccountUsage:
        """How many clips and bytes an account has, and what expires first."""

    async def vods_of(self, account_id: str) -> VodPage:
        """The VODs that an account has highlights of."""

    async def vod_of(self, account_id: str, vod_id: str) -> VodDetail:
        """What became of a VOD's highlights. Raises Refused (UNKNOWN): the account has none of it."""

    async def shared(self, slug: str) -> ClipRecord:
        """The published clip behind a share link. Raises Refused (UNKNOWN, UNPUBLISHED)."""

    async def feed_of(self, account_id: str) -> Feed | None:
        """Where an account's published clips can be followed; None: it is switched off."""

    async def open_feed(self, account_id: str) -> Feed:
        """Switch an account's feed on; one that is on stays where it is."""

    async def close_feed(self, account_id: str) -> None:
        """Switch an account's feed off: its address is dead for good."""

    async def feed(self, slug: str) -> FeedPage:
        """What a feed shows. Raises Refused (UNKNOWN)."""


@dataclass(frozen=True)
class Response:
    """An answer of the registry, or of something on the way to it."""

    status: int
    content_type: str
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether it is what was asked for."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


class RegistryHttp:
    """Connections to a registry, as a context manager. Proxies of the environment never see the token."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MOST_CONNECTIONS, keepalive_timeout=IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            json_serialize=_json,
            timeout=TIMEOUT,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def request(self, method: str, path: str, **content: Any) -> Response:
        """Ask once. ``content``: ``params`` or ``json``.

        Raises:
            aiohttp.ClientError, TimeoutError, OSError: there is no answer.
        """
        assert self._session is not None, "used outside its context"  # noqa: S101 - a mistake of ours
        url = self._url + path
        async with self._session.request(method, url, allow_redirects=False, **content) as response:
            return Response(response.status, response.content_type, await response.read())


def open_http(url: str, token: str) -> RegistryHttp:
    """The connections to a registry: enter them before use."""
    return RegistryHttp(url, token)


class Call(StrEnum):
    """Every call that the gateway makes, as metrics name it."""

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


class HttpRegistry:
    """The registry over HTTP. Reads are tried up to three times; writes once, because a person can repeat."""

    def __init__(self, http: RegistryHttp, calls: RegistryCalls | None = None) -> None:
        self._http = http
        self._calls = calls or RegistryCalls(CollectorRegistry(), Call)
        self._was_reached = False

    async def get(self, clip_id: UUID) -> ClipRecord | None:
        """The clip, also a purged or expired one."""
        response = await self._read(Call.CLIP, f"/v1/clips/{clip_id}")
        is_unknown = response.status == HTTPStatus.NOT_FOUND and _is_of_the_registry(response)
        return None if is_unknown else _parse(ClipRecord, response)

    async def clips_of(self, account_id: str, query: ClipQuery) -> ClipPage:
        """An account's clips.

        Raises:
            Refused: the cursor is not one of the registry's.
        """
        response = await self._read(Call.CLIPS, f"/v1/accounts/{account_id}/clips", _parameters_of(query))
        if query.cursor is not None and _is_invalid(response):
            raise Refused(Refusal.BAD_CURSOR)
        return _parse(ClipPage, response)

    async def act(self, action: ClipAction, clip_id: UUID, request: Actor) -> ClipRecord:
        """Do what an account asks of a clip.

        Raises:
            Refused: unknown or purged, somebody else's, not allowed from the clip's status, or (to publish)
                too late.
        """
        response = await self._send(Call.ACT, "POST", f"/v1/clips/{clip_id}/{action}", json=_body(request))
        _raise_refusal(response)
        has_end = isinstance(request, PublishRequest) and request.until is not None
        if has_end and _is_invalid(response):
            raise Refused(Refusal.TOO_LATE)
        return _parse(ClipRecord, response)

    async def act_on_many(self, request: BatchRequest) -> BatchResults:
        """Do the same to many clips."""
        return _parse(BatchResults, await self._send(Call.BATCH, "POST", "/v1/batches", json=_body(request)))

    async def usage_of(self, account_id: str) -> AccountUsage:
        """How many clips and bytes an account has."""
        return _parse(AccountUsage, await self._read(Call.USAGE, f"/v1/accounts/{account_id}/usage"))

    async def vods_of(self, account_id: str) -> VodPage:
        """The VODs that an account has highlights of."""
        return _parse(VodPage, await self._read(Call.VODS, f"/v1/accounts/{account_id}/vods"))

    async def vod_of(self, account_id: str, vod_id: str) -> VodDetail:
        """What became of a VOD's highlights.

        Raises:
            Refused: the account has no highlight of it.
        """
        response = await self._read(Call.VOD, f"/v1/accounts/{account_id}/vods/{vod_id}")
        _raise_refusal(response)
        return _parse(VodDetail, response)

    async def shared(self, slug: str) -> ClipRecord:
        """The published clip behind a share link.

        Raises:
            Refused: there never was one (UNKNOWN), or there is none any more (UNPUBLISHED).
        """
        response = await self._read(Call.SHARE, f"/v1/shares/{slug}")
        _raise_refusal(response)
        return _parse(ClipRecord, response)

    async def feed_of(self, account_id: str) -> Feed | None:
        """Where an account's published clips can be followed."""
        response = await self._read(Call.FEED_OF, f"/v1/accounts/{account_id}/feed")
        is_off = response.status == HTTPStatus.NOT_FOUND and _is_of_the_registry(response)
        return None if is_off else _parse(Feed, response)

    async def open_feed(self, account_id: str) -> Feed:
        """Switch an account's feed on."""
        return _parse(Feed, await self._send(Call.OPEN_FEED, "PUT", f"/v1/accounts/{account_id}/feed"))

    async def close_feed(self, account_id: str) -> None:
        """Switch an account's feed off."""
        response = await self._send(Call.CLOSE_FEED, "DELETE", f"/v1/accounts/{account_id}/feed")
        if not response.is_success:
            raise TransientError(f"the registry answered {response.status}")

    async def feed(self, slug: str) -> FeedPage:
        """What a feed shows.

        Raises:
            Refused: there is no such feed, or not any more.
        """
        response = await self._read(Call.FEED, f"/v1/feeds/{slug}")
        _raise_refusal(response)
        return _parse(FeedPage, response)

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

    async def _read(self, call: Call, path: str, query: Sequence[tuple[str, str]] = ()) -> Response:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                for attempt in range(ATTEMPTS - 1):
                    try:
                        return await self._send(call, "GET", path, params=query)
                    except TransientError:
                        longest = FIRST_PAUSE_SECONDS * 2**attempt
                        await asyncio.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - jitter
                return await self._send(call, "GET", path, params=query)
        except TimeoutError as error:
            raise TransientError(f"the registry did not answer within {DEADLINE_SECONDS:.0f} s") from error

    async def _send(self, call: Call, method: str, path: str, **content: Any) -> Response:
        try:
            with self._calls.timed(call) as answered:
                response = await self._http.request(method, path, **content)
                answered.status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TransientError(f"the registry cannot be reached: {error!r}") from error
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise TransientError(f"the registry answered {response.status}")
        return response


def _body(request: Actor) -> dict[str, Any]:
    return request.model_dump(mode="json", exclude_none=True)


def _json(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def _parameters_of(query: ClipQuery) -> list[tuple[str, str]]:
    single = {
        "vod": query.vod_id,
        "title": query.title,
        "order": query.order,
        "limit": str(query.limit),
        "cursor": query.cursor,
    }
    return [
        *(("status", each) for each in query.statuses),
        *(("kind", each) for each in query.kinds),
        *((name, value) for name, value in single.items() if value is not None),
    ]


def _raise_refusal(response: Response) -> None:
    reason = _REFUSALS.get(response.status) if _is_of_the_registry(response) else None
    if reason is not None:
        raise Refused(reason, _detail(response) if reason is Refusal.NOT_ALLOWED else None)


def _is_invalid(response: Response) -> bool:
    return response.status == HTTPStatus.UNPROCESSABLE_ENTITY and _is_of_the_registry(response)


def _is_of_the_registry(response: Response) -> bool:
    """Return whether the registry itself refused, and not something on the way to it."""
    return response.content_type == ProblemResponse.media_type


def _detail(response: Response) -> str | None:
    """Return what a problem says; None where the answer is not a problem with a detail."""
    try:
        detail = json.loads(response.body)["detail"]
    except (ValueError, KeyError, TypeError):
        return None
    return detail if isinstance(detail, str) else None


def _parse(model: type[Answer], response: Response) -> Answer:
    """The answer as a model. What fits no contract is an outage to our caller, and an error to us."""
    if not response.is_success:
        body = response.body[:500].decode(errors="replace")
        log.error("the registry refused a request of ours", status=response.status, body=body)
        raise TransientError(f"the registry answered {response.status}")
    try:
        return model.model_validate_json(response.body)
    except ValidationError as error:
        log.exception("the registry's answer breaks the contract")
        raise TransientError("the registry's answer cannot be read") from error
