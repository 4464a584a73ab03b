"""What becomes of a message whose handler failed: dead-lettered, or redelivered after a pause.

At least once, nothing lost: an offset is committed only after its message was handled or stands in
``<topic>.dlq``. FastStream's NACK_ON_ERROR seeks back to a failed message at once and without a pause;
:class:`Delivery` is the middleware that decides between the two and makes the pause. It acts in
``__aexit__`` because FastStream raises parsing errors outside ``consume_scope``.
"""

import asyncio
import random
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from faststream import BaseMiddleware
from faststream.exceptions import HandlerException, NackMessage
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from clip_shared.envelope import Record
from clip_shared.errors import DeadlineExceeded, HeldBack, PermanentError, TransientError

log = structlog.get_logger()

MAX_SURPRISES = 5
MAX_DEADLINES = 2
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
        self.held_back = Gauge(
            "clips_dead_letters_held_back",
            "Messages (or batches) that too many dead letters of late keep from joining them.",
            ["topic"],
            registry=registry,
        )


@dataclass
class DeadLetterLimit:
    """At most ``limit`` dead letters of a topic within ``window_seconds``, or one batch more.

    A single poison message passes at once. When everything fails, the service is what is broken (a bad
    deploy): then the topic waits for a better one, and does not end among the dead letters.
    """

    limit: int
    window_seconds: float
    _times: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))

    def allows(self, topic: str) -> bool:
        """Whether another message of the topic may be dead-lettered now."""
        times, oldest = self._times[topic], time.monotonic() - self.window_seconds
        while times and times[0] <= oldest:
            times.popleft()
        return len(times) < self.limit

    def count(self, topic: str) -> None:
        """Note a dead letter."""
        self._times[topic].append(time.monotonic())


@dataclass
class Delivery:
    """The memory that one service's consumers share: attempts, running handlers, and whether to stop.

    ``publish`` must return only once the bus has the record, and raise TransientError when it has not.
    """

    service: str
    publish: Publish
    metrics: DeliveryMetrics
    limit: DeadLetterLimit
    attempts: dict[Position, int] = field(default_factory=dict)
    surprises: dict[Position, int] = field(default_factory=dict)
    held_back: set[Position] = field(default_factory=set)
    running_since: dict[Position, float] = field(default_factory=dict)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def longest_running_seconds(self) -> float:
        """How long the longest running attempt has been at it; 0 when idle."""
        now = time.monotonic()
        return max((now - since for since in self.running_since.values()), default=0.0)

    def middleware(self, msg: Any, *, context: Any) -> "DeliveryMiddleware":
        """The factory that FastStream calls for each message or batch."""
        return DeliveryMiddleware(msg, context=context, delivery=self)

    def show(self, topic: str) -> None:
        """Show from now on how many messages of a topic are held back."""
        held_back = self.metrics.held_back.labels(topic)
        held_back.set_function(lambda: sum(position[0] == topic for position in tuple(self.held_back)))

    async def dead_letter(self, failed: Sequence[tuple[ConsumerRecord, BaseException]]) -> None:
        """Put messages of one topic, which were delivered together, into its dead letters.

        Each as it came, with its origin and what was wrong.

        Raises:
            HeldBack: too many went there of late; none of these did.
            TransientError: the bus did not take one of them; all of them must be delivered again.
        """
        if failed and not self.limit.allows(failed[0][0].topic):
            limit, seconds = self.limit.limit, self.limit.window_seconds
            reason = f"{type(failed[0][1]).__name__}: {failed[0][1]}"
            raise HeldBack(f"{limit} dead letters within {seconds:g} s; this one failed with {reason}")
        for record, error in failed:
            await self._dead_letter(record, error)

    async def _dead_letter(self, record: ConsumerRecord, error: BaseException) -> None:
        attempts = self.attempts.get(position_of(record), 1)
        await self.publish(dead_letter_of(record, error, self.service, attempts))
        self.limit.count(record.topic)
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
                await self.dead_letter([(record, error) for record in records])
            except TransientError as outage:
                error = outage
            else:
                self.forget(map(position_of, records))
                return True
        if isinstance(error, HeldBack):
            self.held_back.add(position)
            log.error(
                "too many dead letters: held back", topic=position[0], why=str(error)[:MAX_ERROR_LENGTH]
            )
        await self._pause(position, records[0].topic, error)
        return False

    def _is_hopeless(self, position: Position, error: Exception) -> bool:
        if isinstance(error, TransientError):
            return False
        if isinstance(error, PermanentError):
            return True
        self.surprises[position] = self.surprises.get(position, 0) + 1
        most = MAX_DEADLINES if isinstance(error, DeadlineExceeded) else MAX_SURPRISES
        return self.surprises[position] >= most

    async def _pause(self, position: Position, topic: str, error: Exception) -> None:
        attempt = self.attempts[position]
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(attempt, 10))
        seconds = random.uniform(longest / 2, longest)  # noqa: S311 - jitter, not a secret
        self.metrics.handled.labels(topic, "retried").inc()
        surprise = None if isinstance(error, TransientError | DeadlineExceeded) else error
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

    def forget(self, positions: Iterable[Position]) -> None:
        """Drop what is remembered of messages that are done with."""
        for position in positions:
            self.attempts.pop(position, None)
            self.surprises.pop(position, None)
            self.held_back.discard(position)

    def forget_partitions(self, partitions: Collection[TopicPartition]) -> None:
        """Drop what is remembered of the messages of partitions that are somebody else's now."""
        revoked = {tuple(each) for each in partitions}
        self.forget([each for each in self.attempts if each[:2] in revoked])


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
                self.delivery.forget(map(position_of, self.records))
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
