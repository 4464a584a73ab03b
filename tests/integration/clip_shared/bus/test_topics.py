"""The topics on a real broker have the configs that we want, also those that existed before."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from typer.testing import CliRunner

from clip_shared.__main__ import cli
from clip_shared.bus import admin as topics
from clip_shared.bus.admin import Difference, Growth, correct, create_topics, differences, grow, growths
from clip_shared.bus.log_reader import log_reader
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import HighlightDetected
from clip_shared.contracts.topics import DEALT_WITH, TOPICS, Topic, with_partitions
from clip_shared.errors import PermanentError, TransientError
from tests.integration.clip_shared.bus.buses import admin_of

DETECTED = next(each for each in TOPICS if each.name == HighlightDetected.TOPIC)


@pytest.fixture
async def old(kafka_settings: KafkaSettings) -> AsyncIterator[Topic]:
    """A topic that was made without our configs, with two of an operator's own."""
    topic = replace(DETECTED, name=f"test-{uuid.uuid4().hex[:8]}", partitions=1)
    own = {"retention.ms": "86400000", "segment.bytes": "1048576"}
    async with admin_of(kafka_settings) as admin:
        await admin.create_topics([NewTopic(topic.name, 1, 1, topic_configs=own)])
        yield topic
        await admin.delete_topics([topic.name])


@pytest.mark.usefixtures("topics")
async def test_the_broker_sets_the_time_of_a_highlight(kafka_settings: KafkaSettings) -> None:
    """A producer whose clock is a day ahead, or that makes its times up, changes nothing."""
    body = uuid.uuid4().bytes
    async with AIOKafkaProducer(bootstrap_servers=kafka_settings.kafka_bootstrap_servers) as producer:
        sent = await producer.send_and_wait(DETECTED.name, body, timestamp_ms=1, partition=0)
    async with log_reader(kafka_settings, "read", DETECTED.name) as reader:
        (partition, *_) = reader.partitions(DETECTED.name)
        (found,) = [each async for each in reader.read(partition, sent.offset, sent.offset + 1)]
    assert found.timestamp_type == 1
    assert found.timestamp > 1_700_000_000_000


async def test_what_differs_is_said_and_corrected_and_all_else_left(
    kafka_settings: KafkaSettings, old: Topic
) -> None:
    found = await differences(kafka_settings, [old])
    assert set(found) == {
        Difference(old.name, "retention.ms", "86400000", "604800000"),
        Difference(old.name, "message.timestamp.type", "CreateTime", "LogAppendTime"),
    }
    assert await create_topics(kafka_settings, replication_factor=1, topics=[old]) == {old.name: False}
    assert set(await differences(kafka_settings, [old])) == set(found)
    await correct(kafka_settings, found)
    assert await differences(kafka_settings, [old]) == []
    async with admin_of(kafka_settings) as admin:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, old.name)])
    values = {entry[0]: entry[1] for entry in answer.resources[0][4]}
    assert values["segment.bytes"] == "1048576"


def test_the_command_says_it_and_applies_it(
    kafka_settings: KafkaSettings, old: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*words: str) -> list[str]:
        environment = {"KAFKA_BOOTSTRAP_SERVERS": kafka_settings.kafka_bootstrap_servers}
        done = CliRunner().invoke(cli, ["topics", "create", *words], env=environment)
        assert done.exit_code == 0, done.output
        return done.stdout.splitlines()

    monkeypatch.setattr("clip_shared.commands.topics.TOPICS", (old,))
    first = run()
    assert f"{old.name:28} exists" in first
    assert f"{old.name:28} message.timestamp.type is CreateTime, should be LogAppendTime" in first
    assert first[-1] == "correct them with: clip-shared topics create --apply"
    assert f"{old.name:28} message.timestamp.type was CreateTime, now LogAppendTime" in run("--apply")
    assert run() == [f"{old.name:28} exists"]


def run_create(settings: KafkaSettings, *words: str, **environment: str) -> tuple[int, list[str], str]:
    servers = {"KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers}
    done = CliRunner().invoke(cli, ["topics", "create", *words], env={**servers, **environment})
    return done.exit_code, done.stdout.splitlines(), done.stderr


@pytest.fixture
async def shared(kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Topic]:
    """A topic with two partitions, the only one that the command knows."""
    topic = replace(DETECTED, name=f"test-{uuid.uuid4().hex[:8]}", partitions=2)
    monkeypatch.setattr("clip_shared.commands.topics.TOPICS", (topic,))
    await create_topics(kafka_settings, replication_factor=1, topics=[topic])
    yield topic
    async with admin_of(kafka_settings) as admin:
        await admin.delete_topics([topic.name])


def test_partitions_are_added_when_told_and_never_taken_away(
    kafka_settings: KafkaSettings, shared: Topic
) -> None:
    name = shared.name
    partitions = ("--partitions", f"{name}=5")
    assert run_create(kafka_settings, *partitions) == (
        0,
        [
            f"{name:28} exists",
            f"{name:28} partitions is 2, should be 5",
            "correct them with: clip-shared topics create --apply",
        ],
        "",
    )
    code, lines, _ = run_create(kafka_settings, "--apply", TOPIC_PARTITIONS=f"{name}=5")
    assert (code, lines[1:]) == (0, [f"{name:28} partitions was 2, now 5"])
    assert run_create(kafka_settings, *partitions, "--apply") == (0, [f"{name:28} exists"], "")
    # Who names no number wants none.
    assert run_create(kafka_settings, "--apply") == (0, [f"{name:28} exists"], "")
    code, _, problem = run_create(kafka_settings, "--partitions", f"{name}=3", "--apply")
    assert code == 1
    assert problem == f"{name} has 5 partitions, and Kafka takes none away: name 5 or more in place of 3\n"


async def test_a_new_topic_has_the_partitions_that_it_is_given(kafka_settings: KafkaSettings) -> None:
    topic = replace(DETECTED, name=f"test-{uuid.uuid4().hex[:8]}")
    wanted = with_partitions({topic.name: 9}, [topic])
    await create_topics(kafka_settings, replication_factor=1, topics=wanted)
    assert await growths(kafka_settings, wanted) == []
    assert await growths(kafka_settings, with_partitions({topic.name: 12}, [topic])) == [
        Growth(topic.name, 9, 12)
    ]
    async with admin_of(kafka_settings) as admin:
        await admin.delete_topics([topic.name])


async def test_what_is_sent_to_new_partitions_is_read_from_their_start(
    kafka_settings: KafkaSettings, shared: Topic
) -> None:
    """A consumer learns of a new partition later than a producer may: what came first is not passed over."""
    servers = kafka_settings.kafka_bootstrap_servers
    options: dict[str, Any] = {"auto_offset_reset": "earliest", "metadata_max_age_ms": 1000}
    async with AIOKafkaConsumer(
        shared.name, bootstrap_servers=servers, group_id=shared.name, **options
    ) as consumer:
        await grow(kafka_settings, await growths(kafka_settings, [replace(shared, partitions=4)]))
        async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
            for number in range(4):
                await producer.send_and_wait(shared.name, bytes([number]), partition=number)
        async with asyncio.timeout(30):
            found = [await consumer.getone() for _ in range(4)]
    assert {each.partition for each in found} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("partitions", "problem"),
    [
        ("nowhere=3", "there is no topic nowhere"),
        ("daily-tick=2", "daily-tick has one partition by design"),
        ("highlight-detected", "not TOPIC=COUNT: highlight-detected"),
        ("highlight-detected=0", "not TOPIC=COUNT: highlight-detected=0"),
    ],
)
def test_partitions_that_make_no_sense_are_refused(
    kafka_settings: KafkaSettings, partitions: str, problem: str
) -> None:
    code, lines, error = run_create(kafka_settings, "--partitions", partitions, NO_COLOR="1", COLUMNS="200")
    assert (code, lines) == (2, [])
    assert problem in error


async def test_what_is_missing_is_said(
    kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "PROPAGATION_SECONDS", 0.3)
    with pytest.raises(TransientError, match="cannot describe nowhere"):
        await differences(kafka_settings, [replace(DETECTED, name="nowhere")])


async def test_too_few_brokers_are_said_in_one_line(kafka_settings: KafkaSettings) -> None:
    with pytest.raises(PermanentError, match="refused to create test-replicated") as refused:
        await create_topics(
            kafka_settings, replication_factor=3, topics=[replace(DETECTED, name="test-replicated")]
        )
    assert "\n" not in str(refused.value)


def test_three_replicas_need_two_in_sync() -> None:
    assert DETECTED.configs_of(3)["min.insync.replicas"] == "2"
    assert "min.insync.replicas" not in DETECTED.configs_of(1)


def test_notes_of_dead_letters_outlive_the_letters() -> None:
    letters = [each for each in TOPICS if each.name.endswith(".dlq")]
    assert all(each.retention_days < DEALT_WITH.retention_days for each in letters)
    assert all(int(each.configs_of(1)["max.message.bytes"]) >= 2 * 1024 * 1024 for each in letters)
