"""The bus, the same in every service: typed handlers in, acknowledged events out.

A subscriber of this module commits an offset only after its event was handled or dead-lettered, handles
one message at a time, ends its work within a deadline, and finishes it before its partitions move to
another consumer. See :mod:`clip_shared.bus.delivery.middleware` for what failure means, and
:mod:`clip_shared.bus.fetching` for what happens below the handlers.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, cast

import structlog
from aiokafka import AIOKafkaProducer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import BrokerResponseError, KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from opentelemetry.trace import Span, use_span
from prometheus_client import CollectorRegistry

from clip_shared import tracing
from clip_shared.bus import fetching
from clip_shared.bus.backlog import Backlog
from clip_shared.bus.batch_size import BatchSize
from clip_shared.bus.clients import consumer_security, producer, publishing_error, watch_connections
from clip_shared.bus.delivery.crash_marks import MARK_SECONDS, Deaths
from clip_shared.bus.delivery.dead_letter_limit import DeadLetterLimit
from clip_shared.bus.delivery.metrics import DeliveryMetrics
from clip_shared.bus.delivery.middleware import Delivery
from clip_shared.bus.delivery.retries import position_of
from clip_shared.bus.envelope import Record, from_record, to_record
from clip_shared.bus.partitions import LOOK_SECONDS, Partitions
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import Data, Event, EventData
from clip_shared.errors import DeadlineExceeded, InvalidEvent, TransientError
from clip_shared.failure_streak import Trouble
from clip_shared.refused_connections import OnRefused, uncounted

log = structlog.get_logger()

Handler = Callable[[Event[Data]], Awaitable[None]]
BatchHandler = Callable[[list[Event[Data]]], Awaitable["list[Rejected[Data]]"]]

# Above the longest session, which a dead member can hold up a join for.
CONSUMER_REQUEST_TIMEOUT_MS = 40_000
CANCEL_SECONDS = 5.0
CLOSE_SECONDS = 3.0
# Above the producer's own time limit for a request.
PUBLISH_SECONDS = 20.0
# A producer or consumer that does nothing but fail for so long, while Kafka answers, needs a restart.
STUCK_SECONDS = 300.0
# A member that died holds up a join for as long as its session; beyond this, something else is wrong.
JOIN_SECONDS = 120.0
REJOIN_SECONDS = 15.0
ANSWER_SECONDS = 2.0

# The deadline of the handler at work, which publishing extends.
_handler_deadline: ContextVar[asyncio.Timeout | None] = ContextVar("_handler_deadline", default=None)


@dataclass(frozen=True)
class Rejected(Generic[Data]):
    """An event of a batch that can never be handled, and why: it is dead-lettered, the rest is not."""

    event: Event[Data]
    error: Exception


@dataclass(frozen=True)
class _Decoded(Generic[Data]):
    record: ConsumerRecord
    event: Event[Data] | InvalidEvent


class Bus:
    """One service's connection to Kafka.

    Declare subscribers first, then ``start``; ``stop`` drains the handler at work for at most
    ``grace_seconds``, then cancels it (its message is delivered again).
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
        self._producer: AIOKafkaProducer | None = None
        self._joining: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._publishing = Trouble()
        self._join_error: Exception | None = None
        self._joining_since = 0.0
        self._deadlines: list[float] = []
        self._deaths: list[Deaths] = []
        self._process_id = uuid.uuid4().hex
        fetching.install()
        watch_connections(service, on_refused)
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

    def subscriber(
        self, data_type: type[Data], *, deadline_seconds: float
    ) -> Callable[[Handler[Data]], Handler[Data]]:
        """Register a handler for one type of event: one at a time, each ended after ``deadline_seconds``."""

        def register(handler: Handler[Data]) -> Handler[Data]:
            async def handle(record: ConsumerRecord) -> None:
                event = _describe(_read(data_type, record))
                with _log_context(event):
                    await handler(event)
                self._count_handled(data_type, 1)

            self._subscribe(data_type, deadline_seconds, handle)
            return handler

        return register

    def batch_subscriber(
        self, data_type: type[Data], *, deadline_seconds: float, max_records: int
    ) -> Callable[[BatchHandler[Data]], BatchHandler[Data]]:
        """Register a handler for up to ``max_records`` events at once.

        Events that break their contract, and those that the handler rejects, are dead-lettered one by
        one. When the handler raises, the events are delivered again one by one.
        """

        def register(handler: BatchHandler[Data]) -> BatchHandler[Data]:
            async def handle(records: tuple[ConsumerRecord, ...]) -> None:
                batch = [_Decoded(record, _try_read(data_type, record)) for record in records]
                with ExitStack() as spans:
                    handled = await self._handle_batch(handler, _in_their_traces(batch, spans))
                self._count_handled(data_type, handled)

            self._subscribe(data_type, deadline_seconds, handle, batch=True, max_records=max_records)
            return handler

        return register

    async def _handle_batch(self, handler: BatchHandler[Data], batch: list[_Decoded[Data]]) -> int:
        events = [item.event for item in batch if isinstance(item.event, Event)]
        rejected = {id(each.event): each.error for each in await handler(events)} if events else {}
        errors = [
            (
                item.record,
                item.event if isinstance(item.event, InvalidEvent) else rejected.get(id(item.event)),
            )
            for item in batch
        ]
        await self.delivery.dead_letter([(record, error) for record, error in errors if error is not None])
        return len(events) - len(rejected)

    def _count_handled(self, data_type: type[EventData], count: int) -> None:
        self.delivery.metrics.handled.labels(data_type.TOPIC, "handled").inc(count)

    def _subscribe(
        self,
        data_type: type[EventData],
        deadline_seconds: float,
        handle: Callable[[Any], Awaitable[None]],
        **batch: Any,
    ) -> None:
        topic = data_type.TOPIC
        longest_ms = int(_longest_seconds(deadline_seconds) * 1000)
        listener = _RebalanceListener(self.delivery, topic, longest_ms / 1000)
        self._deadlines.append(deadline_seconds)
        subscriber = self.broker.subscriber(
            topic,
            group_id=f"{self.service}.{topic}",
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            ack_policy=AckPolicy.NACK_ON_ERROR,
            parser=_parse,
            decoder=_undecoded,
            listener=listener,
            # Above every deadline, or the group evicts a consumer that is hard at work (aiokafka #848).
            max_poll_interval_ms=longest_ms,
            rebalance_timeout_ms=max(longest_ms, 60_000),
            session_timeout_ms=self._settings.kafka_session_timeout_seconds * 1000,
            **batch,
        )
        batch_size = BatchSize(subscriber)
        deaths = Deaths(subscriber, batch_size, self._process_id)
        partitions = Partitions(subscriber)
        self._deaths.append(deaths)
        self.delivery.add(topic, partitions)
        listener.subscriber, listener.deaths, listener.partitions = subscriber, deaths, partitions

        async def watched(raw: Any) -> None:
            records = _records(raw)
            again = position_of(records[0]) in self.delivery.retries
            try:
                async with deaths.watch(records, again=again), _deadline(deadline_seconds):
                    await handle(raw)
            except Exception:
                if len(records) > 1:
                    batch_size.split()
                raise
            batch_size.count(len(records))

        subscriber(watched)

    async def publish(self, event: Event[Any]) -> None:
        """Publish an event and wait until the bus has it on every in-sync replica.

        It has time of its own: a handler's deadline waits for it.

        Raises:
            TransientError: it could not be confirmed; it may or may not have arrived.
            RefusedRecord: the bus will never take it.
        """
        await self.publish_record(to_record(event))

    async def publish_record(self, record: Record) -> None:
        """Publish an already serialised record, as :meth:`publish` does."""
        if self._producer is None:
            raise TransientError("the bus is not connected")
        _extend_deadline(PUBLISH_SECONDS + 1)
        span = tracing.sending(record.topic, record.headers)
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                with use_span(span, end_on_exit=True):
                    await self._producer.send_and_wait(
                        record.topic, value=record.value, key=record.key, headers=record.headers
                    )
        except (KafkaError, TimeoutError) as error:
            failure = publishing_error(record.topic, error)
            # What the broker answers proves that the producer works.
            if not isinstance(error, BrokerResponseError):
                self._publishing.failed(error)
            raise failure from error
        self._publishing.succeeded()

    async def start(self) -> None:
        """Connect, and begin to join the consumer groups.

        It does not wait for the groups: after a crash, that takes as long as the dead member's session.

        Raises:
            TransientError: the bus cannot be reached.
        """
        self._producer = producer(self._settings, client_id=self.service)
        try:
            await self._producer.start()
        except KafkaError as error:
            await self.stop()
            servers = self._settings.kafka_bootstrap_servers
            raise TransientError(f"cannot connect to Kafka at {servers}: {error}") from error
        self._joining_since = time.monotonic()
        self._joining = asyncio.create_task(self._join())
        self._looking = asyncio.create_task(self.delivery.keep_looking())

    async def _join(self) -> None:
        """Join the consumer groups; what keeps us from it may end: not ready meanwhile, and tried again."""
        await self.broker.connect()
        config = self.broker.config.broker_config
        config.builder = partial(fetching.Consumer, **cast("partial[Any]", config.builder).keywords)
        while True:
            try:
                await self.broker.start()
            except Exception as error:
                self._join_error = error
                log.exception("cannot join the consumer groups")
                await asyncio.gather(*(each.stop() for each in self.broker.subscribers))
                await asyncio.sleep(REJOIN_SECONDS)
            else:
                self._join_error = None
                return

    def _joining_seconds(self) -> float:
        is_joining = self._joining is not None and not self._joining.done()
        return time.monotonic() - self._joining_since if is_joining else 0.0

    async def stop(self) -> None:
        """Drain, then leave the group and close every connection.

        It takes at most the grace period and a few seconds, whether the bus answers or not.
        """
        if tasks := [each for each in (self._joining, self._looking) if each is not None]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        await asyncio.gather(*(each.stop() for each in self._deaths))
        await _within(self._grace_seconds + CLOSE_SECONDS, self.broker.stop(), "leave the consumer groups")
        for subscriber in self.broker.subscribers:
            # What outlived the grace period was cancelled: give its clean-up (ffmpeg, scratch) a moment.
            await _wait_until_idle(subscriber, CANCEL_SECONDS)
        if self._producer is not None:
            await _within(CLOSE_SECONDS, self._producer.stop(), "close the producer")
            self._producer = None

    @property
    def backlog(self) -> Backlog:
        """What the subscribers have still to do."""
        return self.delivery.metrics.backlog

    async def check_alive(self) -> None:
        """Whether every consumer, and the producer, makes progress.

        Raises:
            RuntimeError: a consumer has ended, or a handler is far beyond its deadline; or, while Kafka
                answers, the producer or a consumer has done nothing but fail for minutes.
        """
        joined = self._joining is not None and self._joining.done()
        if joined and any(not each.running for each in self.broker.subscribers):
            raise RuntimeError("a consumer has stopped")
        longest = _longest_seconds(max(self._deadlines, default=0))
        if self.delivery.longest_running_seconds() > longest:
            raise RuntimeError(f"a handler has been running for more than {longest:.0f} s")
        if (trouble := self._lasting_trouble()) and await self._answers():
            raise RuntimeError(f"{trouble}, while Kafka answers")

    def _lasting_trouble(self) -> str | None:
        if self._publishing.seconds() > STUCK_SECONDS:
            return "publishing has done nothing but fail"
        # Where Kafka refuses to let us read, a restart does not help: readiness says so.
        if any(each.trouble.seconds() > STUCK_SECONDS and not each.is_refused for each in self._consumers()):
            return "a consumer has done nothing but fail"
        return None

    def _consumers(self) -> list[fetching.Consumer]:
        found = (cast("Any", each).consumer for each in self.broker.subscribers)
        return [each for each in found if isinstance(each, fetching.Consumer)]

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return self._producer is not None and bool(
                    await self._producer.client.force_metadata_update()
                )
        except TimeoutError:
            return False

    async def check_ready(self) -> str | None:
        """Whether the bus answers; and if its topics do not go on, which, and why.

        Raises:
            TransientError: it does not answer, or no topic can be read.
        """
        if not await self._answers():
            raise TransientError("Kafka does not answer")
        if self._join_error is not None:
            raise TransientError(f"cannot join the consumer groups: {self._join_error!r}")
        if self._joining_seconds() > JOIN_SECONDS:
            raise TransientError(f"has waited for its consumer groups for {self._joining_seconds():.0f} s")
        consumers = self._consumers()
        troubles = [f"cannot fetch: {each.trouble.error!r}" for each in consumers if each.trouble.seconds()]
        if troubles and len(troubles) == len(consumers):
            raise TransientError("; ".join(troubles))
        return "; ".join(troubles + self.delivery.shortfalls()) or None


def _longest_seconds(deadline_seconds: float) -> float:
    """How long an attempt may take, with its marks, publishing after its deadline, and what is decided."""
    return deadline_seconds + 2 * PUBLISH_SECONDS + CANCEL_SECONDS + 2 * MARK_SECONDS + LOOK_SECONDS


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds) as scope:
            token = _handler_deadline.set(scope)
            try:
                yield
            finally:
                _handler_deadline.reset(token)
    except TimeoutError as error:
        if scope.expired():
            raise DeadlineExceeded(f"it took longer than {seconds:g} s") from error
        raise


def _extend_deadline(seconds: float) -> None:
    """Give the handler at work at least so many seconds from now: what it waits for is not its own work."""
    scope = _handler_deadline.get()
    if scope is not None and not scope.expired() and (when := scope.when()) is not None:
        scope.reschedule(max(when, asyncio.get_running_loop().time() + seconds))


async def _within(seconds: float, work: Coroutine[Any, Any, None], what: str) -> None:
    """Wait for work for at most so long; then cancel it and go on."""
    task = asyncio.ensure_future(work)
    _, late = await asyncio.wait([task], timeout=seconds)
    if late:
        task.cancel()
        log.warning("the bus did not answer in time", to=what, seconds=seconds)
    elif (error := task.exception()) is not None:
        log.warning("the bus refused", to=what, error=repr(error))


class _RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Holds a rebalance back until the handler at work has ended: no other consumer repeats its work."""

    subscriber: Any
    deaths: Deaths
    partitions: Partitions

    def __init__(self, delivery: Delivery, topic: str, timeout_seconds: float) -> None:
        self._delivery = delivery
        self._topic = topic
        self._timeout_seconds = timeout_seconds

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Wait for the handler at work; called before the group is joined again."""
        log.info("partitions revoked", partitions=_names(revoked))
        self._delivery.expect_assignment(self._topic, within_seconds=self._timeout_seconds + JOIN_SECONDS)
        await _wait_until_idle(self.subscriber, self._timeout_seconds)
        self.deaths.forget()
        self.partitions.forget()
        self._delivery.metrics.backlog.forget(self._topic)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Forget the retries of others' partitions. Positions come from the committed offsets."""
        log.info("partitions assigned", partitions=_names(assigned))
        self._delivery.note_assignment(self._topic, assigned)


def _names(partitions: Collection[Any]) -> list[str]:
    return sorted(f"{each.topic}-{each.partition}" for each in partitions)


async def _parse(raw: Any, original: Callable[[Any], Awaitable[Any]]) -> Any:
    """Parse without headers: FastStream takes them for UTF-8, and a message with others could not be settled.

    :mod:`clip_shared.bus.envelope` reads them from the raw record, and says what is wrong with them.
    """
    bare = (
        tuple(replace(each, headers=()) for each in raw)
        if isinstance(raw, tuple)
        else replace(raw, headers=())
    )
    message = await original(bare)
    message.raw_message = raw
    message.consumer = _Acknowledgement(message.consumer, _records(raw))
    return message


@dataclass(frozen=True)
class _Acknowledgement:
    """Commits these records alone: FastStream would commit all partitions, and erase their marks."""

    consumer: Any
    records: Sequence[ConsumerRecord]

    async def commit(self) -> None:
        """Commit what comes after them."""
        await self.consumer.commit(
            {TopicPartition(each.topic, each.partition): each.offset + 1 for each in self.records}
        )

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go back to one of them."""
        self.consumer.seek(partition, offset)


async def _undecoded(message: Any) -> Any:
    """Leave decoding to the handler: FastStream would not settle a message that it could not decode."""
    return message.raw_message


def _records(raw: Any) -> tuple[ConsumerRecord, ...]:
    return raw if isinstance(raw, tuple) else (raw,)


async def _wait_until_idle(subscriber: Any, seconds: float) -> None:
    # FastStream's MultiLock, held from before a message is parsed until after it is committed. A subscriber
    # that was never started has a null context in its place.
    if hasattr(subscriber.lock, "wait_release"):
        await subscriber.lock.wait_release(seconds)


def _read(data_type: type[Data], record: ConsumerRecord) -> Event[Data]:
    if isinstance(record, fetching.UnreadableRecord):
        raise InvalidEvent(record.problem)
    return from_record(data_type, record)


def _try_read(data_type: type[Data], record: ConsumerRecord) -> Event[Data] | InvalidEvent:
    try:
        return _read(data_type, record)
    except InvalidEvent as error:
        return error


def _continued(event: Event[Data], span: Span | None = None) -> Event[Data]:
    """Return an event whose cause is the span that handles it: what follows from it names that as its own."""
    traceparent = tracing.traceparent(span)
    return event if traceparent is None else event.model_copy(update={"traceparent": traceparent})


def _in_their_traces(batch: list[_Decoded[Data]], spans: ExitStack) -> list[_Decoded[Data]]:
    """Give each event of a batch a span in its own trace until ``spans`` are closed."""
    if not tracing.is_on():
        return batch
    # A message that came alone has such a span already.
    trace = _describe if len(batch) == 1 else partial(_share, spans)
    return [
        each if isinstance(each.event, InvalidEvent) else replace(each, event=trace(each.event))
        for each in batch
    ]


def _describe(event: Event[Data]) -> Event[Data]:
    tracing.describe(**_names_of(event))
    return _continued(event)


def _share(spans: ExitStack, event: Event[Data]) -> Event[Data]:
    span = tracing.share_of(event.data.TOPIC, event.traceparent, **_names_of(event))
    spans.callback(span.end)
    return _continued(event, span)


def _log_context(event: Event[Any]) -> AbstractContextManager[Any]:
    fields = _names_of(event) | {"topic": event.data.TOPIC}
    if event.traceparent:
        fields["trace_id"] = event.traceparent.split("-")[1]
    return structlog.contextvars.bound_contextvars(**fields)


def _names_of(event: Event[Any]) -> dict[str, str]:
    """Return what logs and traces call an event."""
    names = {"event_id": event.id}
    for name in ("clip_id", "stream_highlight_id"):
        if (value := getattr(event.data, name, None)) is not None:
            names[name] = str(value)
    return names
