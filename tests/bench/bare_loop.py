"""A minimal registry, to compare with: aiokafka, and an upsert and commit for each event with asyncpg.

``python -m tests.bench.bare_loop 1000`` stores 1,000 events and prints as JSON the time from the first event
to the last commit, and its CPU time. The client's timer commits offsets; it validates, logs, announces and
counts nothing.
"""

import asyncio
import json
import os
import sys
import time
from datetime import datetime
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer

TABLE = "bare_clips"
CREATE_TABLE = f"CREATE TABLE {TABLE} (LIKE generated_clips INCLUDING ALL)"
COLUMNS = (
    *("clip_id", "stream_highlight_id", "twitch_account_id", "source_vod_id", "kind", "title", "score"),
    *("bucket", "object_key", "poster_key", "content_type", "file_size_bytes", "duration_seconds"),
    *("cut_receipt", "highlight_event_id", "highlight_detected_at"),
)
# The columns that a newer cut of a clip changes.
_NEWER = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[4:])
UPSERT = f"""
INSERT INTO {TABLE} AS clip ({", ".join(COLUMNS)}, status, expires_at, version, created_at, updated_at)
VALUES ({", ".join(f"${number}" for number in range(1, len(COLUMNS) + 1))},
        'available', now() + interval '7 days', 1, now(), now())
ON CONFLICT (clip_id) DO UPDATE SET {_NEWER}, version = clip.version + 1, updated_at = now()
WHERE (clip.highlight_detected_at, clip.highlight_event_id)
    < (excluded.highlight_detected_at, excluded.highlight_event_id)
"""  # noqa: S608 - names of columns


async def _store(events: int) -> dict[str, float]:
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    consumer = AIOKafkaConsumer(
        "clip-created",
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        group_id="bare-loop",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        upsert = await connection.prepare(UPSERT)
        started, cpu = 0.0, 0.0
        for _ in range(events):
            record = await consumer.getone()
            started, cpu = started or time.monotonic(), cpu or time.process_time()
            await upsert.fetch(*_values(json.loads(record.value)))
        return {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - cpu}
    finally:
        await consumer.stop()
        await connection.close()


def _values(data: dict[str, object]) -> tuple[object, ...]:
    video, poster = _part(data, "object"), _part(data, "poster")
    found = {
        **data,
        "clip_id": UUID(str(data["clip_id"])),
        "bucket": video["bucket"],
        "object_key": video["key"],
        "poster_key": poster["key"],
        "content_type": video["content_type"],
        "file_size_bytes": video["size_bytes"],
        "cut_receipt": json.dumps(data["cut_receipt"]),
        "highlight_detected_at": datetime.fromisoformat(str(data["highlight_detected_at"])),
    }
    return tuple(found[name] for name in COLUMNS)


def _part(data: dict[str, object], name: str) -> dict[str, object]:
    part = data[name]
    assert isinstance(part, dict)
    return part


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_store(int(sys.argv[1])))))  # noqa: T201 - the result
