"""The servers that integration and e2e tests run on: real ones, started once per run.

By default those of the local stack. ``TEST_KAFKA_BOOTSTRAP_SERVERS``,
``TEST_DATABASE_URL`` and ``TEST_S3_ENDPOINT_URL`` (with ``TEST_S3_ACCESS_KEY`` and ``TEST_S3_SECRET_KEY``)
point at servers that run already, all three or some; ``TEST_CONTAINERS=1`` starts containers instead, where a
Docker engine is.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from playwright.async_api import Page

from clip_shared.bus.admin import create_topics
from clip_shared.bus.settings import KafkaSettings
from clip_shared.storage import s3_client
from local_stack.servers.kafka_jars import BrokerUnavailable, bring_broker
from local_stack.servers.servers import Addresses, temporary_servers
from local_stack.stack import SESSION_SECONDS
from tests.support.browser import running_browser
from tests.support.containers import container_servers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# No test is timed: a busy machine is no fault of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SERVER_VARIABLES = ("TEST_KAFKA_BOOTSTRAP_SERVERS", "TEST_DATABASE_URL", "TEST_S3_ENDPOINT_URL")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Bring the broker before the first test, whose time limit is not meant for a download."""

    def say(done: int, jars: int) -> None:
        if done in {0, jars}:
            session.config.get_terminal_writer().line(f"Fetching Apache Kafka, once: {done} of {jars} jars")

    if any(not item.nodeid.startswith("tests/unit/") for item in session.items):
        try:
            bring_broker(say)
        except BrokerUnavailable as error:
            pytest.exit(str(error), returncode=2)


@pytest.fixture(scope="session")
def addresses() -> Iterator[Addresses]:
    """Where the servers of this run are."""
    with ExitStack() as stack:
        if os.environ.get("TEST_CONTAINERS"):
            yield stack.enter_context(container_servers())
        elif all(name in os.environ for name in SERVER_VARIABLES):
            yield _from_environment(Addresses("", "", "", "", ""))
        else:
            yield _from_environment(stack.enter_context(temporary_servers()).addresses)


def _from_environment(ours: Addresses) -> Addresses:
    given = os.environ.get
    return replace(
        ours,
        kafka_bootstrap_servers=given("TEST_KAFKA_BOOTSTRAP_SERVERS", ours.kafka_bootstrap_servers),
        database_url=given("TEST_DATABASE_URL", ours.database_url),
        s3_endpoint_url=given("TEST_S3_ENDPOINT_URL", ours.s3_endpoint_url),
        s3_access_key=given("TEST_S3_ACCESS_KEY", ours.s3_access_key),
        s3_secret_key=given("TEST_S3_SECRET_KEY", ours.s3_secret_key),
    )


@pytest.fixture(scope="session")
def kafka_settings(addresses: Addresses) -> KafkaSettings:
    """How to reach the bus."""
    return KafkaSettings(
        kafka_bootstrap_servers=addresses.kafka_bootstrap_servers,
        kafka_session_timeout_seconds=SESSION_SECONDS,
    )


@pytest.fixture(scope="session")
def topics(kafka_settings: KafkaSettings) -> None:
    """All topics exist."""
    asyncio.run(create_topics(kafka_settings, replication_factor=1))


@pytest.fixture(scope="session")
def kafka_bootstrap_servers(addresses: Addresses, topics: None) -> str:  # noqa: ARG001 - they must exist
    """The bus, with all topics on it."""
    return addresses.kafka_bootstrap_servers


@pytest.fixture(scope="session")
def database_url(addresses: Addresses) -> str:
    """A PostgreSQL whose user may create databases: a test that writes makes one of its own."""
    return addresses.database_url


@pytest.fixture(scope="session")
def s3(addresses: Addresses) -> "S3Client":
    """An S3 server with the buckets ``vods`` and ``clips``."""
    client = s3_client(
        endpoint=addresses.s3_endpoint_url,
        region=addresses.s3_region,
        access_key=addresses.s3_access_key,
        secret_key=addresses.s3_secret_key,
    )
    existing = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for name in {"vods", "clips"} - existing:
        client.create_bucket(Bucket=name)
    return client


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    """An empty page in a browser of its own."""
    async with running_browser(tmp_path / "home") as browser:
        yield await browser.new_page()
