"""The way of events out of the outbox: a batch is claimed, sent, and deleted when the bus has confirmed it.

The rows, their leases and the claiming statement are the library's (``faststream_outbox``); this loop takes
the place of its subscriber, which handles rows one by one (a quarter as many a second, see decision 17).
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
from clip_shared.bus.envelope import Record
from clip_shared.errors import RefusedRecord, TransientError

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
# Where no NOTIFY arrives.
DEAF_POLL_SECONDS = 0.25
CHANNEL = f"outbox_{outbox.name}"
# A row's pause doubles with each attempt. The longest is half of the minute within which everything should
# flow again after an outage.
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
DATABASE_PAUSE_SECONDS = 1.0
# An event that fails for a reason that we do not know, and not because the bus is out, is set aside after so
# many attempts.
MAX_SURPRISED_ATTEMPTS = 10
# More than a turn waits for the bus, and rests.
OWN_WAITS_SECONDS = 60.0
# The questions of a turn: fetch, begin, delete, give back, commit. In an outage, the first to fail ends it.
QUESTIONS = 5


def hangs_after_seconds(engine: AsyncEngine) -> float:
    """How long a turn of the relay may take, in an outage too: a longer one is a hang."""
    options = engine.get_execution_options()
    return float(OWN_WAITS_SECONDS + options["connecting_seconds"] + QUESTIONS * options["answer_seconds"])


def _release() -> Any:
    """Give claimed rows back for a later attempt: parameters ids, pauses (seconds, one an id), token."""
    given_back = (
        func.unnest(bindparam("ids", type_=ARRAY(BigInteger)), bindparam("pauses", type_=ARRAY(Double)))
        .table_valued(column("id", BigInteger), column("pause", Double))
        .render_derived()
    )
    return (
        update(outbox)
        .where(
            outbox.c.id == given_back.c.id,
            outbox.c.acquired_token == bindparam("token", type_=Uuid),
        )
        .values(
            acquired_at=null(),
            acquired_token=null(),
            attempts_count=outbox.c.attempts_count + 1,
            first_attempt_at=func.coalesce(outbox.c.first_attempt_at, func.now()),
            last_attempt_at=func.now(),
            next_attempt_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, given_back.c.pause),
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
        self.bus_is_out = False

    @property
    def runs(self) -> bool:
        """Whether events would leave, were there any."""
        return self._task is not None and not self._task.done()

    def check_alive(self) -> None:
        """Whether it goes on, relaying or failing.

        Raises:
            RuntimeError: it has ended, or hangs.
        """
        if not self.runs:
            raise RuntimeError("the relay has ended")
        if (seconds := time.monotonic() - self._turned_at) > hangs_after_seconds(self._engine):
            raise RuntimeError(f"the relay has been hanging for {seconds:.0f} s")

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
            self._turned_at = time.monotonic()
            try:
                async with self._connection() as connection:
                    await self._relay(connection)
            except Exception as error:  # noqa: BLE001 - whatever it was, events must go on leaving
                log.warning("the relay was interrupted and begins again", error=repr(error))
                await _rest(self._stopped, DATABASE_PAUSE_SECONDS)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection that hears of new rows, where a session can."""
        async with self._engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
            if self._listens:
                driver: Any = (await connection.get_raw_connection()).driver_connection
                await driver.add_listener(CHANNEL, lambda *_: self._wake.set())
            try:
                yield connection
            finally:
                await connection.invalidate()  # the pool must not hand it on with its listener

    async def _relay(self, connection: AsyncConnection) -> None:
        while not self._stopped.is_set():
            self._turned_at = time.monotonic()
            self._wake.clear()
            rows = await self._client.fetch(
                connection,
                self._queues,
                limit=1 if self.bus_is_out else BATCH_ROWS,
                lease_ttl_seconds=LEASE_SECONDS,
            )
            if not rows:
                await _rest(self._wake, POLL_SECONDS if self._listens else DEAF_POLL_SECONDS)
                continue
            failures = await self._send(rows)
            if len(rows) > 1:
                failures = await self._send_refused_alone(rows, failures)
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
            if failure := failures.get(row.id) or _failure_of(confirmations.get(row.id)):
                failures[row.id] = _in_our_words(row, failure)
        self._note(failures)
        return failures

    async def _send_refused_alone(
        self, rows: Sequence[Row], failures: dict[int, Exception]
    ) -> dict[int, Exception]:
        """Find out which of the refused rows the bus means: it refuses a bad record with its neighbours.

        Those for which there is no time are given back.
        """
        deadline = time.monotonic() + LEASE_SECONDS / 3
        for row in rows:
            if isinstance(failures.get(row.id), RefusedRecord):
                del failures[row.id]
                if self.bus_is_out or time.monotonic() > deadline:
                    failures[row.id] = TransientError("refused, perhaps for a neighbour's sake")
                else:
                    failures |= await self._send([row])
        return failures

    async def _hand_over(self, record: Record) -> asyncio.Future[Any]:
        span = tracing.sending(record.topic, record.headers)
        try:
            confirmation: asyncio.Future[Any] = await self._producer.send(
                record.topic, value=record.value, key=record.key, headers=record.headers
            )
        except BaseException as error:
            _end(span, error)
            raise
        # Nobody may be waiting any more when it fails.
        confirmation.add_done_callback(
            lambda each: _end(span, None if each.cancelled() else each.exception())
        )
        return confirmation

    async def _settle(
        self, connection: AsyncConnection, rows: Sequence[Row], failures: Mapping[int, Exception]
    ) -> None:
        """Delete what was confirmed, give back what was not, set aside what never will be."""
        hopeless = {row.id for row in rows if row.id in failures and _is_hopeless(row, failures[row.id])}
        async with connection.begin():
            await self._client.delete_batch_with_lease(
                connection, [(row.id, _token(row)) for row in rows if row.id not in failures]
            )
            for row in (row for row in rows if row.id in hopeless):
                await self._set_aside(connection, row, failures[row.id])
            if later := [row for row in rows if row.id in failures.keys() - hopeless]:
                await connection.execute(
                    RELEASE,
                    {
                        "ids": [row.id for row in later],
                        "pauses": [_pause_seconds(row) for row in later],
                        "token": _token(rows[0]),
                    },
                )

    async def _set_aside(self, connection: AsyncConnection, row: Row, failure: Exception) -> None:
        """Move a row to the outbox's dead letters, where it is seen and kept; the rows after it go on."""
        log.error("an event cannot be sent", outbox_id=row.id, topic=row.queue, error=repr(failure))
        reason = "refused" if isinstance(failure, RefusedRecord) else "unknown"
        payload = {"failure_reason": reason, "last_exception": repr(failure)}
        await self._client.delete_with_lease(connection, row.id, _token(row), dlq_payload=payload)

    def _note(self, failures: Mapping[int, Exception]) -> None:
        """Log when the bus goes and comes back, not once for every event that waits."""
        outage = next((each for each in failures.values() if isinstance(each, TransientError)), None)
        if outage is not None and not self.bus_is_out:
            log.warning("the bus takes no events; they wait in the outbox", error=repr(outage))
        if outage is None and self.bus_is_out:
            log.info("the bus takes events again")
        self.bus_is_out = outage is not None


def _pause_seconds(row: Row) -> float:
    attempt = row.attempts_count + 1
    return backoff_seconds(attempt, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS)


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


def _end(span: Span, error: BaseException | None) -> None:
    if error is not None:
        span.record_exception(error)
        span.set_status(StatusCode.ERROR)
    span.end()


def _failure_of(confirmation: asyncio.Future[Any] | None) -> Exception | None:
    if confirmation is None or not confirmation.done() or confirmation.cancelled():
        return TimeoutError("the bus did not confirm it in time")
    error = confirmation.exception()
    return error if error is None or isinstance(error, Exception) else RuntimeError(repr(error))


def _in_our_words(row: Row, failure: Exception) -> Exception:
    known = isinstance(failure, KafkaError | TimeoutError)
    return publishing_error(row.queue, failure) if known else failure


def _is_hopeless(row: Row, failure: Exception) -> bool:
    if isinstance(failure, TransientError):
        return False
    return isinstance(failure, RefusedRecord) or row.attempts_count >= MAX_SURPRISED_ATTEMPTS


def _token(row: Row) -> Any:
    """The lease under which a row was claimed: one for all rows of a batch."""
    return row.acquired_token


async def _rest(until: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await until.wait()
