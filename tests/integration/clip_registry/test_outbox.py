"""Events leave with their transaction, exactly as they were written, however long it takes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

from clip_registry import outbox as outbox_module
from clip_registry import relay
from clip_registry.database import open_engine
from clip_registry.domain import Action
from clip_registry.outbox import Outbox
from clip_registry.store import Offer, Store
from clip_shared.envelope import Record
from clip_shared.errors import TransientError
from clip_shared.settings import KafkaSettings
from tests.integration.clip_registry.conftest import Database
from tests.unit.clip_registry.cuts import a_cut


@asynccontextmanager
async def an_outbox(database: Database, kafka: KafkaSettings) -> AsyncIterator[Outbox]:
    engine = open_engine(database.url, pool_size=Outbox.CONNECTIONS, statement_timeout_seconds=5)
    outbox = Outbox(engine, kafka, grace_seconds=5)
    try:
        yield outbox
    finally:
        await outbox.stop()
        await engine.dispose()


async def eventually(is_so: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await is_so():
            await asyncio.sleep(0.05)


async def written(database: Database) -> list[Record]:
    """The outbox's rows as the records that they should become."""
    rows = await database.run("SELECT queue, headers, payload FROM outbox ORDER BY id")
    return [
        Record(
            topic=row.queue,
            key=row.headers["ce_partitionkey"].encode(),
            value=row.payload,
            headers=sorted(
                (name, value.encode()) for name, value in row.headers.items() if name != "ce_partitionkey"
            ),
        )
        for row in rows
    ]


class FakeProducer:
    """Takes records; while ``broken`` it refuses them, as aiokafka does when the bus is away.

    ``silent`` records it takes and never confirms; for ``bad`` ones it has the error that is given.
    """

    def __init__(self) -> None:
        self.broken = False
        self.refused = 0
        self.sent: list[Record] = []
        self.silent: set[bytes] = set()
        self.bad: dict[bytes, Exception] = {}

    async def start(self) -> None:
        await asyncio.sleep(0)

    stop = start

    async def send(self, topic: str, **record: Any) -> asyncio.Future[None]:
        confirmation = asyncio.get_running_loop().create_future()
        value = record["value"]
        if value in self.bad:
            raise self.bad[value]
        if self.broken:
            self.refused += 1
            confirmation.set_exception(KafkaTimeoutError())
        elif value not in self.silent:
            self.sent.append(Record(topic, record["key"], value, sorted(record["headers"])))
            confirmation.set_result(None)
        return confirmation


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    fake = FakeProducer()
    monkeypatch.setattr(outbox_module, "producer", lambda *_, **__: fake)
    for interval in ("FIRST_PAUSE", "LONGEST_PAUSE", "POLL", "PROBE_PAUSE", "DATABASE_PAUSE"):
        monkeypatch.setattr(relay, f"{interval}_SECONDS", 0.05)
    return fake


def by_content(records: list[Record]) -> list[tuple[str, bytes, Any]]:
    return sorted((each.topic, each.value, each.headers) for each in records)


async def test_what_was_written_arrives_at_kafka_byte_for_byte(
    database: Database, store: Store, kafka_settings: KafkaSettings, topics: None
) -> None:
    del topics
    highlights = [f"relayed-{number}" for number in range(20)]
    await store.record([Offer(a_cut(each), f"created-{each}") for each in highlights])
    await store.act(Action.KEEP, a_cut(highlights[0]).clip_id, "ann")
    expected = {(each.key, dict(each.headers)["ce_id"]): each for each in await written(database)}
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()
        assert await outbox.check() is None
        received = await _consume(kafka_settings, set(expected))
    assert received == expected
    assert await database.run("SELECT 1 FROM outbox") == []


async def _consume(
    settings: KafkaSettings, wanted: set[tuple[bytes | None, bytes]]
) -> dict[tuple[bytes | None, bytes], Record]:
    """Read the lifecycle topic from its beginning until everything wanted has come."""
    consumer = AIOKafkaConsumer(
        "clip-lifecycle", bootstrap_servers=settings.kafka_bootstrap_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    received: dict[tuple[bytes | None, bytes], Record] = {}
    try:
        async with asyncio.timeout(20):
            while wanted - set(received):
                each = await consumer.getone()
                identity = (each.key, dict(each.headers)["ce_id"])
                if identity in wanted:
                    received[identity] = Record(each.topic, each.key, each.value, sorted(each.headers))
    finally:
        await consumer.stop()
    return received


async def test_what_is_rolled_back_is_never_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("just before the commit")

    store = database.store()
    [recorded] = await store.record([Offer(a_cut(), "x")])
    write = database.outbox.write
    monkeypatch.setattr(database.outbox, "write", _then(write, fail))
    with pytest.raises(RuntimeError):
        await store.act(Action.KEEP, recorded.clip.clip_id, "ann")
    clip = await store.get(recorded.clip.clip_id)
    assert clip == recorded.clip or (clip is not None and clip.version == recorded.clip.version)
    assert await database.event_types() == ["clip.available.v1"]


def _then(first: Callable[..., Awaitable[None]], second: Callable[..., Awaitable[None]]) -> Any:
    async def both(*arguments: Any) -> None:
        await first(*arguments)
        await second(*arguments)

    return both


async def test_while_the_bus_is_out_events_wait_and_none_is_dropped(
    database: Database, store: Store, kafka_settings: KafkaSettings, producer: FakeProducer
) -> None:
    await store.record([Offer(a_cut(f"waiting-{number}"), "x") for number in range(5)])
    expected = await written(database)
    producer.broken = True
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()

        async def has_been_refused_often() -> bool:
            return producer.refused > 12 * len(expected)  # the library's default gives up after ten

        await eventually(has_been_refused_often)
        assert await outbox.check() == "the bus takes no events; they wait in the outbox"
        assert len(await database.run("SELECT 1 FROM outbox")) == len(expected)
        assert await database.run("SELECT 1 FROM outbox_dlq") == []
        producer.broken = False

        async def has_all() -> bool:
            return len(producer.sent) >= len(expected)

        await eventually(has_all)
        assert await outbox.check() is None
    assert by_content(producer.sent) == by_content(expected)
    assert await database.run("SELECT 1 FROM outbox") == []


async def test_a_row_that_a_dead_relay_had_claimed_is_relayed_with_the_same_id(
    database: Database,
    store: Store,
    kafka_settings: KafkaSettings,
    producer: FakeProducer,
) -> None:
    await store.record([Offer(a_cut(), "x")])
    expected = await written(database)
    await database.run(
        "UPDATE outbox SET acquired_token = gen_random_uuid(), deliveries_count = 7,"
        " acquired_at = now() - interval '1 hour'"
    )
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()

        async def has_it() -> bool:
            return bool(producer.sent)

        await eventually(has_it)
    assert producer.sent == expected


async def empty(database: Database) -> bool:
    return not await database.run("SELECT 1 FROM outbox")


async def test_events_leave_in_the_order_in_which_they_were_written(
    database: Database, store: Store, kafka_settings: KafkaSettings, producer: FakeProducer
) -> None:
    await store.record([Offer(a_cut(f"ordered-{number}"), "x") for number in range(300)])
    for action in (Action.KEEP, Action.PUBLISH, Action.UNPUBLISH, Action.UNKEEP):
        await store.act(action, a_cut("ordered-0").clip_id, "ann")
    expected = await written(database)
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()
        await eventually(lambda: empty(database))
    assert producer.sent == expected


async def test_a_commit_wakes_the_relay(
    database: Database,
    store: Store,
    kafka_settings: KafkaSettings,
    producer: FakeProducer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "POLL_SECONDS", 3600)
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()
        for number in range(3):
            await store.record([Offer(a_cut(f"waking-{number}"), "x")])
            await eventually(lambda: empty(database), seconds=10)
    assert len(producer.sent) == 3


async def test_what_the_bus_does_not_confirm_is_sent_again_and_the_rest_is_not(
    database: Database,
    store: Store,
    kafka_settings: KafkaSettings,
    producer: FakeProducer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "SEND_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(relay, "PROBE_TIMEOUT_SECONDS", 0.1)
    await store.record([Offer(a_cut(f"half-{number}"), "x") for number in range(6)])
    expected = await written(database)
    producer.silent = {each.value for each in expected[::2]}

    async def half_is_gone() -> bool:
        return len(await database.run("SELECT 1 FROM outbox")) == 3

    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()
        await eventually(half_is_gone)
        producer.silent.clear()
        await eventually(lambda: empty(database))
    assert by_content(producer.sent) == by_content(expected)


async def test_an_event_that_can_never_be_sent_goes_to_the_dead_letters_alone(
    database: Database, store: Store, kafka_settings: KafkaSettings, producer: FakeProducer
) -> None:
    await store.record([Offer(a_cut(f"size-{number}"), "x") for number in range(3)])
    expected = await written(database)
    producer.bad = {expected[1].value: MessageSizeTooLargeError("two megabytes")}
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()
        await eventually(lambda: empty(database))
        assert await outbox.check() is None
    assert producer.sent == [expected[0], expected[2]]
    [letter] = await database.run("SELECT * FROM outbox_dlq")
    assert (letter.payload, letter.failure_reason) == (expected[1].value, "too_large")
    assert "two megabytes" in letter.last_exception


async def test_an_event_that_surprises_us_is_tried_again_and_holds_nothing_up(
    database: Database, store: Store, kafka_settings: KafkaSettings, producer: FakeProducer
) -> None:
    await store.record([Offer(a_cut(f"odd-{number}"), "x") for number in range(3)])
    expected = await written(database)
    producer.bad = {expected[0].value: AssertionError("never seen before")}

    async def one_is_left() -> bool:
        rows = await database.run("SELECT attempts_count FROM outbox")
        return [row.attempts_count > 2 for row in rows] == [True]

    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()
        await eventually(one_is_left)
        assert await outbox.check() is None
        producer.bad.clear()
        await eventually(lambda: empty(database))
    assert by_content(producer.sent) == by_content(expected)


async def test_a_lost_connection_to_the_database_is_opened_again(
    database: Database, store: Store, kafka_settings: KafkaSettings, producer: FakeProducer
) -> None:
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()
        await store.record([Offer(a_cut("before"), "x")])
        await eventually(lambda: empty(database))
        killed = await database.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND query LIKE '%outbox%' AND state = 'idle'"
        )
        assert killed
        await store.record([Offer(a_cut("after"), "x")])
        await eventually(lambda: empty(database))
        assert await outbox.check() is None
    assert len(producer.sent) == 2


async def test_two_relays_share_the_work(
    database: Database, store: Store, kafka_settings: KafkaSettings, producer: FakeProducer
) -> None:
    await store.record([Offer(a_cut(f"shared-{number}"), "x") for number in range(50)])
    await store.record([Offer(a_cut(f"shared-{number}"), "x") for number in range(50, 450)])
    expected = await written(database)
    async with an_outbox(database, kafka_settings) as one, an_outbox(database, kafka_settings) as other:
        await asyncio.gather(one.start(), other.start())
        await eventually(lambda: empty(database))
    assert by_content(producer.sent) == by_content(expected)


async def test_a_stop_finishes_the_batch_at_hand(
    database: Database, store: Store, kafka_settings: KafkaSettings, producer: FakeProducer
) -> None:
    await store.record([Offer(a_cut(f"stopped-{number}"), "x") for number in range(500)])
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()

        async def some_are_sent() -> bool:
            return bool(producer.sent)

        await eventually(some_are_sent)
        await outbox.stop()
        with pytest.raises(RuntimeError):
            await outbox.check()
    [[left]] = await database.run("SELECT count(*) FROM outbox")
    [[claimed]] = await database.run("SELECT count(*) FROM outbox WHERE acquired_token IS NOT NULL")
    assert (left + len(producer.sent), claimed) == (500, 0)


async def test_without_a_bus_the_relay_does_not_start(database: Database) -> None:
    nowhere = KafkaSettings(kafka_bootstrap_servers="127.0.0.1:1")
    async with an_outbox(database, nowhere) as outbox:
        with pytest.raises(TransientError):
            await outbox.start()
        with pytest.raises(RuntimeError):
            await outbox.check()
