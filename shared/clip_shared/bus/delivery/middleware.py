"""What becomes of a message whose handler failed: dead-lettered, or redelivered after a pause.

At least once, nothing lost: an offset is committed only after its message was handled or stands in
``<topic>.dlq``. FastStream's NACK_ON_ERROR seeks back to a failed message at once and without a pause;
:class:`Delivery` is the middleware that decides between the two, and pauses the message's partition. The
other partitions go on. It acts in ``__aexit__`` because FastStream raises parsing errors outside
``consume_scope``.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NoReturn

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from faststream import BaseMiddleware
from faststream.exceptions import HandlerException, NackMessage

from clip_shared import tracing
from clip_shared.backoff import backoff_seconds
from clip_shared.bus.delivery.dead_letter_limit import DeadLetterLimit
from clip_shared.bus.delivery.dead_letters import MAX_ERROR_LENGTH, DeadLetterReason, dead_letter_of
from clip_shared.bus.delivery.metrics import DeliveryMetrics
from clip_shared.bus.delivery.retries import Position, Retries, Retry, position_of
from clip_shared.bus.envelope import Record
from clip_shared.bus.partitions import Partitions
from clip_shared.errors import (
    DeadlineExceeded,
    GivenUp,
    HeldBack,
    PermanentError,
    RefusedRecord,
    TransientError,
)

log = structlog.get_logger()

MAX_UNKNOWN_ERRORS = 5
MAX_DEADLINES = 2
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
# A failure to settle a message pauses its partition as long as many failed attempts do.
SURPRISE_ATTEMPT = 10
# Of the time after which a message is given up: an hour of six. See Retry.note_others.
QUIET_SHARE = 1 / 6
# A retry that goes on for longer makes a service's readiness degraded.
OLD_RETRY_SECONDS = 600.0
# With messages waiting and no handler at work, a consumer that takes none for so long stands still.
STANDSTILL_SECONDS = 60.0
LOOK_AGAIN_SECONDS = 15.0

Publish = Callable[[Record], Awaitable[None]]


@dataclass
class Delivery:
    """The memory that one service's consumers share: retries, running handlers, and whether to stop.

    ``publish`` must return only once the bus has the record, and raise TransientError when it has not.
    """

    service: str
    publish: Publish
    metrics: DeliveryMetrics
    limit: DeadLetterLimit
    give_up_after_seconds: float
    retries: Retries = field(default_factory=Retries)
    running_since: dict[Position, float] = field(default_factory=dict)
    _partitions: dict[str, Partitions] = field(default_factory=dict)
    _active_at: dict[str, float] = field(default_factory=dict)
    _assigned_by: dict[str, float] = field(default_factory=dict)

    def add(self, topic: str, partitions: Partitions) -> None:
        """Take charge of a topic, and show how it is doing."""
        self._partitions[topic] = partitions
        self.metrics.add(topic)
        self.metrics.backlog.add(topic, partitions)
        self.metrics.held_back.labels(topic).set_function(lambda: self.retries.held_back(topic))
        self.metrics.topic_held_back.labels(topic).set_function(lambda: self.retries.held_back(topic) > 0)
        self.metrics.oldest_retry.labels(topic).set_function(lambda: self.retries.oldest_seconds(topic))

    async def keep_looking(self) -> NoReturn:
        """Ask again and again how far the topics' partitions reach, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            looks = (each.look() for each in self._partitions.values())
            for result in await asyncio.gather(*looks, return_exceptions=True):
                if isinstance(result, Exception):
                    log.warning("the end of a topic cannot be seen", error=repr(result))

    def longest_running_seconds(self) -> float:
        """How long the longest running attempt has been at it; 0 when idle."""
        now = time.monotonic()
        return max((now - since for since in self.running_since.values()), default=0.0)

    def note_activity(self, topic: str) -> None:
        """Note that messages of a topic are being taken, or could be from now on."""
        self._active_at[topic] = time.monotonic()

    def expect_assignment(self, topic: str, *, within_seconds: float) -> None:
        """Note that a topic's group rebalances, which must come to an end."""
        self._assigned_by[topic] = time.monotonic() + within_seconds

    def note_assignment(self, topic: str, partitions: Collection[TopicPartition]) -> None:
        """Note which partitions of a topic are ours from now on."""
        self._assigned_by.pop(topic, None)
        self.retries.keep(topic, partitions)
        self.note_activity(topic)

    def shortfalls(self) -> list[str]:
        """Say which topics do not go on as they should, and why."""
        return [each for topic in self._partitions for each in self._shortfalls_of(topic)]

    def _shortfalls_of(self, topic: str) -> list[str]:
        found = []
        if self.retries.held_back(topic):
            found.append(f"{topic} is held back: too many dead letters or skips")
        if (seconds := self.retries.oldest_seconds(topic)) > OLD_RETRY_SECONDS:
            found.append(f"{topic}: a message has been retried for {seconds / 60:.0f} minutes")
        if time.monotonic() > self._assigned_by.get(topic, float("inf")):
            found.append(f"{topic} stands still: its consumer group does not end its rebalance")
        if self._stands_still(topic):
            if lag := self._partitions[topic].lag():
                found.append(f"{topic} stands still: {lag} messages wait, and no handler is at work")
            if unplaced := self._partitions[topic].unplaced():
                found.append(f"{topic} stands still: Kafka gives no position for {unplaced} partitions")
        return found

    def _stands_still(self, topic: str) -> bool:
        at_work = any(position[0] == topic for position in self.running_since)
        idle_seconds = time.monotonic() - self._active_at.get(topic, time.monotonic())
        return not at_work and idle_seconds > STANDSTILL_SECONDS

    def middleware(self, msg: Any, *, context: Any) -> "DeliveryMiddleware":
        """The factory that FastStream calls for each message or batch."""
        return DeliveryMiddleware(msg, context=context, delivery=self)

    async def dead_letter(self, failed: Sequence[tuple[ConsumerRecord, BaseException]]) -> None:
        """Put messages of one topic, which were delivered together, into its dead letters.

        Each as it came, with its origin and what was wrong.

        Raises:
            HeldBack: too many went there within the window; none of these did.
            TransientError: the bus did not take one of them; all of them must be delivered again.
        """
        if failed and not self.limit.allows(failed[0][0].topic):
            limit, seconds = self.limit.limit, self.limit.window_seconds
            reason = f"{type(failed[0][1]).__name__}: {failed[0][1]}"
            raise HeldBack(f"{limit} dead letters within {seconds:g} s; this one failed with {reason}")
        for record, error in failed:
            await self._dead_letter(record, error)

    async def _dead_letter(self, record: ConsumerRecord, error: BaseException) -> None:
        attempts = self.retries.attempts(position_of(record))
        await self.publish(dead_letter_of(record, error, self.service, attempts))
        self.limit.count(record.topic)
        self.metrics.handled.labels(record.topic, "dead_lettered").inc()
        self.metrics.dead_letters.labels(record.topic, DeadLetterReason.of(error)).inc()
        log.error(
            "dead-lettered",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error_type=type(error).__name__,
            error=str(error)[:MAX_ERROR_LENGTH],
        )

    async def settled(self, records: Sequence[ConsumerRecord], error: Exception) -> bool:
        """Settle failed messages, come what may: FastStream would deliver them again at once, in silence."""
        try:
            return await self.settle(records, error)
        except Exception as surprise:  # noqa: BLE001 - whatever it is, the partition has to wait
            self._pause(records, surprise, attempt=SURPRISE_ATTEMPT)
            return False

    async def settle(self, records: Sequence[ConsumerRecord], error: Exception) -> bool:
        """Decide about failed messages. True: dead-lettered, go on. False: delivered again, after a pause.

        A batch that failed is always delivered again: one by one, for it does not say which message failed.
        """
        if len(records) > 1:
            self._pause(records, error, attempt=1)
            return False
        (record,) = records
        retry = self.retries.count(position_of(record))
        if (final := await self._final_error(record, retry, error)) is not None:
            try:
                await self.dead_letter([(record, final)])
            except (TransientError, RefusedRecord) as refusal:
                error = refusal
            else:
                self.retries.forget([position_of(record)])
                return True
        retry.is_held_back = isinstance(error, HeldBack)
        self._pause(records, error, retry.attempts)
        return False

    async def _final_error(self, record: ConsumerRecord, retry: Retry, error: Exception) -> Exception | None:
        """Return what a message is dead-lettered with; None where it is delivered again."""
        if isinstance(error, PermanentError):
            return error
        if isinstance(error, TransientError):
            return None if isinstance(error, HeldBack) else await self._give_up(record, retry, error)
        retry.unknown_errors += 1
        most = MAX_DEADLINES if isinstance(error, DeadlineExceeded) else MAX_UNKNOWN_ERRORS
        return error if retry.unknown_errors >= most else None

    async def _give_up(self, record: ConsumerRecord, retry: Retry, error: Exception) -> Exception | None:
        """Return an error where this message meets no outage: an outage stops the others as well."""
        partition = TopicPartition(record.topic, record.partition)
        others = await self._partitions[record.topic].committed_elsewhere(partition)
        retry.note_others(others, quiet_seconds=self.give_up_after_seconds * QUIET_SHARE)
        if retry.alone_seconds < self.give_up_after_seconds:
            return None
        hours = retry.alone_seconds / 3600
        return GivenUp(f"it failed for {hours:.1f} h while other messages succeeded, at last with: {error}")

    def _pause(self, records: Sequence[ConsumerRecord], error: Exception, attempt: int) -> None:
        topic = records[0].topic
        seconds = backoff_seconds(attempt, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS)
        self._partitions[topic].pause({TopicPartition(topic, each.partition) for each in records}, seconds)
        self.metrics.handled.labels(topic, "retried").inc()
        is_known = isinstance(error, TransientError | DeadlineExceeded)
        log.warning(
            "will be delivered again",
            topic=topic,
            partition=records[0].partition,
            offset=records[0].offset,
            messages=len(records),
            attempt=attempt,
            pause_seconds=round(seconds, 2),
            error_type=type(error).__name__,
            error=str(error)[:MAX_ERROR_LENGTH],
            exc_info=None if is_known else error,
        )


class DeliveryMiddleware(BaseMiddleware[Any, Any]):
    """Watches one message or one batch on its way through a handler."""

    def __init__(self, msg: Any, /, *, context: Any, delivery: Delivery) -> None:
        super().__init__(msg, context=context)
        self.delivery = delivery
        self.records: tuple[ConsumerRecord, ...] = msg if isinstance(msg, tuple) else (msg,)
        self.started = time.monotonic()
        self._span = ExitStack()

    async def on_receive(self) -> None:
        """Start the progress clock that liveness looks at, and the span of the attempt."""
        group = f"{self.delivery.service}.{self.records[0].topic}"
        self._span.enter_context(tracing.processing(self.records, group))
        self.delivery.running_since[position_of(self.records[0])] = self.started
        for record in self.records:
            self.delivery.retries.forget_before(position_of(record))
        self.delivery.note_activity(self.records[0].topic)
        self.delivery.metrics.backlog.take(self.records)
        self.delivery.metrics.in_progress.labels(self.records[0].topic).inc()

    async def after_processed(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> bool:
        """Forget a handled message, or settle a failed one. True: swallow the error and commit.

        Raises:
            NackMessage: deliver it again (and let FastStream not log the failure a second time).
        """
        try:
            return await self._settled(exc_val)
        finally:
            self._span.__exit__(exc_type, exc_val, exc_tb)

    async def _settled(self, exc_val: BaseException | None) -> bool:
        topic, position = self.records[0].topic, position_of(self.records[0])
        metrics = self.delivery.metrics
        try:
            metrics.seconds.labels(topic).observe(time.monotonic() - self.started, tracing.exemplar())
            if exc_val is None:
                self.delivery.retries.forget(map(position_of, self.records))
                metrics.backlog.done(self.records)
                return False
            if isinstance(exc_val, HandlerException) or not isinstance(exc_val, Exception):
                return False  # FastStream's own signals, and cancellation: neither is a failed message
            if not await self.delivery.settled(self.records, exc_val):
                raise NackMessage from exc_val
            metrics.backlog.done(self.records)
            return True
        finally:
            self.delivery.running_since.pop(position, None)
            self.delivery.note_activity(topic)
            metrics.in_progress.labels(topic).dec()
