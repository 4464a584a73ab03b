"""The gateway's calls to the registry, and the meaning of the registry's refusals for the caller."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Protocol
from uuid import UUID

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
from clip_shared.contracts.registry_client import CallPolicy, RegistryAnswer, RegistryCall, RegistryClient
from clip_shared.errors import TransientError

CALLS = (
    RegistryCall.CLIP,
    RegistryCall.CLIPS,
    RegistryCall.ACT,
    RegistryCall.BATCH,
    RegistryCall.USAGE,
    RegistryCall.VODS,
    RegistryCall.VOD,
    RegistryCall.SHARE,
    RegistryCall.FEED_OF,
    RegistryCall.OPEN_FEED,
    RegistryCall.CLOSE_FEED,
    RegistryCall.FEED,
)
# A user waits for the answer: the deadline covers all attempts together.
READ = CallPolicy(answer_seconds=2.0, attempts=3, first_pause_seconds=0.1, deadline_seconds=6.0)
# Tried once: the user can repeat it.
WRITE = CallPolicy(answer_seconds=2.0)

_NO_CLIP = UUID(int=0)
_REFUSALS: Mapping[int | None, Refusal] = {
    HTTPStatus.FORBIDDEN: Refusal.NOT_OWNER,
    HTTPStatus.NOT_FOUND: Refusal.UNKNOWN,
    HTTPStatus.CONFLICT: Refusal.NOT_ALLOWED,
    HTTPStatus.GONE: Refusal.UNPUBLISHED,
}


class GatewayRegistry(Protocol):
    """The calls. Every method raises TransientError if the registry does not answer as agreed."""

    async def get(self, clip_id: UUID) -> ClipRecord | None:
        """Return a clip, also a deleted, purged or expired one; None: there is no such clip."""

    async def clips_of(self, account_id: str, query: ClipQuery) -> ClipPage:
        """Return an account's clips, also expired ones that are not yet purged.

        Raises:
            Refused: the cursor is not valid (BAD_CURSOR).
        """

    async def act(self, action: ClipAction, clip_id: UUID, request: Actor) -> ClipRecord:
        """Apply an action to a clip of the account in ``request``. Repeating it changes nothing more.

        ``request`` is a PublishRequest or RenameRequest for those actions.

        Raises:
            Refused: the clip is unknown or purged (UNKNOWN) or another account's (NOT_OWNER); its status does
                not allow the action (NOT_ALLOWED); or the publication would end in the past (TOO_LATE).
        """

    async def act_on_many(self, request: BatchRequest) -> BatchResults:
        """Apply one action to many clips; return a result for every clip, in the order asked."""

    async def usage_of(self, account_id: str) -> AccountUsage:
        """Return how many clips and bytes an account has, and the clips that expire first."""

    async def vods_of(self, account_id: str) -> VodPage:
        """Return the VODs of an account that have highlights, the latest first."""

    async def vod_of(self, account_id: str, vod_id: str) -> VodDetail:
        """Return what happened to the highlights of a VOD.

        Raises:
            Refused: the account has no highlight of the VOD (UNKNOWN).
        """

    async def shared(self, slug: str) -> ClipRecord:
        """Return the published clip behind a share link.

        Raises:
            Refused: no clip ever had the link (UNKNOWN), or the clip is no longer public (UNPUBLISHED).
        """

    async def feed_of(self, account_id: str) -> Feed | None:
        """Return the feed of an account's published clips; None: the feed is off."""

    async def open_feed(self, account_id: str) -> Feed:
        """Switch an account's feed on. A feed that is on keeps its address."""

    async def close_feed(self, account_id: str) -> None:
        """Switch an account's feed off. Its address never works again."""

    async def feed(self, slug: str) -> FeedPage:
        """Return the clips of a feed.

        Raises:
            Refused: no feed has the slug, or the feed was switched off (UNKNOWN).
        """


class HttpGatewayRegistry:
    """The registry over HTTP. Reads are tried up to three times, writes once."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client
        self._was_reached = False

    async def get(self, clip_id: UUID) -> ClipRecord | None:
        """Return a clip; None: there is no such clip."""
        answer = await self._read(RegistryCall.CLIP, f"/v1/clips/{clip_id}")
        return None if answer.refusal == HTTPStatus.NOT_FOUND else answer.read(ClipRecord)

    async def clips_of(self, account_id: str, query: ClipQuery) -> ClipPage:
        """Return an account's clips."""
        answer = await self._read(
            RegistryCall.CLIPS, f"/v1/accounts/{account_id}/clips", _parameters_of(query)
        )
        if query.cursor is not None and answer.refusal == HTTPStatus.UNPROCESSABLE_ENTITY:
            raise Refused(Refusal.BAD_CURSOR)
        return answer.read(ClipPage)

    async def act(self, action: ClipAction, clip_id: UUID, request: Actor) -> ClipRecord:
        """Apply an action to a clip."""
        answer = await self._write(RegistryCall.ACT, "POST", f"/v1/clips/{clip_id}/{action}", request)
        _raise_refusal(answer)
        has_end = isinstance(request, PublishRequest) and request.until is not None
        if has_end and answer.refusal == HTTPStatus.UNPROCESSABLE_ENTITY:
            raise Refused(Refusal.TOO_LATE)
        return answer.read(ClipRecord)

    async def act_on_many(self, request: BatchRequest) -> BatchResults:
        """Apply one action to many clips."""
        answer = await self._write(RegistryCall.BATCH, "POST", "/v1/batches", request)
        return answer.read(BatchResults)

    async def usage_of(self, account_id: str) -> AccountUsage:
        """Return how many clips and bytes an account has."""
        answer = await self._read(RegistryCall.USAGE, f"/v1/accounts/{account_id}/usage")
        return answer.read(AccountUsage)

    async def vods_of(self, account_id: str) -> VodPage:
        """Return the VODs of an account that have highlights, the latest first."""
        answer = await self._read(RegistryCall.VODS, f"/v1/accounts/{account_id}/vods")
        return answer.read(VodPage)

    async def vod_of(self, account_id: str, vod_id: str) -> VodDetail:
        """Return what happened to the highlights of a VOD."""
        answer = await self._read(RegistryCall.VOD, f"/v1/accounts/{account_id}/vods/{vod_id}")
        _raise_refusal(answer)
        return answer.read(VodDetail)

    async def shared(self, slug: str) -> ClipRecord:
        """Return the published clip behind a share link."""
        answer = await self._read(RegistryCall.SHARE, f"/v1/shares/{slug}")
        _raise_refusal(answer)
        return answer.read(ClipRecord)

    async def feed_of(self, account_id: str) -> Feed | None:
        """Return the feed of an account's published clips."""
        answer = await self._read(RegistryCall.FEED_OF, f"/v1/accounts/{account_id}/feed")
        return None if answer.refusal == HTTPStatus.NOT_FOUND else answer.read(Feed)

    async def open_feed(self, account_id: str) -> Feed:
        """Switch an account's feed on."""
        answer = await self._write(RegistryCall.OPEN_FEED, "PUT", f"/v1/accounts/{account_id}/feed")
        return answer.read(Feed)

    async def close_feed(self, account_id: str) -> None:
        """Switch an account's feed off."""
        answer = await self._write(RegistryCall.CLOSE_FEED, "DELETE", f"/v1/accounts/{account_id}/feed")
        answer.require_success()

    async def feed(self, slug: str) -> FeedPage:
        """Return the clips of a feed."""
        answer = await self._read(RegistryCall.FEED, f"/v1/feeds/{slug}")
        _raise_refusal(answer)
        return answer.read(FeedPage)

    async def check(self) -> str | None:
        """Check that the registry answers and accepts our token.

        Return None if it does; a sentence about the outage if it did before. The gateway then stays ready: a
        503 with Retry-After helps callers more than a load balancer without a backend.

        Raises:
            TransientError: the registry has not answered since this process started.
        """
        try:
            await self.get(_NO_CLIP)
        except TransientError as error:
            if not self._was_reached:
                raise
            return f"callers get 503: {error}"
        self._was_reached = True
        return None

    async def _read(
        self, call: RegistryCall, path: str, query: Sequence[tuple[str, str]] = ()
    ) -> RegistryAnswer:
        return await self._client.ask(call, "GET", path, READ, query=query)

    async def _write(
        self, call: RegistryCall, method: str, path: str, body: Actor | None = None
    ) -> RegistryAnswer:
        return await self._client.ask(call, method, path, WRITE, body=body)


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


def _raise_refusal(answer: RegistryAnswer) -> None:
    if (reason := _REFUSALS.get(answer.refusal)) is not None:
        raise Refused(reason, answer.detail if reason is Refusal.NOT_ALLOWED else None)
