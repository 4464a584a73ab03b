"""The registry, as the janitor uses it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from clip_shared.contracts.registry_api import (
    DueClips,
    ExpirationRequest,
    ExpirationResult,
    ExpiryNoticeRequest,
    ExpiryNoticeResult,
    ObjectKeys,
    OrphanKeys,
)
from clip_shared.contracts.registry_client import CallPolicy, RegistryCall, RegistryClient

CALLS = (RegistryCall.DUE, RegistryCall.PURGE, RegistryCall.NOTIFY, RegistryCall.ORPHANS)
# A purge of thousands is one statement; it takes seconds at most. Every request may be sent twice: what was
# purged or announced is not purged or announced again.
CALL = CallPolicy(answer_seconds=15.0, attempts=3, first_pause_seconds=0.4)
CHECK = replace(CALL, attempts=1)
# More than the registry allows itself for the details of all that is due.
DETAILS = replace(CALL, answer_seconds=150.0)


class JanitorRegistry(Protocol):
    """What the janitor asks of the registry. Each method raises TransientError without a good answer."""

    async def due(self, *, detailed: bool = False) -> DueClips:
        """Count what is due now; nothing is changed.

        ``detailed``: also by day and by account, which may take a minute.
        """

    async def purge(self, limit: int, cutoff: datetime | None) -> ExpirationResult:
        """Purge at most ``limit`` clips that were due at ``cutoff`` (None: now).

        When an answer is lost, its clips are purged all the same, and missing from the count.
        """

    async def notify(self, limit: int, since: datetime | None) -> ExpiryNoticeResult:
        """Announce to accounts what expires soon. An account that was told is not told again.

        At most ``limit`` clips are looked at, from ``since`` on: None, then what the last call returned.
        """

    async def orphans(self, bucket: str, keys: Sequence[str]) -> set[str]:
        """Return the keys among ``keys`` (at most 1000) that no clip owns."""


class HttpJanitorRegistry:
    """The registry over HTTP."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client

    async def due(self, *, detailed: bool = False) -> DueClips:
        """Count what is due now."""
        query, policy = ([("detailed", "true")], DETAILS) if detailed else ((), CALL)
        answer = await self._client.ask(RegistryCall.DUE, "GET", "/v1/expirations", policy, query=query)
        return answer.read(DueClips)

    async def purge(self, limit: int, cutoff: datetime | None) -> ExpirationResult:
        """Purge at most ``limit`` clips that were due at ``cutoff``."""
        body = ExpirationRequest(limit=limit, cutoff=cutoff)
        answer = await self._client.ask(RegistryCall.PURGE, "POST", "/v1/expirations", CALL, body=body)
        return answer.read(ExpirationResult)

    async def notify(self, limit: int, since: datetime | None) -> ExpiryNoticeResult:
        """Announce to accounts what expires soon."""
        body = ExpiryNoticeRequest(limit=limit, since=since)
        answer = await self._client.ask(RegistryCall.NOTIFY, "POST", "/v1/expiry-notices", CALL, body=body)
        return answer.read(ExpiryNoticeResult)

    async def orphans(self, bucket: str, keys: Sequence[str]) -> set[str]:
        """Return the objects that no clip owns."""
        return await self._orphans(ObjectKeys(bucket=bucket, keys=tuple(keys)), CALL)

    async def check(self) -> None:
        """Check that the registry answers and takes our token.

        Raises:
            TransientError: it does not.
        """
        await self._orphans(ObjectKeys(bucket="clips", keys=()), CHECK)

    async def _orphans(self, body: ObjectKeys, policy: CallPolicy) -> set[str]:
        answer = await self._client.ask(
            RegistryCall.ORPHANS, "POST", "/v1/objects/unknown", policy, body=body
        )
        return set(answer.read(OrphanKeys).keys)
