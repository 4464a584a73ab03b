"""The transactional outbox: events are written with the rows they tell of, and relayed to the bus after.

At least once, retried without end. An event's id, headers and body are fixed when it is written: however
often it is relayed, the bus sees the same event. A retry can overtake a clip's next event, which is what
``version`` in the events is for.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faststream.exceptions import NackMessage
from faststream_outbox import ExponentialRetry, OutboxBroker, OutboxMessage
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from clip_registry import tables
from clip_shared.envelope import Record, to_record
from clip_shared.errors import TransientError
from clip_shared.events import ClipLifecycle, Event, ObjectReleased
from clip_shared.kafka import producer
from clip_shared.settings import KafkaSettings

log = structlog.get_logger()

TOPICS = (ClipLifecycle.TOPIC, ObjectReleased.TOPIC)
# CloudEvents' partitioning extension; on the bus it becomes the record's key.
KEY_HEADER = "ce_partitionkey"

# How long the bus may take to confirm an event; while it is known to be out, less.
SEND_TIMEOUT_SECONDS = 5.0
PROBE_TIMEOUT_SECONDS = 2.0
# Rows that a dead relay had claimed are relayed by another after the lease. It must outlast what a bus that
# hangs makes of a worker's claimed rows: one long timeout, and a short one for each of the others.
ROWS_PER_WORKER = 12
LEASE_SECONDS = 30.0
# A NOTIFY wakes the relay at once; polling finds retries, and what a lost connection did not announce.
LEAST_POLL_SECONDS = 0.5
LONGEST_POLL_SECONDS = 5.0
# The longest pause is half of the minute within which everything should flow again after an outage.
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0


class Outbox:
    """One relay, and the way to write what it relays.

    ``engine`` is the relay's own: it holds ``connections_of(workers)`` connections for as long as it runs.
    """

    def __init__(
        self, engine: AsyncEngine, kafka: KafkaSettings, *, workers: int, grace_seconds: float
    ) -> None:
        self._kafka = kafka
        self._producer: AIOKafkaProducer | None = None
        self._bus_is_out = False
        self.broker = OutboxBroker(
            engine,
            outbox_table=tables.outbox,
            dlq_table=tables.outbox_dlq,
            graceful_timeout=grace_seconds,
            apply_types=False,
            logger=logging.getLogger("faststream"),
        )
        self.broker.subscriber(
            list(TOPICS),
            max_workers=workers,
            retry_strategy=ExponentialRetry(
                max_attempts=None,  # the default gives up after ten, and deletes the event
                initial_delay_seconds=FIRST_PAUSE_SECONDS,
                max_delay_seconds=LONGEST_PAUSE_SECONDS,
                jitter_factor=0.5,
            ),
            fetch_batch_size=workers * ROWS_PER_WORKER,
            min_fetch_interval=LEAST_POLL_SECONDS,
            max_fetch_interval=LONGEST_POLL_SECONDS,
            lease_ttl_seconds=LEASE_SECONDS,
            terminal_flush_batch_size=ROWS_PER_WORKER,
            decoder=_record_of,
        )(self._relay)

    @staticmethod
    def connections_of(workers: int) -> int:
        """How many pooled connections that many workers need: one each, and two to fetch and to check."""
        return workers + 2

    async def write(self, connection: AsyncConnection, events: Iterable[Event[Any]]) -> None:
        """Write events in the connection's open transaction: they leave if, and only if, it commits."""
        by_topic: dict[str, list[tuple[bytes, dict[str, str] | None]]] = defaultdict(list)
        for event in events:
            record = to_record(event)
            by_topic[record.topic].append((record.value, _headers_of(record)))
        for topic, rows in sorted(by_topic.items()):
            await self.broker.client.insert_batch(connection, queue=topic, rows=rows)

    async def start(self) -> None:
        """Begin to relay. A database that is away is waited for.

        Raises:
            TransientError: the bus cannot be reached.
        """
        self._producer = producer(self._kafka, client_id="clip-registry-outbox")
        try:
            await self._producer.start()
        except KafkaError as error:
            await self.stop()
            raise TransientError(f"the outbox cannot connect to Kafka: {error}") from error
        await self.broker.start()

    async def stop(self) -> None:
        """Finish what was claimed, within the grace period; the rest stays in the table."""
        await self.broker.stop()
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None

    async def check(self) -> str | None:
        """Whether events leave.

        Raises:
            RuntimeError: the relay does not run.
        """
        if self._producer is None or not await self.broker.ping(timeout=SEND_TIMEOUT_SECONDS):
            raise RuntimeError("the relay does not run, or the database does not answer")
        return "the bus takes no events; they wait in the outbox" if self._bus_is_out else None

    async def _relay(self, record: Record) -> None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS if self._bus_is_out else SEND_TIMEOUT_SECONDS):
                await self._send(record)
        except (KafkaError, TimeoutError) as error:
            self._note(outage=error)
            raise NackMessage from error  # to the retry strategy, without FastStream's own traceback
        self._note(outage=None)

    async def _send(self, record: Record) -> None:
        if self._producer is None:
            raise NackMessage
        await self._producer.send_and_wait(
            record.topic, value=record.value, key=record.key, headers=record.headers
        )

    def _note(self, *, outage: Exception | None) -> None:
        """Log when the bus goes and comes back, not once for every event that waits."""
        if outage is not None and not self._bus_is_out:
            log.warning("the bus takes no events; they wait in the outbox", error=repr(outage))
        if outage is None and self._bus_is_out:
            log.info("the bus takes events again")
        self._bus_is_out = outage is not None


def _headers_of(record: Record) -> dict[str, str]:
    """A record's headers as the outbox stores them, its key among them."""
    headers = {name: value.decode() for name, value in record.headers}
    return headers if record.key is None else {**headers, KEY_HEADER: record.key.decode()}


async def _record_of(message: OutboxMessage) -> Record:
    """The record that was written, byte for byte."""
    row = message.raw_message
    headers = dict(row.headers or {})
    key = headers.pop(KEY_HEADER, None)
    return Record(
        topic=row.queue,
        key=key.encode() if key is not None else None,
        value=row.payload,
        headers=[(name, value.encode()) for name, value in headers.items()],
    )
