"""What becomes of a message whose handler failed: dead-lettered, or redelivered after a pause.

At least once, nothing lost: an offset is committed only after its message was handled or stands in
``<topic>.dlq``. FastStream's NACK_ON_ERROR seeks back to a failed message at once and without a pause;
:class:`Delivery` is the middleware that decides between the two and makes the pause. It acts in
``__aexit__`` because FastStream raises decoding errors outside ``consume_scope``.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import structlog
from aiokafka import ConsumerRecord
from faststream import BaseMiddleware
from faststream.exceptions import HandlerException, NackMessage
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from clip_shared.envelope import Record
from clip_shared.errors import PermanentError, TransientError

log = structlog.get_logger()

MAX_SURPRISES = 5
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 30.0
DLQ_SUFFIX = ".dlq"
MAX_ERROR_LENGTH = 1000

Position = tuple[str, int, int]
Publish = Callable[[Record], Awaitable[None]]


class DeliveryMetrics:
    """What SREs see of a service's consumers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.handled = Counter(
            "clips_events",
            "Messages by topic and outcome: handled, dead_lettered, retried.",
            ["topic", "outcome"],
            registry=registry,
        )
        self.seconds = Histogram(
            "clips_event_seconds",
            "Seconds that one attempt at a message (or a batch) took.",
            ["topic"],
            buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600),
            registry=registry,
        )
        self.in_progress = Gauge(
            "clips_events_in_progress",
            "Messages (or batches) being handled now.",
            ["topic"],
            registry=registry,
        )


@dataclass
class Delivery:
    """The memory that one service's consumers share: attempts, running handlers, and whether to stop.

    ``publish`` must return only once the bus has the record, and raise TransientError when it has not.
    """

    service: str
    publish: Publish
    metrics: DeliveryMetrics
    attempts: dict[Position, int] = field(default_factory=dict)
    surprises: dict[Position, int] = field(default_factory=dict)
    running_since: dict[Position, float] = field(default_factory=dict)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def longest_running_seconds(self) -> float:
        """How long the longest running attempt has been at it; 0 when idle."""
        now = time.monotonic()
        return max((now - since for since in self.running_since.values()), default=0.0)

    def middleware(self, msg: Any, *, context: Any) -> "DeliveryMiddleware":
        """The factory that FastStream calls for each message or batch."""
        return DeliveryMiddleware(msg, context=context, delivery=self)

    async def dead_letter(self, record: ConsumerRecord, error: BaseException) -> None:
        """Put a message as it came, with its origin and what was wrong, into its topic's dead letters.

        Raises:
            TransientError: the bus did not take it; the message must be delivered again.
        """
        position = position_of(record)
        await self.publish(dead_letter_of(record, error, self.service, self.attempts.get(position, 1)))
        self.metrics.handled.labels(record.topic, "dead_lettered").inc()
        log.error(
            "dead-lettered",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error_type=type(error).__name__,
            error=str(error)[:MAX_ERROR_LENGTH],
        )

    async def settle(self, records: Sequence[ConsumerRecord], error: Exception) -> bool:
        """Decide about failed messages. True: dead-lettered, go on. False: deliver again (after a pause)."""
        position = position_of(records[0])
        self.attempts[position] = self.attempts.get(position, 0) + 1
        if self._is_hopeless(position, error):
            try:
                for record in records:
                    await self.dead_letter(record, error)
            except TransientError as outage:
                error = outage
            else:
                self.forget(position)
                return True
        await self._pause(position, records[0].topic, error)
        return False

    def _is_hopeless(self, position: Position, error: Exception) -> bool:
        if isinstance(error, TransientError):
            return False
        if isinstance(error, PermanentError):
            return True
        self.surprises[position] = self.surprises.get(position, 0) + 1
        return self.surprises[position] >= MAX_SURPRISES

    async def _pause(self, position: Position, topic: str, error: Exception) -> None:
        attempt = self.attempts[position]
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(attempt, 10))
        seconds = random.uniform(longest / 2, longest)  # noqa: S311 - jitter, not a secret
        self.metrics.handled.labels(topic, "retried").inc()
        surprise = None if isinstance(error, TransientError) else error
        log.warning(
            "will be delivered again",
            topic=topic,
            attempt=attempt,
            pause_seconds=round(seconds, 2),
            error_type=type(error).__name__,
            error=str(error)[:MAX_ERROR_LENGTH],
            exc_info=surprise,
        )
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return

    def forget(self, position: Position) -> None:
        """Drop what is remembered of a message that is done with."""
        self.attempts.pop(position, None)
        self.surprises.pop(position, None)


class DeliveryMiddleware(BaseMiddleware[Any, Any]):
    """Watches one message or one batch on its way through a handler."""

    def __init__(self, msg: Any, /, *, context: Any, delivery: Delivery) -> None:
        super().__init__(msg, context=context)
        self.delivery = delivery
        self.records: tuple[ConsumerRecord, ...] = msg if isinstance(msg, tuple) else (msg,)
        self.started = time.monotonic()

    async def on_receive(self) -> None:
        """Start the progress clock that liveness looks at."""
        self.delivery.running_since[position_of(self.records[0])] = self.started
        self.delivery.metrics.in_progress.labels(self.records[0].topic).inc()

    async def after_processed(
        self,
        exc_type: type[BaseException] | None = None,  # noqa: ARG002 - FastStream's signature
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,  # noqa: ARG002
    ) -> bool:
        """Forget a handled message, or settle a failed one. True: swallow the error and commit.

        Raises:
            NackMessage: deliver it again (and let FastStream not log the failure a second time).
        """
        topic, position = self.records[0].topic, position_of(self.records[0])
        metrics = self.delivery.metrics
        try:
            metrics.seconds.labels(topic).observe(time.monotonic() - self.started)
            if exc_val is None:
                self.delivery.forget(position)
                return False
            if isinstance(exc_val, HandlerException) or not isinstance(exc_val, Exception):
                return False  # FastStream's own signals, and cancellation: neither is a failed message
            if not await self.delivery.settle(self.records, exc_val):
                raise NackMessage from exc_val
            return True
        finally:
            self.delivery.running_since.pop(position, None)
            metrics.in_progress.labels(topic).dec()


def position_of(record: ConsumerRecord) -> Position:
    """Where a record stands: topic, partition, offset."""
    return (record.topic, record.partition, record.offset)


def dead_letter_of(record: ConsumerRecord, error: BaseException, service: str, attempts: int) -> Record:
    """The record for ``<topic>.dlq``: key, value and headers as they came, plus ``dlq_*`` headers."""
    notes = {
        "dlq_topic": record.topic,
        "dlq_partition": str(record.partition),
        "dlq_offset": str(record.offset),
        "dlq_timestamp_ms": str(record.timestamp),
        "dlq_service": service,
        "dlq_attempts": str(attempts),
        "dlq_error_type": type(error).__name__,
        "dlq_error": str(error)[:MAX_ERROR_LENGTH],
    }
    kept = [(name, value) for name, value in record.headers if name not in notes and value is not None]
    return Record(
        topic=record.topic + DLQ_SUFFIX,
        key=record.key,
        value=record.value if record.value is not None else b"",
        headers=kept + [(name, text.encode()) for name, text in notes.items()],
    )
