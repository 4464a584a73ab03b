"""The servers behave as the services expect, side by side, and leave no process and no file."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import httpx
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from clip_shared.storage import s3_client
from local_stack.processes.ports import listener_error
from local_stack.servers.servers import Addresses, Servers, temporary_servers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with temporary_servers() as servers:
        yield servers


@pytest.fixture(scope="module")
def addresses(servers: Servers) -> Addresses:
    return servers.addresses


def client(addresses: Addresses) -> "S3Client":
    return s3_client(
        endpoint=addresses.s3_endpoint_url,
        region=addresses.s3_region,
        access_key=addresses.s3_access_key,
        secret_key=addresses.s3_secret_key,
    )


async def query(addresses: Addresses, sql: str) -> object:
    connection = await asyncpg.connect(addresses.database_url.replace("+asyncpg", ""))
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def send_to_new_topic(addresses: Addresses, topic: str, value: bytes) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=addresses.kafka_bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=addresses.kafka_bootstrap_servers) as producer:
        await producer.send_and_wait(topic, value)


async def first(addresses: Addresses, topic: str) -> object:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=addresses.kafka_bootstrap_servers, auto_offset_reset="earliest"
    )
    async with asyncio.timeout(20), consumer:
        return (await consumer.getone()).value


async def test_postgresql_asks_for_the_password(addresses: Addresses) -> None:
    assert await query(addresses, "SELECT current_user || current_database()") == "clipsclips"
    stranger = addresses.database_url.replace("+asyncpg", "").replace("clips:", "clips:not-")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(stranger)


def test_s3_asks_for_signed_requests(addresses: Addresses) -> None:
    s3 = client(addresses)
    s3.put_object(Bucket="clips", Key="a/b.txt", Body=b"0123456789")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "clips", "Key": "a/b.txt"}, ExpiresIn=60)
    part = httpx.get(url, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert httpx.get(url.split("?")[0]).status_code == 403
    assert httpx.get(url.replace("X-Amz-Signature=", "X-Amz-Signature=0")).status_code == 403


async def test_the_broker_delivers(addresses: Addresses) -> None:
    await send_to_new_topic(addresses, "round-trip", b"hello")
    assert await first(addresses, "round-trip") == b"hello"


async def test_servers_keep_their_data_across_a_restart() -> None:
    with temporary_servers() as servers:
        before = servers.addresses
        await query(before, "CREATE TABLE kept AS SELECT 1 AS number")
        client(before).put_object(Bucket="vods", Key="kept", Body=b"kept")
        await send_to_new_topic(before, "kept", b"kept")
        servers.s3.kill()
        servers.postgres.kill()
        servers.kafka.kill()
        servers.start()
        assert servers.addresses == before
        assert await query(before, "SELECT number FROM kept") == 1
        assert client(before).get_object(Bucket="vods", Key="kept")["Body"].read() == b"kept"
        assert await first(before, "kept") == b"kept"


def test_sigkill_leaves_no_process_and_no_file(servers: Servers) -> None:
    # Beside the servers of this module: two stacks on one machine do not interfere.
    code = """
import time
from local_stack.servers.servers import temporary_servers
with temporary_servers() as servers:
    print(servers.kafka.log.parent.parent, servers.kafka.bootstrap_servers.split(":")[1], flush=True)
    time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    folder, port = parent.stdout.readline().split()
    family = psutil.Process(parent.pid).children(recursive=True)
    outside = [Path(path) for path in (Path(folder) / "outside.txt").read_text().splitlines()]
    assert any(path.exists() for path in outside)
    assert len(family) > 4
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive
    _wait_until_gone(Path(folder))
    assert listener_error(int(port)) is not None
    assert not any(path.exists() for path in outside)
    assert all(process.running for process in servers.processes)


def _wait_until_gone(folder: Path) -> None:
    deadline = time.monotonic() + 5
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()
