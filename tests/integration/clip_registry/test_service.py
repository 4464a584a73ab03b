"""The whole service in one process: events in, HTTP, events out."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
from aiokafka import AIOKafkaConsumer

from clip_registry.app import build
from clip_registry.settings import RegistrySettings
from clip_shared.bus.clients import producer
from clip_shared.bus.envelope import OutgoingRecord, to_record
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import ClipCreated, ClipSkipped, Event, HighlightKind, SkipReason
from clip_shared.contracts.service_names import CLIP_REGISTRY
from tests.integration.clip_registry.conftest import Database
from tests.integration.clip_shared.bus.buses import skip_to_end
from tests.unit.clip_registry.cuts import a_created_event, a_cut

GATEWAY_TOKEN, JANITOR_TOKEN = "a-token-of-the-gateway", "a-token-of-the-janitor"


@asynccontextmanager
async def a_service(database: Database, kafka: KafkaSettings) -> AsyncIterator[httpx.AsyncClient]:
    settings = RegistrySettings.model_validate(
        {
            "database_url": database.url,
            "registry_gateway_token": GATEWAY_TOKEN,
            "registry_janitor_token": JANITOR_TOKEN,
            "free_storage_bucket": "clips",
            "metrics_refresh_seconds": 0.2,
            "shutdown_grace_seconds": 10,
            **kafka.model_dump(),
        }
    )
    app = build(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app.state.api),
            mounts={"all://operations": httpx.ASGITransport(app)},
            base_url="http://r",
            auth=signed,
        ) as client,
    ):
        yield client


def signed(request: httpx.Request) -> httpx.Request:
    token = JANITOR_TOKEN if "/expirations" in request.url.path else GATEWAY_TOKEN
    request.headers["Authorization"] = f"Bearer {token}"
    return request


@asynccontextmanager
async def a_reader(kafka: KafkaSettings, *topics: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(*topics, bootstrap_servers=kafka.kafka_bootstrap_servers)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def next_of(reader: AIOKafkaConsumer, key: str) -> tuple[str, dict[str, Any]]:
    """The type and data of the next event with this key."""
    async with asyncio.timeout(30):
        while True:
            record = await reader.getone()
            if record.key == key.encode():
                return dict(record.headers)["ce_type"].decode(), json.loads(record.value)


async def publish(kafka: KafkaSettings, *records: OutgoingRecord) -> None:
    async with producer(kafka, client_id="test") as sender:
        for record in records:
            await sender.send_and_wait(
                record.topic, value=record.value, key=record.key, headers=record.headers
            )


async def sample(client: httpx.AsyncClient, name: str) -> float | None:
    for line in (await client.get("http://operations/metrics")).text.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[-1])
    return None


async def test_from_clip_created_to_purged(
    database: Database, kafka_settings: KafkaSettings, topics: None
) -> None:
    del topics
    # The metrics count every event that the service reads: only those of this test.
    for topic in (ClipCreated.TOPIC, ClipSkipped.TOPIC):
        await skip_to_end(kafka_settings, CLIP_REGISTRY, topic)
    highlight = f"hl-{uuid4().hex[:8]}"
    cut = a_cut(highlight, at=datetime.now(UTC))
    clip_id = str(cut.clip_id)
    undecodable = OutgoingRecord("clip-created", highlight.encode(), b"not json", [])
    async with (
        a_service(database, kafka_settings) as client,
        a_reader(kafka_settings, "clip-lifecycle") as lifecycle,
        a_reader(kafka_settings, "clip-objects-released", "clip-created.dlq") as other,
    ):
        created = to_record(a_created_event(cut))
        await publish(kafka_settings, undecodable, created, created, _skipped(highlight))
        kind, available = await next_of(lifecycle, clip_id)
        assert (kind, available["version"]) == ("clip.available.v1", 1)
        record = (await client.get(f"/v1/clips/{clip_id}")).json()
        assert (record["status"], record["version"]) == ("available", 1)
        assert (await client.get("http://operations/healthz/ready")).json()["status"] == "ready"
        await client.post(f"/v1/clips/{clip_id}/keep", json={"account_id": "ann"})
        await client.post(f"/v1/clips/{clip_id}/unkeep", json={"account_id": "ann"})
        assert [(await next_of(lifecycle, clip_id))[0] for _ in range(2)] == [
            *("clip.kept.v1", "clip.unkept.v1"),
        ]
        await database.expire(cut.clip_id, seconds_ago=3600)  # its last URL has died by then
        assert (await client.post("/v1/expirations", json={})).json()["expired"] == 1
        kind, purged = await next_of(lifecycle, clip_id)
        assert (kind, purged["version"]) == ("clip.purged.v1", 4)
        released = {(await next_of(other, clip_id))[1]["object_key"] for _ in range(2)}
        assert released == {each.key for each in cut.objects}
        await _eventually_counted(client)


def _skipped(highlight: str) -> OutgoingRecord:
    data = ClipSkipped(
        stream_highlight_id=highlight,
        twitch_account_id="ann",
        source_vod_id="vod-1",
        kind=HighlightKind.HEURISTIC,
        highlight_event_id="event-1",
        highlight_detected_at=datetime.now(UTC),
        reason=SkipReason.TOO_SHORT,
        message="The window is shorter than a second.",
    )
    return to_record(Event[ClipSkipped].new(data, source="clip-cutter"))


async def _eventually_counted(client: httpx.AsyncClient) -> None:
    """Wait until the metrics count the events of this test."""
    expected = {
        'clips_transitions_total{kind="cut",outcome="created"}': 1.0,
        'clips_transitions_total{kind="cut",outcome="repeated"}': 1.0,
        'clips_transitions_total{kind="keep",outcome="done"}': 1.0,
        'clips_transitions_total{kind="purge",outcome="done"}': 1.0,
        'clips_registry_skips_total{reason="too_short"}': 1.0,
        'clips_events_total{outcome="dead_lettered",topic="clip-created"}': 1.0,
        "clips_highlight_to_available_seconds_count": 1.0,
        'clips_by_status{status="available"}': 0.0,
        "clips_overdue": 0.0,
        "clips_outbox_depth": 0.0,
    }
    found: dict[str, float | None] = {}
    try:
        async with asyncio.timeout(20):
            while found != expected:
                await asyncio.sleep(0.1)
                found = {name: await sample(client, name) for name in expected}
    except TimeoutError:
        assert found == expected
