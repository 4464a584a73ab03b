"""Skipped highlights on a real broker: found by reason, profile and time, and sent once more."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner

from clip_shared.__main__ import cli
from clip_shared.bus import skips
from clip_shared.bus.envelope import from_record, identity_of, to_record
from clip_shared.bus.log_reader import log_reader
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import ClipSkipped, Event, HighlightDetected, SkipReason
from tests.integration.clip_shared.bus.buses import highlight

pytestmark = pytest.mark.usefixtures("topics")

MISSING, SHORT = SkipReason.SOURCE_MISSING, SkipReason.TOO_SHORT


@pytest.fixture
def profile() -> str:
    """One of its own, which tells this test's skips from those of others."""
    return f"profile-{uuid.uuid4().hex[:8]}"


class Detector:
    """Sends highlights without any header, and then what a cutter would say of them."""

    def __init__(self, settings: KafkaSettings, profile: str) -> None:
        self._settings, self._profile = settings, profile

    async def send(self, partition: int) -> Event[HighlightDetected]:
        body = highlight("title", f"h-{uuid.uuid4().hex}").data.model_dump_json().encode()
        async with AIOKafkaProducer(bootstrap_servers=self._settings.kafka_bootstrap_servers) as producer:
            await producer.send_and_wait(HighlightDetected.TOPIC, body, key=b"k", partition=partition)
        (record,) = [each for each in await self.records() if each.value == body]
        return from_record(HighlightDetected, record)

    async def skip(self, event: Event[HighlightDetected], reason: SkipReason, hours_ago: int = 0) -> None:
        data = ClipSkipped(
            **event.data.model_dump(
                include={"stream_highlight_id", "twitch_account_id", "source_vod_id", "kind"}
            ),
            highlight_event_id=event.id,
            highlight_detected_at=event.time,
            reason=reason,
            source_profile=self._profile,
            message="The VOD is not in storage any more.",
        )
        time = datetime.now(UTC) - timedelta(hours=hours_ago)
        record = to_record(Event.new(data, source="clip-cutter", time=time))
        async with AIOKafkaProducer(bootstrap_servers=self._settings.kafka_bootstrap_servers) as producer:
            await producer.send_and_wait(record.topic, record.value, key=record.key, headers=record.headers)

    async def records(self) -> list:  # type: ignore[type-arg]
        topic = HighlightDetected.TOPIC
        async with log_reader(self._settings, "read", topic) as reader:
            return [
                record
                for partition in reader.partitions(topic)
                async for record in reader.read(partition, *await reader.bounds(partition))
            ]


def command(settings: KafkaSettings, *words: str) -> list[str]:
    environment = {"KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers}
    done = CliRunner().invoke(cli, ["skips", *words], env=environment)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


async def test_they_are_found_by_what_they_are(kafka_settings: KafkaSettings, profile: str) -> None:
    detector = Detector(kafka_settings, profile)
    missing, short = await detector.send(0), await detector.send(1)
    await detector.skip(missing, MISSING, hours_ago=5)
    await detector.skip(short, SHORT, hours_ago=3)
    await detector.skip(missing, MISSING, hours_ago=2)  # once more: one highlight all the same

    async def found(**wanted: object) -> list[str]:
        skipped = await skips.find(kafka_settings, skips.SkipFilter(profile=profile, **wanted))  # type: ignore[arg-type]
        return [each.data.highlight_event_id for each in skipped]

    assert await found() == [short.id, missing.id]
    assert await found(reason=SHORT) == [short.id]
    since = datetime.now(UTC) - timedelta(hours=2, minutes=30)
    assert await found(since=since) == [missing.id]
    lines = await asyncio.to_thread(command, kafka_settings, "list", "--profile", profile)
    assert f"source_missing  profile {profile}  highlight {missing.data.stream_highlight_id}" in lines[1]
    assert lines[1].endswith("VOD vod-1: The VOD is not in storage any more.")
    assert lines[2] == "2 skipped, 1 too_short, 1 source_missing"
    words = ("list", "--profile", profile, "--since", f"{since:%Y-%m-%dT%H:%M:%S}", "--reason", "too_short")
    assert await asyncio.to_thread(command, kafka_settings, *words) == ["0 skipped"]


async def test_a_replay_sends_the_same_highlights(kafka_settings: KafkaSettings, profile: str) -> None:
    detector = Detector(kafka_settings, profile)
    events = [await detector.send(2), await detector.send(5)]
    lost = Event.new(events[0].data, source="detector")  # the topic does not retain it any more
    for event in (*events, lost):
        await detector.skip(event, MISSING)
    words = ("replay", "--profile", profile, "--reason", "source_missing")
    before = len(await detector.records())
    (line,) = await asyncio.to_thread(command, kafka_settings, *words)
    assert line == "would send to highlight-detected: 3 of 3 skipped; repeat with --yes to do it"
    assert len(await detector.records()) == before
    assert await asyncio.to_thread(command, kafka_settings, *words, "--yes") == [
        "sent: 2",
        "not sent: 1; highlight-detected does not retain them any more",
    ]
    for event, partition in zip(events, (2, 5), strict=True):
        highlight_id = event.data.stream_highlight_id.encode()
        first, again = [each for each in await detector.records() if highlight_id in (each.value or b"")]
        assert identity_of(first) == identity_of(again) == event.id
        assert (first.partition, again.partition) == (partition, partition)
        assert from_record(HighlightDetected, again) == event
