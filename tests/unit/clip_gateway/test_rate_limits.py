"""Rate limits, and the time after which to ask again."""

import threading
import time

import pytest
from limits.storage import MemoryStorage

from clip_gateway.domain import Refusal, Refused
from clip_gateway.rate_limits import RateLimits, rate_limit_key


class SettableClock:
    """The time, at the beginning of a minute."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 60.0 * 1_000_000
        monkeypatch.setattr(time, "time", lambda: self.now)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def test_each_account_has_its_own_limit() -> None:
    limits = RateLimits(presigns_per_minute=3, visits_per_minute=1)
    for _ in range(3):
        limits.count_presign("ann")
        limits.count_presign("bob")
    with pytest.raises(Refused) as refused:
        limits.count_presign("ann")
    assert refused.value.reason is Refusal.TOO_MANY
    assert refused.value.retry_after_seconds is not None
    assert 1 <= refused.value.retry_after_seconds <= 60
    limits.count_presign("cid")


def test_visits_are_not_presigned_urls() -> None:
    limits = RateLimits(presigns_per_minute=1, visits_per_minute=1)
    limits.count_presign("192.0.2.1")
    limits.count_visit("192.0.2.1")
    with pytest.raises(Refused):
        limits.count_visit("192.0.2.1")


def test_the_window_slides(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SettableClock(monkeypatch)
    limits = RateLimits(presigns_per_minute=4, visits_per_minute=1)
    for _ in range(4):
        limits.count_presign("ann")
    clock.now += 60
    with pytest.raises(Refused):
        limits.count_presign("ann")
    clock.now += 30  # half of them have left the window
    for _ in range(2):
        limits.count_presign("ann")
    with pytest.raises(Refused):
        limits.count_presign("ann")


def test_expired_counters_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SettableClock(monkeypatch)
    limits = RateLimits(presigns_per_minute=1, visits_per_minute=1)
    storage = limits._limiter.storage
    assert isinstance(storage, MemoryStorage)
    for number in range(100):
        limits.count_presign(f"account-{number}")
    assert len(storage.storage) == 100
    clock.now += 200
    limits.count_presign("ann")
    assert len(storage.storage) == len(storage.expirations) == 1


def test_counting_starts_no_thread() -> None:
    limits = RateLimits(presigns_per_minute=10, visits_per_minute=1)
    time.sleep(0.1)  # the storage starts one when it is made, which ends
    before = set(threading.enumerate())
    limits.count_presign("ann")
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("neighbour", ["2001:db8::2", "2001:db8:0:0:ffff::", "2001:0db8::1"])
def test_an_address_of_ipv6_counts_with_its_neighbours(neighbour: str) -> None:
    limits = RateLimits(presigns_per_minute=1, visits_per_minute=1)
    limits.count_visit("2001:db8::1")
    with pytest.raises(Refused):
        limits.count_visit(neighbour)
    limits.count_visit("2001:db8:0:1::1")


@pytest.mark.parametrize(
    ("address", "who"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        ("x" * 5000, "x" * 100),
    ],
)
def test_rate_limit_keys(address: str, who: str) -> None:
    assert rate_limit_key(address) == who
