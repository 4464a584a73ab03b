"""The topics: their names, partitions, retention and configuration."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from clip_shared.contracts.events import EVENT_TYPES
from clip_shared.errors import PermanentError

DLQ_SUFFIX = ".dlq"


DAY_SECONDS = 24 * 60 * 60

# With this many replicas or more, a write needs two: then the loss of a broker loses no acknowledged write.
REPLICATED = 3


@dataclass(frozen=True)
class Topic:
    """A topic. At most ``partitions`` consumers share its work; a replay reaches back ``retention_days``."""

    name: str
    partitions: int
    retention_days: int
    description: str
    configs: Mapping[str, str] = field(default_factory=dict)

    def configs_of(self, replicas: int) -> dict[str, str]:
        """Return the Kafka configuration that we set for a topic with ``replicas`` replicas."""
        return {
            "retention.ms": str(self.retention_days * DAY_SECONDS * 1000),
            **({"min.insync.replicas": "2"} if replicas >= REPLICATED else {}),
            **self.configs,
        }


# The broker's clock, not the producer's: see clip_shared.bus.envelope.from_record.
_BROKERS_CLOCK = {"message.timestamp.type": "LogAppendTime"}

_LIVE = (
    Topic(
        "highlight-detected",
        6,
        7,
        "Parts of VODs that the platform's detector found worth a clip.",
        _BROKERS_CLOCK,
    ),
    Topic(
        "highlight-encodings",
        6,
        7,
        "Highlights whose clips have to be re-encoded, from cutter to cutter.",
        _BROKERS_CLOCK,
    ),
    Topic("clip-created", 6, 7, "Clips that are cut and complete in the free bucket."),
    Topic("clip-skipped", 6, 7, "Highlights that became no clip, and why."),
    Topic("clip-lifecycle", 6, 7, "Every change of a clip, in order for each clip."),
    Topic("clip-objects-released", 6, 7, "Objects that no clip owns any more."),
    Topic("daily-tick", 1, 2, "The scheduler's order to purge what is due."),
)

_CONSUMED = (
    "highlight-detected",
    "highlight-encodings",
    "clip-created",
    "clip-skipped",
    "clip-objects-released",
    "daily-tick",
)

DLQ_RETENTION_DAYS = 30

# Twice what a producer may send: a message that fitted its topic fits here with the notes, too.
_DLQ_CONFIGS = {"max.message.bytes": str(2 * 1024 * 1024), **_BROKERS_CLOCK}

# Kept for longer than any dead letter, which Kafka may keep for a segment's time beyond its retention.
DEALT_WITH = Topic(
    "dead-letters-dealt-with",
    1,
    2 * DLQ_RETENTION_DAYS,
    "Which dead letters were sent back or discarded, as clip-shared records it.",
)

TOPICS: tuple[Topic, ...] = (
    *_LIVE,
    *(
        Topic(
            f"{name}{DLQ_SUFFIX}",
            1,
            DLQ_RETENTION_DAYS,
            f"Messages of {name} that could not be handled.",
            _DLQ_CONFIGS,
        )
        for name in _CONSUMED
    ),
    DEALT_WITH,
)


def types_of(topic: str) -> list[str]:
    """Return the event types that a topic, or the topic of a dead-letter topic, carries."""
    return [each.TYPE for each in EVENT_TYPES if topic.removesuffix(DLQ_SUFFIX) == each.TOPIC]


def with_partitions(counts: Mapping[str, int], topics: Iterable[Topic] = TOPICS) -> tuple[Topic, ...]:
    """Return the topics, with the numbers of partitions that ``counts`` gives.

    Raises:
        PermanentError: a name is not the name of a topic, or the topic has one partition by design.
    """
    by_name = {each.name: each for each in topics}
    for name in counts:
        if name not in by_name:
            raise PermanentError(f"there is no topic {name}: see clip-shared topics list")
        if by_name[name].partitions == 1:
            raise PermanentError(f"{name} has one partition by design: its work is not shared")
    return tuple(
        replace(each, partitions=counts.get(name, each.partitions)) for name, each in by_name.items()
    )
