"""A cache of the public keys of the sign-in service (a JSON Web Key Set, RFC 7517)."""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import NoReturn

import httpx
import structlog
from jwt import PyJWK, PyJWKSet

from clip_gateway.domain import Refusal, Refused
from clip_shared.errors import TransientError
from clip_shared.refused_connections import Cause, OnRefused, certificate_cause, uncounted

log = structlog.get_logger()

FETCH_TIMEOUT_SECONDS = 3.0
# Keys are fetched at this interval: a withdrawn key is accepted no longer than this.
REFRESH_SECONDS = 300.0
# While the server does not answer, known keys are used for this long: its outage signs no user out.
LONGEST_SECONDS = 24 * 3600.0
# Least time between two fetches, however many unknown key ids arrive. A new key is known after this time.
COOLDOWN_SECONDS = 10.0
_REFUSING_STATUSES = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


class Jwks:
    """The keys of one signature algorithm, by key id. ``clock`` is a monotonic clock in seconds.

    A known key is returned at once. An unknown key id waits while the server is asked, at most once in
    ``COOLDOWN_SECONDS``.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        algorithm: str,
        *,
        on_failed: Callable[[], None] = lambda: None,
        on_refused: OnRefused = uncounted,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._url = url
        self._algorithm = algorithm
        self._on_failed = on_failed
        self._on_refused = on_refused
        self._clock = clock
        self._made_at = clock()
        self._one_at_a_time = asyncio.Lock()
        self._keys: dict[str, PyJWK] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._outage: Exception | None = None

    async def key_for(self, key_id: str | None) -> PyJWK:
        """Return the key with this id.

        Raises:
            Refused: INVALID_TOKEN: the id is None, or the server has no key with this id.
            TransientError: the key is unknown and the server does not answer.
        """
        if key_id is None:
            raise Refused(Refusal.INVALID_TOKEN)
        if (key := self._known(key_id)) is not None:
            return key
        await self._refresh()
        if (key := self._known(key_id)) is not None:
            return key
        if self._outage is not None:
            raise TransientError(
                f"the keys of the sign-in service cannot be fetched: {self._outage!r}"
            ) from self._outage
        raise Refused(Refusal.INVALID_TOKEN)

    async def keep_fresh(self) -> NoReturn:
        """Fetch the keys every ``REFRESH_SECONDS``, so that requests need not wait; runs until cancelled."""
        while True:
            await self._refresh()
            await asyncio.sleep(COOLDOWN_SECONDS if self._outage else REFRESH_SECONDS)

    async def check(self) -> str | None:
        """Return None if the keys are fresh; why they are not, if known keys are still used.

        Raises:
            TransientError: the keys were never fetched.
        """
        if self._fetched_at == float("-inf"):
            raise TransientError(f"no keys of the sign-in service were fetched yet: {self._outage!r}")
        return (
            f"the keys of the sign-in service cannot be fetched again: {self._outage!r}"
            if self._outage
            else None
        )

    def age_seconds(self) -> float:
        """Return the seconds since the keys were last fetched; since the start, if they never were."""
        return self._clock() - max(self._fetched_at, self._made_at)

    def _known(self, key_id: str) -> PyJWK | None:
        return self._keys.get(key_id) if self._clock() - self._fetched_at < LONGEST_SECONDS else None

    async def _refresh(self) -> None:
        """Fetch the keys, at most once in ``COOLDOWN_SECONDS``; callers that wait share one fetch."""
        async with self._one_at_a_time:
            if self._clock() - self._tried_at < COOLDOWN_SECONDS:
                return
            try:
                async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                    self._keys = await self._fetch()
            except Exception as error:  # noqa: BLE001 - any failure means that the old keys stay
                self._outage = error
                self._count(error)
                log.warning("the keys of the sign-in service cannot be fetched", error=repr(error))
            else:
                self._fetched_at = self._clock()
                self._outage = None
            finally:
                self._tried_at = self._clock()

    def _count(self, error: Exception) -> None:
        self._on_failed()
        if (cause := _refusal_cause(error)) is not None:
            self._on_refused(cause)

    async def _fetch(self) -> dict[str, PyJWK]:
        response = (await self._http.get(self._url)).raise_for_status()
        body = response.json()
        if not isinstance(body, dict):
            raise TypeError(f"JWT_JWKS_URL: the key set is a JSON {type(body).__name__}, not an object")
        keys = {key.key_id: key for key in PyJWKSet.from_dict(body).keys if key.key_id and self._signs(key)}
        if not keys:
            # Without this error every token would be refused, and no one would look at the settings.
            raise LookupError(f"JWT_JWKS_URL: the key set has no key with an id for {self._algorithm}")
        return keys

    def _signs(self, key: PyJWK) -> bool:
        return key.algorithm_name == self._algorithm and key.public_key_use in {"sig", None}


def _refusal_cause(error: Exception) -> Cause | None:
    is_refusal = isinstance(error, httpx.HTTPStatusError) and error.response.status_code in _REFUSING_STATUSES
    return Cause.CREDENTIALS if is_refusal else certificate_cause(error)
