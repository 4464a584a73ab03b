"""The public keys of the sign-in service (a JSON Web Key Set), fetched rarely and never in a flood."""

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
from clip_shared.refused_connections import Cause, OnRefused, certificate_trouble, uncounted

log = structlog.get_logger()

FETCH_TIMEOUT_SECONDS = 3.0
# Keys are fetched again this often: a withdrawn key is good for no longer.
REFRESH_SECONDS = 300.0
# While the server is out, those we have serve for this long: nobody is signed out by its outage.
LONGEST_SECONDS = 24 * 3600.0
# The least time between two fetches, whatever tokens arrive. A new key is known at most this late.
COOLDOWN_SECONDS = 10.0
_REFUSALS = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


class Jwks:
    """A cache of the keys of one signature algorithm by key id. ``clock`` counts seconds and never goes back.

    A key that is known is given out at once. Only a key id that is not known waits for the server: while it
    is asked, and at most once in ``COOLDOWN_SECONDS``.
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
        """The key with this id.

        Raises:
            Refused: there is no such key (INVALID_TOKEN).
            TransientError: there may be, but the server does not answer.
        """
        if key_id is None:
            raise Refused(Refusal.INVALID_TOKEN)
        if (key := self._known(key_id)) is not None:
            return key
        await self._refresh()
        if (key := self._known(key_id)) is not None:
            return key
        if self._outage is not None:
            raise TransientError("the keys of the sign-in service cannot be fetched") from self._outage
        raise Refused(Refusal.INVALID_TOKEN)

    async def keep_fresh(self) -> NoReturn:
        """Fetch the keys again and again, so that no request has to wait for it."""
        while True:
            await self._refresh()
            await asyncio.sleep(COOLDOWN_SECONDS if self._outage else REFRESH_SECONDS)

    async def check(self) -> str | None:
        """Whether tokens can be verified; if only with keys that could not be fetched again, why not.

        Raises:
            TransientError: no keys were ever fetched.
        """
        if self._fetched_at == float("-inf"):
            raise TransientError(f"no keys of the sign-in service were fetched yet: {self._outage!r}")
        return (
            f"the keys of the sign-in service cannot be fetched again: {self._outage!r}"
            if self._outage
            else None
        )

    def age_seconds(self) -> float:
        """Return the time since the keys were last fetched; since the start where they never were."""
        return self._clock() - max(self._fetched_at, self._made_at)

    def _known(self, key_id: str) -> PyJWK | None:
        return self._keys.get(key_id) if self._clock() - self._fetched_at < LONGEST_SECONDS else None

    async def _refresh(self) -> None:
        """Fetch the keys, unless that was tried just now; who comes meanwhile waits for the same answer."""
        async with self._one_at_a_time:
            if self._clock() - self._tried_at < COOLDOWN_SECONDS:
                return
            try:
                async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                    self._keys = await self._fetch()
            except Exception as error:  # noqa: BLE001 - whatever it was, there are no new keys
                self._outage = error
                self._count(error)
                log.warning("cannot fetch the keys of the sign-in service", error=repr(error))
            else:
                self._fetched_at = self._clock()
                self._outage = None
            finally:
                self._tried_at = self._clock()

    def _count(self, error: Exception) -> None:
        self._on_failed()
        if (cause := _refusal_in(error)) is not None:
            self._on_refused(cause)

    async def _fetch(self) -> dict[str, PyJWK]:
        response = (await self._http.get(self._url)).raise_for_status()
        body = response.json()
        if not isinstance(body, dict):
            raise TypeError("the key set is not a JSON object")
        keys = {key.key_id: key for key in PyJWKSet.from_dict(body).keys if key.key_id and self._signs(key)}
        if not keys:
            # Else everybody would be told that their token is bad, and nobody that the settings are.
            raise LookupError(f"the key set has no key with an id for {self._algorithm}")
        return keys

    def _signs(self, key: PyJWK) -> bool:
        return key.algorithm_name == self._algorithm and key.public_key_use in {"sig", None}


def _refusal_in(error: Exception) -> Cause | None:
    is_refusal = isinstance(error, httpx.HTTPStatusError) and error.response.status_code in _REFUSALS
    return Cause.CREDENTIALS if is_refusal else certificate_trouble(error)
