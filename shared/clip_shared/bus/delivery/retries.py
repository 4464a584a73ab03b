"""The memory of messages that failed and are redelivered."""

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from aiokafka import ConsumerRecord, TopicPartition

Position = tuple[str, int, int]


def position_of(record: ConsumerRecord) -> Position:
    """Return the topic, the partition and the offset of a record."""
    return (record.topic, record.partition, record.offset)


@dataclass
class Retry:
    """What is remembered of one message that failed. Times are of the monotonic clock.

    ``alone_seconds``: how long it has failed while other messages of its topic succeeded.
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
        """Add to ``alone_seconds`` after a further failure, if other messages succeed.

        Args:
            committed: the sum of the offsets that the group has committed in the topic's other partitions;
                None: unknown.
            quiet_seconds: other messages count as succeeding for so long after the last commit. Of the time
                since the previous attempt no more than this counts either.
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
    """The messages of this process that are redelivered, by their positions."""

    def __init__(self) -> None:
        self._retries: dict[Position, Retry] = {}

    def __contains__(self, position: Position) -> bool:
        return position in self._retries

    def attempts(self, position: Position) -> int:
        """Return the number of attempts at a message, the present one included."""
        return self._retries[position].attempts if position in self._retries else 1

    def count(self, position: Position) -> Retry:
        """Count a failed attempt at a message, and return what is remembered of it."""
        retry = self._retries.setdefault(position, Retry())
        retry.attempts += 1
        return retry

    def forget(self, positions: Iterable[Position]) -> None:
        """Forget messages that were handled or dead-lettered."""
        for position in positions:
            self._retries.pop(position, None)

    def forget_before(self, position: Position) -> None:
        """Forget earlier messages of a partition: another process has settled them, for order holds."""
        topic, partition, offset = position
        if self._retries:
            self.forget(
                [each for each in self._retries if each[:2] == (topic, partition) and each[2] < offset]
            )

    def keep(self, topic: str, partitions: Collection[TopicPartition]) -> None:
        """Forget messages of a topic in all partitions but these, which are assigned to this process."""
        ours = {(each.topic, each.partition) for each in partitions}
        self.forget([each for each in self._retries if each[0] == topic and each[:2] not in ours])

    def held_back(self, topic: str) -> int:
        """Return the number of messages of a topic that a limit holds back."""
        return sum(each.is_held_back for position, each in self._of(topic))

    def oldest_seconds(self, topic: str) -> float:
        """Return the time since the first failure of the topic's oldest retry; 0: no message is retried."""
        now = time.monotonic()
        return max((now - each.since for _, each in self._of(topic)), default=0.0)

    def _of(self, topic: str) -> list[tuple[Position, Retry]]:
        return [(position, each) for position, each in tuple(self._retries.items()) if position[0] == topic]
