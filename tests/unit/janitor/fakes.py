"""A registry and an S3 client in memory."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from clip_shared.contracts.events import DailyTick, Event, ObjectReleased, ReleaseReason, clip_id_for
from clip_shared.contracts.registry_api import DueClips, ExpirationResult, ExpiryNoticeResult

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class FakeJanitorRegistry:
    """Clips as the moments at which they fall due. Each call takes a second of its clock.

    ``untold`` is how many accounts have something that expires soon; ``owned`` holds objects of clips.
    """

    def __init__(self, *due_at: datetime) -> None:
        self.now = NOON
        self.due_at = sorted(due_at)
        self.held = 0
        self.calls: list[tuple[int, datetime | None]] = []
        self.untold = 0
        self.notice_calls: list[tuple[int, datetime | None]] = []
        self.owned: set[tuple[str, str]] = set()
        self.asked: list[list[str]] = []
        self.on_call: Callable[[], None] = lambda: None

    async def purge(self, limit: int, cutoff: datetime | None) -> ExpirationResult:
        self.calls.append((limit, cutoff))
        self.on_call()
        until = min(cutoff or self.now, self.now)
        due = [each for each in self.due_at if each <= until]
        free = due[self.held :][:limit]
        for each in free:
            self.due_at.remove(each)
        self.now += timedelta(seconds=1)
        return ExpirationResult(expired=len(free), more=len(due) > len(free), cutoff=until)

    async def due(self, *, detailed: bool = False) -> DueClips:
        assert not detailed
        due = [each for each in self.due_at if each <= self.now]
        return DueClips(due=len(due), ephemeral=len(self.due_at), cutoff=self.now, details=None)

    async def notify(self, limit: int, since: datetime | None) -> ExpiryNoticeResult:
        self.notice_calls.append((limit, since))
        told = min(limit, self.untold)
        self.untold -= told
        self.now += timedelta(seconds=1)
        return ExpiryNoticeResult(notified=told, more=told == limit, reached=self.now if told else None)

    async def orphans(self, bucket: str, keys: Sequence[str]) -> set[str]:
        assert len(keys) <= 1000
        self.asked.append(list(keys))
        return {key for key in keys if (bucket, key) not in self.owned}


class InMemoryBucket:
    """The calls that the janitor makes, on keys in memory; ``stuck`` maps a key to its error codes.

    Objects were last modified at noon, but for those in ``modified``.
    """

    def __init__(self, *keys: str, bucket: str = "clips") -> None:
        self.bucket = bucket
        self.keys = set(keys)
        self.stuck: dict[str, list[str]] = {}
        self.outage: Exception | None = None
        self.versioning: dict[str, Any] = {}
        self.batches: list[list[str]] = []
        self.page_size = 1000
        self.modified: dict[str, datetime] = {}

    def delete_objects(self, *, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - boto3's
        assert Bucket == self.bucket
        assert Delete["Quiet"] is False
        keys = [each["Key"] for each in Delete["Objects"]]
        assert 0 < len(keys) <= 1000
        self.batches.append(keys)
        if self.outage is not None:
            raise self.outage
        codes = {key: self.stuck[key].pop(0) for key in keys if self.stuck.get(key)}
        self.keys -= set(keys) - set(codes)
        return {
            "Deleted": [{"Key": key} for key in keys if key not in codes],
            "Errors": [{"Key": key, "Code": code, "Message": "no"} for key, code in codes.items()],
        }

    def get_paginator(self, operation: str) -> "InMemoryBucket":
        assert operation == "list_objects_v2"
        return self

    def paginate(
        self,
        *,
        Bucket: str,  # noqa: N803 - boto3's
        Prefix: str,  # noqa: N803 - boto3's
        PaginationConfig: dict[str, Any],  # noqa: N803 - boto3's
    ) -> Iterator[dict[str, Any]]:
        """Pages of ``page_size``; each goes on after the last key of the one before, as S3's do."""
        assert Bucket == self.bucket
        assert PaginationConfig["PageSize"] <= 1000
        last = ""
        while True:
            if self.outage is not None:
                raise self.outage
            after = [key for key in sorted(self.keys) if key.startswith(Prefix) and key > last]
            page, last = after[: self.page_size], (after or [""])[: self.page_size][-1]
            modified = {key: self.modified.get(key, NOON) for key in page}
            yield {
                "Name": Bucket,
                "Contents": [{"Key": k, "Size": 10, "LastModified": at} for k, at in modified.items()],
            }
            if len(after) <= self.page_size:
                return

    def get_bucket_versioning(self, *, Bucket: str) -> dict[str, Any]:  # noqa: N803 - boto3's
        assert Bucket == self.bucket
        if self.outage is not None:
            raise self.outage
        return self.versioning


def client_error(code: str, status: int) -> ClientError:
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "DeleteObjects")


def a_key(name: str, ending: str = "mp4") -> str:
    """The key of a clip's object; another one for each name."""
    return f"clips/ann/{clip_id_for(name)}/event-1.{ending}"


def a_release(key: str, bucket: str = "clips", *, time: datetime = NOON) -> Event[ObjectReleased]:
    data = ObjectReleased(bucket=bucket, object_key=key, reason=ReleaseReason.PURGED)
    return Event[ObjectReleased].new(data, source="clip-registry", time=time)


def a_tick(continuation: int = 0, *, named: str = "tick-1") -> Event[DailyTick]:
    return Event[DailyTick].new(DailyTick(continuation=continuation), source="scheduler", id=named)
