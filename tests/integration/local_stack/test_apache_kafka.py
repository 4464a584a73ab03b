"""The local stack's Apache Kafka behaves as the services expect."""

import getpass
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError

from local_stack.processes.ports import LOOPBACK
from local_stack.processes.workspace import Workspace
from local_stack.servers.apache_kafka import ApacheKafka


@pytest.fixture(scope="module")
def kafka() -> Iterator[ApacheKafka]:
    with Workspace() as workspace, ApacheKafka(workspace) as kafka:
        yield kafka


async def make_topic(kafka: ApacheKafka, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    await admin.close()


async def test_a_killed_broker_has_lost_no_message(kafka: ApacheKafka) -> None:
    await make_topic(kafka, "kept")
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all") as producer:
        for number in range(200):
            await producer.send_and_wait("kept", b"%d" % number)
        kafka.kill()
        kafka.start()
        await producer.send_and_wait("kept", b"200")
    consumer = AIOKafkaConsumer(
        "kept", bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest"
    )
    async with consumer:
        found = [int((await consumer.getone()).value) for _ in range(201)]
    assert found == list(range(201))


async def test_topics_are_not_created_automatically(kafka: ApacheKafka) -> None:
    # A producer asks for the topic again until its request times out.
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, request_timeout_ms=3000)
    async with producer:
        with pytest.raises(UnknownTopicOrPartitionError):
            await producer.send_and_wait("not-created", b"?")


def test_it_listens_on_loopback_addresses_only(kafka: ApacheKafka) -> None:
    listening = [
        connection.laddr.ip.removeprefix("::ffff:")
        for connection in psutil.Process(kafka.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == [LOOPBACK] * 2


def test_it_leaves_no_file_of_the_jvm(kafka: ApacheKafka) -> None:
    # The folder of every JVM's counters, unless they are switched off.
    assert not Path(f"/tmp/hsperfdata_{getpass.getuser()}/{kafka.pid}").exists()  # noqa: S108 - fixed in Java
