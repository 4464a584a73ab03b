"""The relay: claims a batch of events in the outbox, sends it to Kafka, and deletes what Kafka has confirmed.

The table, the leases and the claiming statement are those of the library ``faststream_outbox``. This loop
replaces the library's subscriber, which handles rows one by one (a quarter as many in a second, see decision
17).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faststream_outbox.client import AbstractOutboxClient
from faststream_outbox.message import OutboxInnerMessage as Row
from opentelemetry.trace import Span, StatusCode
from sqlalchemy import ARRAY, BigInteger, Double, Uuid, bindparam, column, func, null, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from clip_registry.database.tables import outbox
from clip_shared import tracing
from clip_shared.backoff import backoff_seconds
from clip_shared.bus.clients import publishing_error
from clip_shared.bus.envelope import OutgoingRecord
from clip_shared.errors import RefusedRecord, TransientError

log = structlog.get_logger()

# The partitioning extension of CloudEvents; in Kafka it is the record's key.
KEY_HEADER = "ce_partitionkey"

# A crash between sending and deleting repeats at most this many events. An event has at most 40 KiB.
BATCH_ROWS = 200
# How long Kafka may take to confirm a batch; and, during an outage, the single event that probes it.
SEND_TIMEOUT_SECONDS = 5.0
PROBE_TIMEOUT_SECONDS = 2.0
PROBE_PAUSE_SECONDS = 1.0
# When the lease ends, another relay claims the rows of a crashed relay. It is longer than any batch takes.
LEASE_SECONDS = 30.0
# NOTIFY wakes the relay at once; polling finds retries, and events whose NOTIFY a lost connection missed.
POLL_SECONDS = 1.0
# Where NOTIFY does not work.
POLL_WITHOUT_NOTIFY_SECONDS = 0.25
CHANNEL = f"outbox_{outbox.name}"
# The pause of a row doubles with each attempt. The longest is half a minute, because events should be sent
# within a minute after an outage.
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
DATABASE_PAUSE_SECONDS = 1.0
# An event that fails for an unknown reason, and not because of an outage, is set aside after this many
# attempts.
MAX_UNKNOWN_FAILURES = 10
# More than a turn waits for Kafka, and pauses.
KAFKA_WAITS_SECONDS = 60.0
# The statements of a turn: fetch, begin, delete, release, commit. In an outage, the first failure ends the
# turn.
STATEMENTS = 5


def hangs_after_seconds(engine: AsyncEngine) -> float:
    """Return the seconds that a turn of the relay may take, also in an outage. A longer turn hangs."""
    options = engine.get_execution_options()
    return float(KAFKA_WAITS_SECONDS + options["connecting_seconds"] + STATEMENTS * options["answer_seconds"])


def _release() -> Any:
    """Release claimed rows for a later attempt: parameters ids, pauses (seconds, for each id), token."""
    released = (
        func.unnest(bindparam("ids", type_=ARRAY(BigInteger)), bindparam("pauses", type_=ARRAY(Double)))
        .table_valued(column("id", BigInteger), column("pause", Double))
        .render_derived()
    )
    return (
        update(outbox)
        .where(
            outbox.c.id == released.c.id,
            outbox.c.acquired_token == bindparam("token", type_=Uuid),
        )
        .values(
            acquired_at=null(),
            acquired_token=null(),
            attempts_count=outbox.c.attempts_count + 1,
            first_attempt_at=func.coalesce(outbox.c.first_attempt_at, func.now()),
            last_attempt_at=func.now(),
            next_attempt_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, released.c.pause),
        )
    )


RELEASE = _release()


class Relay:
    """Sends the events in the outbox, the oldest first, until it is stopped.

    The events of a clip arrive in their order as long as a single relay runs and no event is retried; for the
    other cases they have ``version``. The relay holds a connection of the engine.

    ``queues``: the topics that it sends. ``listens``: LISTEN works on the engine's connections.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        client: AbstractOutboxClient,
        producer: AIOKafkaProducer,
        queues: Sequence[str],
        *,
        listens: bool = True,
    ) -> None:
        self._engine = engine
        self._client = client
        self._producer = producer
        self._queues = queues
        self._listens = listens
        self._turned_at = time.monotonic()
        self._stopped = asyncio.Event()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.kafka_is_out = False

    @property
    def runs(self) -> bool:
        """Whether the relay works, or is waiting for events."""
        return self._task is not None and not self._task.done()

    def check_alive(self) -> None:
        """Check that the relay works, also if it fails to send.

        Raises:
            RuntimeError: the relay has ended, or hangs.
        """
        if not self.runs:
            raise RuntimeError("the relay has ended")
        if (seconds := time.monotonic() - self._turned_at) > hangs_after_seconds(self._engine):
            raise RuntimeError(f"the relay has been hanging for {seconds:.0f} s")

    def start(self) -> None:
        """Start. The relay waits for a database that cannot be reached."""
        self._task = asyncio.create_task(self._run())

    async def stop(self, *, grace_seconds: float) -> None:
        """Finish the claimed batch within the grace period. The other events stay in the table."""
        self._stopped.set()
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=grace_seconds)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while not self._stopped.is_set():
            self._turned_at = time.monotonic()
            try:
                async with self._connection() as connection:
                    await self._relay(connection)
            except Exception as error:  # noqa: BLE001 - after any error, the next events must be sent
                log.warning("the relay was interrupted and starts again", error=repr(error))
                await _pause(self._stopped, DATABASE_PAUSE_SECONDS)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection that learns of new rows by LISTEN, where that works."""
        async with self._engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
            if self._listens:
                driver: Any = (await connection.get_raw_connection()).driver_connection
                await driver.add_listener(CHANNEL, lambda *_: self._wake.set())
            try:
                yield connection
            finally:
                await connection.invalidate()  # the pool must not hand out a connection with a listener

    async def _relay(self, connection: AsyncConnection) -> None:
        while not self._stopped.is_set():
            self._turned_at = time.monotonic()
            self._wake.clear()
            rows = await self._client.fetch(
                connection,
                self._queues,
                limit=1 if self.kafka_is_out else BATCH_ROWS,
                lease_ttl_seconds=LEASE_SECONDS,
            )
            if not rows:
                await _pause(self._wake, POLL_SECONDS if self._listens else POLL_WITHOUT_NOTIFY_SECONDS)
                continue
            failures = await self._send(rows)
            if len(rows) > 1:
                failures = await self._send_refused_alone(rows, failures)
            await self._settle(connection, rows, failures)
            if self.kafka_is_out:
                await _pause(self._stopped, PROBE_PAUSE_SECONDS)

    async def _send(self, rows: Sequence[Row]) -> dict[int, Exception]:
        """Send rows in their order.

        Returns:
            the reasons, by row id, of the rows that Kafka did not confirm in time. Such a row may have
            arrived.
        """
        timeout = PROBE_TIMEOUT_SECONDS if self.kafka_is_out else SEND_TIMEOUT_SECONDS
        confirmations: dict[int, asyncio.Future[Any]] = {}
        failures: dict[int, Exception] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for row in rows:
                    try:
                        confirmations[row.id] = await self._hand_over(record_of(row))
                    except Exception as error:  # noqa: BLE001 - a bad row must not hold up the others
                        failures[row.id] = error
                if confirmations:
                    await asyncio.wait(confirmations.values())
        for row in rows:
            if failure := failures.get(row.id) or _failure_of(confirmations.get(row.id)):
                failures[row.id] = _as_clips_error(row, failure)
        self._log_outage(failures)
        return failures

    async def _send_refused_alone(
        self, rows: Sequence[Row], failures: dict[int, Exception]
    ) -> dict[int, Exception]:
        """Send refused rows one by one: Kafka refuses a bad record together with its neighbours.

        The rows that there is no time for are released for a later attempt.
        """
        deadline = time.monotonic() + LEASE_SECONDS / 3
        for row in rows:
            if isinstance(failures.get(row.id), RefusedRecord):
                del failures[row.id]
                if self.kafka_is_out or time.monotonic() > deadline:
                    failures[row.id] = TransientError("refused together with its batch; not tried alone yet")
                else:
                    failures |= await self._send([row])
        return failures

    async def _hand_over(self, record: OutgoingRecord) -> asyncio.Future[Any]:
        span = tracing.sending(record.topic, record.headers)
        try:
            confirmation: asyncio.Future[Any] = await self._producer.send(
                record.topic, value=record.value, key=record.key, headers=record.headers
            )
        except BaseException as error:
            _end(span, error)
            raise
        # After the timeout no caller waits for the confirmation: end the span here.
        confirmation.add_done_callback(
            lambda each: _end(span, None if each.cancelled() else each.exception())
        )
        return confirmation

    async def _settle(
        self, connection: AsyncConnection, rows: Sequence[Row], failures: Mapping[int, Exception]
    ) -> None:
        """Delete confirmed rows, set undeliverable rows aside, release the others for a later attempt."""
        undeliverable = {
            row.id for row in rows if row.id in failures and _is_undeliverable(row, failures[row.id])
        }
        async with connection.begin():
            await self._client.delete_batch_with_lease(
                connection, [(row.id, _token(row)) for row in rows if row.id not in failures]
            )
            for row in (row for row in rows if row.id in undeliverable):
                await self._set_aside(connection, row, failures[row.id])
            if later := [row for row in rows if row.id in failures.keys() - undeliverable]:
                await connection.execute(
                    RELEASE,
                    {
                        "ids": [row.id for row in later],
                        "pauses": [_pause_seconds(row) for row in later],
                        "token": _token(rows[0]),
                    },
                )

    async def _set_aside(self, connection: AsyncConnection, row: Row, failure: Exception) -> None:
        """Move a row to ``outbox_dlq``, where an operator finds it; the rows after it go on."""
        log.error("an event cannot be sent", outbox_id=row.id, topic=row.queue, error=repr(failure))
        reason = "refused" if isinstance(failure, RefusedRecord) else "unknown"
        payload = {"failure_reason": reason, "last_exception": repr(failure)}
        await self._client.delete_with_lease(connection, row.id, _token(row), dlq_payload=payload)

    def _log_outage(self, failures: Mapping[int, Exception]) -> None:
        """Log the beginning and the end of an outage of Kafka, not every event that waits."""
        outage = next((each for each in failures.values() if isinstance(each, TransientError)), None)
        if outage is not None and not self.kafka_is_out:
            log.warning("Kafka takes no events; they wait in the outbox", error=repr(outage))
        if outage is None and self.kafka_is_out:
            log.info("Kafka takes events again")
        self.kafka_is_out = outage is not None


def _pause_seconds(row: Row) -> float:
    attempt = row.attempts_count + 1
    return backoff_seconds(attempt, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS)


def record_of(row: Row) -> OutgoingRecord:
    """Return the Kafka record of a row, byte for byte as it was written."""
    headers = dict(row.headers or {})
    key = headers.pop(KEY_HEADER, None)
    return OutgoingRecord(
        topic=row.queue,
        key=key.encode() if key is not None else None,
        value=row.payload,
        headers=[(name, value.encode()) for name, value in headers.items()],
    )


def _end(span: Span, error: BaseException | None) -> None:
    if error is not None:
        span.record_exception(error)
        span.set_status(StatusCode.ERROR)
    span.end()


def _failure_of(confirmation: asyncio.Future[Any] | None) -> Exception | None:
    if confirmation is None or not confirmation.done() or confirmation.cancelled():
        return TimeoutError("Kafka did not confirm the event in time")
    error = confirmation.exception()
    return error if error is None or isinstance(error, Exception) else RuntimeError(repr(error))


def _as_clips_error(row: Row, failure: Exception) -> Exception:
    known = isinstance(failure, KafkaError | TimeoutError)
    return publishing_error(row.queue, failure) if known else failure


def _is_undeliverable(row: Row, failure: Exception) -> bool:
    if isinstance(failure, TransientError):
        return False
    return isinstance(failure, RefusedRecord) or row.attempts_count >= MAX_UNKNOWN_FAILURES


def _token(row: Row) -> Any:
    """Return the lease under which a row was claimed. All rows of a batch have the same."""
    return row.acquired_token


async def _pause(until: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await until.wait()
