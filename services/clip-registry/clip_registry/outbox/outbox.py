"""The transactional outbox: events are written with the rows they tell of, and relayed to the bus after.

At least once, retried without end. An event's id, headers and body are fixed when it is written: however
often it is relayed, the bus sees the same event. A retry can overtake a clip's next event, which is what
``version`` in the events is for.
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
# Not the library's way to insert: it writes one topic and one moment at a time.
WRITE = insert(tables.outbox).values(
    next_attempt_at=func.greatest(func.now(), bindparam("not_before", type_=DateTime(timezone=True)))
)
WAKE = select(func.pg_notify(CHANNEL, ""))


class Outbox:
    """One relay, and the way to write what it relays.

    ``engine`` is the relay's own: it holds ``CONNECTIONS`` of its connections for as long as it runs.
    ``CLIENT_ID`` is the name that Kafka knows it by.
    ``listens``: a session of the database can hear of new events (not behind a pooler of transactions).
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
        """Write events in the connection's open transaction: they leave if, and only if, it commits.

        In the order in which they are written; but one whose time is still to come, not before that.
        """
        if rows := [_row_of(event) for event in events]:
            await connection.execute(WRITE, rows)
            await connection.execute(WAKE)

    async def start(self) -> None:
        """Begin to relay. A database that is away is waited for.

        Raises:
            TransientError: the bus cannot be reached.
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
        """Finish what was claimed, within the grace period; the rest stays in the table."""
        if self._relay is not None:
            await self._relay.stop(grace_seconds=self._grace_seconds)
            self._relay = None
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None

    async def check_alive(self) -> None:
        """Whether the relay makes progress, be it by failing.

        Raises:
            RuntimeError: it has ended, or it hangs.
        """
        if self._relay is not None:
            self._relay.check_alive()

    async def check(self) -> str | None:
        """Whether events leave.

        Raises:
            RuntimeError: the relay does not run.
        """
        if self._relay is None or not self._relay.runs:
            raise RuntimeError("the relay does not run")
        return "the bus takes no events; they wait in the outbox" if self._relay.bus_is_out else None


def _row_of(event: Event[Any]) -> dict[str, Any]:
    """An event as the outbox stores it: its key is among the headers."""
    record = to_record(event)
    headers = {name: value.decode() for name, value in record.headers}
    if record.key is not None:
        headers[KEY_HEADER] = record.key.decode()
    return {"queue": record.topic, "payload": record.value, "headers": headers, "not_before": event.time}
