"""Partitions that wait: a failed message holds up its own partition for a while, and no other."""

import asyncio
from collections.abc import Collection
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

LOOK_SECONDS = 5.0


class Partitions:
    """The partitions of one subscriber.

    Args:
        subscriber: FastStream's; its consumer comes and goes.
    """

    def __init__(self, subscriber: Any) -> None:
        self._subscriber = subscriber
        self._timers: dict[TopicPartition, asyncio.TimerHandle] = {}

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

    def lag(self) -> int:
        """Return how many messages lie behind the positions of the partitions that do not wait."""
        known = [each for each in self._states() if each.has_valid_position and each.highwater is not None]
        return sum(max(0, each.highwater - each.position) for each in known)

    def unplaced(self) -> int:
        """Return how many partitions have no position yet: Kafka has not said, or does not let us know."""
        return sum(not each.has_valid_position for each in self._states())

    def _states(self) -> list[Any]:
        consumer = self._subscriber.consumer
        # aiokafka's public `position` may wait without end.
        subscription = consumer._subscription.subscription if consumer is not None else None
        if subscription is None or subscription.assignment is None:
            return []
        partitions = subscription.assignment.tps - self._timers.keys()
        return [subscription.assignment.state_value(each) for each in partitions]

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
