"""The clips' bucket, as the janitor sees it: objects are listed, and go, in batches."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from clip_shared.errors import TransientError
from janitor.domain import Failure, is_outage

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

log = structlog.get_logger()

# S3's own limit.
MAX_KEYS = 1000
ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.2
# All attempts together; below the deadline of the handler, which would take it for a surprise.
BUDGET_SECONDS = 90.0


class Listed(NamedTuple):
    """An object as a listing shows it; ``modified_at`` is by the storage's clock."""

    key: str
    size_bytes: int
    modified_at: datetime


class ClipStorage:
    """One bucket, behind a blocking S3 client that this class calls from threads."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self.bucket = bucket
        self._versioning: str | None = None

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
        return [
            Listed(each["Key"], each["Size"], each["LastModified"]) for each in answer.get("Contents", [])
        ]

    async def delete(self, keys: Sequence[str]) -> dict[str, Failure]:
        """Delete objects; one that is not there counts as deleted.

        Returns:
            the keys that could not be deleted after several attempts, and why.

        Raises:
            TransientError: the storage is down, too slow, or refuses us altogether. Some of the objects
                may be gone; asking again is safe.
        """
        try:
            async with asyncio.timeout(BUDGET_SECONDS):
                failures = await self._delete_persistently(list(dict.fromkeys(keys)))
        except TimeoutError as error:
            raise TransientError(f"storage did not delete within {BUDGET_SECONDS:.0f} s") from error
        if is_outage(len(set(keys)), failures):
            raise TransientError(f"storage deletes nothing: {next(iter(failures.values()))}")
        return failures

    async def _delete_persistently(self, keys: list[str]) -> dict[str, Failure]:
        failures = await self._delete_all(keys)
        for attempt in range(ATTEMPTS - 1):
            if not failures:
                break
            longest = FIRST_PAUSE_SECONDS * 4**attempt
            await asyncio.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - jitter, not a secret
            failures = await self._delete_all(list(failures))
        return failures

    async def _delete_all(self, keys: list[str]) -> dict[str, Failure]:
        failures: dict[str, Failure] = {}
        for batch in _batches(keys):
            failures |= await asyncio.to_thread(self._delete_batch, batch)
        return failures

    def _delete_batch(self, keys: list[str]) -> dict[str, Failure]:
        """One DeleteObjects. Quiet: the answer names only what failed."""
        try:
            answer = self._client.delete_objects(
                Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        except ClientError as error:
            if _code(error) == "MalformedXML":
                return self._isolate(keys, error)
            raise TransientError(f"storage refused us in bucket {self.bucket}: {error}") from error
        except BotoCoreError as error:
            raise TransientError(f"storage cannot be reached: {error}") from error
        return {
            each["Key"]: Failure(each.get("Code", "unknown"), each.get("Message", ""))
            for each in answer.get("Errors", [])
            if "Key" in each and each.get("Code") != "NoSuchKey"
        }

    def _isolate(self, keys: list[str], error: ClientError) -> dict[str, Failure]:
        """Find the key that XML cannot carry, so that the others of its batch go through."""
        if len(keys) == 1:
            return {keys[0]: Failure(_code(error), str(error))}
        middle = len(keys) // 2
        return self._delete_batch(keys[:middle]) | self._delete_batch(keys[middle:])

    async def check(self) -> str | None:
        """Whether the bucket answers, and whether what is deleted from it is really gone.

        Raises:
            TransientError: it does not answer.
        """
        versioning = await asyncio.to_thread(self._read_versioning)
        shortfall = _SHORTFALLS.get(versioning)
        if versioning != self._versioning and shortfall is not None:
            log.warning(shortfall, bucket=self.bucket)
        self._versioning = versioning
        return shortfall

    def _read_versioning(self) -> str:
        try:
            return str(self._client.get_bucket_versioning(Bucket=self.bucket).get("Status", _UNVERSIONED))
        except ClientError as error:
            if _code(error) in {"AccessDenied", "NotImplemented"}:
                return _code(error)
            raise TransientError(f"bucket {self.bucket}: {error}") from error
        except BotoCoreError as error:
            raise TransientError(f"storage cannot be reached: {error}") from error


_UNVERSIONED = "Disabled"
_SHORTFALLS = {
    "Enabled": "the clips' bucket is versioned: a deleted clip leaves an old version behind, which costs on",
    "Suspended": "the clips' bucket was versioned once: versions from that time stay behind, and cost on",
    "AccessDenied": "nobody may tell us whether the clips' bucket is versioned: grant s3:GetBucketVersioning",
}


def _batches(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), MAX_KEYS):
        yield keys[start : start + MAX_KEYS]


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "unknown")
