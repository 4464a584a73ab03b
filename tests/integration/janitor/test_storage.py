"""Deleting from a real S3 server."""

from typing import TYPE_CHECKING

import httpx
import pytest

from clip_shared.errors import TransientError
from clip_shared.storage import s3_client
from janitor.app import build
from janitor.settings import JanitorSettings
from janitor.storage import ClipBucket
from local_stack.servers.servers import Addresses
from tests.integration.janitor.conftest import keys_in, put

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEYS = ["clips/ann/1/e.mp4", "clips/ann/1/e.jpg", "with space/ü 日本+&%.mp4", "<&>.mp4"]


def client(addresses: Addresses, **changes: str) -> "S3Client":
    ours = {
        "endpoint": addresses.s3_endpoint_url,
        "region": addresses.s3_region,
        "access_key": addresses.s3_access_key,
        "secret_key": addresses.s3_secret_key,
    }
    return s3_client(**{**ours, **changes}, max_attempts=1)  # type: ignore[arg-type]  # texts, all of them


async def test_objects_are_gone_and_others_are_not(s3: "S3Client", bucket: str) -> None:
    await put(s3, bucket, *KEYS, "clips/ann/1/e.mp4.not", "stays")
    assert await ClipBucket(s3, bucket).delete([*KEYS, "absent", "clips/ann"]) == {}
    assert await keys_in(s3, bucket) == {"clips/ann/1/e.mp4.not", "stays"}
    assert await ClipBucket(s3, bucket).delete(KEYS) == {}


async def test_a_thousand_at_once(s3: "S3Client", bucket: str) -> None:
    there = [f"k/{number}" for number in range(0, 1000, 50)]
    await put(s3, bucket, *there)
    assert await ClipBucket(s3, bucket).delete([f"k/{number}" for number in range(1001)]) == {}
    assert await keys_in(s3, bucket) == set()


async def test_a_server_that_is_away_or_refuses_us_is_an_outage(
    addresses: Addresses, s3: "S3Client", bucket: str
) -> None:
    await put(s3, bucket, "stays")
    for broken in (
        ClipBucket(client(addresses, endpoint="http://127.0.0.1:1"), bucket),
        ClipBucket(client(addresses, secret_key="wrong"), bucket),
        ClipBucket(s3, f"{bucket}-absent"),
    ):
        with pytest.raises(TransientError):
            await broken.delete(["stays"])
        with pytest.raises(TransientError):
            await broken.check()
    assert await keys_in(s3, bucket) == {"stays"}


async def test_a_versioned_bucket_shows_in_readiness(
    addresses: Addresses, s3: "S3Client", bucket: str, kafka_bootstrap_servers: str
) -> None:
    app = build(
        JanitorSettings.model_validate(
            {
                "kafka_bootstrap_servers": kafka_bootstrap_servers,
                "free_storage_endpoint": addresses.s3_endpoint_url,
                "free_storage_bucket": bucket,
                "free_storage_access_key": addresses.s3_access_key,
                "free_storage_secret_key": addresses.s3_secret_key,
                "registry_url": "http://127.0.0.1:1",
                "registry_token": "0123456789abcdef",
            }
        )
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://janitor") as http:
        before = (await http.get("/healthz/ready")).json()["checks"]
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        after = (await http.get("/healthz/ready")).json()["checks"]
    assert before["storage"] == {"status": "ready"}
    assert after["storage"]["status"] == "degraded"
    assert "versioned" in after["storage"]["reason"]
    assert after["registry"]["status"] == "failing"
