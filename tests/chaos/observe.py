"""Read the state of the whole system from outside: topics, rows, objects, processes, files."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import psutil
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from clip_registry.database.engine import open_engine
from clip_registry.outbox import refused_events
from clip_shared.bus import fetching
from clip_shared.contracts.topics import TOPICS
from local_stack.stack import CLIPS_BUCKET
from tests.chaos.system import SystemUnderTest

GROUPS = {
    "highlight-detected": "clip-cutter",
    "highlight-encodings": "clip-cutter",
    "clip-created": "clip-registry",
    "clip-skipped": "clip-registry",
    "clip-objects-released": "janitor",
    "daily-tick": "janitor",
}
READ_SECONDS = 30.0
READ = ("clip-created", "clip-skipped", "clip-lifecycle", "clip-objects-released")
DEAD = (
    "highlight-detected.dlq",
    "highlight-encodings.dlq",
    "clip-created.dlq",
    "clip-skipped.dlq",
    "clip-objects-released.dlq",
    "daily-tick.dlq",
)


@dataclass(frozen=True)
class ObservedMessage:
    """A record: its CloudEvents id and type, its other headers, and its data."""

    id: str
    type: str
    value: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> dict[str, Any]:
        """The event's data; empty when it cannot be read."""
        try:
            found = json.loads(self.value)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class ClipRow:
    """A clip in the registry's database."""

    clip_id: UUID
    stream_highlight_id: str
    status: str
    object_key: str
    poster_key: str | None
    file_size_bytes: int
    highlight_event_id: str
    version: int
    purged_at: datetime | None

    @property
    def keys(self) -> set[str]:
        """The objects that must exist; a purged clip has none."""
        return (
            set()
            if self.status == "purged"
            else {each for each in (self.object_key, self.poster_key) if each}
        )


@dataclass(frozen=True)
class Partition:
    """The offsets of a consumer group in a partition."""

    group: str
    topic: str
    number: int
    committed: int
    end: int

    @property
    def lag(self) -> int:
        """The number of events that are not handled."""
        return self.end - self.committed


@dataclass(frozen=True)
class Snapshot:
    """The state that the checker reads: ``topics`` by name, ``objects`` with their sizes.

    ``unfinished``: keys of uploads in parts that are not completed. They are not objects.
    """

    rows: list[ClipRow]
    objects: dict[str, int]
    topics: dict[str, list[ObservedMessage]]
    partitions: list[Partition] = field(default_factory=list)
    outbox: int = 0
    outbox_dead: int = 0
    strays: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    locks: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)


async def take(system: SystemUnderTest) -> Snapshot:
    """Read the whole state. It is consistent only when no service has work left."""
    servers = system.environment["KAFKA_BOOTSTRAP_SERVERS"]
    topics = {name: [_message(each) for each in await read_topic(servers, name)] for name in (*READ, *DEAD)}
    connection = await _connect(system)
    try:
        rows = [_row(each) for each in await connection.fetch("SELECT * FROM generated_clips")]
        outbox = await connection.fetchval("SELECT count(*) FROM outbox")
        outbox_dead = await connection.fetchval("SELECT count(*) FROM outbox_dlq")
        locks = await _locks(connection)
    finally:
        await connection.close()
    scratch = system.workspace.state.scratch
    return Snapshot(
        rows=rows,
        objects=await asyncio.to_thread(_objects, system),
        topics=topics,
        partitions=await progress(servers),
        outbox=outbox,
        outbox_dead=outbox_dead,
        strays=_strays(scratch),
        files=_files(scratch, workers=sum(each.process.name == "clip-cutter" for each in system.workers)),
        locks=locks,
        unfinished=await asyncio.to_thread(_unfinished, system),
    )


async def backlog(system: SystemUnderTest) -> int:
    """Return the number of events that are not handled or not sent."""
    connection = await _connect(system)
    try:
        outbox: int = await connection.fetchval("SELECT count(*) FROM outbox")
    finally:
        await connection.close()
    found = await progress(system.environment["KAFKA_BOOTSTRAP_SERVERS"])
    return outbox + sum(each.lag for each in found)


async def replay_outbox(system: SystemUnderTest) -> int:
    """Put refused events back into the outbox, as ``clip-registry outbox replay`` does; return how many."""
    engine = open_engine(system.environment["DATABASE_URL"], pool_size=1, statement_timeout_seconds=30)
    try:
        return await refused_events.replay(engine, limit=100_000)
    finally:
        await engine.dispose()


async def read_topic(servers: str, topic: str) -> list[ConsumerRecord]:
    """Return all records of a topic.

    Raises:
        KafkaError, TimeoutError: the broker is down.
    """
    async with asyncio.timeout(READ_SECONDS):
        return await _read_topic(servers, topic)


async def _read_topic(servers: str, topic: str) -> list[ConsumerRecord]:
    fetching.install()  # some records cannot be read without it
    # A consumer cannot be stopped before the broker has answered its fetch.
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, fetch_max_wait_ms=20)
    try:
        await consumer.start()
        partitions = _partitions(topic)
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        records: list[ConsumerRecord] = []
        while any([await consumer.position(each) < ends[each] for each in partitions]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records += batch
        return sorted(records, key=lambda each: each.timestamp)
    finally:
        await consumer.stop()


async def progress(servers: str) -> list[Partition]:
    """Return the offsets of every consumer group of the services, in every partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers)
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    try:
        await consumer.start()
        await admin.start()
        return [
            each
            for topic, service in GROUPS.items()
            for each in await _progress(consumer, admin, f"{service}.{topic}", topic)
        ]
    finally:
        await admin.close()
        await consumer.stop()


async def _progress(
    consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient, group: str, topic: str
) -> list[Partition]:
    ends = await consumer.end_offsets(_partitions(topic))
    commits = await admin.list_consumer_group_offsets(group)
    committed = {each: max(0, commits[each].offset) for each in ends if each in commits}
    return [
        Partition(group, topic, each.partition, committed.get(each, 0), end) for each, end in ends.items()
    ]


def _partitions(topic: str) -> list[TopicPartition]:
    (number,) = (each.partitions for each in TOPICS if each.name == topic)
    return [TopicPartition(topic, each) for each in range(number)]


def _message(record: ConsumerRecord) -> ObservedMessage:
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    return ObservedMessage(headers.get("ce_id", ""), headers.get("ce_type", ""), record.value or b"", headers)


async def _connect(system: SystemUnderTest) -> Any:
    return await asyncpg.connect(system.environment["DATABASE_URL"].replace("+asyncpg", ""))


def _row(record: Any) -> ClipRow:
    return ClipRow(**{name: record[name] for name in ClipRow.__dataclass_fields__})


async def _locks(connection: Any) -> list[str]:
    rows = await connection.fetch(
        "SELECT 'advisory lock of ' || pid AS what FROM pg_locks WHERE locktype = 'advisory' UNION ALL"
        " SELECT state || ' since ' || state_change FROM pg_stat_activity"
        " WHERE state LIKE 'idle in transaction%'"
        " UNION ALL SELECT 'prepared ' || gid FROM pg_prepared_xacts"
    )
    return [each["what"] for each in rows]


def _objects(system: SystemUnderTest) -> dict[str, int]:
    pages = system.s3.get_paginator("list_objects_v2").paginate(Bucket=CLIPS_BUCKET)
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    # A HEAD request for each key: a listing can contain objects that the storage cannot return.
    return {key: system.s3.head_object(Bucket=CLIPS_BUCKET, Key=key)["ContentLength"] for key in keys}


def _unfinished(system: SystemUnderTest) -> list[str]:
    pages = system.s3.get_paginator("list_multipart_uploads").paginate(Bucket=CLIPS_BUCKET)
    return [item["Key"] for page in pages for item in page.get("Uploads", [])]


def _strays(scratch: Path) -> list[str]:
    """Return the running ffmpeg processes of the cutter."""
    needle = f"{scratch}/"
    return [
        f"{process.pid} {process.info['name']}"
        for process in psutil.process_iter(["cmdline", "name"])
        if any(needle in argument for argument in process.info["cmdline"] or ())
    ]


def _files(scratch: Path, *, workers: int) -> list[str]:
    """Return the leftovers on an idle scratch disk: all but indexes, and a locked folder for each worker."""
    folders, indexes = list(scratch.glob("worker-*")), scratch / "indexes"
    known = {scratch / "lock", indexes, *indexes.glob("*"), *folders, *(each / "lock" for each in folders)}
    left = [str(path.relative_to(scratch)) for path in scratch.rglob("*") if path not in known]
    return left + [f"{len(folders)} folders of {workers} workers"] * (len(folders) != workers)
