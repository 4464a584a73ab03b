"""The public keys of the sign-in service (a JSON Web Key Set), fetched rarely and never in a flood."""

import asyncio
import time
from collections.abc import Callable

import httpx
import structlog
from jwt import PyJWK, PyJWKSet
from jwt.exceptions import PyJWTError

from clip_gateway.domain import Refusal, Refused
from clip_shared.errors import TransientError

log = structlog.get_logger()

FETCH_TIMEOUT_SECONDS = 3.0
# Keys are fetched anew after this long …
FRESH_SECONDS = 300.0
# … and while the server is down, those we have serve for this long: nobody is signed out by its outage.
STALE_SECONDS = 3600.0
# The least time between two fetches, whatever tokens arrive. A new key is known at most this late.
COOLDOWN_SECONDS = 10.0


class Jwks:
    """A cache of RSA signing keys by key id. ``clock`` counts seconds and never goes back."""

    def __init__(
        self, http: httpx.AsyncClient, url: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._http = http
        self._url = url
        self._clock = clock
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
        if (key := self._known(key_id, FRESH_SECONDS)) is not None:
            return key
        async with self._one_at_a_time:
            if self._known(key_id, FRESH_SECONDS) is None and self._may_fetch():
                await self._refresh()
        if (key := self._known(key_id, STALE_SECONDS)) is not None:
            return key
        if self._outage is not None:
            raise TransientError("the keys of the sign-in service cannot be fetched") from self._outage
        raise Refused(Refusal.INVALID_TOKEN)

    def _known(self, key_id: str, seconds: float) -> PyJWK | None:
        return self._keys.get(key_id) if self._clock() - self._fetched_at < seconds else None

    def _may_fetch(self) -> bool:
        return self._clock() - self._tried_at >= COOLDOWN_SECONDS

    async def _refresh(self) -> None:
        self._tried_at = self._clock()
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                self._keys = await self._fetch()
        except (httpx.HTTPError, TimeoutError, PyJWTError, TypeError, ValueError) as error:
            self._outage = error
            log.warning("cannot fetch the keys of the sign-in service", error=repr(error))
        else:
            self._fetched_at = self._clock()
            self._outage = None

    async def _fetch(self) -> dict[str, PyJWK]:
        response = (await self._http.get(self._url)).raise_for_status()
        body = response.json()
        if not isinstance(body, dict):
            raise TypeError("the key set is not a JSON object")
        return {
            key.key_id: key
            for key in PyJWKSet.from_dict(body).keys
            if key.key_id and key.key_type == "RSA" and key.public_key_use in {"sig", None}
        }
