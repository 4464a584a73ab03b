"""The topics: their partitions, their retention, and the command that creates them."""

from collections.abc import Iterable
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from clip_shared.delivery import DLQ_SUFFIX
from clip_shared.errors import TransientError
from clip_shared.events import EVENT_TYPES
from clip_shared.kafka import client_security
from clip_shared.settings import KafkaSettings

DAY_SECONDS = 24 * 60 * 60


@dataclass(frozen=True)
class Topic:
    """``partitions`` bounds how many consumers share its work; ``retention_days`` how far a replay goes."""

    name: str
    partitions: int
    retention_days: int
    description: str


_LIVE = (
    Topic("highlight-detected", 6, 7, "Moments of VODs that are worth a clip, from the platform's detector."),
    Topic("clip-created", 6, 7, "Clips that are cut and complete in the free bucket."),
    Topic("clip-skipped", 6, 7, "Highlights that became no clip, and why."),
    Topic("clip-lifecycle", 6, 7, "Every change in a clip's life, in order per clip."),
    Topic("clip-objects-released", 6, 7, "Objects that no clip owns any more."),
    Topic("daily-tick", 1, 2, "The scheduler's call to clean up."),
)

_CONSUMED = ("highlight-detected", "clip-created", "clip-skipped", "clip-objects-released", "daily-tick")
DLQ_RETENTION_DAYS = 30

TOPICS: tuple[Topic, ...] = (
    *_LIVE,
    *(
        Topic(f"{name}{DLQ_SUFFIX}", 1, DLQ_RETENTION_DAYS, f"Messages of {name} that could not be handled.")
        for name in _CONSUMED
    ),
)


def types_of(topic: str) -> list[str]:
    """The types of event that a topic carries."""
    return [each.TYPE for each in EVENT_TYPES if topic.removesuffix(DLQ_SUFFIX) == each.TOPIC]


async def create_topics(
    settings: KafkaSettings, *, replication_factor: int, topics: Iterable[Topic] = TOPICS
) -> dict[str, bool]:
    """Create the topics that are missing; existing ones are left as they are.

    Returns:
        for each topic, whether it was created now.

    Raises:
        TransientError: the bus cannot be reached, or refused to create a topic.
    """
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.kafka_bootstrap_servers.split(","), **client_security(settings)
    )
    try:
        await admin.start()
        response = await admin.create_topics([_new_topic(topic, replication_factor) for topic in topics])
    except KafkaError as error:
        servers = settings.kafka_bootstrap_servers
        raise TransientError(f"cannot create topics at {servers}: {error}") from error
    finally:
        await admin.close()
    return {each[0]: _was_created(each[0], each[1]) for each in response.topic_errors}


def _new_topic(topic: Topic, replication_factor: int) -> NewTopic:
    return NewTopic(
        topic.name,
        num_partitions=topic.partitions,
        replication_factor=replication_factor,
        topic_configs={"retention.ms": str(topic.retention_days * DAY_SECONDS * 1000)},
    )


def _was_created(name: str, error_code: int) -> bool:
    error = for_code(error_code)
    if error is TopicAlreadyExistsError:
        return False
    if error_code != 0:
        raise TransientError(f"the bus refused to create {name}: {error.__name__}")
    return True
