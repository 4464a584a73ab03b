"""Jobs of docker-compose.yml, run with their own commands and environment on real servers.

The job "topics" is in test_bus_access.py.
"""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer
from sqlalchemy import make_url
from tests.support.deployment import ENVIRONMENT, command_of, environment_of, services

from local_stack.servers.servers import Addresses

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PROGRAMS = Path(sys.executable).parent


def run(job: str, given: dict[str, str], **changes: str) -> str:
    """Run a job as its container does, with changes to its environment."""
    container = services(ENVIRONMENT | given)[job]
    environment = environment_of(container)
    assert set(changes) <= set(environment)
    script, *arguments = command_of(container)
    result = subprocess.run(
        [PROGRAMS / script, *arguments],
        env={"PATH": os.environ["PATH"]} | environment | changes,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_buckets(addresses: Addresses, s3: "S3Client") -> None:
    vods, clips = (f"{name}-{uuid.uuid4().hex[:12]}" for name in ("vods", "clips"))
    given = {"SOURCE_STORAGE_BUCKET": vods}
    changes = {
        "FREE_STORAGE_ACCESS_KEY": addresses.s3_access_key,
        "FREE_STORAGE_SECRET_KEY": addresses.s3_secret_key,
        "FREE_STORAGE_ENDPOINT": addresses.s3_endpoint_url,
        "FREE_STORAGE_REGION": addresses.s3_region,
        "FREE_STORAGE_BUCKET": clips,
    }
    try:
        assert run("buckets", given, **changes).split() == [clips, "created", vods, "created"]
        assert run("buckets", given, **changes).split() == [clips, "exists", vods, "exists"]
    finally:
        for name in (vods, clips):
            s3.delete_bucket(Bucket=name)


@pytest.fixture
async def empty_database(database_url: str) -> AsyncIterator[str]:
    """The URL of a new database, for asyncpg."""
    server = make_url(database_url).set(drivername="postgresql")
    name = f"jobs_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(server.render_as_string(hide_password=False))
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
        yield server.set(database=name).render_as_string(hide_password=False)
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await connection.close()


async def test_migrate(empty_database: str) -> None:
    url = empty_database.replace("postgresql://", "postgresql+asyncpg://", 1)
    for _ in range(2):
        assert "the schema is at revision" in run("migrate", {}, DATABASE_URL=url)
    connection = await asyncpg.connect(empty_database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM generated_clips") == 0
    finally:
        await connection.close()


async def test_tick(kafka_bootstrap_servers: str) -> None:
    consumer = AIOKafkaConsumer("daily-tick", bootstrap_servers=kafka_bootstrap_servers)
    await consumer.start()
    try:
        await consumer.seek_to_end()
        said = await asyncio.to_thread(tick, kafka_bootstrap_servers)
        record = await consumer.getone()
    finally:
        await consumer.stop()
    headers = {name: value.decode() for name, value in record.headers}
    assert headers["ce_type"] == "tick.daily.v1"
    assert said.split()[-1] == headers["ce_id"]


def tick(kafka_bootstrap_servers: str) -> str:
    return subprocess.run(
        [PROGRAMS / "clip-shared", "tick"],
        env={"KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap_servers},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
