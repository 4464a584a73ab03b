"""One topic's consumer and its handler."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from aiokafka import ConsumerRecord
from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from clip_shared.bus.batch_size import BatchSize
from clip_shared.bus.delivery.crash_marks import MARK_SECONDS, CrashMarks
from clip_shared.bus.delivery.deadline import deadline
from clip_shared.bus.delivery.middleware import Delivery
from clip_shared.bus.delivery.retries import position_of
from clip_shared.bus.groups import CANCEL_SECONDS
from clip_shared.bus.parsing import leave_undecoded, parse, records_of
from clip_shared.bus.partitions import QUERY_SECONDS, Partitions
from clip_shared.bus.publisher import PUBLISH_SECONDS
from clip_shared.bus.rebalance import RebalanceListener

Handle = Callable[[Any], Awaitable[None]]


def longest_attempt_seconds(deadline_seconds: float) -> float:
    """Return how long an attempt may take, with its crash marks, and with what follows its deadline.

    That is publishing, the cancellation of the handler, and the settlement.
    """
    return deadline_seconds + 2 * PUBLISH_SECONDS + CANCEL_SECONDS + 2 * MARK_SECONDS + QUERY_SECONDS


class Subscription:
    """A consumer in a group of its own, and what surrounds its handler: crash marks, deadline, batch size.

    Args:
        broker: FastStream's; the consumer is registered there.
        delivery: takes charge of the topic.
        topic: what is consumed.
        handle: handles a record, or the tuple of records of a batch.
        deadline_seconds: how long it may take.
        session_timeout_seconds: how long the group waits for a member that crashed.
        max_records: the size of a batch; None: records are handled singly.
        crash_marks_of: the name of this process, in crash marks; None: the handler is not marked.
    """

    def __init__(
        self,
        broker: KafkaBroker,
        delivery: Delivery,
        topic: str,
        handle: Handle,
        *,
        deadline_seconds: float,
        session_timeout_seconds: int,
        max_records: int | None = None,
        crash_marks_of: str | None = None,
    ) -> None:
        self._handle = handle
        self._deadline_seconds = deadline_seconds
        self._retries = delivery.retries
        longest_ms = int(self.longest_attempt_seconds * 1000)
        batch: dict[str, Any] = {} if max_records is None else {"batch": True, "max_records": max_records}
        listener = RebalanceListener(delivery, topic, longest_ms / 1000)
        subscriber: Any = broker.subscriber(
            topic,
            group_id=f"{delivery.service}.{topic}",
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            ack_policy=AckPolicy.NACK_ON_ERROR,
            parser=parse,
            decoder=leave_undecoded,
            listener=listener,
            # Above every deadline, or the group evicts a consumer that is hard at work (aiokafka #848).
            max_poll_interval_ms=longest_ms,
            rebalance_timeout_ms=max(longest_ms, 60_000),
            session_timeout_ms=session_timeout_seconds * 1000,
            **batch,
        )
        self._batch_size = BatchSize(subscriber)
        self._crash_marks = CrashMarks(subscriber, crash_marks_of) if crash_marks_of else None
        partitions = Partitions(subscriber)
        delivery.add(topic, partitions)
        marks_forget = [self._crash_marks.forget] if self._crash_marks else []
        listener.attach(subscriber, [partitions.forget, *marks_forget])
        subscriber(self._watched)

    @property
    def longest_attempt_seconds(self) -> float:
        return longest_attempt_seconds(self._deadline_seconds)

    async def _watched(self, raw: Any) -> None:
        records = records_of(raw)
        try:
            async with self._crash_mark(records), deadline(self._deadline_seconds):
                await self._handle(raw)
        except Exception:
            if len(records) > 1:
                self._batch_size.split()
            raise
        self._batch_size.count(len(records))

    def _crash_mark(self, records: Sequence[ConsumerRecord]) -> AbstractAsyncContextManager[None]:
        if self._crash_marks is None:
            return nullcontext()
        (record,) = records
        return self._crash_marks.watch(record, is_redelivered=position_of(record) in self._retries)

    @property
    def writes_crash_marks(self) -> bool:
        return self._crash_marks is not None

    async def stop_marking(self) -> None:
        """Take crash marks back, and write no more: the process has been told to end."""
        if self._crash_marks is not None:
            await self._crash_marks.stop()
