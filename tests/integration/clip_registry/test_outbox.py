"""Events leave with their transaction, exactly as they were written, however long it takes."""

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import InvalidTimestampError, KafkaTimeoutError, MessageSizeTooLargeError
from sqlalchemy import text

from clip_registry.clips.store import ClipStore
from clip_registry.database.engine import open_engine
from clip_registry.outbox import outbox as outbox_module
from clip_registry.outbox import relay
from clip_registry.outbox.outbox import Outbox
from clip_registry.reports import ReportedCut
from clip_registry.timers.metrics_snapshot import take_snapshot
from clip_shared.bus.envelope import OutgoingRecord
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.registry_api import ClipAction
from clip_shared.errors import TransientError
from tests.integration.clip_registry.conftest import Database
from tests.unit.clip_registry.cuts import HOUR, NOON, a_cut, an_action


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


async def written(database: Database) -> list[OutgoingRecord]:
    """The outbox's rows as the records that they should become."""
    rows = await database.run("SELECT queue, headers, payload FROM outbox ORDER BY id")
    return [
        OutgoingRecord(
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

    ``silent`` records it takes and never confirms; for ``bad`` ones it has the error that is given. A
    ``poisonous`` one it refuses with every other of the moment, as a broker refuses a batch.
    """

    def __init__(self) -> None:
        self.broken = False
        self.refused = 0
        self.sent: list[OutgoingRecord] = []
        self.silent: set[bytes] = set()
        self.bad: dict[bytes, Exception] = {}
        self.poisonous: set[bytes] = set()
        self.batch: list[tuple[OutgoingRecord, asyncio.Future[None]]] = []

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
        elif self.poisonous:
            self.batch.append(
                (OutgoingRecord(topic, record["key"], value, sorted(record["headers"])), confirmation)
            )
            asyncio.get_running_loop().call_later(0.02, self._answer_batch)
        elif value not in self.silent:
            self.sent.append(OutgoingRecord(topic, record["key"], value, sorted(record["headers"])))
            confirmation.set_result(None)
        return confirmation

    def _answer_batch(self) -> None:
        is_refused = any(record.value in self.poisonous for record, _ in self.batch)
        for record, confirmation in self.batch:
            if is_refused:
                confirmation.set_exception(InvalidTimestampError())
            else:
                self.sent.append(record)
                confirmation.set_result(None)
        self.batch.clear()


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    fake = FakeProducer()
    monkeypatch.setattr(outbox_module, "producer", lambda *_, **__: fake)
    for interval in ("FIRST_PAUSE", "LONGEST_PAUSE", "POLL", "PROBE_PAUSE", "DATABASE_PAUSE"):
        monkeypatch.setattr(relay, f"{interval}_SECONDS", 0.05)
    return fake


def by_content(records: list[OutgoingRecord]) -> list[tuple[str, bytes, Any]]:
    return sorted((each.topic, each.value, each.headers) for each in records)


async def test_what_was_written_arrives_at_kafka_byte_for_byte(
    database: Database, store: ClipStore, kafka_settings: KafkaSettings, topics: None
) -> None:
    del topics
    highlights = [f"relayed-{number}" for number in range(20)]
    await store.record([ReportedCut(a_cut(each), f"created-{each}") for each in highlights])
    await store.act(an_action(ClipAction.KEEP), a_cut(highlights[0]).clip_id)
    expected = {(each.key, dict(each.headers)["ce_id"]): each for each in await written(database)}
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()
        assert await outbox.check() is None
        received = await _consume(kafka_settings, set(expected))
    assert received == expected
    assert await database.run("SELECT 1 FROM outbox") == []


async def _consume(
    settings: KafkaSettings, wanted: set[tuple[bytes | None, bytes]]
) -> dict[tuple[bytes | None, bytes], OutgoingRecord]:
    """Read the lifecycle topic from its beginning until everything wanted has come."""
    consumer = AIOKafkaConsumer(
        "clip-lifecycle", bootstrap_servers=settings.kafka_bootstrap_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    received: dict[tuple[bytes | None, bytes], OutgoingRecord] = {}
    try:
        async with asyncio.timeout(20):
            while wanted - set(received):
                each = await consumer.getone()
                identity = (each.key, dict(each.headers)["ce_id"])
                if identity in wanted:
                    received[identity] = OutgoingRecord(
                        each.topic, each.key, each.value, sorted(each.headers)
                    )
    finally:
        await consumer.stop()
    return received


async def test_what_is_rolled_back_is_never_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("just before the commit")

    store = database.store()
    [recorded] = await store.record([ReportedCut(a_cut(), "x")])
    write = database.outbox.write
    monkeypatch.setattr(database.outbox, "write", _then(write, fail))
    with pytest.raises(RuntimeError):
        await store.act(an_action(ClipAction.KEEP), recorded.clip.clip_id)
    clip = await store.get(recorded.clip.clip_id)
    assert clip == recorded.clip or (clip is not None and clip.version == recorded.clip.version)
    assert await database.event_types() == ["clip.available.v1"]


def _then(first: Callable[..., Awaitable[None]], second: Callable[..., Awaitable[None]]) -> Any:
    async def both(*arguments: Any) -> None:
        await first(*arguments)
        await second(*arguments)

    return both


async def test_while_the_bus_is_out_events_wait_and_none_is_dropped(
    database: Database, store: ClipStore, kafka_settings: KafkaSettings, producer: FakeProducer
) -> None:
    await store.record([ReportedCut(a_cut(f"waiting-{number}"), "x") for number in range(5)])
    expected = await written(database)
    producer.broken = True
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()

        async def has_been_refused_often() -> bool:
            return producer.refused > 12 * len(expected)  # the library's default gives up after ten

        await eventually(has_been_refused_often)
        assert await outbox.check() == "Kafka takes no events; they wait in the outbox"
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
    store: ClipStore,
    kafka_settings: KafkaSettings,
    producer: FakeProducer,
) -> None:
    await store.record([ReportedCut(a_cut(), "x")])
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
    database: Database, store: ClipStore, kafka_settings: KafkaSettings, producer: FakeProducer
) -> None:
    await store.record([ReportedCut(a_cut(f"ordered-{number}"), "x") for number in range(300)])
    for action in (ClipAction.KEEP, ClipAction.PUBLISH, ClipAction.UNPUBLISH, ClipAction.UNKEEP):
        await store.act(an_action(action), a_cut("ordered-0").clip_id)
    expected = await written(database)
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()
        await eventually(lambda: empty(database))
    assert producer.sent == expected


async def test_a_commit_wakes_the_relay(
    database: Database,
    store: ClipStore,
    kafka_settings: KafkaSettings,
    producer: FakeProducer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "POLL_SECONDS", 3600)
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()
        for number in range(3):
            await store.record([ReportedCut(a_cut(f"waking-{number}"), "x")])
            await eventually(lambda: empty(database), seconds=10)
    assert len(producer.sent) == 3


async def test_what_the_bus_does_not_confirm_is_sent_again_and_the_rest_is_not(
    database: Database,
    store: ClipStore,
    kafka_settings: KafkaSettings,
    producer: FakeProducer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "SEND_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(relay, "PROBE_TIMEOUT_SECONDS", 0.1)
    await store.record([ReportedCut(a_cut(f"half-{number}"), "x") for number in range(6)])
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
    database: Database, store: ClipStore, kafka_settings: KafkaSettings, producer: FakeProducer
) -> None:
    await store.record([ReportedCut(a_cut(f"size-{number}"), "x") for number in range(3)])
    expected = await written(database)
    producer.bad = {expected[1].value: MessageSizeTooLargeError("two megabytes")}
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()
        await eventually(lambda: empty(database))
        assert await outbox.check() is None
    assert producer.sent == [expected[0], expected[2]]
    [letter] = await database.run("SELECT * FROM outbox_dlq")
    assert (letter.payload, letter.failure_reason) == (expected[1].value, "refused")
    assert "two megabytes" in letter.last_exception


async def test_kafka_refuses_an_event_and_takes_those_after_it(
    database: Database, store: ClipStore, kafka_settings: KafkaSettings, topics: None
) -> None:
    del topics
    await database.run(
        "INSERT INTO outbox (queue, payload, headers) VALUES ('clip-lifecycle', :payload, :headers)",
        payload=secrets.token_bytes(3 * 1024 * 1024),
        headers=json.dumps({"ce_partitionkey": str(a_cut("after-0").clip_id)}),
    )
    await store.record([ReportedCut(a_cut(f"after-{number}"), "x") for number in range(3)])
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()
        await eventually(lambda: empty(database))
        assert await outbox.check() is None
    [letter] = await database.run("SELECT * FROM outbox_dlq")
    assert (len(letter.payload), letter.failure_reason) == (3 * 1024 * 1024, "refused")
    assert "MessageSizeTooLarge" in letter.last_exception


async def test_what_was_refused_is_listed_and_put_back_as_it_was(
    database: Database, store: ClipStore
) -> None:
    await store.record([ReportedCut(a_cut(f"refused-{number}"), "x") for number in range(3)])
    expected = await written(database)
    await database.run(
        "WITH gone AS (DELETE FROM outbox RETURNING *) INSERT INTO outbox_dlq"
        " (original_id, queue, payload, headers, deliveries_count, created_at, failure_reason,"
        " last_exception)"
        " SELECT id, queue, payload, headers, 1, now(), 'refused', 'too large' FROM gone ORDER BY id"
    )

    async def command(*words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "clip_registry", "outbox", *words),
            env={"PATH": os.environ["PATH"], "DATABASE_URL": database.url},
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0
        return said.decode()

    assert "clip-lifecycle" in await command("list")
    assert ": too large" in await command("list")
    assert await command("replay") == "would put back: 3 of 3; repeat with --yes to do it\n"
    assert await written(database) == []
    assert await command("replay", "--limit", "2", "--yes") == "put back: 2\n"
    assert await written(database) == expected[:2]
    assert await command("replay", "--yes") == "put back: 1\n"
    assert await written(database) == expected
    assert await command("list") == "nothing was refused\n"


async def test_for_a_refused_batch_only_the_event_that_is_to_blame_is_set_aside(
    database: Database, store: ClipStore, kafka_settings: KafkaSettings, producer: FakeProducer
) -> None:
    await store.record([ReportedCut(a_cut(f"beside-{number}"), "x") for number in range(20)])
    expected = await written(database)
    producer.poisonous = {expected[7].value}
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()
        await eventually(lambda: empty(database))
        assert await outbox.check() is None
    assert by_content(producer.sent) == by_content(expected[:7] + expected[8:])
    [letter] = await database.run("SELECT * FROM outbox_dlq")
    assert (letter.payload, letter.failure_reason) == (expected[7].value, "refused")


async def test_an_event_that_goes_on_surprising_us_is_set_aside(
    database: Database,
    store: ClipStore,
    kafka_settings: KafkaSettings,
    producer: FakeProducer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "MAX_UNKNOWN_FAILURES", 3)
    await store.record([ReportedCut(a_cut(f"odd-{number}"), "x") for number in range(3)])
    expected = await written(database)
    producer.bad = {expected[0].value: AssertionError("never seen before")}
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()
        await eventually(lambda: empty(database))
    [letter] = await database.run("SELECT * FROM outbox_dlq")
    assert (letter.payload, letter.failure_reason) == (expected[0].value, "unknown")


async def test_a_replaced_object_is_released_when_its_last_url_has_died(
    database: Database, kafka_settings: KafkaSettings, producer: FakeProducer
) -> None:
    store = database.store(release_delay=timedelta(seconds=2))
    old, new = a_cut(), a_cut(event="event-6", at=NOON + HOUR)
    await store.record([ReportedCut(old, "created-5")])
    await store.record([ReportedCut(new, "created-6")])
    # A redelivery of the cut that was replaced just now: it is stale, and was watchable.
    await store.record([ReportedCut(old, "created-5")])
    snapshot = await take_snapshot(database.engine)
    assert (snapshot.outbox_depth, snapshot.outbox_age_seconds < 1) == (2, True)
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()
        await asyncio.sleep(1)
        assert [each.topic for each in producer.sent] == ["clip-lifecycle"] * 2
        snapshot = await take_snapshot(database.engine)
        assert (snapshot.outbox_depth, snapshot.outbox_age_seconds) == (0, 0)
        await eventually(lambda: empty(database))
    assert [each.topic for each in producer.sent[2:]] == ["clip-objects-released"] * 4


async def test_a_release_that_waited_is_no_old_event(database: Database) -> None:
    store = database.store(release_delay=HOUR)
    await store.record([ReportedCut(a_cut(), "created-5")])
    await store.record([ReportedCut(a_cut(event="event-6", at=NOON + HOUR), "created-6")])
    await database.run("DELETE FROM outbox WHERE queue = 'clip-lifecycle'")
    await database.run(
        "UPDATE outbox SET created_at = created_at - interval '1 hour',"
        " next_attempt_at = next_attempt_at - interval '1 hour'"
    )
    snapshot = await take_snapshot(database.engine)
    assert snapshot.outbox_depth == 2
    assert 0 <= snapshot.outbox_age_seconds < 5


@pytest.mark.parametrize(("expired_ago", "waits"), [(10, True), (3590, True), (3610, False)])
async def test_a_purged_clips_objects_stay_until_its_last_url_has_died(
    database: Database, expired_ago: int, waits: bool
) -> None:
    """A URL lives on when its clip is made to expire at once, to hold the cap."""
    store = database.store(release_delay=HOUR)
    [recorded] = await store.record([ReportedCut(a_cut(), "created-5")])
    await database.expire(recorded.clip, seconds_ago=expired_ago)
    await store.purge(10, None)
    rows = await database.run(
        "SELECT next_attempt_at > now() AS waits FROM outbox WHERE queue = 'clip-objects-released'"
    )
    assert [row.waits for row in rows] == [waits] * 2


async def test_a_relay_that_hangs_or_ended_is_not_alive(
    database: Database, kafka_settings: KafkaSettings, producer: FakeProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    del producer
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()
        await outbox.check_alive()
        monkeypatch.setattr(relay, "hangs_after_seconds", lambda _: 0.3)
        for _ in range(5):
            await asyncio.sleep(0.1)
            await outbox.check_alive()
        async with database.engine.begin() as connection:
            await connection.execute(text("LOCK TABLE outbox"))
            await asyncio.sleep(0.5)
            with pytest.raises(RuntimeError, match="hanging"):
                await outbox.check_alive()


async def test_an_event_that_surprises_us_is_tried_again_and_holds_nothing_up(
    database: Database, store: ClipStore, kafka_settings: KafkaSettings, producer: FakeProducer
) -> None:
    await store.record([ReportedCut(a_cut(f"odd-{number}"), "x") for number in range(3)])
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
    database: Database, store: ClipStore, kafka_settings: KafkaSettings, producer: FakeProducer
) -> None:
    async with an_outbox(database, kafka_settings) as outbox:
        await outbox.start()
        await store.record([ReportedCut(a_cut("before"), "x")])
        await eventually(lambda: empty(database))
        killed = await database.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND query LIKE '%outbox%' AND state = 'idle'"
        )
        assert killed
        await store.record([ReportedCut(a_cut("after"), "x")])
        await eventually(lambda: empty(database))
        assert await outbox.check() is None
    assert len(producer.sent) == 2


async def test_two_relays_share_the_work(
    database: Database, store: ClipStore, kafka_settings: KafkaSettings, producer: FakeProducer
) -> None:
    await store.record([ReportedCut(a_cut(f"shared-{number}"), "x") for number in range(50)])
    await store.record([ReportedCut(a_cut(f"shared-{number}"), "x") for number in range(50, 450)])
    expected = await written(database)
    async with an_outbox(database, kafka_settings) as one, an_outbox(database, kafka_settings) as other:
        await asyncio.gather(one.start(), other.start())
        await eventually(lambda: empty(database))
    assert by_content(producer.sent) == by_content(expected)


async def test_a_stop_finishes_the_batch_at_hand(
    database: Database, store: ClipStore, kafka_settings: KafkaSettings, producer: FakeProducer
) -> None:
    await store.record([ReportedCut(a_cut(f"stopped-{number}"), "x") for number in range(500)])
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
