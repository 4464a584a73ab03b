"""Kafka as docker-compose.yml sets it up, with the image's program and the file's environment.

The user of each service has the permissions for its work, and no others.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from aiokafka.protocol.admin import DeleteAclsRequest
from prometheus_client import CollectorRegistry
from tests.integration.clip_shared.bus.buses import until
from tests.support.deployment import ENVIRONMENT, command_of, environment_of, services

from clip_shared.bus.acls import ALLOW, Operation, Pattern, Resource, create_acls
from clip_shared.bus.admin import create_topics
from clip_shared.bus.bus import Bus
from clip_shared.bus.clients import client_security
from clip_shared.bus.envelope import OutgoingRecord
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.access import ACCESS, Access
from clip_shared.contracts.events import EVENT_TYPES, Event, HighlightDetected
from clip_shared.contracts.topics import DLQ_SUFFIX, TOPICS, Topic
from clip_shared.errors import PermanentError, TransientError
from clip_shared.refused_connections import Cause
from local_stack.processes.ports import LOOPBACK, listener_error
from local_stack.processes.process import Process
from local_stack.processes.workspace import Workspace
from local_stack.servers.kafka_jars import bring_jars, find_java

CONTAINERS = services()
PROGRAMS = Path(sys.executable).parent
BY_USER = {access.user: access for access in ACCESS}
ON_THE_BUS = ("clip-cutter", "clip-registry", "janitor")


@pytest.fixture(scope="module")
def bootstrap_servers() -> Iterator[str]:
    """The broker of docker-compose.yml, on a loopback port, after its job "topics"."""
    with Workspace() as workspace:
        clients, controller = (
            f"{LOOPBACK}:{workspace.ports.claim(name)}" for name in ("kafka", "controller")
        )
        folders = {name: workspace.state.folder / name for name in ("defaults", "mounted", "config", "data")}
        for folder in folders.values():
            folder.mkdir()
        (folders["defaults"] / "log4j2.yaml").touch()
        changes = {
            "KAFKA_LISTENERS": f"CLIENTS://{clients},CONTROLLER://{controller}",
            "KAFKA_ADVERTISED_LISTENERS": f"CLIENTS://{clients}",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": f"1@{controller}",
            "KAFKA_LOG_DIRS": str(folders["data"]),
        }
        environment = environment_of(CONTAINERS["kafka"])
        assert set(changes) <= set(environment)
        java = [str(find_java()), "-Xmx512m", "-cp", ":".join(map(str, bring_jars()))]
        places = [f"--{name}-configs-dir" for name in ("default", "mounted", "final")]
        options = zip(places, (folders[name] for name in ("defaults", "mounted", "config")), strict=True)
        subprocess.run(
            [*java, "kafka.docker.KafkaDockerWrapper", "setup", *(word for pair in options for word in pair)],
            env=environment | changes,
            check=True,
            timeout=60,
        )
        broker = Process(
            "Kafka of docker-compose.yml",
            [*java, "kafka.Kafka", folders["config"] / "server.properties"],
            log=workspace.state.log("kafka"),
            environment=workspace.state.environment(),
            readiness_error=lambda: listener_error(int(clients.rpartition(":")[2])),
        )
        with broker:
            said = run_job("topics", clients)
            assert "clip-cutter may read" in said
            assert "clip-cutter may read" in run_job("topics", clients), "the job can be repeated"
            yield clients


def run_job(name: str, bootstrap_servers: str, *command: str) -> str:
    script, *arguments = command or command_of(CONTAINERS[name])
    environment = environment_of(CONTAINERS[name]) | {"KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers}
    return subprocess.run(
        [PROGRAMS / script, *arguments],
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def settings_of(user: str, bootstrap_servers: str) -> KafkaSettings:
    """Return the settings to sign in as a user, as in its container; the platform has no container here."""
    if user == "platform":
        environment = environment_of(CONTAINERS["scheduler"]) | {
            "KAFKA_SASL_USERNAME": user,
            "KAFKA_SASL_PASSWORD": ENVIRONMENT["KAFKA_PLATFORM_PASSWORD"],
        }
    else:
        environment = environment_of(CONTAINERS["topics" if user == "admin" else user])
    assert environment["KAFKA_SASL_USERNAME"] == user
    names = {name.lower(): value for name, value in environment.items() if name.startswith("KAFKA_")}
    return KafkaSettings.model_validate(names | {"kafka_bootstrap_servers": bootstrap_servers})


@asynccontextmanager
async def producer(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    client = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        **client_security(settings),
        request_timeout_ms=5000,
    )
    async with client:
        yield client


@asynccontextmanager
async def consumer(
    settings: KafkaSettings, topic: str, group: str | None = None
) -> AsyncIterator[AIOKafkaConsumer]:
    client = AIOKafkaConsumer(
        topic,
        group_id=group,
        auto_offset_reset="earliest",
        bootstrap_servers=settings.kafka_bootstrap_servers,
        request_timeout_ms=5000,
        **client_security(settings),
    )
    try:
        await client.start()
        yield client
    finally:
        await client.stop()


async def read_one(settings: KafkaSettings, topic: str, group: str | None = None) -> None:
    async with consumer(settings, topic, group) as client, asyncio.timeout(20):
        await client.getone()


@pytest.fixture(scope="module")
def filled(bootstrap_servers: str) -> None:
    """Put a record that is not an event into every topic."""

    async def fill() -> None:
        async with producer(settings_of("admin", bootstrap_servers)) as client:
            for topic in TOPICS:
                await client.send_and_wait(topic.name, b"not an event", key=b"filled")

    asyncio.run(fill())


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("service", ON_THE_BUS)
async def test_a_service_can_do_its_work(service: str, bootstrap_servers: str) -> None:
    access = BY_USER[service]
    registry = CollectorRegistry()
    bus = Bus(settings_of(service, bootstrap_servers), service=service, registry=registry)

    async def handle(event: Event) -> None:  # type: ignore[type-arg]
        raise AssertionError(event)

    for topic in access.reads:
        (data_type, *_) = (each for each in EVENT_TYPES if topic == each.TOPIC)
        bus.subscriber(data_type, deadline_seconds=5)(handle)
    await bus.start()
    try:
        for topic in access.writes:
            await bus.publish_record(OutgoingRecord(topic=topic, key=b"key", value=b"{}", headers=[]))
        async with asyncio.timeout(30):
            for topic in access.reads:
                await dead_lettered(settings_of("admin", bootstrap_servers), topic)
        assert await bus.check_ready() is None
        await bus.check_alive()
    finally:
        await bus.stop()


async def dead_lettered(settings: KafkaSettings, topic: str) -> None:
    """Return when the service has dead-lettered the record that is not an event."""
    async with consumer(settings, f"{topic}{DLQ_SUFFIX}") as client:
        while "dlq_error" not in dict((await client.getone()).headers):
            pass


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("access", ACCESS, ids=lambda access: access.user)
class TestNothingElse:
    async def test_can_be_written(self, access: Access, bootstrap_servers: str) -> None:
        own = {*access.writes, *(f"{topic}{DLQ_SUFFIX}" for topic in access.reads)}
        async with producer(settings_of(access.user, bootstrap_servers)) as client:
            for topic in others(own):
                with pytest.raises(TopicAuthorizationFailedError):
                    await client.send_and_wait(topic.name, b"forged")

    async def test_can_be_read(self, access: Access, bootstrap_servers: str) -> None:
        settings = settings_of(access.user, bootstrap_servers)
        for topic in others(set(access.reads)):
            with pytest.raises(TopicAuthorizationFailedError):
                await read_one(settings, topic.name)

    async def test_can_be_taken_from_another_group(self, access: Access, bootstrap_servers: str) -> None:
        settings = settings_of(access.user, bootstrap_servers)
        for other in ACCESS:
            for topic in other.reads if other != access else ():
                with pytest.raises((GroupAuthorizationFailedError, TopicAuthorizationFailedError)):
                    await read_one(settings, topic, f"{other.user}.{topic}")
        for topic in access.reads:
            with pytest.raises(GroupAuthorizationFailedError):
                await read_one(settings, topic, "anything")

    async def test_can_be_administered(self, access: Access, bootstrap_servers: str) -> None:
        settings = settings_of(access.user, bootstrap_servers)
        with pytest.raises(PermanentError, match="Authorization"):
            await create_topics(settings, replication_factor=1, topics=[Topic("new", 1, 1, "")])
        with pytest.raises(PermanentError, match="Authorization"):
            await create_acls(settings)


def others(own: set[str]) -> list[Topic]:
    return [topic for topic in TOPICS if topic.name not in own]


async def test_sign_in_with_a_wrong_password_is_refused(bootstrap_servers: str) -> None:
    wrong = settings_of("janitor", bootstrap_servers).model_copy(
        update={"kafka_sasl_username": "clip-cutter"}
    )
    with pytest.raises(KafkaError):
        async with producer(wrong):
            pass
    causes: list[Cause] = []
    bus = Bus(wrong, service="another", registry=CollectorRegistry(), on_refused=causes.append)
    with pytest.raises(TransientError):
        await bus.start()
    assert set(causes) == {Cause.CREDENTIALS}


async def test_clients_without_sign_in_are_refused(bootstrap_servers: str) -> None:
    with pytest.raises(KafkaConnectionError):
        async with producer(KafkaSettings(kafka_bootstrap_servers=bootstrap_servers)):
            pass


def test_the_scheduler_sends_its_tick(bootstrap_servers: str) -> None:
    assert "sent tick.daily.v1" in run_job("scheduler", bootstrap_servers, "clip-shared", "tick")


async def test_the_platform_can_do_its_work(bootstrap_servers: str) -> None:
    settings = settings_of("platform", bootstrap_servers)
    async with producer(settings) as client:
        await client.send_and_wait("highlight-detected", b"{}", key=b"highlight")
    async with producer(settings_of("clip-registry", bootstrap_servers)) as client:
        await client.send_and_wait("clip-lifecycle", b"{}", key=b"clip")
    await read_one(settings, "clip-lifecycle", "platform.clips")


@pytest.fixture
def cutter(bootstrap_servers: str) -> Bus:
    """The cutter's bus, with a handler of highlights."""
    settings = settings_of("clip-cutter", bootstrap_servers)
    bus = Bus(settings, service="clip-cutter", registry=CollectorRegistry())

    @bus.subscriber(HighlightDetected, deadline_seconds=5)
    async def handle(_event: Event[HighlightDetected]) -> None:
        return

    return bus


async def test_a_right_to_read_that_is_withdrawn_is_seen(cutter: Bus, bootstrap_servers: str) -> None:
    """An error below the handlers must make readiness fail; otherwise, clips just stop."""
    admin, topic = settings_of("admin", bootstrap_servers), HighlightDetected.TOPIC
    partitions = cutter.delivery.topics[topic]
    await cutter.start()
    try:
        await until(lambda: bool(partitions._states()) and not partitions.unplaced(), seconds=60)
        await withdraw(admin, "clip-cutter", topic)
        assert "TopicAuthorizationFailed" in await until_not_ready(cutter)
        await cutter.check_alive()  # alive: a restart would not help, and it continues when it may read again
    finally:
        await cutter.stop()
        await create_acls(admin)


async def test_a_service_without_it_is_not_ready_and_joins_when_it_may(
    cutter: Bus, bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clip_shared.bus.groups.REJOIN_SECONDS", 0.5)
    admin = settings_of("admin", bootstrap_servers)
    await withdraw(admin, "clip-cutter", HighlightDetected.TOPIC)
    await cutter.start()
    try:
        assert "TopicAuthorizationFailed" in await until_not_ready(cutter)
        await cutter.check_alive()  # alive: it retries by itself
        await create_acls(admin)
        partitions = cutter.delivery.topics[HighlightDetected.TOPIC]
        await until(lambda: bool(partitions._states()) and not partitions.unplaced(), seconds=60)
        assert await readiness(cutter) is None
    finally:
        await cutter.stop()
        await create_acls(admin)


async def until_not_ready(bus: Bus) -> str:
    """Wait until readiness has a reason, and return it."""
    async with asyncio.timeout(30):
        while (said := await readiness(bus)) is None:
            await asyncio.sleep(0.2)
    return said


async def readiness(bus: Bus) -> str | None:
    try:
        return await bus.check_ready()
    except TransientError as error:
        return str(error)


async def withdraw(admin: KafkaSettings, user: str, topic: str) -> None:
    """Delete the ACL by which a user may read a topic."""
    client = AIOKafkaClient(bootstrap_servers=admin.kafka_bootstrap_servers, **client_security(admin))
    await client.bootstrap()
    try:
        request = DeleteAclsRequest(
            Resource.TOPIC, topic, Pattern.LITERAL, f"User:{user}", "*", Operation.READ, ALLOW
        )
        await client.send(client.get_random_node(), request)
    finally:
        await client.close()
