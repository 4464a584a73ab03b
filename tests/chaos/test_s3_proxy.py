"""The proxy passes requests on without a fault, and clients see a failing server with one."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from clip_shared.storage import s3_client
from local_stack.processes.ports import Ports
from local_stack.servers.servers import Addresses
from tests.chaos.s3_proxy import PAGE, FaultyS3Proxy, StorageFault

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "clips"
BODY = b"0123456789" * 100_000


@pytest.fixture
async def proxy(addresses: Addresses, s3: "S3Client") -> AsyncIterator[FaultyS3Proxy]:
    def delete(bucket: str, key: str) -> None:
        s3.delete_object(Bucket=bucket, Key=key)

    with Ports() as ports:
        proxy = FaultyS3Proxy(ports.claim("proxy"), addresses.s3_endpoint_url, delete, seed=1)
        async with proxy.running():
            yield proxy


@pytest.fixture
def client(proxy: FaultyS3Proxy, addresses: Addresses) -> "S3Client":
    """A client without retries."""
    return s3_client(
        endpoint=proxy.url,
        region=addresses.s3_region,
        access_key=addresses.s3_access_key,
        secret_key=addresses.s3_secret_key,
        max_attempts=1,
    )


@pytest.fixture
def key() -> str:
    return f"chaos/{uuid.uuid4()}"


async def put(client: "S3Client", key: str) -> None:
    await asyncio.to_thread(client.put_object, Bucket=BUCKET, Key=key, Body=BODY)


async def get(client: "S3Client", key: str, wanted: str = "bytes=0-") -> bytes:
    def read() -> bytes:
        return client.get_object(Bucket=BUCKET, Key=key, Range=wanted)["Body"].read()

    return await asyncio.to_thread(read)


async def test_signed_requests_pass_through(client: "S3Client", key: str) -> None:
    await put(client, key)
    assert await get(client, key) == BODY
    assert await get(client, key, "bytes=5-14") == BODY[5:15]


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (StorageFault.ERROR_500, 500),
        (StorageFault.ERROR_503, 503),
        (StorageFault.DENIED, 403),
    ],
)
async def test_it_refuses(
    proxy: FaultyS3Proxy, client: "S3Client", key: str, fault: StorageFault, status: int
) -> None:
    proxy.fault, proxy.share = fault, 1.0
    for request in (put(client, key), get(client, key)):
        with pytest.raises(ClientError) as error:
            await request
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert proxy.injected == {fault: 2}
    proxy.fault = None
    await put(client, key)


async def test_a_page_of_a_proxy_is_no_word_of_the_storage(
    proxy: FaultyS3Proxy, client: "S3Client", key: str
) -> None:
    await put(client, key)
    proxy.fault, proxy.share = StorageFault.PAGE_404, 1.0
    with pytest.raises((ClientError, BotoCoreError)) as error:
        await get(client, key)
    assert "NoSuchKey" not in str(error.value)


async def test_it_gives_another_body_to_readers_only(
    proxy: FaultyS3Proxy, client: "S3Client", key: str
) -> None:
    proxy.fault, proxy.share = StorageFault.OTHER_BODY, 1.0
    await put(client, key)
    assert await get(client, key) == PAGE
    proxy.fault = None
    assert await get(client, key) == BODY


async def test_it_knows_no_bulk_delete(proxy: FaultyS3Proxy, client: "S3Client", key: str) -> None:
    await put(client, key)
    proxy.fault, proxy.share = StorageFault.NO_BULK_DELETE, 1.0
    with pytest.raises(ClientError, match="NotImplemented"):
        await asyncio.to_thread(client.delete_objects, Bucket=BUCKET, Delete={"Objects": [{"Key": key}]})
    await asyncio.to_thread(client.delete_object, Bucket=BUCKET, Key=key)


async def test_one_object_is_never_answered_for(proxy: FaultyS3Proxy, client: "S3Client", key: str) -> None:
    await put(client, key)
    await put(client, f"{key}-other")
    proxy.poisoned.add(f"/{BUCKET}/{key}")
    with pytest.raises(ClientError, match="InternalError"):
        await get(client, key)
    assert await get(client, f"{key}-other") == BODY


async def test_it_breaks_off(proxy: FaultyS3Proxy, client: "S3Client", key: str) -> None:
    await put(client, key)
    proxy.fault, proxy.share = StorageFault.RESET, 1.0
    broken = 0
    for _ in range(10):
        try:
            await get(client, key)
        except BotoCoreError:
            broken += 1
    assert broken > 0


async def test_it_is_slow(proxy: FaultyS3Proxy, client: "S3Client", key: str) -> None:
    await put(client, key)
    proxy.fault, proxy.share = StorageFault.SLOW, 1.0
    started = time.monotonic()
    assert await get(client, key, "bytes=0-99999") == BODY[:100_000]
    assert time.monotonic() - started > 0.3


async def test_some_keys_are_not_deleted_and_the_others_are(
    proxy: FaultyS3Proxy, client: "S3Client", key: str, s3: "S3Client"
) -> None:
    keys = [f"{key}/{number}" for number in range(40)]
    for each in keys:
        s3.put_object(Bucket=BUCKET, Key=each, Body=b"x")
    proxy.fault, proxy.share = StorageFault.DELETE_ERRORS, 1.0
    answer = await asyncio.to_thread(
        lambda: client.delete_objects(
            Bucket=BUCKET, Delete={"Objects": [{"Key": each} for each in keys], "Quiet": True}
        )
    )
    failed = {each["Key"] for each in answer["Errors"]}
    assert {each["Code"] for each in answer["Errors"]} == {"AccessDenied", "InternalError"}
    left = {item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET, Prefix=key)["Contents"]}
    assert left == failed
    assert 0 < len(failed) < len(keys)
