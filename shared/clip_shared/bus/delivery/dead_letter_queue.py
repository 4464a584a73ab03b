"""Messages that can never be handled go to the dead letters of their topic, within its limit."""

from collections.abc import Awaitable, Callable, Sequence

import structlog
from aiokafka import ConsumerRecord

from clip_shared.bus.delivery.dead_letter_limit import DeadLetterLimit
from clip_shared.bus.delivery.dead_letters import MAX_ERROR_LENGTH, DeadLetterReason, dead_letter_of
from clip_shared.bus.delivery.metrics import DeliveryMetrics
from clip_shared.bus.delivery.retries import Retries, position_of
from clip_shared.bus.envelope import OutgoingRecord
from clip_shared.errors import HeldBack

log = structlog.get_logger()

Publish = Callable[[OutgoingRecord], Awaitable[None]]


class DeadLetterQueue:
    """The dead letters that one service writes.

    Args:
        service: which service it is, for the notes.
        publish: returns once Kafka has the record, and raises TransientError when Kafka may not have it.
        limit: how many dead letters a topic may have.
        retries: where the attempts at a message are counted.
        metrics: where dead letters are counted.
    """

    def __init__(
        self,
        service: str,
        publish: Publish,
        limit: DeadLetterLimit,
        retries: Retries,
        metrics: DeliveryMetrics,
    ) -> None:
        self._service = service
        self._publish = publish
        self._limit = limit
        self._retries = retries
        self._metrics = metrics

    async def put(self, failed: Sequence[tuple[ConsumerRecord, BaseException]]) -> None:
        """Dead-letter messages of one topic that were delivered together, each with its error.

        Raises:
            HeldBack: the topic's limit is reached; no message was dead-lettered.
            TransientError: Kafka did not take a record; all of the messages must be redelivered.
            RefusedRecord: Kafka will never take a record.
        """
        if failed and not self._limit.allows(failed[0][0].topic):
            limit, seconds = self._limit.limit, self._limit.window_seconds
            reason = f"{type(failed[0][1]).__name__}: {failed[0][1]}"
            raise HeldBack(f"{limit} dead letters within {seconds:g} s; this one failed with {reason}")
        for record, error in failed:
            await self._put(record, error)

    async def _put(self, record: ConsumerRecord, error: BaseException) -> None:
        attempts = self._retries.attempts(position_of(record))
        await self._publish(dead_letter_of(record, error, self._service, attempts))
        self._limit.count(record.topic)
        self._metrics.handled.labels(record.topic, "dead_lettered").inc()
        self._metrics.dead_letters.labels(record.topic, DeadLetterReason.of(error)).inc()
        log.error(
            "dead-lettered",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error_type=type(error).__name__,
            error=str(error)[:MAX_ERROR_LENGTH],
        )
