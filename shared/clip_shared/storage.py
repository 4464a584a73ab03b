"""The one way in which services make an S3 client, and the command that makes their buckets."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from clip_shared.errors import PermanentError, TransientError
from clip_shared.settings import FreeStorageSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

READ_TIMEOUT_SECONDS = 20.0


def s3_client(
    *,
    endpoint: str,
    region: str,
    access_key: str,
    secret_key: str,
    connect_timeout_seconds: float = 3,
    read_timeout_seconds: float = READ_TIMEOUT_SECONDS,
    max_attempts: int = 3,
) -> "S3Client":
    """An S3 client for any S3-compatible server. It blocks: call it from a thread (``asyncio.to_thread``).

    Signatures are version 4 everywhere (left alone, boto3 presigns us-east-1 with version 2); buckets are
    addressed by path, because most servers other than AWS have no wildcard DNS; checksums that such
    servers may not know are sent only where the API demands them. Outages are retried ``max_attempts``
    times in all, with exponential backoff and jitter (botocore's standard mode).
    """
    return boto3.client(
        "s3",
        endpoint_url=endpoint.rstrip("/"),
        region_name=region,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=connect_timeout_seconds,
            read_timeout=read_timeout_seconds,
            retries={"total_max_attempts": max_attempts, "mode": "standard"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


async def ensure_buckets(settings: FreeStorageSettings, also: Iterable[str]) -> dict[str, bool]:
    """Create the clips' bucket and others on the same server; existing ones are left as they are.

    Returns:
        for each bucket, whether it was created now.

    Raises:
        PermanentError: free storage is not configured.
        TransientError: the server cannot be reached, or refused.
    """
    endpoint, bucket, access_key, secret_key = (
        settings.free_storage_endpoint,
        settings.free_storage_bucket,
        settings.free_storage_access_key,
        settings.free_storage_secret_key,
    )
    if endpoint is None or bucket is None or access_key is None or secret_key is None:
        raise PermanentError("free storage is not configured: set FREE_STORAGE_*")
    client = s3_client(
        endpoint=str(endpoint),
        region=settings.free_storage_region,
        access_key=access_key,
        secret_key=secret_key.get_secret_value(),
    )
    return {name: await asyncio.to_thread(_ensure_bucket, client, name) for name in [bucket, *also]}


def _ensure_bucket(client: "S3Client", name: str) -> bool:
    try:
        if name in {each["Name"] for each in client.list_buckets()["Buckets"]}:
            return False
        client.create_bucket(Bucket=name)
    except (BotoCoreError, ClientError) as error:
        raise TransientError(f"cannot create the bucket {name}: {error}") from error
    return True
