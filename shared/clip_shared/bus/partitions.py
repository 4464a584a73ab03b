"""The partitions of a consumer: their pauses, their positions, and what lies behind those."""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from clip_shared.bus.fetching import next_timestamp_ms

log = structlog.get_logger()

QUERY_SECONDS = 5.0
REFRESH_SECONDS = 15.0


@dataclass(frozen=True)
class PartitionPosition:
    """How far a consumer has read a partition.

    ``position``: the offset of the message that it takes next; ``end``: the offset behind the last message
    (None: not known yet); ``next_timestamp_ms``: the timestamp of the next message (None: not fetched yet).
    """

    position: int
    end: int | None
    next_timestamp_ms: int | None


class Partitions:
    """The partitions of one subscriber.

    Args:
        subscriber: FastStream's; its consumer is replaced from time to time.
    """

    def __init__(self, subscriber: Any) -> None:
        self._subscriber = subscriber
        self._timers: dict[TopicPartition, asyncio.TimerHandle] = {}
        self._ends: dict[TopicPartition, int] = {}

    def pause(self, partitions: Collection[TopicPartition], seconds: float) -> None:
        """Fetch nothing from these partitions for ``seconds``. Revoked partitions are left out."""
        consumer, loop = self._subscriber.consumer, asyncio.get_running_loop()
        for partition in set(partitions) & set(consumer.assignment() if consumer else ()):
            consumer.pause(partition)
            self._cancel(partition)
            self._timers[partition] = loop.call_later(seconds, self._resume, partition)

    def _resume(self, partition: TopicPartition) -> None:
        self._timers.pop(partition, None)
        consumer = self._subscriber.consumer
        if consumer is not None and partition in consumer.assignment():
            consumer.resume(partition)

    def _cancel(self, partition: TopicPartition) -> None:
        if (timer := self._timers.pop(partition, None)) is not None:
            timer.cancel()

    def forget(self) -> None:
        """End every pause: the partitions have been revoked, and are assigned again without a pause."""
        for partition in list(self._timers):
            self._cancel(partition)
        self._ends = {}

    def positions(self) -> dict[TopicPartition, PartitionPosition]:
        """Return the known positions by partition. It reads memory alone, and is safe in any thread."""
        return dict(sorted(self._positions()))

    def _positions(self) -> Iterator[tuple[TopicPartition, PartitionPosition]]:
        consumer, assignment = self._subscriber.consumer, self._assignment()
        for partition in assignment.tps if assignment is not None else ():
            state = assignment.state_value(partition)
            position = state._position  # the property fails when there is none
            if position is not None:
                ends = [each for each in (state.highwater, self._ends.get(partition)) if each is not None]
                timestamp = next_timestamp_ms(consumer, partition)
                yield partition, PartitionPosition(position, max(ends, default=None), timestamp)

    async def refresh_ends(self) -> None:
        """Ask Kafka for the ends of the partitions: during a long handler, the consumer does not fetch."""
        consumer, assignment = self._subscriber.consumer, self._assignment()
        if consumer is None or assignment is None:
            return
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(QUERY_SECONDS):
                self._ends = await consumer.end_offsets(list(assignment.tps))

    def lag(self) -> int:
        """Return the number of messages that can be taken now: those of paused partitions do not count."""
        known = [each for each in self._states() if each.has_valid_position and each.highwater is not None]
        return sum(max(0, each.highwater - each.position) for each in known)

    def unplaced(self) -> int:
        """Return the number of partitions without a position: Kafka did not answer, or does not allow it."""
        return sum(not each.has_valid_position for each in self._states())

    def _states(self) -> list[Any]:
        assignment = self._assignment()
        if assignment is None:
            return []
        return [assignment.state_value(each) for each in assignment.tps - self._timers.keys()]

    def _assignment(self) -> Any:
        """Return aiokafka's own assignment, or None: its public ``position`` may wait without end."""
        consumer = self._subscriber.consumer
        subscription = consumer._subscription.subscription if consumer is not None else None
        return subscription.assignment if subscription is not None else None

    async def committed_elsewhere(self, partition: TopicPartition) -> int | None:
        """Return the sum of the offsets that the group has committed in the topic's other partitions.

        It grows whenever a process of the group handles a message of them. None: Kafka did not answer.
        """
        consumer = self._subscriber.consumer
        if consumer is None:
            return None
        numbers = consumer.partitions_for_topic(partition.topic) or set()
        others = [TopicPartition(partition.topic, each) for each in numbers - {partition.partition}]
        try:
            async with asyncio.timeout(QUERY_SECONDS):
                return sum([await consumer.committed(each) or 0 for each in others])
        except (KafkaError, TimeoutError):
            return None


async def keep_refreshing_ends(topics: Mapping[str, Partitions]) -> NoReturn:
    """Ask Kafka every ``REFRESH_SECONDS`` for the ends of all topics' partitions, until cancelled."""
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        questions = (each.refresh_ends() for each in topics.values())
        for result in await asyncio.gather(*questions, return_exceptions=True):
            if isinstance(result, Exception):
                log.warning("the ends of a topic's partitions are unknown", error=repr(result))
