"""A client of a running stack: sign in, upload a VOD, publish highlights, wait for their clips."""

import hashlib
import shlex
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import jwt
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from botocore.exceptions import ClientError

from clip_shared.bus.envelope import from_record, to_record
from clip_shared.contracts.events import (
    ClipAvailable,
    ClipCreated,
    ClipSkipped,
    EncodingRequested,
    Event,
    HighlightDetected,
    SourceObject,
)
from clip_shared.errors import InvalidEvent
from clip_shared.storage import s3_client
from local_stack.stack import SOURCE_BUCKET, SOURCE_PROFILE

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SOURCE = "local-stack"
# A highlight that fails on its way to a clip ends in one of these topics.
_DEAD_LETTERS = (
    f"{HighlightDetected.TOPIC}.dlq",
    f"{EncodingRequested.TOPIC}.dlq",
    f"{ClipCreated.TOPIC}.dlq",
    f"{ClipSkipped.TOPIC}.dlq",
)
_OUTCOME_TOPICS = (ClipAvailable.TOPIC, ClipSkipped.TOPIC, *_DEAD_LETTERS)


@dataclass(frozen=True)
class HighlightReport:
    """The outcome of a highlight: a clip (``reason`` is None), or the reason why it became no clip."""

    stream_highlight_id: str
    reason: str | None = None


class Client:
    """A client of one stack.

    Args:
        environment: the stack's, from :attr:`local_stack.stack.LocalStack.environment` or ``stack.env``.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment

    @classmethod
    def of_file(cls, env_file: Path) -> "Client":
        """Return a client of the stack that wrote this ``stack.env``."""
        return cls(read_env(env_file.read_text()))

    def token(self, account_id: str, *, lifetime: timedelta = timedelta(days=1)) -> str:
        """Return a sign-in token for an account."""
        claims = {
            "sub": account_id,
            "iss": self.environment["JWT_ISSUER"],
            "aud": self.environment["JWT_AUDIENCE"],
            "exp": datetime.now(UTC) + lifetime,
        }
        return jwt.encode(claims, self.environment["JWT_SECRET"], algorithm=self.environment["JWT_ALGORITHM"])

    def gateway(self, account_id: str | None = None) -> httpx.Client:
        """Return an HTTP client of the gateway, signed in as an account (None: as a guest).

        It follows no redirects.
        """
        headers = {"Authorization": f"Bearer {self.token(account_id)}"} if account_id else {}
        return httpx.Client(
            base_url=self.environment["GATEWAY_URL"], headers=headers, timeout=30, trust_env=False
        )

    @cached_property
    def s3(self) -> "S3Client":
        """An S3 client with the stack's keys, for both buckets."""
        return s3_client(
            endpoint=self.environment["FREE_STORAGE_ENDPOINT"],
            region=self.environment["FREE_STORAGE_REGION"],
            access_key=self.environment["FREE_STORAGE_ACCESS_KEY"],
            secret_key=self.environment["FREE_STORAGE_SECRET_KEY"],
        )

    def upload(self, vod: Path) -> SourceObject:
        """Upload a VOD to the source bucket, unless the same file was uploaded before."""
        facts = vod.stat()
        identity = f"{vod.resolve()}\n{facts.st_size}\n{facts.st_mtime_ns}"
        key = f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}/{vod.name}"
        if self.stored_bytes(SOURCE_BUCKET, key) != facts.st_size:
            self.s3.upload_file(str(vod), SOURCE_BUCKET, key)
        return SourceObject(profile=SOURCE_PROFILE, bucket=SOURCE_BUCKET, key=key)

    def stored_bytes(self, bucket: str, key: str) -> int | None:
        """Return the size of an object in bytes, or None when the object does not exist."""
        try:
            return self.s3.head_object(Bucket=bucket, Key=key)["ContentLength"]
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == httpx.codes.NOT_FOUND:
                return None
            raise

    async def publish(self, *events: Event[Any]) -> None:
        """Send events to their topics; return when the broker has acknowledged all of them."""
        async with AIOKafkaProducer(bootstrap_servers=self._brokers, acks="all") as producer:
            for event in events:
                record = to_record(event)
                await producer.send_and_wait(
                    record.topic, value=record.value, key=record.key, headers=record.headers
                )

    @asynccontextmanager
    async def outcomes(self) -> AsyncIterator[AsyncIterator[HighlightReport]]:
        """Read the outcomes of highlights that are published from now on, in any order."""
        consumer = AIOKafkaConsumer(*_OUTCOME_TOPICS, bootstrap_servers=self._brokers)
        async with consumer:
            await consumer.seek_to_end()
            # seek_to_end takes effect with the next fetch; asking for the position makes it take effect now.
            for partition in consumer.assignment():
                await consumer.position(partition)
            yield _read_outcomes(consumer)

    @property
    def _brokers(self) -> str:
        return self.environment["KAFKA_BOOTSTRAP_SERVERS"]


def new_id() -> str:
    """Return a new unique id."""
    return uuid.uuid4().hex


def read_env(text: str) -> dict[str, str]:
    """Return the variables of the text of a ``stack.env``."""
    return dict(part.split("=", 1) for line in text.splitlines() for part in shlex.split(line, comments=True))


def write_env(environment: Mapping[str, str]) -> str:
    """Return the text of a ``stack.env``, which a shell can source and :func:`read_env` can read."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in environment.items())


async def _read_outcomes(consumer: AIOKafkaConsumer) -> AsyncIterator[HighlightReport]:
    async for record in consumer:
        outcome = read_outcome(record)
        if outcome is not None:
            yield outcome


def read_outcome(record: ConsumerRecord) -> HighlightReport | None:
    """Return the outcome in a record, or None when the record holds no outcome."""
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    if record.topic in _DEAD_LETTERS:
        return HighlightReport(
            (record.key or b"").decode(errors="replace"), headers.get("dlq_error", "refused")
        )
    try:
        if headers.get("ce_type") == ClipAvailable.TYPE:
            available = from_record(ClipAvailable, record)
            return HighlightReport(available.data.stream_highlight_id)
        if record.topic == ClipSkipped.TOPIC:
            skipped = from_record(ClipSkipped, record)
            return HighlightReport(skipped.data.stream_highlight_id, skipped.data.message)
    except InvalidEvent:
        # Not an event of a service: sent by hand.
        return None
    return None
