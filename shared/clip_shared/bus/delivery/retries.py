"""The memory of messages that failed and are going to be delivered again."""

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from aiokafka import ConsumerRecord, TopicPartition

Position = tuple[str, int, int]


def position_of(record: ConsumerRecord) -> Position:
    """Where a record stands: topic, partition, offset."""
    return (record.topic, record.partition, record.offset)


@dataclass
class Retry:
    """What is remembered of one message. Times are of the monotonic clock.

    ``alone_seconds``: for how long it has failed while other messages of its topic succeeded.
    """

    since: float = field(default_factory=time.monotonic)
    attempts: int = 0
    unknown_errors: int = 0
    is_held_back: bool = False
    alone_seconds: float = 0.0
    _latest: float = field(default_factory=time.monotonic)
    _others: int | None = None
    _others_moved_at: float = float("-inf")

    def note_others(self, committed: int | None, *, quiet_seconds: float) -> None:
        """Take what other partitions have committed by now (None: unknown), after a further failure.

        Args:
            committed: the sum of their offsets.
            quiet_seconds: others succeed at least this often, or nothing is known about an outage. Nothing
                is known of a longer time between two attempts either: no more than this of it counts.
        """
        now = time.monotonic()
        if committed is not None:
            if self._others is not None and committed > self._others:
                self._others_moved_at = now
            self._others = committed
        if now - self._others_moved_at <= quiet_seconds:
            self.alone_seconds += min(now - self._latest, quiet_seconds)
        self._latest = now


class Retries:
    """Every message of this process that is going to be delivered again, by its position."""

    def __init__(self) -> None:
        self._retries: dict[Position, Retry] = {}

    def __contains__(self, position: Position) -> bool:
        return position in self._retries

    def attempts(self, position: Position) -> int:
        """Return how often a message was tried, the attempt at hand included."""
        return self._retries[position].attempts if position in self._retries else 1

    def count(self, position: Position) -> Retry:
        """Count a failed attempt."""
        retry = self._retries.setdefault(position, Retry())
        retry.attempts += 1
        return retry

    def forget(self, positions: Iterable[Position]) -> None:
        """Drop messages that are done with."""
        for position in positions:
            self._retries.pop(position, None)

    def forget_before(self, position: Position) -> None:
        """Drop earlier messages of a partition: it goes on in order, so somebody else is done with them."""
        *place, offset = position
        if self._retries:
            self.forget([each for each in self._retries if [*each[:2]] == place and each[2] < offset])

    def keep(self, topic: str, partitions: Collection[TopicPartition]) -> None:
        """Drop messages of a topic's partitions that are not (or no longer) this process's."""
        ours = {(each.topic, each.partition) for each in partitions}
        self.forget([each for each in self._retries if each[0] == topic and each[:2] not in ours])

    def held_back(self, topic: str) -> int:
        """Return how many messages of a topic a limit holds back."""
        return sum(each.is_held_back for position, each in self._of(topic))

    def oldest_seconds(self, topic: str) -> float:
        """Return for how long the oldest retry of a topic has been going on; 0 where there is no retry."""
        now = time.monotonic()
        return max((now - each.since for _, each in self._of(topic)), default=0.0)

    def _of(self, topic: str) -> list[tuple[Position, Retry]]:
        return [(position, each) for position, each in tuple(self._retries.items()) if position[0] == topic]
