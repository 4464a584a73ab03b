"""The clips' bucket: its objects are listed and deleted in batches."""

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
from janitor.domain import DeletionFailure, is_bulk_refused, is_outage, is_question_refused

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

log = structlog.get_logger()

# The most keys that S3 takes in a DeleteObjects, and lists on a page.
MAX_KEYS = 1000
# Where the server does not support DeleteObjects. boto3 keeps as many connections.
DELETES_AT_ONCE = 10
ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.4
LONGEST_PAUSE_SECONDS = 2.0
# All attempts together; below the handler's deadline, which is for handlers that hang.
BUDGET_SECONDS = 90.0
# How long a failed deletion makes the service unready. The bus redelivers twice a minute.
DELETION_PROBLEM_SECONDS = 300.0


class ListedObject(NamedTuple):
    """An object in a listing. ``modified_at`` is by the storage's clock."""

    key: str
    size_bytes: int
    modified_at: datetime


class BulkRefused(ClipsError):
    """The server does not support DeleteObjects."""


class ClipBucket:
    """One bucket, whose blocking S3 client is called from threads. ``name`` is the bucket's name."""

    def __init__(self, client: "S3Client", name: str) -> None:
        self._client = client
        self.name = name
        self._versioning: str | None = None
        self._supports_bulk = True
        # On few CPUs the event loop's own pool is smaller, and readiness needs it.
        self._deleters = ThreadPoolExecutor(DELETES_AT_ONCE, thread_name_prefix="deleter")
        self._deletion_problem: tuple[float, str] | None = None

    async def pages(self, prefix: str) -> AsyncIterator[list[ListedObject]]:
        """Yield all objects whose keys begin with ``prefix``, at most 1000 at a time.

        An object may be deleted once it was listed.

        Raises:
            TransientError: the storage is down, or refuses us.
        """
        listing = iter(
            self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=prefix, PaginationConfig={"PageSize": MAX_KEYS}
            )
        )
        while (page := await asyncio.to_thread(self._next_page, listing)) is not None:
            yield page

    def _next_page(self, listing: "Iterator[ListObjectsV2OutputTypeDef]") -> list[ListedObject] | None:
        try:
            answer = next(listing, None)
        except (BotoCoreError, ClientError) as error:
            raise TransientError(f"storage does not list bucket {self.name}: {error}") from error
        if answer is None:
            return None
        if "Name" not in answer:  # a page of a proxy reads like an empty list
            raise TransientError(f"what answers for bucket {self.name} is not S3")
        return [
            ListedObject(each["Key"], each["Size"], each["LastModified"])
            for each in answer.get("Contents", [])
        ]

    async def delete(self, keys: Sequence[str]) -> dict[str, DeletionFailure]:
        """Delete objects. An object that is not there counts as deleted.

        Returns:
            for each key that could not be deleted after several attempts, why.

        Raises:
            TransientError: the storage is down, too slow, or refuses us. Some of the objects may be deleted;
                it is safe to repeat the call.
        """
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return {}
        try:
            failures = await self._delete_in_time(wanted)
        except TransientError as error:
            self._deletion_problem = time.monotonic(), str(error)
            raise
        none_deleted = len(failures) == len(wanted)
        self._deletion_problem = (time.monotonic(), _sentence(failures)) if none_deleted else None
        return failures

    @property
    def deletion_problem(self) -> str | None:
        """Why the last deletion failed for every object, if it was a few minutes ago at most."""
        if self._deletion_problem is None:
            return None
        at, problem = self._deletion_problem
        return problem if time.monotonic() - at <= DELETION_PROBLEM_SECONDS else None

    async def _delete_in_time(self, keys: list[str]) -> dict[str, DeletionFailure]:
        try:
            async with asyncio.timeout(BUDGET_SECONDS):
                failures = await self._delete_persistently(keys)
        except TimeoutError as error:
            raise TransientError(f"storage did not delete within {BUDGET_SECONDS:.0f} s") from error
        if is_outage(len(keys), failures):
            raise TransientError(_sentence(failures))
        return failures

    async def _delete_persistently(self, keys: list[str]) -> dict[str, DeletionFailure]:
        failures = await self._delete_all(keys)
        for attempt in range(1, ATTEMPTS):
            if not failures:
                break
            pause = backoff_seconds(attempt, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)
            failures = await self._delete_all(list(failures))
        return failures

    async def _delete_all(self, keys: list[str]) -> dict[str, DeletionFailure]:
        failures: dict[str, DeletionFailure] = {}
        for batch in _batches(keys, MAX_KEYS):
            failures |= await self._delete_batch(batch)
        return failures

    async def _delete_batch(self, keys: list[str]) -> dict[str, DeletionFailure]:
        if not self._supports_bulk:
            return await self._delete_singly(keys)
        try:
            return await asyncio.to_thread(self._delete_together, keys)
        except BulkRefused as refusal:
            failures = await self._delete_singly(keys)
            if len(failures) < len(keys):
                self._supports_bulk = False
                log.warning(
                    "the storage does not support DeleteObjects: objects are deleted one by one",
                    error=str(refusal),
                )
            return failures

    def _delete_together(self, keys: list[str]) -> dict[str, DeletionFailure]:
        """Send one DeleteObjects. It is not quiet: an answer that names no object comes from a proxy."""
        try:
            answer = self._client.delete_objects(
                Bucket=self.name, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": False}
            )
        except ClientError as error:
            if is_bulk_refused(_status(error), _code(error)):
                raise BulkRefused(str(error)) from error
            raise TransientError(f"storage refused us in bucket {self.name}: {error}") from error
        except BotoCoreError as error:
            raise TransientError(f"storage cannot be reached: {error}") from error
        failed = [each for each in answer.get("Errors", []) if each.get("Code") != _GONE]
        if not all("Key" in each for each in failed):
            raise TransientError(f"storage does not say which objects it did not delete: {failed[0]}")
        named = {each.get("Key") for each in (*answer.get("Deleted", []), *answer.get("Errors", []))}
        unnamed = {
            key: DeletionFailure("NoAnswer", "it is not named in the answer")
            for key in keys
            if key not in named
        }
        return unnamed | {
            each["Key"]: DeletionFailure(each.get("Code", "unknown"), each.get("Message", ""))
            for each in failed
        }

    async def _delete_singly(self, keys: list[str]) -> dict[str, DeletionFailure]:
        failures: dict[str, DeletionFailure] = {}
        run = asyncio.get_running_loop().run_in_executor
        for some in _batches(keys, DELETES_AT_ONCE):
            results = await asyncio.gather(*(run(self._deleters, self._delete_one, key) for key in some))
            failures |= {key: failure for key, failure in zip(some, results, strict=True) if failure}
        return failures

    def _delete_one(self, key: str) -> DeletionFailure | None:
        try:
            answer = self._client.delete_object(Bucket=self.name, Key=key)
        except ClientError as error:
            return None if _code(error) == _GONE else DeletionFailure(_code(error), str(error))
        except BotoCoreError as error:
            raise TransientError(f"storage cannot be reached: {error}") from error
        status = answer["ResponseMetadata"]["HTTPStatusCode"]
        if status != HTTPStatus.NO_CONTENT:
            return DeletionFailure("NoAnswer", f"{status} is not S3's answer to a deletion")
        return None

    async def check(self) -> str | None:
        """Check that the bucket answers, deletes, and keeps no version of a deleted object.

        Returns:
            what costs money although all works; None: nothing does.

        Raises:
            TransientError: the bucket does not answer, or the last deletion failed.
        """
        if self.deletion_problem is not None:
            raise TransientError(self.deletion_problem)
        status = await asyncio.to_thread(self._read_versioning)
        notice = _NOTICES.get(status)
        if status != self._versioning and notice is not None:
            log.warning(notice, bucket=self.name)
        self._versioning = status
        return None if status == _UNKNOWN else notice

    def _read_versioning(self) -> str:
        try:
            return str(self._client.get_bucket_versioning(Bucket=self.name).get("Status", _UNVERSIONED))
        except ClientError as error:
            if is_question_refused(_status(error), _code(error)):
                return _UNKNOWN
            raise TransientError(f"bucket {self.name}: {error}") from error
        except BotoCoreError as error:
            raise TransientError(f"storage cannot be reached: {error}") from error


_GONE = "NoSuchKey"
_UNVERSIONED = "Disabled"
_UNKNOWN = "unknown"
_NOTICES = {
    "Enabled": "the clips' bucket is versioned: a deleted clip leaves an old version, which costs money",
    "Suspended": "the clips' bucket was versioned: old versions from that time still cost money",
    _UNKNOWN: "the storage does not say whether the clips' bucket is versioned (s3:GetBucketVersioning)",
}


def _batches(keys: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def _sentence(failures: dict[str, DeletionFailure]) -> str:
    key, failure = next(iter(failures.items()))
    return f"storage does not delete {key}: {failure.code} {failure.message}"


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "unknown")


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
