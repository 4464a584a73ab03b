"""Dead letters on a real broker: they fit, stay dealt with, and come back as what they were."""

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord
from typer.testing import CliRunner

from clip_shared.__main__ import cli
from clip_shared.bus import dlq
from clip_shared.bus.delivery.dead_letters import dead_letter_of
from clip_shared.bus.envelope import OutgoingRecord, from_record, identity_of
from clip_shared.bus.log_reader import log_reader
from clip_shared.bus.resend import sender
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import ClipSkipped, DailyTick, Event, HighlightDetected
from clip_shared.errors import PermanentError
from tests.integration.clip_shared.bus.buses import admin_of, highlight, new_bus, running, skip_to_end, until
from tests.support.records import consumed

pytestmark = pytest.mark.usefixtures("topics")

TOPIC = ClipSkipped.TOPIC


@pytest.fixture(autouse=True)
async def nothing_pending(kafka_settings: KafkaSettings) -> AsyncIterator[None]:
    """Other tests leave letters of their own."""
    await dlq.replay(kafka_settings, TOPIC, limit=100_000, discard=True)
    await dlq.replay(kafka_settings, HighlightDetected.TOPIC, limit=100_000, discard=True)
    yield
    await dlq.replay(kafka_settings, TOPIC, limit=100_000, discard=True)


def command(settings: KafkaSettings, *words: str) -> list[str]:
    environment = {"KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers}
    done = CliRunner().invoke(cli, words, env=environment)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


async def send(settings: KafkaSettings, record: OutgoingRecord) -> None:
    async with sender(settings) as producer:
        await producer.send_and_wait(record.topic, key=record.key, value=record.value, headers=record.headers)


async def bury(settings: KafkaSettings, *values: bytes, topic: str = TOPIC) -> None:
    for value in values:
        await send(settings, dead_letter_of(consumed(topic, value=value), PermanentError("no"), "test", 1))


async def all_of(settings: KafkaSettings, topic: str) -> list[ConsumerRecord]:
    async with log_reader(settings, "read", topic) as reader:
        return [
            record
            for partition in reader.partitions(topic)
            async for record in reader.read(partition, *await reader.bounds(partition))
        ]


class TestDealtWith:
    async def test_it_lasts_without_any_group(self, kafka_settings: KafkaSettings) -> None:
        """The offsets of a group were what it was kept in: Kafka forgets them after a week."""
        await bury(kafka_settings, b"one", b"two")
        assert (await dlq.replay(kafka_settings, TOPIC, limit=1)).dealt_with == 1
        async with admin_of(kafka_settings) as admin:
            groups = [name for name, _ in await admin.list_consumer_groups()]
        assert [name for name in groups if name.endswith(".replay")] == []
        assert [each.record.value for each in await dlq.pending(kafka_settings, TOPIC, limit=9)] == [b"two"]

    async def test_letters_of_a_topic_that_was_made_again_are_pending(
        self, kafka_settings: KafkaSettings
    ) -> None:
        await bury(kafka_settings, b"one")
        (letter,) = await dlq.pending(kafka_settings, TOPIC, limit=9)
        # What a topic of the same name left behind, long before.
        async with sender(kafka_settings) as producer:
            await dlq._note_dealt_with(producer, replace(letter.record, timestamp=1_000_000_000_000))
        assert len(await dlq.pending(kafka_settings, TOPIC, limit=9)) == 1
        assert (await dlq.count(kafka_settings, TOPIC))[0] == 1

    async def test_counts_are_shown(self, kafka_settings: KafkaSettings) -> None:
        await bury(kafka_settings, b"one", b"two", b"three")
        await dlq.replay(kafka_settings, TOPIC, limit=2, discard=True)
        pending, retained = await dlq.count(kafka_settings, TOPIC)
        assert pending == 1
        assert retained >= 3
        lines = await asyncio.to_thread(command, kafka_settings, "dlq", "list")
        assert f"{TOPIC + '.dlq':28} 1 pending, {retained} retained" in lines


class TestReplay:
    async def test_partition_identity_and_time_are_restored(self, kafka_settings: KafkaSettings) -> None:
        # Its key belongs to another partition, it has neither id nor time; its topic's clock is the broker's.
        body = highlight("old", f"h-{uuid.uuid4().hex}").data.model_dump_json().encode()
        async with AIOKafkaProducer(bootstrap_servers=kafka_settings.kafka_bootstrap_servers) as producer:
            sent = [
                await producer.send_and_wait(HighlightDetected.TOPIC, body, key=b"k", partition=number)
                for number in (1, 4)
            ]
        originals = [
            record for record in await all_of(kafka_settings, HighlightDetected.TOPIC) if record.value == body
        ]
        assert [each.offset for each in originals] == [each.offset for each in sent]
        for record in originals:
            await send(kafka_settings, dead_letter_of(record, PermanentError("no"), "test", 1))
        await asyncio.sleep(0.05)
        assert (
            await dlq.replay(kafka_settings, HighlightDetected.TOPIC, limit=9)
        ) == dlq.ReplayedDeadLetters(2, 0)
        found = [
            record for record in await all_of(kafka_settings, HighlightDetected.TOPIC) if record.value == body
        ]
        assert [each.partition for each in found] == [1, 1, 4, 4]
        for first, second in (found[:2], found[2:]):
            assert second.timestamp > first.timestamp
            assert from_record(HighlightDetected, second) == from_record(HighlightDetected, first)
        assert len({identity_of(each) for each in found}) == 2

    async def test_a_consumer_sees_the_same_event(self, kafka_settings: KafkaSettings) -> None:
        service, key = f"test-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
        await skip_to_end(kafka_settings, service, HighlightDetected.TOPIC)
        bus, seen, broken = new_bus(kafka_settings, service), list[Event[HighlightDetected]](), True

        @bus.subscriber(HighlightDetected, deadline_seconds=5)
        async def handle(event: Event[HighlightDetected]) -> None:
            seen.append(event)
            if broken:
                raise PermanentError("this version is broken")

        async with running(bus):
            body = highlight("title", key).data.model_dump_json().encode()
            await send(kafka_settings, OutgoingRecord(HighlightDetected.TOPIC, key.encode(), body, []))
            await until(lambda: len(seen) == 1)
            broken = False
            async with asyncio.timeout(10):
                while not (await dlq.replay(kafka_settings, HighlightDetected.TOPIC, limit=9)).dealt_with:
                    await asyncio.sleep(0.1)
            await until(lambda: len(seen) == 2)
        assert seen[0] == seen[1]


class TestTruncated:
    async def test_it_passes_is_marked_and_only_discarded(self, kafka_settings: KafkaSettings) -> None:
        """A message as large as a topic takes, which does not compress, fitted no dead letter."""
        service, key = f"test-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
        await skip_to_end(kafka_settings, service, HighlightDetected.TOPIC)
        bus, seen = new_bus(kafka_settings, service), list[str]()

        @bus.subscriber(HighlightDetected, deadline_seconds=5)
        async def handle(event: Event[HighlightDetected]) -> None:
            seen.append(event.data.title)

        huge = os.urandom(1024 * 1024 - 1000)
        async with running(bus):
            await send(kafka_settings, OutgoingRecord(HighlightDetected.TOPIC, key.encode(), huge, []))
            await bus.publish(highlight("next", key))
            await until(lambda: seen == ["next"])
        await bury(kafka_settings, b"{}", topic=HighlightDetected.TOPIC)
        name = HighlightDetected.TOPIC
        shown = await asyncio.to_thread(command, kafka_settings, "dlq", "show", name)
        assert f"lacks the end of its value ({len(huge)} bytes" in "\n".join(shown)
        done = await asyncio.to_thread(command, kafka_settings, "dlq", "replay", name, "--yes")
        assert done[0] == "sent back: 1"
        assert done[1].startswith("refused: 1; a dead letter that was truncated cannot be sent back")
        assert (await dlq.count(kafka_settings, name))[0] == 1
        done = await asyncio.to_thread(command, kafka_settings, "dlq", "replay", name, "--discard", "--yes")
        assert done == ["discarded: 1"]
        assert (await dlq.count(kafka_settings, name))[0] == 0


async def test_a_dry_run_sends_nothing(kafka_settings: KafkaSettings) -> None:
    await bury(kafka_settings, json.dumps({"x": 1}).encode())
    (line,) = await asyncio.to_thread(command, kafka_settings, "dlq", "replay", TOPIC)
    assert line == f"would send back to {TOPIC}: 1 of 1 pending; repeat with --yes to do it"
    assert len(await dlq.pending(kafka_settings, TOPIC, limit=9)) == 1


def test_times_are_utc() -> None:
    letter = dlq.DeadLetter(consumed(DailyTick.TOPIC, timestamp=0), {})
    assert letter.time == datetime(1970, 1, 1, tzinfo=UTC)
