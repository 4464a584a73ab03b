"""The bus, the same in every service: typed handlers in, acknowledged events out.

A subscriber commits an offset only after its event was handled or dead-lettered, handles one message (or one
batch) at a time, ends its work within a deadline, and finishes it before its partitions move to another
consumer. :mod:`clip_shared.errors` says what a failure means, :mod:`clip_shared.bus.delivery` how it is
carried out, and :mod:`clip_shared.bus.fetching` what happens below the handlers.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import ConsumerRecord
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from prometheus_client import CollectorRegistry

from clip_shared.bus import fetching
from clip_shared.bus.backlog import Backlog
from clip_shared.bus.batches import BatchHandler, Rejected, handle_batch
from clip_shared.bus.clients import consumer_security, watch_connections
from clip_shared.bus.delivery.dead_letter_limit import DeadLetterLimit
from clip_shared.bus.delivery.metrics import DeliveryMetrics
from clip_shared.bus.delivery.middleware import Delivery
from clip_shared.bus.envelope import OutgoingRecord, to_record
from clip_shared.bus.event_context import bound_to_logs, in_current_span
from clip_shared.bus.groups import ConsumerGroups
from clip_shared.bus.parsing import read_event
from clip_shared.bus.partitions import keep_refreshing_ends
from clip_shared.bus.publisher import Publisher
from clip_shared.bus.settings import KafkaSettings
from clip_shared.bus.subscription import Handle, Subscription
from clip_shared.contracts.events import Data, Event, EventData
from clip_shared.errors import TransientError
from clip_shared.refused_connections import OnRefused, uncounted

__all__ = ["Bus", "Rejected"]

Handler = Callable[[Event[Data]], Awaitable[None]]

# Above the longest session, which a member that crashed can hold up a join for.
CONSUMER_REQUEST_TIMEOUT_MS = 40_000
# A producer or consumer that fails every time for so long, while Kafka answers, needs a restart.
STUCK_SECONDS = 300.0


class Bus:
    """One service's connection to Kafka: declare subscribers first, then ``start``; ``stop`` at the end.

    Args:
        settings: how to reach Kafka.
        service: the service's name; its consumer groups are ``<service>.<topic>``.
        registry: where metrics are registered.
        on_refused: told of each connection that Kafka refuses.
        grace_seconds: how long ``stop`` waits for the handlers at work.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        service: str,
        registry: CollectorRegistry,
        on_refused: OnRefused = uncounted,
        grace_seconds: float = 20,
    ) -> None:
        self.service = service
        self._grace_seconds = grace_seconds
        self._settings = settings
        self._process_id = uuid.uuid4().hex
        self.subscriptions: list[Subscription] = []
        self._refreshing: asyncio.Task[None] | None = None
        fetching.install()
        watch_connections(service, on_refused)
        self._publisher = Publisher(settings, client_id=service)
        self.delivery = Delivery(
            service=service,
            publish=self.publish_record,
            metrics=DeliveryMetrics(registry),
            limit=DeadLetterLimit(settings.dead_letter_limit, settings.dead_letter_window_seconds),
            give_up_after_seconds=settings.give_up_after_seconds,
        )
        self.broker = KafkaBroker(
            settings.kafka_bootstrap_servers.split(","),
            client_id=service,
            consumer_only=True,
            ack_policy=AckPolicy.NACK_ON_ERROR,
            middlewares=[self.delivery.middleware],
            graceful_timeout=grace_seconds,
            security=consumer_security(settings),
            request_timeout_ms=CONSUMER_REQUEST_TIMEOUT_MS,
            apply_types=False,
            logger=logging.getLogger("faststream"),
        )
        self._groups = ConsumerGroups(self.broker)

    def subscriber(
        self, data_type: type[Data], *, deadline_seconds: float, crash_marks: bool = False
    ) -> Callable[[Handler[Data]], Handler[Data]]:
        """Register a handler for one type of event, which gets one event at a time.

        Args:
            data_type: the type; it names its topic.
            deadline_seconds: the handler is cancelled after this time.
            crash_marks: the handler runs native code, which may crash the process. An event that does so
                several times is dead-lettered; see :mod:`clip_shared.bus.delivery.crash_marks`.
        """

        def register(handler: Handler[Data]) -> Handler[Data]:
            async def handle(record: ConsumerRecord) -> None:
                event = in_current_span(read_event(data_type, record))
                with bound_to_logs(event):
                    await handler(event)
                self._count_handled(data_type, 1)

            self._subscribe(data_type, handle, deadline_seconds=deadline_seconds, crash_marks=crash_marks)
            return handler

        return register

    def batch_subscriber(
        self, data_type: type[Data], *, deadline_seconds: float, max_records: int
    ) -> Callable[[BatchHandler[Data]], BatchHandler[Data]]:
        """Register a handler for one type of event, which gets up to ``max_records`` events at a time.

        Events that break their contract, and events that the handler rejects, are dead-lettered singly. When
        the handler raises, the events are redelivered singly.
        """

        def register(handler: BatchHandler[Data]) -> BatchHandler[Data]:
            async def handle(records: tuple[ConsumerRecord, ...]) -> None:
                failed = await handle_batch(handler, data_type, records)
                await self.delivery.dead_letters.put(failed)
                self._count_handled(data_type, len(records) - len(failed))

            self._subscribe(data_type, handle, deadline_seconds=deadline_seconds, max_records=max_records)
            return handler

        return register

    def _count_handled(self, data_type: type[EventData], count: int) -> None:
        self.delivery.metrics.handled.labels(data_type.TOPIC, "handled").inc(count)

    def _subscribe(
        self,
        data_type: type[EventData],
        handle: Handle,
        *,
        deadline_seconds: float,
        max_records: int | None = None,
        crash_marks: bool = False,
    ) -> None:
        subscription = Subscription(
            self.broker,
            self.delivery,
            data_type.TOPIC,
            handle,
            deadline_seconds=deadline_seconds,
            session_timeout_seconds=self._settings.kafka_session_timeout_seconds,
            max_records=max_records,
            crash_marks_of=self._process_id if crash_marks else None,
        )
        self.subscriptions.append(subscription)

    async def publish(self, event: Event[Any]) -> None:
        """Publish an event and wait until Kafka has it on every in-sync replica.

        It has time of its own: a handler's deadline is extended by it.

        Raises:
            TransientError: Kafka did not confirm it; it may or may not have arrived.
            RefusedRecord: Kafka will never take it.
        """
        await self.publish_record(to_record(event))

    async def publish_record(self, record: OutgoingRecord) -> None:
        """Publish an already serialised record, as :meth:`publish` does."""
        await self._publisher.publish(record)

    async def start(self) -> None:
        """Connect, and begin to join the consumer groups.

        It does not wait for the groups: after a crash, a join takes as long as the dead member's session.

        Raises:
            TransientError: Kafka cannot be reached.
        """
        await self._publisher.start()
        self._groups.start()
        self._refreshing = asyncio.create_task(keep_refreshing_ends(self.delivery.topics))

    async def stop(self) -> None:
        """Wait for the handlers at work, leave the groups, and close every connection.

        A handler that outlives the grace period is cancelled, and its messages are redelivered. The stop
        takes at most the grace period and a few seconds, whether Kafka answers or not.
        """
        if self._refreshing is not None:
            self._refreshing.cancel()
        await self._groups.stop_joining()
        await asyncio.gather(*(each.stop_marking() for each in self.subscriptions))
        await self._groups.leave(grace_seconds=self._grace_seconds)
        await self._publisher.stop()

    @property
    def backlog(self) -> Backlog:
        """The messages that wait for the subscribers."""
        return self.delivery.metrics.backlog

    async def check_alive(self) -> None:
        """Check that every consumer, and the producer, makes progress.

        Raises:
            RuntimeError: a consumer has ended, or a handler is far beyond its deadline; or, while Kafka
                answers, the producer or a consumer has failed every time for ``STUCK_SECONDS``.
        """
        if self._groups.has_stopped_consumer:
            raise RuntimeError("a consumer has stopped")
        longest = max((each.longest_attempt_seconds for each in self.subscriptions), default=0.0)
        if self.delivery.standstill.longest_running_seconds() > longest:
            raise RuntimeError(f"a handler has been running for more than {longest:.0f} s")
        if (failing := self._failing_client()) and await self._publisher.is_answered():
            raise RuntimeError(f"{failing} fails every time, while Kafka answers")

    def _failing_client(self) -> str | None:
        if self._publisher.failing_seconds() > STUCK_SECONDS:
            return "the producer"
        return "a consumer" if self._groups.failing_seconds() > STUCK_SECONDS else None

    async def check_ready(self) -> str | None:
        """Return which topics do not go on, and why; None: all of them do.

        Raises:
            TransientError: Kafka does not answer, or no topic can be read.
        """
        if not await self._publisher.is_answered():
            raise TransientError("Kafka does not answer")
        return "; ".join(self._groups.shortfalls() + self.delivery.standstill.shortfalls()) or None
