"""The clips' bucket, as the janitor sees it: objects are listed, and go, in batches."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from clip_shared.backoff import backoff_seconds
from clip_shared.errors import ClipsError, TransientError
from janitor.domain import Failure, is_bulk_refused, is_outage, is_question_refused

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

log = structlog.get_logger()

# S3's own limit.
MAX_KEYS = 1000
# Where the server knows no DeleteObjects. As many connections as boto3 keeps.
DELETES_AT_ONCE = 10
ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.4
LONGEST_PAUSE_SECONDS = 2.0
# All attempts together; below the deadline of the handler, which would take it for a surprise.
BUDGET_SECONDS = 90.0
# A failure is news for as long as this: whoever deletes tries again every half minute.
TROUBLE_SECONDS = 300.0


class Listed(NamedTuple):
    """An object as a listing shows it; ``modified_at`` is by the storage's clock."""

    key: str
    size_bytes: int
    modified_at: datetime


class BulkRefused(ClipsError):
    """The server does not take DeleteObjects."""


class ClipBucket:
    """One bucket, behind a blocking S3 client that this class calls from threads."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self.bucket = bucket
        self._versioning: str | None = None
        self._takes_bulk = True
        # The loop's own pool is smaller on few CPUs, and readiness needs it.
        self._deleters = ThreadPoolExecutor(DELETES_AT_ONCE, thread_name_prefix="deleter")
        self._trouble: tuple[float, str] | None = None

    async def pages(self, prefix: str) -> AsyncIterator[list[Listed]]:
        """All objects whose keys begin so, at most 1000 at a time. One may be deleted once it was listed.

        Raises:
            TransientError: the storage is down, or refuses us.
        """
        listing = iter(
            self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, PaginationConfig={"PageSize": MAX_KEYS}
            )
        )
        while (page := await asyncio.to_thread(self._next_page, listing)) is not None:
            yield page

    def _next_page(self, listing: "Iterator[ListObjectsV2OutputTypeDef]") -> list[Listed] | None:
        try:
            answer = next(listing, None)
        except (BotoCoreError, ClientError) as error:
            raise TransientError(f"storage does not list bucket {self.bucket}: {error}") from error
        if answer is None:
            return None
        if "Name" not in answer:  # a page of a proxy reads like an empty list
            raise TransientError(f"what answers for bucket {self.bucket} is not S3")
        return [
            Listed(each["Key"], each["Size"], each["LastModified"]) for each in answer.get("Contents", [])
        ]

    async def delete(self, keys: Sequence[str]) -> dict[str, Failure]:
        """Delete objects; one that is not there counts as deleted.

        Returns:
            the keys that could not be deleted after several attempts, and why.

        Raises:
            TransientError: the storage is down, too slow, or refuses us. Some of the objects may be gone;
                asking again is safe.
        """
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return {}
        try:
            failures = await self._delete_in_time(wanted)
        except TransientError as error:
            self._trouble = time.monotonic(), str(error)
            raise
        nothing_went = len(failures) == len(wanted)
        self._trouble = (time.monotonic(), _sentence(failures)) if nothing_went else None
        return failures

    @property
    def trouble(self) -> str | None:
        """Why nothing could be deleted when it was last tried, a few minutes ago at most."""
        if self._trouble is None or time.monotonic() - self._trouble[0] > TROUBLE_SECONDS:
            return None
        return self._trouble[1]

    async def _delete_in_time(self, keys: list[str]) -> dict[str, Failure]:
        try:
            async with asyncio.timeout(BUDGET_SECONDS):
                failures = await self._delete_persistently(keys)
        except TimeoutError as error:
            raise TransientError(f"storage did not delete within {BUDGET_SECONDS:.0f} s") from error
        if is_outage(len(keys), failures):
            raise TransientError(_sentence(failures))
        return failures

    async def _delete_persistently(self, keys: list[str]) -> dict[str, Failure]:
        failures = await self._delete_all(keys)
        for attempt in range(1, ATTEMPTS):
            if not failures:
                break
            pause = backoff_seconds(attempt, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)
            failures = await self._delete_all(list(failures))
        return failures

    async def _delete_all(self, keys: list[str]) -> dict[str, Failure]:
        failures: dict[str, Failure] = {}
        for batch in _batches(keys, MAX_KEYS):
            failures |= await self._delete_batch(batch)
        return failures

    async def _delete_batch(self, keys: list[str]) -> dict[str, Failure]:
        if not self._takes_bulk:
            return await self._delete_singly(keys)
        try:
            return await asyncio.to_thread(self._delete_together, keys)
        except BulkRefused as refusal:
            failures = await self._delete_singly(keys)
            if len(failures) < len(keys):
                self._takes_bulk = False
                log.warning(
                    "the storage takes no DeleteObjects: objects are deleted one by one", why=str(refusal)
                )
            return failures

    def _delete_together(self, keys: list[str]) -> dict[str, Failure]:
        """One DeleteObjects. Not quiet: a page of a proxy, which names nothing, must not count as success."""
        try:
            answer = self._client.delete_objects(
                Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": False}
            )
        except ClientError as error:
            if is_bulk_refused(_status(error), _code(error)):
                raise BulkRefused(str(error)) from error
            raise TransientError(f"storage refused us in bucket {self.bucket}: {error}") from error
        except BotoCoreError as error:
            raise TransientError(f"storage cannot be reached: {error}") from error
        failed = [each for each in answer.get("Errors", []) if each.get("Code") != _GONE]
        if not all("Key" in each for each in failed):
            raise TransientError(f"storage does not say which objects it did not delete: {failed[0]}")
        named = {each.get("Key") for each in (*answer.get("Deleted", []), *answer.get("Errors", []))}
        silent = {
            key: Failure("NoAnswer", "it is not named in the answer") for key in keys if key not in named
        }
        return silent | {
            each["Key"]: Failure(each.get("Code", "unknown"), each.get("Message", "")) for each in failed
        }

    async def _delete_singly(self, keys: list[str]) -> dict[str, Failure]:
        failures: dict[str, Failure] = {}
        run = asyncio.get_running_loop().run_in_executor
        for some in _batches(keys, DELETES_AT_ONCE):
            results = await asyncio.gather(*(run(self._deleters, self._delete_one, key) for key in some))
            failures |= {key: failure for key, failure in zip(some, results, strict=True) if failure}
        return failures

    def _delete_one(self, key: str) -> Failure | None:
        try:
            answer = self._client.delete_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            return None if _code(error) == _GONE else Failure(_code(error), str(error))
        except BotoCoreError as error:
            raise TransientError(f"storage cannot be reached: {error}") from error
        status = answer["ResponseMetadata"]["HTTPStatusCode"]
        if status != HTTPStatus.NO_CONTENT:
            return Failure("NoAnswer", f"{status} is not S3's answer to a deletion")
        return None

    async def check(self) -> str | None:
        """Whether the bucket answers, deletes, and is rid of what was deleted.

        Raises:
            TransientError: it does not answer, or did not delete when it was last asked to.
        """
        if self.trouble is not None:
            raise TransientError(self.trouble)
        versioning = await asyncio.to_thread(self._read_versioning)
        notice = _NOTICES.get(versioning)
        if versioning != self._versioning and notice is not None:
            log.warning(notice, bucket=self.bucket)
        self._versioning = versioning
        return None if versioning == _UNKNOWN else notice

    def _read_versioning(self) -> str:
        try:
            return str(self._client.get_bucket_versioning(Bucket=self.bucket).get("Status", _UNVERSIONED))
        except ClientError as error:
            if is_question_refused(_status(error), _code(error)):
                return _UNKNOWN
            raise TransientError(f"bucket {self.bucket}: {error}") from error
        except BotoCoreError as error:
            raise TransientError(f"storage cannot be reached: {error}") from error


_GONE = "NoSuchKey"
_UNVERSIONED = "Disabled"
_UNKNOWN = "unknown"
_NOTICES = {
    "Enabled": "the clips' bucket is versioned: a deleted clip leaves an old version behind, which costs on",
    "Suspended": "the clips' bucket was versioned once: versions from that time stay behind, and cost on",
    _UNKNOWN: "the storage does not say whether the clips' bucket is versioned (s3:GetBucketVersioning)",
}


def _batches(keys: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def _sentence(failures: dict[str, Failure]) -> str:
    key, failure = next(iter(failures.items()))
    return f"storage does not delete {key}: {failure.code} {failure.message}"


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "unknown")


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
