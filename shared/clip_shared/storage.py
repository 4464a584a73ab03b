"""The one way in which services make an S3 client."""

from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def s3_client(
    *,
    endpoint: str,
    region: str,
    access_key: str,
    secret_key: str,
    connect_timeout_seconds: float = 3,
    read_timeout_seconds: float = 20,
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
