"""Which topics do not go on, for readiness; and how long a handler has been at work, for liveness."""

import time
from collections.abc import Iterator, Mapping

from clip_shared.bus.delivery.retries import Position, Retries
from clip_shared.bus.partitions import Partitions

# A message that is retried for longer makes a service's readiness degraded.
OLD_RETRY_SECONDS = 600.0
# With messages waiting and no handler at work, a consumer that takes no message for so long stands still.
STANDSTILL_SECONDS = 60.0


class StandstillWatch:
    """When messages of each topic were taken, and which handlers are at work.

    Args:
        topics: the partitions of each topic's consumer, by topic.
        retries: the messages that are redelivered.
    """

    def __init__(self, topics: Mapping[str, Partitions], retries: Retries) -> None:
        self._topics = topics
        self._retries = retries
        # Times of the monotonic clock.
        self._running_since: dict[Position, float] = {}
        self._active_at: dict[str, float] = {}
        self._assigned_by: dict[str, float] = {}

    def attempt_began(self, position: Position) -> None:
        """Note that a handler begins with a message, or with a batch by its first message."""
        self._running_since[position] = time.monotonic()
        self._note_activity(position[0])

    def attempt_ended(self, position: Position) -> None:
        """Note that it has ended, with or without an error."""
        self._running_since.pop(position, None)
        self._note_activity(position[0])

    def rebalance_began(self, topic: str, *, within_seconds: float) -> None:
        """Note that a topic's group rebalances, which must end within ``within_seconds``."""
        self._assigned_by[topic] = time.monotonic() + within_seconds

    def rebalance_ended(self, topic: str) -> None:
        """Note that the topic's partitions are assigned."""
        self._assigned_by.pop(topic, None)
        self._note_activity(topic)

    def _note_activity(self, topic: str) -> None:
        self._active_at[topic] = time.monotonic()

    def longest_running_seconds(self) -> float:
        """Return how long the longest attempt has been running; 0 when no handler is at work."""
        now = time.monotonic()
        return max((now - since for since in self._running_since.values()), default=0.0)

    def shortfalls(self) -> list[str]:
        """Return a sentence for each way in which a topic does not go on."""
        return [each for topic in self._topics for each in self._shortfalls_of(topic)]

    def _shortfalls_of(self, topic: str) -> Iterator[str]:
        if self._retries.held_back(topic):
            yield f"{topic} is held back: too many dead letters or skips"
        if (seconds := self._retries.oldest_seconds(topic)) > OLD_RETRY_SECONDS:
            yield f"{topic}: a message has been retried for {seconds / 60:.0f} minutes"
        if time.monotonic() > self._assigned_by.get(topic, float("inf")):
            yield f"{topic} stands still: its consumer group does not end its rebalance"
        if self._is_idle(topic):
            if lag := self._topics[topic].lag():
                yield f"{topic} stands still: {lag} messages wait, and no handler is at work"
            if unplaced := self._topics[topic].unplaced():
                yield f"{topic} stands still: Kafka gives no position for {unplaced} partitions"

    def _is_idle(self, topic: str) -> bool:
        is_at_work = any(position[0] == topic for position in self._running_since)
        idle_seconds = time.monotonic() - self._active_at.get(topic, time.monotonic())
        return not is_at_work and idle_seconds > STANDSTILL_SECONDS
