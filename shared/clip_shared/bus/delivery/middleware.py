"""The way of a message (or a batch) through its handler, as FastStream's middleware.

At least once, nothing lost: an offset is committed only after its message was handled or dead-lettered.
:mod:`clip_shared.errors` says what a failure means, and :mod:`clip_shared.bus.delivery.settlement` decides.
FastStream's NACK_ON_ERROR seeks back to a failed message at once; its partition is paused meanwhile, and the
others go on.

The middleware acts in ``after_processed`` because FastStream raises parsing errors outside ``consume_scope``.
"""

import time
from collections.abc import Collection
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from faststream import BaseMiddleware
from faststream.exceptions import HandlerException, NackMessage

from clip_shared import tracing
from clip_shared.bus.delivery.dead_letter_limit import DeadLetterLimit
from clip_shared.bus.delivery.dead_letter_queue import DeadLetterQueue, Publish
from clip_shared.bus.delivery.metrics import DeliveryMetrics
from clip_shared.bus.delivery.redelivery import Redelivery
from clip_shared.bus.delivery.retries import Retries, position_of
from clip_shared.bus.delivery.settlement import Settlement
from clip_shared.bus.delivery.standstill import StandstillWatch
from clip_shared.bus.parsing import records_of
from clip_shared.bus.partitions import Partitions


class Delivery:
    """What the consumers of one service share about the messages that are delivered to them.

    Args:
        service: its name, which its consumer groups begin with.
        publish: see :class:`DeadLetterQueue`.
        metrics: what Prometheus scrapes.
        limit: how many dead letters a topic may have.
        give_up_after_seconds: how long a message may fail while others of its topic succeed.
    """

    def __init__(
        self,
        *,
        service: str,
        publish: Publish,
        metrics: DeliveryMetrics,
        limit: DeadLetterLimit,
        give_up_after_seconds: float,
    ) -> None:
        self.service = service
        self.metrics = metrics
        self.topics: dict[str, Partitions] = {}
        self.retries = Retries()
        self.standstill = StandstillWatch(self.topics, self.retries)
        self.dead_letters = DeadLetterQueue(service, publish, limit, self.retries, metrics)
        redelivery = Redelivery(self.topics, metrics)
        self.settlement = Settlement(
            self.topics, self.retries, self.dead_letters, redelivery, give_up_after_seconds
        )

    def add(self, topic: str, partitions: Partitions) -> None:
        """Take charge of a topic's messages, and show its metrics."""
        self.topics[topic] = partitions
        self.metrics.add(topic, partitions, self.retries)

    def assigned(self, topic: str, partitions: Collection[TopicPartition]) -> None:
        """Forget the retries of partitions that are other processes' from now on."""
        self.standstill.rebalance_ended(topic)
        self.retries.keep(topic, partitions)

    def middleware(self, msg: Any, *, context: Any) -> "DeliveryMiddleware":
        """Return the middleware of one message or batch; FastStream calls this."""
        return DeliveryMiddleware(msg, context=context, delivery=self)


class DeliveryMiddleware(BaseMiddleware[Any, Any]):
    """Watches one message or one batch on its way through a handler."""

    def __init__(self, msg: Any, /, *, context: Any, delivery: Delivery) -> None:
        super().__init__(msg, context=context)
        self._delivery = delivery
        self._records: tuple[ConsumerRecord, ...] = records_of(msg)
        self._topic: str = self._records[0].topic
        self._started = time.monotonic()
        self._span = ExitStack()

    async def on_receive(self) -> None:
        """Note that an attempt begins, and start its span."""
        delivery = self._delivery
        self._span.enter_context(tracing.processing(self._records, f"{delivery.service}.{self._topic}"))
        delivery.standstill.attempt_began(position_of(self._records[0]))
        for record in self._records:
            delivery.retries.forget_before(position_of(record))
        delivery.metrics.backlog.take(self._records)
        delivery.metrics.in_progress.labels(self._topic).inc()

    async def after_processed(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> bool:
        """Settle what the handler did, or did not do. True: swallow the error, and commit.

        Raises:
            NackMessage: the messages are redelivered (FastStream does not log the failure a second time).
        """
        try:
            return await self._settled(exc_val)
        finally:
            self._delivery.standstill.attempt_ended(position_of(self._records[0]))
            self._delivery.metrics.in_progress.labels(self._topic).dec()
            self._span.__exit__(exc_type, exc_val, exc_tb)

    async def _settled(self, error: BaseException | None) -> bool:
        metrics = self._delivery.metrics
        metrics.seconds.labels(self._topic).observe(time.monotonic() - self._started, tracing.exemplar())
        if error is None:
            self._delivery.retries.forget(map(position_of, self._records))
            metrics.backlog.done(self._records)
            return False
        if isinstance(error, HandlerException) or not isinstance(error, Exception):
            return False  # FastStream's own signals, and cancellation: neither is a failed message
        if not await self._delivery.settlement.settle(self._records, error):
            raise NackMessage from error
        metrics.backlog.done(self._records)
        return True
