"""The platform around Clips, for tests: detector, scheduler, streamers, and the state of the system."""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import asyncpg
import httpx
import jwt
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from clip_shared.contracts.events import clip_id_for
from clip_shared.storage import s3_client
from local_stack.stack import (
    CLIPS_BUCKET,
    JWT_AUDIENCE,
    JWT_ISSUER,
    SOURCE_BUCKET,
    SOURCE_PROFILE,
    LocalStack,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Found = TypeVar("Found")
PATIENCE_SECONDS = 60


class Platform:
    """The platform around one running stack, as an async context manager."""

    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        self.s3: S3Client = s3_client(
            endpoint=stack.environment["FREE_STORAGE_ENDPOINT"],
            region=stack.environment["FREE_STORAGE_REGION"],
            access_key=stack.environment["FREE_STORAGE_ACCESS_KEY"],
            secret_key=stack.environment["FREE_STORAGE_SECRET_KEY"],
        )
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(bootstrap_servers=self.stack.environment["KAFKA_BOOTSTRAP_SERVERS"])
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._producer is not None
        await self._producer.stop()

    async def send(
        self,
        topic: str,
        value: bytes,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        partition: int | None = None,
    ) -> None:
        """Send raw bytes to a topic."""
        assert self._producer is not None
        encoded = [(name, text.encode()) for name, text in (headers or {}).items()]
        await self._producer.send_and_wait(
            topic, value, key=key.encode() if key else None, headers=encoded, partition=partition
        )

    async def detect(
        self, *, partition: int | None = None, traceparent: str | None = None, **changes: Any
    ) -> uuid.UUID:
        """Publish a highlight, as the detector does; return the id of its clip."""
        highlight = {
            "stream_highlight_id": uuid.uuid4().hex,
            "twitch_account_id": "streamer-1",
            "source_vod_id": "vod-1",
            "source": {"profile": SOURCE_PROFILE, "bucket": SOURCE_BUCKET, "key": "vod.mp4"},
            "start_seconds": 10.5,
            "end_seconds": 14.5,
            "kind": "refined",
            "title": "What a save",
            **changes,
        }
        headers = {
            "ce_specversion": "1.0",
            "ce_id": str(uuid.uuid4()),
            "ce_type": "highlight.detected.v1",
            "ce_source": "detector",
            "content-type": "application/json",
            **({"traceparent": traceparent} if traceparent else {}),
        }
        key = highlight["stream_highlight_id"]
        body = json.dumps(highlight).encode()
        await self.send("highlight-detected", body, key=key, headers=headers, partition=partition)
        return clip_id_for(key)

    async def tick(self) -> None:
        """Send the daily tick, as the scheduler does."""
        await self.send("daily-tick", b"{}")

    def gateway(self, account: str | None = "streamer-1") -> httpx.AsyncClient:
        """Return a client of the gateway, signed in as an account (None: as a guest)."""
        headers = {"Authorization": f"Bearer {self.token(account)}"} if account else {}
        return httpx.AsyncClient(base_url=self.stack.gateway.url, headers=headers, timeout=10)

    def token(self, account: str) -> str:
        """Return a sign-in token."""
        claims = {"sub": account, "iss": JWT_ISSUER, "aud": JWT_AUDIENCE, "exp": time.time() + 600}
        return jwt.encode(claims, self.stack.environment["JWT_SECRET"], algorithm="HS256")

    async def available(self, clip_id: uuid.UUID, account: str = "streamer-1") -> dict[str, Any]:
        """Wait until a clip is available; return it from the gateway."""
        async with self.gateway(account) as gateway:

            async def found() -> dict[str, Any] | None:
                try:
                    response = await gateway.get(f"/v1/clips/{clip_id}")
                except httpx.TransportError:
                    return None  # a test has just killed it
                return dict(response.json()) if response.status_code == httpx.codes.OK else None

            return await until(found, f"clip {clip_id} to become available")

    async def expire(self, clip_id: uuid.UUID) -> None:
        """Let a clip expire now."""
        connection = await asyncpg.connect(self.stack.environment["DATABASE_URL"].replace("+asyncpg", ""))
        try:
            command = (
                "UPDATE generated_clips SET expires_at = now() WHERE clip_id = $1 AND expires_at IS NOT NULL"
            )
            await connection.execute(command, clip_id)
        finally:
            await connection.close()

    @property
    def scratch(self) -> Path:
        """The cutter's scratch folder."""
        return Path(self.stack.environment["SCRATCH_DIR"])

    async def scratch_is_clean(self) -> None:
        """Wait until no job has files on the scratch disk."""

        async def clean() -> bool | None:
            return None if any(self.scratch.glob("*/job-*")) else True

        await until(clean, "the scratch disk to be clean")

    def objects_of(self, clip_id: uuid.UUID) -> list[str]:
        """Return the keys of a clip's objects in the free bucket."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=CLIPS_BUCKET, Prefix="clips/")
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return [key for key in keys if f"/{clip_id}/" in key]

    async def messages(self, topic: str) -> list[ConsumerRecord]:
        """Return all records of a topic."""
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=self.stack.environment["KAFKA_BOOTSTRAP_SERVERS"],
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,  # a consumer cannot be stopped before the broker has answered
        )
        await consumer.start()
        try:
            batches = await consumer.getmany(timeout_ms=1000)
            return [record for batch in batches.values() for record in batch]
        finally:
            await consumer.stop()

    async def message(self, topic: str, text: str) -> ConsumerRecord:
        """Wait for a message that contains a text in its key or its value."""

        async def found() -> ConsumerRecord | None:
            for record in await self.messages(topic):
                if text.encode() in (record.key or b"") + (record.value or b""):
                    return record
            return None

        return await until(found, f"a message about {text} on {topic}")

    def upload(self, path: Path, key: str | None = None) -> str:
        """Upload a file to the source bucket; return its key."""
        key = key or path.name
        self.s3.upload_file(str(path), SOURCE_BUCKET, key)
        return key


async def until(look: Callable[[], Awaitable[Found | None]], what: str) -> Found:
    """Call ``look`` until it returns a value; return that value."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                if (found := await look()) is not None:
                    return found
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"waited {PATIENCE_SECONDS} s for {what}") from None
