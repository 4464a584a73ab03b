"""The way of events out of the outbox: a batch is claimed, sent, and deleted when the bus has confirmed it.

The rows, their leases and the claiming statement are the library's (``faststream_outbox``); this loop takes
the place of its subscriber, which handles rows one by one (a quarter as many a second, see decision 17).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faststream_outbox.client import AbstractOutboxClient
from faststream_outbox.message import OutboxInnerMessage as Row
from sqlalchemy import ARRAY, BigInteger, Double, Uuid, bindparam, cast, func, null, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from clip_registry.tables import outbox
from clip_shared.envelope import Record

log = structlog.get_logger()

# CloudEvents' partitioning extension; on the bus it becomes the record's key.
KEY_HEADER = "ce_partitionkey"

# What a crash between sending and deleting repeats, and what is in memory: an event has 40 KiB at most.
BATCH_ROWS = 200
# How long the bus may take to confirm a batch; while it is known to be out, less, for a single event.
SEND_TIMEOUT_SECONDS = 5.0
PROBE_TIMEOUT_SECONDS = 2.0
PROBE_PAUSE_SECONDS = 1.0
# Rows that a dead relay had claimed are relayed by another after the lease, which outlasts any batch.
LEASE_SECONDS = 30.0
# A NOTIFY wakes the relay at once; polling finds retries, and what a lost connection did not announce.
POLL_SECONDS = 1.0
# A row's pause doubles with each attempt. The longest is half of the minute within which everything should
# flow again after an outage.
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
MAX_DOUBLINGS = 10
DATABASE_PAUSE_SECONDS = 1.0


def _release() -> Any:
    """Give claimed rows back for a later attempt: parameters ids, token, first and longest (seconds)."""
    pause = func.least(
        bindparam("longest", type_=Double),
        bindparam("first", type_=Double) * func.power(2, func.least(outbox.c.attempts_count, MAX_DOUBLINGS)),
    )
    jitter = 0.75 + cast(func.random(), Double) / 2
    return (
        update(outbox)
        .where(
            outbox.c.id == func.any(bindparam("ids", type_=ARRAY(BigInteger))),
            outbox.c.acquired_token == bindparam("token", type_=Uuid),
        )
        .values(
            acquired_at=null(),
            acquired_token=null(),
            attempts_count=outbox.c.attempts_count + 1,
            first_attempt_at=func.coalesce(outbox.c.first_attempt_at, func.now()),
            last_attempt_at=func.now(),
            next_attempt_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, pause * jitter),
        )
    )


RELEASE = _release()


class Relay:
    """Sends what is in the outbox, the oldest first, until it is stopped.

    Events of one clip leave in their order as long as one relay runs and none of them has to be repeated;
    for all other cases there is ``version``. Holds one connection of the engine.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        client: AbstractOutboxClient,
        producer: AIOKafkaProducer,
        queues: Sequence[str],
    ) -> None:
        self._engine = engine
        self._client = client
        self._producer = producer
        self._queues = queues
        self._stopped = asyncio.Event()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.bus_is_out = False

    @property
    def runs(self) -> bool:
        """Whether events would leave, were there any."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin. A database that is away is waited for."""
        self._task = asyncio.create_task(self._run())

    async def stop(self, *, grace_seconds: float) -> None:
        """Finish the batch at hand within the grace period; the rest stays in the table."""
        self._stopped.set()
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=grace_seconds)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                async with self._connection() as connection:
                    await self._relay(connection)
            except Exception as error:  # noqa: BLE001 - whatever it was, events must go on leaving
                log.warning("the relay was interrupted and begins anew", error=repr(error))
                await _rest(self._stopped, DATABASE_PAUSE_SECONDS)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection that hears of new rows."""
        async with self._engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.add_listener(f"outbox_{outbox.name}", lambda *_: self._wake.set())
            try:
                yield connection
            finally:
                await connection.invalidate()  # the pool must not hand it on with its listener

    async def _relay(self, connection: AsyncConnection) -> None:
        while not self._stopped.is_set():
            self._wake.clear()
            rows = await self._client.fetch(
                connection,
                self._queues,
                limit=1 if self.bus_is_out else BATCH_ROWS,
                lease_ttl_seconds=LEASE_SECONDS,
            )
            if not rows:
                await _rest(self._wake, POLL_SECONDS)
                continue
            failures = await self._send(rows)
            await self._settle(connection, rows, failures)
            if self.bus_is_out:
                await _rest(self._stopped, PROBE_PAUSE_SECONDS)

    async def _send(self, rows: Sequence[Row]) -> dict[int, Exception]:
        """Send rows in their order.

        Returns:
            those (by id) that the bus did not confirm in time, and why. Some may have arrived all the same.
        """
        timeout = PROBE_TIMEOUT_SECONDS if self.bus_is_out else SEND_TIMEOUT_SECONDS
        confirmations: dict[int, asyncio.Future[Any]] = {}
        failures: dict[int, Exception] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for row in rows:
                    try:
                        confirmations[row.id] = await self._hand_over(record_of(row))
                    except Exception as error:  # noqa: BLE001 - one bad row must not hold up the others
                        failures[row.id] = error
                if confirmations:
                    await asyncio.wait(confirmations.values())
        for row in rows:
            failure = failures.get(row.id) or _failure_of(confirmations.get(row.id))
            if failure is not None:
                failures[row.id] = failure
        self._note(failures)
        return failures

    async def _hand_over(self, record: Record) -> asyncio.Future[Any]:
        confirmation: asyncio.Future[Any] = await self._producer.send(
            record.topic, value=record.value, key=record.key, headers=record.headers
        )
        # Nobody may be waiting any more when it fails.
        confirmation.add_done_callback(lambda each: each.cancelled() or each.exception())
        return confirmation

    async def _settle(
        self, connection: AsyncConnection, rows: Sequence[Row], failures: Mapping[int, Exception]
    ) -> None:
        """Delete what was confirmed, give back what was not, set aside what never will be."""
        unsendable = {
            key: each for key, each in failures.items() if isinstance(each, MessageSizeTooLargeError)
        }
        async with connection.begin():
            await self._client.delete_batch_with_lease(
                connection, [(row.id, _token(row)) for row in rows if row.id not in failures]
            )
            for row in (row for row in rows if row.id in unsendable):
                log.error("an event can never be sent", outbox_id=row.id, error=repr(unsendable[row.id]))
                reason = {"failure_reason": "too_large", "last_exception": repr(unsendable[row.id])}
                await self._client.delete_with_lease(connection, row.id, _token(row), dlq_payload=reason)
            if later := failures.keys() - unsendable.keys():
                await connection.execute(
                    RELEASE,
                    {
                        "ids": sorted(later),
                        "token": _token(rows[0]),
                        "first": FIRST_PAUSE_SECONDS,
                        "longest": LONGEST_PAUSE_SECONDS,
                    },
                )

    def _note(self, failures: Mapping[int, Exception]) -> None:
        """Log when the bus goes and comes back, not once for every event that waits."""
        outage = next((each for each in failures.values() if _is_outage(each)), None)
        if outage is not None and not self.bus_is_out:
            log.warning("the bus takes no events; they wait in the outbox", error=repr(outage))
        if outage is None and self.bus_is_out:
            log.info("the bus takes events again")
        self.bus_is_out = outage is not None


def record_of(row: Row) -> Record:
    """The record that was written, byte for byte."""
    headers = dict(row.headers or {})
    key = headers.pop(KEY_HEADER, None)
    return Record(
        topic=row.queue,
        key=key.encode() if key is not None else None,
        value=row.payload,
        headers=[(name, value.encode()) for name, value in headers.items()],
    )


def _failure_of(confirmation: asyncio.Future[Any] | None) -> Exception | None:
    if confirmation is None or not confirmation.done() or confirmation.cancelled():
        return TimeoutError("the bus did not confirm it in time")
    error = confirmation.exception()
    return error if error is None or isinstance(error, Exception) else RuntimeError(repr(error))


def _is_outage(failure: Exception) -> bool:
    """Whether the bus is to blame, not the event."""
    return isinstance(failure, KafkaError | TimeoutError) and not isinstance(
        failure, MessageSizeTooLargeError
    )


def _token(row: Row) -> Any:
    """The lease under which a row was claimed: one for all rows of a batch."""
    return row.acquired_token


async def _rest(until: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await until.wait()
