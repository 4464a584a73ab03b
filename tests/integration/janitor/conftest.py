"""What the janitor works on: a bucket of its own, and a registry of its own."""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.integration.clip_gateway.conftest import real_registry, registry_database_url

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["bucket", "real_registry", "registry_database_url"]


@pytest.fixture
def bucket(s3: "S3Client") -> Iterator[str]:
    """An empty bucket, gone in the end."""
    name = f"janitor-{uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    yield name
    for each in s3.list_objects_v2(Bucket=name).get("Contents", []):
        s3.delete_object(Bucket=name, Key=each["Key"])
    s3.delete_bucket(Bucket=name)


async def put(s3: "S3Client", bucket: str, *keys: str) -> None:
    for key in keys:
        await asyncio.to_thread(s3.put_object, Bucket=bucket, Key=key, Body=b"x")


async def keys_in(s3: "S3Client", bucket: str) -> set[str]:
    answer = await asyncio.to_thread(s3.list_objects_v2, Bucket=bucket)
    return {each["Key"] for each in answer.get("Contents", [])}
