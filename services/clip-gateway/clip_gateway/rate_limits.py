"""Rate limits by account and by client address, counted in this process."""

import math
import time
from ipaddress import IPv6Address, ip_address, ip_network

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from clip_gateway.domain import Refusal, Refused

# Interval at which expired counters are removed.
SWEEP_SECONDS = 60.0


class _Counters(MemoryStorage):
    """Counters for one event loop.

    MemoryStorage searches all counters for expired ones in its own thread, 100 times a second: with some
    thousand accounts that took more CPU than the requests. Here they are removed once in ``SWEEP_SECONDS``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._swept_at = time.monotonic()

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add to a counter and return its value; a new counter expires after ``expiry`` seconds."""
        self._sweep()
        count = self.get(key) + amount
        self.storage[key] = count
        self.expirations.setdefault(key, time.time() + expiry)
        return count

    def _sweep(self) -> None:
        if time.monotonic() - self._swept_at < SWEEP_SECONDS:
            return
        self._swept_at = time.monotonic()
        for key in list(self.expirations):
            self.get(key)  # removes the counter if it has expired


class RateLimits:
    """The limits per minute: presigned URLs of an account, and requests of an address to the public pages."""

    def __init__(self, *, presigns_per_minute: int, visits_per_minute: int) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(_Counters())
        self._presigns = RateLimitItemPerMinute(presigns_per_minute)
        self._visits = RateLimitItemPerMinute(visits_per_minute)

    def count_presign(self, account_id: str) -> None:
        """Count a presigned URL of an account.

        Raises:
            Refused: TOO_MANY: the limit is reached; ``retry_after_seconds`` says when to ask again.
        """
        self._count(self._presigns, "presign", account_id)

    def count_visit(self, address: str) -> None:
        """Count a request of a client address to a public page. See :func:`rate_limit_key`.

        Raises:
            Refused: TOO_MANY: the limit is reached; ``retry_after_seconds`` says when to ask again.
        """
        self._count(self._visits, "visit", rate_limit_key(address))

    def _count(self, limit: RateLimitItem, what: str, who: str) -> None:
        if self._limiter.hit(limit, what, who):
            return
        reset_at = self._limiter.get_window_stats(limit, what, who).reset_time
        raise Refused(Refusal.TOO_MANY, retry_after_seconds=max(1, math.ceil(reset_at - time.time())))


def rate_limit_key(address: str) -> str:
    """Return what is counted for an address: an IPv4 address itself, the /64 network of an IPv6 address.

    An internet connection usually gets a whole /64. Text that is not an address is counted as it is.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:100]
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ip_network((int(parsed), 64), strict=False))
