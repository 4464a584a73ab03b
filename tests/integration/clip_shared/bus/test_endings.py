"""Every failure has one end, and no message stops the others: on a real broker, with foreign producers."""

import asyncio
import os
import signal
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError, NotEnoughReplicasError
from prometheus_client import CollectorRegistry

from clip_shared.bus.admin import create_topics
from clip_shared.bus.bus import Bus, Rejected
from clip_shared.bus.envelope import OutgoingRecord, to_record
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import DailyTick, Event, HighlightDetected
from clip_shared.errors import PermanentError, RefusedRecord, TransientError
from local_stack.processes.workspace import Workspace
from local_stack.servers.apache_kafka import ApacheKafka
from tests.integration.clip_shared.bus.buses import (
    admin_of,
    dead_letters,
    highlight,
    new_bus,
    running,
    skip_to_end,
    until,
)
from tests.support.foreign import BAD_NAME, Librdkafka, limit_records, send_crafted

pytestmark = pytest.mark.usefixtures("topics")

TOPIC = "highlight-detected"


@pytest.fixture
def service() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_shared.bus.delivery.redelivery.LONGEST_PAUSE_SECONDS", 0.2)


def send_in_transactions(foreign: Librdkafka, ends: Mapping[str, Event[HighlightDetected]]) -> None:
    """Send each event in a transaction of its own, which ends as its key says."""
    foreign.raw.init_transactions(20)
    for end, event in ends.items():
        foreign.raw.begin_transaction()
        foreign.send(to_record(event))
        foreign.flush()
        getattr(foreign.raw, end)(20)


class TestForeignProducers:
    @pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
    async def test_every_codec_is_understood(
        self, kafka_settings: KafkaSettings, service: str, codec: str
    ) -> None:
        await skip_to_end(kafka_settings, service, TOPIC)
        bus, key, titles = new_bus(kafka_settings, service), uuid.uuid4().hex, list[str]()

        @bus.subscriber(HighlightDetected, deadline_seconds=5)
        async def handle(event: Event[HighlightDetected]) -> None:
            titles.append(event.data.title)

        foreign = Librdkafka(kafka_settings.kafka_bootstrap_servers, compression_type=codec, linger_ms=50)
        async with running(bus):
            for number in range(20):
                foreign.send(to_record(highlight(f"title {number}", key)))
            await asyncio.to_thread(foreign.flush)
            await until(lambda: len(titles) == 20)
        assert titles == [f"title {number}" for number in range(20)]

    async def test_a_header_name_that_is_not_utf8_is_noted_and_the_next_is_handled(
        self, kafka_settings: KafkaSettings, service: str
    ) -> None:
        await skip_to_end(kafka_settings, service, TOPIC)
        bus, key, titles = new_bus(kafka_settings, service), uuid.uuid4().hex, list[str]()

        @bus.subscriber(HighlightDetected, deadline_seconds=5)
        async def handle(event: Event[HighlightDetected]) -> None:
            titles.append(event.data.title)

        async with running(bus):
            await _send_with_bad_header_name(
                kafka_settings, [highlight(each, key) for each in ("before", "bad", "after")]
            )
            await until(lambda: "after" in titles)
        assert titles == ["before", "after"]
        (letter,) = await dead_letters(kafka_settings, TOPIC, key.encode())
        assert dict(letter.headers)["dlq_error"] == b"the name of a header is not UTF-8"
        assert b'"bad"' in letter.value

    async def test_a_batch_that_unpacks_beyond_its_bound_is_noted_and_the_next_is_handled(
        self, kafka_settings: KafkaSettings, service: str
    ) -> None:
        await skip_to_end(kafka_settings, service, TOPIC)
        bus, key, titles = new_bus(kafka_settings, service), uuid.uuid4().hex, list[str]()

        @bus.subscriber(HighlightDetected, deadline_seconds=5)
        async def handle(event: Event[HighlightDetected]) -> None:
            titles.append(event.data.title)

        foreign = Librdkafka(
            kafka_settings.kafka_bootstrap_servers,
            compression_type="gzip",
            message_max_bytes=200_000_000,
            linger_ms=0,
        )
        async with running(bus):
            foreign.send(to_record(highlight("bomb", key)), value=b" " * 150_000_000)
            await asyncio.to_thread(foreign.flush)
            foreign.send(to_record(highlight("after", key)))
            await asyncio.to_thread(foreign.flush)
            await until(lambda: "after" in titles)
        assert titles == ["after"]
        assert any(
            b"cannot be read" in dict(each.headers)["dlq_error"]
            for each in await dead_letters(kafka_settings, TOPIC, None)
        )

    async def test_what_a_transaction_took_back_is_not_acted_on(
        self, kafka_settings: KafkaSettings, service: str
    ) -> None:
        await skip_to_end(kafka_settings, service, TOPIC)
        bus, key, titles = new_bus(kafka_settings, service), uuid.uuid4().hex, list[str]()

        @bus.subscriber(HighlightDetected, deadline_seconds=5)
        async def handle(event: Event[HighlightDetected]) -> None:
            titles.append(event.data.title)

        foreign = Librdkafka(kafka_settings.kafka_bootstrap_servers, transactional_id=uuid.uuid4().hex)
        ends = {
            "abort_transaction": highlight("aborted", key),
            "commit_transaction": highlight("committed", key),
        }
        async with running(bus):
            await asyncio.to_thread(send_in_transactions, foreign, ends)
            await until(lambda: "committed" in titles)
        assert titles == ["committed"]


class TestOneBadMessage:
    @pytest.fixture
    async def partitions(self, kafka_settings: KafkaSettings) -> list[int]:
        async with admin_of(kafka_settings) as admin:
            (found,) = await admin.describe_topics([TOPIC])
        return [each["partition"] for each in found["partitions"]]

    async def test_it_holds_up_no_other_partition(
        self, kafka_settings: KafkaSettings, service: str, partitions: list[int]
    ) -> None:
        """The pause after a failure was slept in the handler: five ready highlights waited for 26 s."""
        await skip_to_end(kafka_settings, service, TOPIC)
        bus, key, titles = new_bus(kafka_settings, service), uuid.uuid4().hex, list[str]()
        bad_attempts = 0

        @bus.subscriber(HighlightDetected, deadline_seconds=5)
        async def handle(event: Event[HighlightDetected]) -> None:
            nonlocal bad_attempts
            if event.data.title == "bad":
                bad_attempts += 1
                raise TransientError("its storage is out")
            titles.append(event.data.title)

        foreign = Librdkafka(kafka_settings.kafka_bootstrap_servers)
        async with running(bus):
            foreign.send(to_record(highlight("bad", key)), partition=partitions[0])
            await asyncio.to_thread(foreign.flush)
            await until(lambda: bad_attempts >= 4)  # the pause is two seconds and more from here on
            for number in partitions[1:]:
                foreign.send(to_record(highlight(f"good {number}", key)), partition=number)
            await asyncio.to_thread(foreign.flush)
            attempts = bad_attempts
            await until(lambda: len(titles) == len(partitions) - 1)
            assert bad_attempts == attempts
            assert bus.delivery.retries.oldest_seconds(TOPIC) > 1

    @pytest.mark.usefixtures("quick")
    async def test_it_is_given_up_while_others_succeed(
        self, kafka_settings: KafkaSettings, service: str, partitions: list[int]
    ) -> None:
        await skip_to_end(kafka_settings, service, TOPIC)
        settings = kafka_settings.model_copy(update={"give_up_after_seconds": 1.0})
        bus, key, titles = new_bus(settings, service), uuid.uuid4().hex, list[str]()

        @bus.subscriber(HighlightDetected, deadline_seconds=5)
        async def handle(event: Event[HighlightDetected]) -> None:
            if event.data.title == "bad":
                raise TransientError("its storage is out")
            titles.append(event.data.title)

        foreign = Librdkafka(kafka_settings.kafka_bootstrap_servers)
        async with running(bus):
            for title in ("bad", "behind it"):
                foreign.send(to_record(highlight(title, key)), partition=partitions[0])
            async with asyncio.timeout(20):
                while "behind it" not in titles:
                    foreign.send(to_record(highlight("other", key)), partition=partitions[1])
                    await asyncio.sleep(0.1)
        (letter,) = await dead_letters(kafka_settings, TOPIC, key.encode())
        assert dict(letter.headers)["dlq_error_type"] == b"GivenUp"
        assert b"its storage is out" in dict(letter.headers)["dlq_error"]

    @pytest.mark.usefixtures("quick")
    async def test_an_outage_of_everything_gives_up_nothing(
        self, kafka_settings: KafkaSettings, service: str, partitions: list[int]
    ) -> None:
        await skip_to_end(kafka_settings, service, TOPIC)
        settings = kafka_settings.model_copy(update={"give_up_after_seconds": 0.5})
        bus, key, titles, is_out = new_bus(settings, service), uuid.uuid4().hex, set[str](), True

        @bus.subscriber(HighlightDetected, deadline_seconds=5)
        async def handle(event: Event[HighlightDetected]) -> None:
            if is_out:
                raise TransientError("all storage is out")
            titles.add(event.data.title)

        foreign = Librdkafka(kafka_settings.kafka_bootstrap_servers)
        async with running(bus):
            for number in partitions:
                foreign.send(to_record(highlight(f"title {number}", key)), partition=number)
            await asyncio.to_thread(foreign.flush)
            await asyncio.sleep(3)
            is_out = False
            await until(lambda: len(titles) == len(partitions))
        assert await dead_letters(kafka_settings, TOPIC, key.encode()) == []

    @pytest.mark.usefixtures("quick")
    async def test_in_a_batch_it_alone_is_dead_lettered(
        self, kafka_settings: KafkaSettings, service: str
    ) -> None:
        """A surprise in a batch was a surprise of all its events: a hundred good clips were dead-lettered."""
        await skip_to_end(kafka_settings, service, TOPIC)
        bus, key, handled = new_bus(kafka_settings, service), uuid.uuid4().hex, list[str]()

        @bus.batch_subscriber(HighlightDetected, deadline_seconds=5, max_records=100)
        async def handle(events: list[Event[HighlightDetected]]) -> list[Rejected[HighlightDetected]]:
            if any(each.data.title == "bad" for each in events):
                raise KeyError("a surprise")
            handled.extend(each.data.title for each in events)
            return []

        foreign = Librdkafka(kafka_settings.kafka_bootstrap_servers, linger_ms=200)
        for title in (*(f"before {n}" for n in range(5)), "bad", *(f"after {n}" for n in range(5))):
            foreign.send(to_record(highlight(title, key)))
        await asyncio.to_thread(foreign.flush)
        async with running(bus):
            await until(lambda: "after 4" in handled)
        assert handled == [*(f"before {n}" for n in range(5)), *(f"after {n}" for n in range(5))]
        (letter,) = await dead_letters(kafka_settings, TOPIC, key.encode())
        assert dict(letter.headers)["dlq_attempts"] == b"5"


class TestPublishing:
    @pytest.fixture
    async def small_topic(self, kafka_settings: KafkaSettings) -> str:
        name = f"small-{uuid.uuid4().hex[:8]}"
        async with admin_of(kafka_settings) as admin:
            await admin.create_topics([NewTopic(name, 1, 1, topic_configs={"max.message.bytes": "2000"})])
        return name

    async def test_one_refused_record_does_not_stop_its_partition(
        self, kafka_settings: KafkaSettings, small_topic: str
    ) -> None:
        """It did, with aiokafka's idempotent producer, until the process was started again."""
        bus = new_bus(kafka_settings)
        async with running(bus):
            await bus.publish_record(OutgoingRecord(small_topic, None, b"small", []))
            with pytest.raises(RefusedRecord, match="MessageSizeTooLarge"):
                await bus.publish_record(OutgoingRecord(small_topic, None, os.urandom(10_000), []))
            for _ in range(3):
                await bus.publish_record(OutgoingRecord(small_topic, None, b"small", []))
            await bus.check_alive()

    async def test_a_dead_letter_that_is_refused_pauses_its_partition_alone(
        self, kafka_settings: KafkaSettings, service: str
    ) -> None:
        """It came again at once, without a pause: twenty times a second."""
        await skip_to_end(kafka_settings, service, TOPIC)
        bus, key, titles = new_bus(kafka_settings, service), uuid.uuid4().hex, list[str]()
        servers, letters, attempts = kafka_settings.kafka_bootstrap_servers, f"{TOPIC}.dlq", 0

        @bus.subscriber(HighlightDetected, deadline_seconds=5)
        async def handle(event: Event[HighlightDetected]) -> None:
            nonlocal attempts
            if event.data.title == "bad":
                attempts += 1
                raise PermanentError("it can never be cut")
            titles.append(event.data.title)

        before = await asyncio.to_thread(limit_records, servers, letters, 64)
        foreign = Librdkafka(servers)
        try:
            async with running(bus):
                for title, partition in (("bad", 0), ("good", 1)):
                    foreign.send(to_record(highlight(title, key)), partition=partition)
                await asyncio.to_thread(foreign.flush)
                await until(lambda: titles == ["good"] and attempts > 0)
                await asyncio.sleep(2)
                assert attempts <= 5
                await asyncio.to_thread(limit_records, servers, letters, before)
                await until(lambda: bus.delivery.retries.oldest_seconds(TOPIC) == 0)
        finally:
            await asyncio.to_thread(limit_records, servers, letters, before)
        (letter,) = await dead_letters(kafka_settings, TOPIC, key.encode())
        assert dict(letter.headers)["dlq_error_type"] == b"PermanentError"

    async def test_a_topic_that_is_not_there_is_an_outage(self, kafka_settings: KafkaSettings) -> None:
        bus = new_bus(kafka_settings)
        async with running(bus):
            with pytest.raises(TransientError):
                await bus.publish_record(OutgoingRecord("not-a-topic-" + "x" * 300, None, b"", []))


async def freeze(pid: int) -> None:
    """Stop a process with SIGSTOP, and return when all its threads have stopped: until then it may answer."""
    os.kill(pid, signal.SIGSTOP)
    while not _has_stopped(pid):
        await asyncio.sleep(0.001)


def _has_stopped(pid: int) -> bool:
    # The state stands behind the name, which may hold spaces and brackets (proc(5)).
    stats = (thread / "stat" for thread in Path(f"/proc/{pid}/task").iterdir())
    return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in stats)


class TestFrozenBroker:
    @pytest.mark.usefixtures("quick")
    async def test_a_job_that_publishes_to_it_is_not_too_slow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It was: at the second time its deadline dead-lettered a good highlight."""
        monkeypatch.setattr("clip_shared.bus.publisher.PUBLISH_SECONDS", 1.0)
        attempts, done, key = 0, asyncio.Event(), uuid.uuid4().hex
        with Workspace() as site, ApacheKafka(site) as broker:
            settings = KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers)
            await create_topics(settings, replication_factor=1)
            bus = new_bus(settings)
            assert broker.pid is not None
            pid = broker.pid

            @bus.subscriber(HighlightDetected, deadline_seconds=0.8)
            async def handle(_event: Event[HighlightDetected]) -> None:
                nonlocal attempts
                attempts += 1
                if attempts <= 3:
                    await freeze(pid)
                    asyncio.get_running_loop().call_later(2, os.kill, pid, signal.SIGCONT)
                await bus.publish(Event.new(DailyTick(), source="test"))
                done.set()

            async with running(bus):
                await bus.publish(highlight("good", key))
                await asyncio.wait_for(done.wait(), 100)
                await bus.check_alive()
            assert attempts == 4
            assert await dead_letters(settings, TOPIC, key.encode()) == []


class TestWhatIsSeenOfIt:
    """Readiness and liveness know what happens below the handlers."""

    async def test_a_consumer_that_stands_still(
        self, kafka_settings: KafkaSettings, service: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("clip_shared.bus.delivery.standstill.STANDSTILL_SECONDS", 1.0)
        await skip_to_end(kafka_settings, service, TOPIC)
        bus, key, titles = new_bus(kafka_settings, service), uuid.uuid4().hex, list[str]()

        @bus.subscriber(HighlightDetected, deadline_seconds=5)
        async def handle(event: Event[HighlightDetected]) -> None:
            titles.append(event.data.title)

        async with running(bus):
            await bus.publish(highlight("first", key))
            await until(lambda: titles == ["first"])
            await asyncio.sleep(1.2)
            assert await bus.check_ready() is None  # idle, but nothing waits
            (subscriber,) = bus.broker.subscribers
            for task in cast("Any", subscriber).tasks:
                task.cancel()  # nobody takes messages any more; they are fetched all the same
            for title in ("second", "third"):
                await bus.publish(highlight(title, key))
            async with asyncio.timeout(10):
                while not (shortfall := await bus.check_ready()):
                    await asyncio.sleep(0.1)
        assert shortfall is not None
        assert shortfall.startswith("highlight-detected stands still: ")

    async def test_what_the_broker_answers_is_no_trouble_of_the_producer(
        self, kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A restart helps against neither too few replicas nor a right that is missing."""
        monkeypatch.setattr("clip_shared.bus.bus.STUCK_SECONDS", 0.0)
        bus = new_bus(kafka_settings)

        async def refuse(*_: object, **__: object) -> None:
            raise NotEnoughReplicasError

        async with running(bus):
            monkeypatch.setattr(bus._publisher._producer, "send_and_wait", refuse)
            for _ in range(2):
                with pytest.raises(TransientError):
                    await bus.publish(Event.new(DailyTick(), source="test"))
                await asyncio.sleep(0.1)
            await bus.check_alive()

    async def test_a_join_that_hangs(
        self, kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("clip_shared.bus.groups.JOIN_SECONDS", 0.5)
        bus = new_bus(kafka_settings)

        async def hang() -> None:
            await asyncio.sleep(60)

        monkeypatch.setattr(bus.broker, "start", hang)
        async with running(bus):
            assert await bus.check_ready() is None
            await asyncio.sleep(0.7)
            with pytest.raises(TransientError, match="has waited for its consumer groups"):
                await bus.check_ready()
            await bus.check_alive()

    async def test_an_old_retry(
        self, kafka_settings: KafkaSettings, service: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("clip_shared.bus.delivery.standstill.OLD_RETRY_SECONDS", 0.5)
        await skip_to_end(kafka_settings, service, TOPIC)
        prometheus = CollectorRegistry()
        bus, key, repaired = (
            Bus(kafka_settings, service=service, registry=prometheus),
            uuid.uuid4().hex,
            False,
        )

        @bus.subscriber(HighlightDetected, deadline_seconds=5)
        async def handle(_event: Event[HighlightDetected]) -> None:
            if not repaired:
                raise TransientError("storage is out")

        def oldest() -> float:
            return prometheus.get_sample_value("clips_oldest_retry_seconds", {"topic": TOPIC}) or 0

        async with running(bus):
            assert oldest() == 0
            await bus.publish(highlight("waits", key))
            await until(lambda: oldest() > 0.5)
            assert "a message has been retried for" in str(await bus.check_ready())
            repaired = True
            await until(lambda: oldest() == 0)
            assert await bus.check_ready() is None

    @pytest.mark.parametrize("trouble", ["producer", "consumer"])
    async def test_a_client_that_does_nothing_but_fail_while_kafka_answers(
        self, kafka_settings: KafkaSettings, service: str, trouble: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("clip_shared.bus.bus.STUCK_SECONDS", 0.2)
        bus = new_bus(kafka_settings, service)

        @bus.subscriber(DailyTick, deadline_seconds=5)
        async def handle(_event: Event[DailyTick]) -> None:
            return

        async def fail(*_: object, **__: object) -> None:
            raise KafkaError("broken for good")

        async with running(bus):
            await until(lambda: any(each._fetcher for each in bus._groups.consumers()))  # it has joined
            await bus.check_alive()
            # No broker breaks a client for good on demand.
            if trouble == "producer":
                monkeypatch.setattr(bus._publisher._producer, "send_and_wait", fail)
                for _ in range(2):
                    with pytest.raises(TransientError):
                        await bus.publish(Event.new(DailyTick(), source="test"))
                    await asyncio.sleep(0.3)
            else:
                monkeypatch.setattr(bus._groups.consumers()[0]._fetcher, "next_record", fail)
                for _ in range(2):
                    with pytest.raises(KafkaError):
                        await bus._groups.consumers()[0].getone()
                    await asyncio.sleep(0.3)
            with pytest.raises(RuntimeError, match="fails every time, while Kafka answers"):
                await bus.check_alive()


async def _send_with_bad_header_name(settings: KafkaSettings, events: list[Event[HighlightDetected]]) -> None:
    """Send events as one batch; those with the title "bad" have a header whose name is not UTF-8."""
    records = [
        (each.key, each.value, [*each.headers, (BAD_NAME if b'"bad"' in each.value else "fine", b"x")])
        for each in map(to_record, events)
    ]
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        await send_crafted(producer, TOPIC, records)
