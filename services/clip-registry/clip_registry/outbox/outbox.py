"""The transactional outbox: events are committed with the rows that they describe, and then sent to Kafka.

Each event is sent at least once, and retried without end. Its id, headers and body are fixed when it is
written, so that every attempt sends the same event. A retry may arrive after the clip's next event: readers
compare ``version``.
"""

from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faststream_outbox import OutboxBroker
from sqlalchemy import DateTime, bindparam, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from clip_registry.database import tables
from clip_registry.outbox.relay import CHANNEL, KEY_HEADER, Relay
from clip_shared.bus.clients import producer
from clip_shared.bus.envelope import to_record
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import ClipLifecycle, Event, ObjectReleased
from clip_shared.errors import TransientError

TOPICS = (ClipLifecycle.TOPIC, ObjectReleased.TOPIC)
# The library inserts a single topic and a single moment at a time; this inserts a batch.
WRITE = insert(tables.outbox).values(
    next_attempt_at=func.greatest(func.now(), bindparam("not_before", type_=DateTime(timezone=True)))
)
WAKE = select(func.pg_notify(CHANNEL, ""))


class Outbox:
    """Writes events, and runs the relay that sends them.

    ``CONNECTIONS``: how many connections of ``engine`` the relay holds while it runs.
    ``CLIENT_ID``: the name of its producer in Kafka.

    Args:
        engine: for the relay alone.
        kafka: where the events go.
        grace_seconds: how long a stop waits for the batch that is being sent.
        listens: LISTEN works, so that the relay learns of new events at once. It does not work behind a
            pooler of transactions.
    """

    CONNECTIONS = 1
    CLIENT_ID = "clip-registry-outbox"

    def __init__(
        self, engine: AsyncEngine, kafka: KafkaSettings, *, grace_seconds: float, listens: bool = True
    ) -> None:
        self._engine = engine
        self._listens = listens
        self._kafka = kafka
        self._grace_seconds = grace_seconds
        self._producer: AIOKafkaProducer | None = None
        self._relay: Relay | None = None
        self.broker = OutboxBroker(engine, outbox_table=tables.outbox, dlq_table=tables.outbox_dlq)

    async def write(self, connection: AsyncConnection, events: Iterable[Event[Any]]) -> None:
        """Write events in the connection's open transaction: they are sent if, and only if, it commits.

        They are sent in this order; an event whose ``time`` is in the future is sent then.
        """
        if rows := [_row_of(event) for event in events]:
            await connection.execute(WRITE, rows)
            await connection.execute(WAKE)

    async def start(self) -> None:
        """Start the relay. It waits for a database that cannot be reached.

        Raises:
            TransientError: Kafka cannot be reached.
        """
        self._producer = producer(self._kafka, client_id=self.CLIENT_ID)
        try:
            await self._producer.start()
        except KafkaError as error:
            await self.stop()
            raise TransientError(f"the outbox cannot connect to Kafka: {error}") from error
        self._relay = Relay(self._engine, self.broker.client, self._producer, TOPICS, listens=self._listens)
        self._relay.start()

    async def stop(self) -> None:
        """Finish the claimed batch within the grace period. The other events stay in the table."""
        if self._relay is not None:
            await self._relay.stop(grace_seconds=self._grace_seconds)
            self._relay = None
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None

    async def check_alive(self) -> None:
        """Check that the relay works, also if it fails to send.

        Raises:
            RuntimeError: the relay has ended, or hangs.
        """
        if self._relay is not None:
            self._relay.check_alive()

    async def check(self) -> str | None:
        """Check that events are sent; return why not when Kafka takes none.

        Raises:
            RuntimeError: the relay does not run.
        """
        if self._relay is None or not self._relay.runs:
            raise RuntimeError("the relay does not run")
        return "Kafka takes no events; they wait in the outbox" if self._relay.kafka_is_out else None


def _row_of(event: Event[Any]) -> dict[str, Any]:
    """Return the row of an event. The key of its record is a header."""
    record = to_record(event)
    headers = {name: value.decode() for name, value in record.headers}
    if record.key is not None:
        headers[KEY_HEADER] = record.key.decode()
    return {"queue": record.topic, "payload": record.value, "headers": headers, "not_before": event.time}
