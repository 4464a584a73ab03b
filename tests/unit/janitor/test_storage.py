"""Deleting in batches: what is gone, what is stuck, and what is an outage."""

from typing import Any, cast

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError

from clip_shared.errors import TransientError
from janitor import storage as storage_module
from janitor.domain import DeletionFailure
from janitor.storage import ATTEMPTS, ClipBucket
from tests.unit.janitor.fakes import InMemoryBucket, client_error


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "FIRST_PAUSE_SECONDS", 0)


def storage_on(s3: InMemoryBucket) -> ClipBucket:
    return ClipBucket(cast("Any", s3), "clips")


async def test_objects_go_in_batches_of_a_thousand() -> None:
    keys = [f"k/{n}" for n in range(2500)]
    s3 = InMemoryBucket(*keys, "stays")
    assert await storage_on(s3).delete([*keys, *keys[:10]]) == {}
    assert s3.keys == {"stays"}
    assert [len(batch) for batch in s3.batches] == [1000, 1000, 500]


async def test_nothing_to_delete_asks_nobody() -> None:
    s3 = InMemoryBucket()
    assert await storage_on(s3).delete([]) == {}
    assert s3.batches == []


async def test_what_is_gone_already_is_a_success() -> None:
    s3 = InMemoryBucket()
    s3.stuck["old"] = ["NoSuchKey"]
    assert await storage_on(s3).delete(["absent", "old"]) == {}


async def test_a_key_that_fails_once_is_tried_again_alone() -> None:
    s3 = InMemoryBucket("a", "b")
    s3.stuck["b"] = ["InternalError"]
    assert await storage_on(s3).delete(["a", "b"]) == {}
    assert s3.batches == [["a", "b"], ["b"]]
    assert s3.keys == set()


async def test_a_key_that_stays_stuck_is_named() -> None:
    s3 = InMemoryBucket("a", "b")
    s3.stuck["b"] = ["AccessDenied"] * 10
    assert await storage_on(s3).delete(["a", "b"]) == {"b": DeletionFailure("AccessDenied", "no")}
    assert len(s3.batches) == ATTEMPTS
    assert s3.keys == {"b"}


async def test_when_the_server_fails_for_every_key_it_is_down() -> None:
    s3 = InMemoryBucket("a", "b")
    s3.stuck = {"a": ["InternalError"] * 10, "b": ["SlowDown"] * 10}
    with pytest.raises(TransientError):
        await storage_on(s3).delete(["a", "b"])


OUTAGES = [
    EndpointConnectionError(endpoint_url="http://s3"),
    ConnectTimeoutError(endpoint_url="http://s3"),
    client_error("InternalError", 500),
    client_error("SlowDown", 503),
    client_error("AccessDenied", 403),
    client_error("SignatureDoesNotMatch", 403),
    client_error("NoSuchBucket", 404),
]


@pytest.mark.parametrize("outage", OUTAGES)
async def test_a_storage_that_is_away_or_refuses_us_is_an_outage(outage: Exception) -> None:
    s3 = InMemoryBucket("a")
    s3.outage = outage
    with pytest.raises(TransientError):
        await storage_on(s3).delete(["a"])
    assert s3.keys == {"a"}


async def test_all_attempts_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "BUDGET_SECONDS", 0.05)
    monkeypatch.setattr(storage_module, "FIRST_PAUSE_SECONDS", 60)
    s3 = InMemoryBucket("a", "b")
    s3.stuck["b"] = ["InternalError"] * 10
    with pytest.raises(TransientError, match="did not delete within"):
        await storage_on(s3).delete(["a", "b"])


async def test_while_nothing_can_be_deleted_it_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    s3 = InMemoryBucket("a", "b")
    storage = storage_on(s3)
    s3.stuck = {"a": ["AccessDenied"] * 100}
    assert set(await storage.delete(["a", "b"])) == {"a"}
    assert await storage.check() is None
    assert set(await storage.delete(["a"])) == {"a"}
    with pytest.raises(TransientError, match="AccessDenied"):
        await storage.check()
    assert await storage.delete([]) == {}
    with pytest.raises(TransientError, match="AccessDenied"):
        await storage.check()
    monkeypatch.setattr(storage_module, "DELETION_PROBLEM_SECONDS", 0)  # nobody has tried for long
    assert await storage.check() is None
    monkeypatch.undo()
    assert await storage.delete(["b"]) == {}
    assert await storage.check() is None


@pytest.mark.parametrize(
    ("answer", "shortfall"),
    [
        ({}, None),
        ({"Status": "Enabled"}, "is versioned"),
        ({"Status": "Suspended"}, "was versioned"),
    ],
)
async def test_a_versioned_bucket_is_named(answer: dict[str, str], shortfall: str | None) -> None:
    s3 = InMemoryBucket()
    s3.versioning = answer
    told = await storage_on(s3).check()
    assert told is None if shortfall is None else shortfall in str(told)


@pytest.mark.parametrize("outage", [OUTAGES[0], OUTAGES[2], OUTAGES[6]])
async def test_a_bucket_that_does_not_answer_is(outage: Exception) -> None:
    s3 = InMemoryBucket()
    s3.outage = outage
    with pytest.raises(TransientError):
        await storage_on(s3).check()
