"""Create topics, and compare and correct their partitions and configs."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import BrokerResponseError, KafkaError, TopicAlreadyExistsError, for_code

from clip_shared.bus.clients import client_security
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.topics import TOPICS, Topic
from clip_shared.errors import PermanentError, TransientError

PROPAGATION_SECONDS = 10.0
SET_ON_THE_TOPIC = 1  # of the sources of a value, in DescribeConfigs


@dataclass(frozen=True)
class Difference:
    """A config of a topic whose value is wrong."""

    topic: str
    config: str
    found: str | None
    wanted: str


@dataclass(frozen=True)
class Growth:
    """A topic with too few partitions."""

    topic: str
    found: int
    wanted: int


async def growths(settings: KafkaSettings, topics: Iterable[Topic]) -> list[Growth]:
    """Find the existing topics that have fewer partitions than they should have.

    Raises:
        PermanentError: a topic has more partitions, or we may not describe it.
        TransientError: Kafka cannot be reached, or a topic is missing.
    """
    wanted = {each.name: each.partitions for each in topics}
    async with _admin(settings, "count the topics' partitions") as admin:
        found = [Growth(name, count, wanted[name]) for name, count in await _partition_counts(admin, wanted)]
    for each in found:
        if each.found > each.wanted:
            raise PermanentError(
                f"{each.topic} has {each.found} partitions, and Kafka takes none away:"
                f" name {each.found} or more in place of {each.wanted}"
            )
    return [each for each in found if each.found < each.wanted]


async def grow(settings: KafkaSettings, found: Iterable[Growth]) -> None:
    """Add the partitions that are missing.

    Raises:
        PermanentError: Kafka refused.
        TransientError: Kafka cannot be reached.
    """
    async with _admin(settings, "add partitions") as admin:
        for each in found:
            try:
                await admin.create_partitions({each.topic: NewPartitions(each.wanted)})
            except BrokerResponseError as error:
                kind = TransientError if error.retriable else PermanentError
                raise kind(f"the bus refused to add partitions to {each.topic}: {error}") from error


async def _partition_counts(admin: AIOKafkaAdminClient, names: Iterable[str]) -> list[tuple[str, int]]:
    described = await _describe(admin, list(names))
    for each in described:
        _check(each["error_code"], f"cannot describe {each['topic']}")
    return [(each["topic"], len(each["partitions"])) for each in described]


async def create_topics(
    settings: KafkaSettings, *, replication_factor: int, topics: Iterable[Topic] = TOPICS
) -> dict[str, bool]:
    """Create the topics that are missing; existing ones are left as they are.

    Returns:
        for each topic, whether it was created now.

    Raises:
        PermanentError: Kafka refused to create a topic: it has too few brokers, or we may not.
        TransientError: Kafka cannot be reached.
    """
    async with _admin(settings, "create topics") as admin:
        response = await admin.create_topics([_new_topic(topic, replication_factor) for topic in topics])
    return {each[0]: _was_created(each[0], each[1], each[-1]) for each in response.topic_errors}


async def differences(settings: KafkaSettings, topics: Iterable[Topic] = TOPICS) -> list[Difference]:
    """Compare the configs of existing topics with those of new ones.

    Raises:
        PermanentError: we may not read a topic's configs.
        TransientError: Kafka cannot be reached, or a topic is missing.
    """
    async with _admin(settings, "read the topics' configs") as admin:
        return [
            Difference(name, config, found.get(config), wanted)
            for name, configs in (await _wanted(admin, topics)).items()
            for found in [await _values(admin, name)]
            for config, wanted in configs.items()
            if found.get(config) != wanted
        ]


async def correct(settings: KafkaSettings, found: Iterable[Difference]) -> None:
    """Set what differs on each topic, and leave every other config of it as it is.

    Raises:
        PermanentError: Kafka refused.
        TransientError: Kafka cannot be reached.
    """
    changes: dict[str, dict[str, str]] = {}
    for each in found:
        changes.setdefault(each.topic, {})[each.config] = each.wanted
    async with _admin(settings, "correct the topics' configs") as admin:
        for topic, configs in changes.items():
            # This request replaces every config that was set on the topic, so the others are sent too.
            kept = {name: value for name, value in (await _values(admin, topic, own=True)).items() if value}
            (answer,) = await admin.alter_configs([_resource(topic, {**kept, **configs})])
            for error_code, message, *_ in answer.resources:
                _check(error_code, f"the bus refused to correct {topic}", message)


async def _wanted(admin: AIOKafkaAdminClient, topics: Iterable[Topic]) -> dict[str, dict[str, str]]:
    by_name = {each.name: each for each in topics}
    described = await _describe(admin, list(by_name))
    for each in described:
        _check(each["error_code"], f"cannot describe {each['topic']}")
    return {
        each["topic"]: by_name[each["topic"]].configs_of(len(each["partitions"][0]["replicas"]))
        for each in described
    }


async def _describe(admin: AIOKafkaAdminClient, names: list[str]) -> list[dict[str, Any]]:
    """Describe topics; wait up to ``PROPAGATION_SECONDS`` for those that were created a moment ago."""
    deadline = time.monotonic() + PROPAGATION_SECONDS
    while True:
        described: list[dict[str, Any]] = await admin.describe_topics(names)
        if all(each["error_code"] == 0 for each in described) or time.monotonic() > deadline:
            return described
        await asyncio.sleep(0.2)


async def _values(admin: AIOKafkaAdminClient, topic: str, *, own: bool = False) -> dict[str, str | None]:
    """Return a topic's configs; ``own``: only those that were set on the topic itself."""
    (answer,) = await admin.describe_configs([_resource(topic)])
    ((error_code, message, _, _, entries),) = answer.resources
    _check(error_code, f"cannot read the configs of {topic}", message)
    return {entry[0]: entry[1] for entry in entries if not own or entry[3] == SET_ON_THE_TOPIC}


def _resource(topic: str, configs: dict[str, str] | None = None) -> ConfigResource:
    return ConfigResource(ConfigResourceType.TOPIC, topic, configs)


@asynccontextmanager
async def _admin(settings: KafkaSettings, purpose: str) -> AsyncIterator[AIOKafkaAdminClient]:
    servers = settings.kafka_bootstrap_servers
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.split(","), **client_security(settings))
    try:
        await admin.start()
        yield admin
    except KafkaError as error:
        raise TransientError(f"cannot {purpose} at {servers}: {error}") from error
    finally:
        await admin.close()


def _new_topic(topic: Topic, replication_factor: int) -> NewTopic:
    return NewTopic(
        topic.name,
        num_partitions=topic.partitions,
        replication_factor=replication_factor,
        topic_configs=topic.configs_of(replication_factor),
    )


def _was_created(name: str, error_code: int, message: Any) -> bool:
    if for_code(error_code) is TopicAlreadyExistsError:
        return False
    _check(error_code, f"the bus refused to create {name}", message)
    return True


def _check(error_code: int, problem: str, message: Any = None) -> None:
    if error_code != 0:
        error = for_code(error_code)
        kind = TransientError if error.retriable else PermanentError
        raise kind(f"{problem}: {message or error.description or error.__name__}")
