"""Rebalances wait for the handler at work, so that no other consumer repeats its work."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition

from clip_shared.bus.delivery.middleware import Delivery

log = structlog.get_logger()

# A member that crashed holds up a join for as long as its session; beyond this, something else is wrong.
JOIN_SECONDS = 120.0


class RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Holds up a rebalance of one topic's group until the handler at work has ended.

    Args:
        delivery: told of what the consumer loses and gets.
        topic: the consumer's.
        timeout_seconds: how long a rebalance waits for the handler.
    """

    def __init__(self, delivery: Delivery, topic: str, timeout_seconds: float) -> None:
        self._delivery = delivery
        self._topic = topic
        self._timeout_seconds = timeout_seconds
        self._subscriber: Any = None
        self._forget: Sequence[Callable[[], None]] = ()

    def attach(self, subscriber: Any, forget: Sequence[Callable[[], None]]) -> None:
        """Listen for a subscriber (FastStream's), and call ``forget`` when its partitions are revoked."""
        self._subscriber = subscriber
        self._forget = forget

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Wait for the handler at work; aiokafka calls this before it joins the group again."""
        log.info("partitions revoked", partitions=_names(revoked))
        within_seconds = self._timeout_seconds + JOIN_SECONDS
        self._delivery.standstill.rebalance_began(self._topic, within_seconds=within_seconds)
        await wait_until_idle(self._subscriber, self._timeout_seconds)
        for forget in self._forget:
            forget()
        self._delivery.metrics.backlog.forget(self._topic)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Forget the retries of other processes' partitions. Positions come from the committed offsets."""
        log.info("partitions assigned", partitions=_names(assigned))
        self._delivery.assigned(self._topic, assigned)


async def wait_until_idle(subscriber: Any, seconds: float) -> None:
    """Wait up to ``seconds`` for the handler of a subscriber (FastStream's) to end."""
    # FastStream's MultiLock, held from before a message is parsed until after it is committed. A subscriber
    # that was never started has a null context in its place.
    if hasattr(subscriber.lock, "wait_release"):
        await subscriber.lock.wait_release(seconds)


def _names(partitions: Collection[Any]) -> list[str]:
    return sorted(f"{each.topic}-{each.partition}" for each in partitions)
