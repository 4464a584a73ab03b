"""The topics: their names, partitions, retention and configuration."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from clip_shared.contracts.events import EVENT_TYPES
from clip_shared.errors import PermanentError

DLQ_SUFFIX = ".dlq"


DAY_SECONDS = 24 * 60 * 60

# From so many replicas on, a write needs two of them: one broker's loss then loses nothing acknowledged.
REPLICATED = 3


@dataclass(frozen=True)
class Topic:
    """``partitions`` bounds how many consumers share its work; ``retention_days`` how far a replay goes."""

    name: str
    partitions: int
    retention_days: int
    description: str
    configs: Mapping[str, str] = field(default_factory=dict)

    def configs_of(self, replicas: int) -> dict[str, str]:
        """Return all of Kafka's topic configs that we set, for a topic with so many replicas."""
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
        "Moments of VODs that are worth a clip, from the platform's detector.",
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
    Topic("clip-lifecycle", 6, 7, "Every change in a clip's life, in order per clip."),
    Topic("clip-objects-released", 6, 7, "Objects that no clip owns any more."),
    Topic("daily-tick", 1, 2, "The scheduler's call to clean up."),
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

# Twice what a producer may send, so that whatever fitted its topic fits here, with its notes.
_DLQ_CONFIGS = {"max.message.bytes": str(2 * 1024 * 1024), **_BROKERS_CLOCK}

# Kept for longer than any dead letter, which Kafka may keep for a segment's time beyond its retention.
DEALT_WITH = Topic(
    "dead-letters-dealt-with",
    1,
    2 * DLQ_RETENTION_DAYS,
    "Which dead letters were sent back or discarded: clip-shared's own notes.",
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
    """The types of event that a topic carries."""
    return [each.TYPE for each in EVENT_TYPES if topic.removesuffix(DLQ_SUFFIX) == each.TOPIC]


def with_partitions(counts: Mapping[str, int], topics: Iterable[Topic] = TOPICS) -> tuple[Topic, ...]:
    """Return the topics, those that ``counts`` names with as many partitions.

    Raises:
        PermanentError: a name is no topic's, or that topic has one partition by design.
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
