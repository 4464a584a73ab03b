"""The platform around Clips: a detector, a scheduler, and accounts that act on their clips."""

import asyncio
import itertools
import json
import random
import time
import uuid
import zlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import httpx
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException

from clip_shared.contracts.events import clip_id_for
from clip_shared.contracts.topics import TOPICS
from local_stack.client import Client
from local_stack.demo.vod import generate_vod
from local_stack.processes.ffmpeg import find_tools, run_tool
from local_stack.stack import SOURCE_BUCKET, SOURCE_PROFILE
from tests.chaos.ledger import LETTING_GO, Ledger
from tests.chaos.plan import (
    EXTRA_EVERY_SECONDS,
    LARGE_VOD,
    RE_ENCODED_VOD,
    TICK_SECONDS,
    AccountRequests,
    Flaw,
    RoundPlan,
    Send,
    extra,
    neighbours,
)
from tests.chaos.system import SystemUnderTest
from tests.support.foreign import BAD_NAME, Headers, Librdkafka, send_crafted

VOD_SECONDS = 20
AGAIN_SECONDS = 0.3
HTTP_TIMEOUT_SECONDS = 10.0
# Between the detection times of two events of one highlight.
DETECTION_GAP = timedelta(seconds=1)
DETECTED = "highlight-detected"
(PARTITIONS,) = (each.partitions for each in TOPICS if each.name == DETECTED)
NEVER_ANSWERED_VOD = "never-answered.mp4"
BOMB_BYTES = 150_000_000
# Small frames, so that a re-encode takes a second; but enough bytes for an upload in parts.
_CODING = {
    "vod.ts": "-c copy",
    "vod.flv": "-c copy",
    "fragmented.mp4": "-c copy -movflags +frag_keyframe+empty_moov+default_base_moof",
    RE_ENCODED_VOD: "-vf scale=640:-2 -c:v libx264 -preset ultrafast -pix_fmt yuv420p10le -g 60 -c:a copy",
    LARGE_VOD: "-t 8 -vf scale=640:-2,noise=alls=100:allf=t -c:v libx264 -preset ultrafast -g 60"
    " -b:v 28M -maxrate 28M -bufsize 14M -c:a copy -movflags +faststart",
}
# The second size just fits into the topic; its dead letter, with more headers, fits only when truncated.
_LARGE = {Flaw.LARGE_HEADERS: 900_000, Flaw.LARGE_AND_BAD: 1_048_000}
_BEFORE_TIME = -(10**17)  # milliseconds: outside the range of datetime
Answer = TypeVar("Answer")
_FINAL_STATUSES = {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.FORBIDDEN}


class ChaosPlatform:
    """Send the events and requests of a plan, and note the answers in a ledger. Call ``close`` in the end."""

    def __init__(self, system: SystemUnderTest, ledger: Ledger) -> None:
        self.ledger = ledger
        self._system = system
        self._client = Client(system.environment)
        self._http = httpx.AsyncClient(
            base_url=system.environment["GATEWAY_URL"], timeout=HTTP_TIMEOUT_SECONDS, trust_env=False
        )
        self._producer: AIOKafkaProducer | None = None
        servers = system.environment["KAFKA_BOOTSTRAP_SERVERS"]
        self._foreign = {
            codec: Librdkafka(
                servers,
                compression_type=codec,
                message_max_bytes=2 * BOMB_BYTES,
            )
            for codec in ("none", "gzip", "snappy", "lz4", "zstd")
        }

    @property
    def _connected(self) -> AIOKafkaProducer:
        assert self._producer is not None
        return self._producer

    async def open(self, folder: Path) -> None:
        """Connect, and upload VODs to the source bucket."""
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._system.environment["KAFKA_BOOTSTRAP_SERVERS"],
            acks="all",
            request_timeout_ms=5_000,
        )
        await self._producer.start()
        # It exists, so that only the request for its bytes fails.
        self._system.s3.put_object(Bucket=SOURCE_BUCKET, Key=NEVER_ANSWERED_VOD, Body=b"never read")
        for vod in await asyncio.to_thread(_make_vods, folder):
            await asyncio.to_thread(self._system.s3.upload_file, str(vod), SOURCE_BUCKET, vod.name)

    async def close(self) -> None:
        """Disconnect."""
        await self._http.aclose()
        if self._producer is not None:
            await self._producer.stop()

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None,
        headers: Headers,
        codec: str = "",
        partition: int | None = None,
    ) -> tuple[int, int]:
        """Publish an event, and repeat until the broker has acknowledged it.

        Returns:
            the event's partition and offset.
        """
        if codec:
            send = partial(
                self._foreign[codec].deliver,
                topic,
                value,
                key=key,
                headers=headers,
                partition=-1 if partition is None else partition,
            )
            return await _insist(lambda: asyncio.to_thread(send))
        sent = await _insist(
            lambda: self._connected.send_and_wait(topic, value, key=key, headers=headers, partition=partition)
        )
        return sent.partition, sent.offset

    async def _publish_crafted(
        self,
        records: Sequence[tuple[bytes | None, bytes, Headers]],
        partition: int,
        timestamp: int | None = None,
    ) -> int:
        """Publish a batch of highlights that no client library would make; return its first offset."""
        return await _insist(
            lambda: send_crafted(self._connected, DETECTED, records, partition=partition, timestamp=timestamp)
        )

    async def detect(self, send: Send, detected_from: datetime) -> None:
        """Publish a highlight; one that no handler can read gets a good highlight before and after it.

        The broker has acknowledged all of them when this returns.
        """
        key, partition = send.highlight.encode(), partition_of(send)
        before, after = neighbours(send)
        match send.flaw:
            case Flaw.HEADER_NAME:
                sends = (before, send, after)
                records = [(key, _value(each), _headers(each, detected_from)) for each in sends]
                offset = await self._publish_crafted(records, partition)
                for number, each in enumerate(sends):
                    self.ledger.accept(each, partition, offset + number)
            case Flaw.BOMB:
                for each in (before, send, after):
                    place = await self.publish(
                        DETECTED,
                        _value(each),
                        key=key,
                        headers=_headers(each, detected_from),
                        codec="gzip",
                        partition=partition,
                    )
                    self.ledger.accept(each, *place)
            case Flaw.NEGATIVE_TIME:
                record = (key, _value(send), _headers(send, detected_from))
                self.ledger.accept(
                    send, partition, await self._publish_crafted([record], partition, _BEFORE_TIME)
                )
            case _:
                place = await self.publish(
                    DETECTED,
                    _value(send),
                    key=key,
                    headers=_headers(send, detected_from),
                    codec=send.codec or ("none" if send.flaw in _LARGE else ""),
                )
                self.ledger.accept(send, *place)

    async def tick(self) -> None:
        """Send the daily tick."""
        headers = [("ce_id", str(uuid.uuid4()).encode()), ("ce_type", b"tick.daily.v1")]
        await self.publish("daily-tick", b"{}", key=None, headers=headers)

    async def play(self, plan: RoundPlan, healed: asyncio.Event, settled: asyncio.Event) -> None:
        """Send the load at its times. Return when every account has its answers.

        Args:
            plan: the events, and the requests of accounts.
            healed: set when the faults are over: ticks and additional highlights end.
            settled: set when the system has settled: accounts stop waiting for clips that do not exist.
        """
        detected_from, started = detection_time(), time.monotonic()

        async def send(each: Send) -> None:
            await asyncio.sleep(max(0.0, started + each.at - time.monotonic()))
            await self.detect(each, detected_from)

        async with asyncio.TaskGroup() as group:
            ticking = group.create_task(self._tick_on())
            for requests in plan.requests:
                group.create_task(self._act(requests, settled))
            for each in plan.sends:
                group.create_task(send(each))
            keeping_on = group.create_task(self._keep_on(plan, started + plan.seconds))
            await healed.wait()
            ticking.cancel()
            keeping_on.cancel()

    async def _tick_on(self) -> None:
        while True:
            await self.tick()
            await asyncio.sleep(TICK_SECONDS)

    async def _keep_on(self, plan: RoundPlan, start: float) -> None:
        """Send one highlight after the other from a time of the monotonic clock on."""
        await asyncio.sleep(max(0.0, start - time.monotonic()))
        for number in itertools.count():
            await self.detect(extra(plan, number), detection_time())
            await asyncio.sleep(EXTRA_EVERY_SECONDS)

    async def _act(self, requests: AccountRequests, settled: asyncio.Event) -> None:
        clip = f"/v1/clips/{clip_id_for(requests.highlight)}"
        headers = {"Authorization": f"Bearer {self._client.token(requests.account)}"}
        while await self._ask("GET", clip, headers) != HTTPStatus.OK:
            if settled.is_set():
                return
            await asyncio.sleep(AGAIN_SECONDS)
        last_answer = self.ledger.answer_about(requests.highlight, requests.account)
        for number, action in enumerate(requests.actions):
            await asyncio.sleep(requests.pause if number else requests.first_pause)
            last_answer.asked(action)
            method, path = _CALLS[action]
            status, certain = None, True
            while status is None:
                status = await self._ask(method, clip + path, headers)
                if status is None:
                    certain = False
                    await asyncio.sleep(AGAIN_SECONDS)
            if status != HTTPStatus.OK:
                return
            last_answer.answered(action)
            if action in LETTING_GO and not certain:
                return  # a request without an answer may still arrive, after the next request

    async def _ask(self, method: str, path: str, headers: dict[str, str]) -> int | None:
        """Return the status of the answer, or None when it is unknown whether the request took effect."""
        try:
            answer = await self._http.request(method, path, headers=headers)
        except httpx.TransportError:
            return None
        known = answer.status_code == HTTPStatus.OK or answer.status_code in _FINAL_STATUSES
        return answer.status_code if known else None


def _make_vods(folder: Path) -> list[Path]:
    """Generate a VOD, and other VODs from it."""
    vod = folder / "vod.mp4"
    generate_vod(vod, seconds=VOD_SECONDS)
    others = [folder / name for name in _CODING]
    for each in others:
        run_tool(find_tools().ffmpeg, ["-loglevel", "error", "-i", vod, *_CODING[each.name].split(), each])
    return [vod, *others]


_CALLS = {
    "keep": ("POST", "/keep"),
    "unkeep": ("DELETE", "/keep"),
    "publish": ("POST", "/publish"),
    "unpublish": ("DELETE", "/publish"),
    "delete": ("DELETE", ""),
    "restore": ("POST", "/restore"),
}


def detection_time() -> datetime:
    """Return a detection time that is before the broker's time, which would be used in its place."""
    return datetime.now(UTC) - 2 * DETECTION_GAP


async def _insist(publish: Callable[[], Awaitable[Answer]]) -> Answer:
    while True:
        with suppress(KafkaError, KafkaException):
            return await publish()
        await asyncio.sleep(AGAIN_SECONDS)


def partition_of(send: Send) -> int:
    """Return the partition for a highlight that is sent to a chosen partition."""
    return zlib.crc32(send.highlight.encode()) % PARTITIONS


def _headers(send: Send, detected_from: datetime) -> Headers:
    texts = {
        "ce_specversion": "1.0",
        "ce_id": send.event,
        "ce_type": "highlight.detected.v1",
        "ce_source": "detector",
        "ce_time": (detected_from + send.detected * DETECTION_GAP).isoformat(),
        "content-type": "application/json",
    }
    if send.flaw is Flaw.NO_ID:
        del texts["ce_id"]
    headers: list[tuple[str, bytes | None]] = [(name, text.encode()) for name, text in texts.items()]
    match send.flaw:
        case Flaw.NULL_HEADER:
            return [*headers, ("x", None)]
        case Flaw.HEADER_NAME:
            return [*headers, (BAD_NAME, b"x")]
        case Flaw.LARGE_HEADERS | Flaw.LARGE_AND_BAD:
            noise = random.Random(send.highlight).randbytes(_LARGE[send.flaw])  # noqa: S311 - not a secret
            return [*headers, ("x-noise", noise)]
    return headers


def _value(send: Send) -> bytes:
    match send.flaw:
        case Flaw.NOT_JSON | Flaw.LARGE_AND_BAD:
            return b"{"
        case Flaw.BOMB:
            return b" " * BOMB_BYTES
    return json.dumps(_highlight(send)).encode()


_VODS = {Flaw.MISSING: "nowhere.mp4", Flaw.NEVER_ANSWERED: NEVER_ANSWERED_VOD}


def _highlight(send: Send) -> dict[str, Any]:
    start = 10_000.0 if send.flaw is Flaw.OUTSIDE else send.start
    key = _VODS.get(send.flaw, send.vod)
    bucket = "not-ours" if send.flaw is Flaw.FOREIGN else SOURCE_BUCKET
    return {
        "stream_highlight_id": send.highlight,
        "twitch_account_id": send.account,
        "source_vod_id": "vod",
        "source": {"profile": SOURCE_PROFILE, "bucket": bucket, "key": key},
        "start_seconds": start,
        "end_seconds": start + send.seconds,
        "kind": "refined",
        "title": f"Highlight {send.highlight}",
        "is_clipable": send.flaw is not Flaw.NOT_CLIPABLE,
    }
