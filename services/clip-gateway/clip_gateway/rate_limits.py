"""How often one account or one address may ask, counted in this process."""

import math
import time
from ipaddress import IPv6Address, ip_address, ip_network

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from clip_gateway.domain import Refusal, Refused

# Counters that nobody asks for again are forgotten this often.
SWEEP_SECONDS = 60.0


class _Counters(MemoryStorage):
    """Counters in this process, for its event loop alone.

    MemoryStorage looks for expired counters in a thread of its own, among all of them, a hundred times a
    second: with some thousand accounts it took more time than the requests that were counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._swept_at = time.monotonic()

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count; a new counter is forgotten after ``expiry`` seconds."""
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
            self.get(key)  # forgets it if its time is up


class RateLimits:
    """Presigned URLs per account, and requests to the public pages per address, each per minute."""

    def __init__(self, *, presigns_per_minute: int, visits_per_minute: int) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(_Counters())
        self._presigns = RateLimitItemPerMinute(presigns_per_minute)
        self._visits = RateLimitItemPerMinute(visits_per_minute)

    def count_presign(self, account_id: str) -> None:
        """Count a presigned URL.

        Raises:
            Refused: TOO_MANY; ``retry_after_seconds`` says when to come again.
        """
        self._count(self._presigns, "presign", account_id)

    def count_visit(self, address: str) -> None:
        """Count a request to a public page. Addresses of IPv6 count with their neighbours: see below.

        Raises:
            Refused: TOO_MANY; ``retry_after_seconds`` says when to come again.
        """
        self._count(self._visits, "visit", rate_limit_key(address))

    def _count(self, limit: RateLimitItem, what: str, who: str) -> None:
        if self._limiter.hit(limit, what, who):
            return
        reset_at = self._limiter.get_window_stats(limit, what, who).reset_time
        raise Refused(Refusal.TOO_MANY, retry_after_seconds=max(1, math.ceil(reset_at - time.time())))


def rate_limit_key(address: str) -> str:
    """Who counts as one: an IPv4 address, a /64 of IPv6 (what one line gets), or any other text itself."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:100]
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ip_network((int(parsed), 64), strict=False))
