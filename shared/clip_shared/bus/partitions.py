"""Partitions that wait: a failed message holds up its own partition for a while, and no other."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from clip_shared.bus.fetching import next_timestamp_ms

LOOK_SECONDS = 5.0


@dataclass(frozen=True)
class Place:
    """Where a consumer is in a partition.

    ``position`` is the offset of the message that it takes next, ``end`` the one behind the partition's last
    (None: not known yet), ``next_timestamp_ms`` the timestamp of the next message (None: not fetched yet).
    """

    position: int
    end: int | None
    next_timestamp_ms: int | None


class Partitions:
    """The partitions of one subscriber.

    Args:
        subscriber: FastStream's; its consumer comes and goes.
    """

    def __init__(self, subscriber: Any) -> None:
        self._subscriber = subscriber
        self._timers: dict[TopicPartition, asyncio.TimerHandle] = {}
        self._ends: dict[TopicPartition, int] = {}

    def pause(self, partitions: Collection[TopicPartition], seconds: float) -> None:
        """Fetch nothing from these partitions for some seconds. Those that have been revoked are left out."""
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
        """Drop every pause: the partitions have been revoked, and come back without one."""
        for partition in list(self._timers):
            self._cancel(partition)
        self._ends = {}

    def places(self) -> dict[TopicPartition, Place]:
        """Return where the consumer is in each partition that has a position. From memory, in any thread."""
        return dict(sorted(self._places()))

    def _places(self) -> Iterator[tuple[TopicPartition, Place]]:
        consumer, assignment = self._subscriber.consumer, self._assignment()
        for partition in assignment.tps if assignment is not None else ():
            state = assignment.state_value(partition)
            position = state._position  # the property fails when there is none
            if position is not None:
                ends = [each for each in (state.highwater, self._ends.get(partition)) if each is not None]
                timestamp = next_timestamp_ms(consumer, partition)
                yield partition, Place(position, max(ends, default=None), timestamp)

    async def look(self) -> None:
        """Ask for the ends of the partitions: while fetched messages are worked on, nobody tells them."""
        consumer, assignment = self._subscriber.consumer, self._assignment()
        if consumer is None or assignment is None:
            return
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                self._ends = await consumer.end_offsets(list(assignment.tps))

    def lag(self) -> int:
        """Return how many messages lie behind the positions of the partitions that do not wait."""
        known = [each for each in self._states() if each.has_valid_position and each.highwater is not None]
        return sum(max(0, each.highwater - each.position) for each in known)

    def unplaced(self) -> int:
        """Return how many partitions have no position yet: Kafka has not said, or does not let us know."""
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
        """Return the sum of what the group has committed in the topic's other partitions.

        It grows whenever any process handles another message of the topic. None: nothing is known.
        """
        consumer = self._subscriber.consumer
        if consumer is None:
            return None
        numbers = consumer.partitions_for_topic(partition.topic) or set()
        others = [TopicPartition(partition.topic, each) for each in numbers - {partition.partition}]
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return sum([await consumer.committed(each) or 0 for each in others])
        except (KafkaError, TimeoutError):
            return None
