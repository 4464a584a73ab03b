"""The platform around Clips: a detector, a scheduler, and accounts that act on their clips."""

import asyncio
import itertools
import json
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from clip_shared.events import clip_id_for
from local_stack.client import Client
from local_stack.stack import SOURCE_BUCKET, SOURCE_PROFILE
from local_stack.vod import generate_vod
from tests.chaos.ledger import Ledger
from tests.chaos.plan import EXTRA_EVERY_SECONDS, TICK_SECONDS, Plan, Send, Wish, extra
from tests.chaos.system import System

VOD_SECONDS = 20
AGAIN_SECONDS = 0.3
HTTP_TIMEOUT_SECONDS = 10.0
# Of events that are detected one after the other.
DETECTION_GAP = timedelta(seconds=1)
_TOLD = {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.FORBIDDEN}


class Platform:
    """Sends what a plan says, and writes down what it is told. ``close`` it in the end."""

    def __init__(self, system: System, ledger: Ledger) -> None:
        self.ledger = ledger
        self._system = system
        self._client = Client(system.environment)
        self._http = httpx.AsyncClient(
            base_url=system.environment["GATEWAY_URL"], timeout=HTTP_TIMEOUT_SECONDS, trust_env=False
        )
        self._producer: AIOKafkaProducer | None = None

    async def open(self, folder: Path) -> None:
        """Connect, and put recordings into the source bucket."""
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._system.environment["KAFKA_BOOTSTRAP_SERVERS"],
            acks="all",
            request_timeout_ms=5_000,
        )
        await self._producer.start()
        for container in ("mp4", "ts"):
            vod = folder / f"vod.{container}"
            await asyncio.to_thread(generate_vod, vod, seconds=VOD_SECONDS)
            await asyncio.to_thread(self._system.s3.upload_file, str(vod), SOURCE_BUCKET, vod.name)

    async def close(self) -> None:
        """Disconnect."""
        await self._http.aclose()
        if self._producer is not None:
            await self._producer.stop()

    async def publish(
        self, topic: str, value: bytes, *, key: bytes | None, headers: list[tuple[str, bytes]]
    ) -> None:
        """Publish, again and again until the broker has acknowledged it."""
        assert self._producer is not None
        while True:
            with suppress(KafkaError):
                await self._producer.send_and_wait(topic, value, key=key, headers=headers)
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def detect(self, send: Send, detected_from: datetime) -> None:
        """Publish a highlight; accepted when this returns."""
        headers = {
            "ce_specversion": "1.0",
            "ce_id": send.event,
            "ce_type": "highlight.detected.v1",
            "ce_source": "detector",
            "ce_time": (detected_from + send.detected * DETECTION_GAP).isoformat(),
            "content-type": "application/json",
        }
        value = b"{" if send.flaw == "not JSON" else json.dumps(_highlight(send)).encode()
        await self.publish(
            "highlight-detected",
            value,
            key=send.highlight.encode(),
            headers=[(name, text.encode()) for name, text in headers.items()],
        )
        self.ledger.accepted[send.event] = send

    async def tick(self) -> None:
        """Call for a clean-up."""
        headers = [("ce_id", uuid.uuid4().hex.encode()), ("ce_type", b"tick.daily.v1")]
        await self.publish("daily-tick", b"{}", key=None, headers=headers)

    async def play(self, plan: Plan, healed: asyncio.Event, settled: asyncio.Event) -> None:
        """Send the load in its time. Returns when every account has had its answers.

        Args:
            plan: what to send, and what accounts wish.
            healed: no more ticks are needed.
            settled: a clip that is not there by now is not waited for.
        """
        detected_from, started = detection_time(), time.monotonic()

        async def send(each: Send) -> None:
            await asyncio.sleep(max(0.0, started + each.at - time.monotonic()))
            await self.detect(each, detected_from)

        async with asyncio.TaskGroup() as group:
            ticking = group.create_task(self._tick_on())
            for wish in plan.wishes:
                group.create_task(self._wish(wish, settled))
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

    async def _keep_on(self, plan: Plan, start: float) -> None:
        """Send one highlight after the other from a moment (of the monotonic clock) on."""
        await asyncio.sleep(max(0.0, start - time.monotonic()))
        for number in itertools.count():
            await self.detect(extra(plan, number), detection_time())
            await asyncio.sleep(EXTRA_EVERY_SECONDS)

    async def _wish(self, wish: Wish, settled: asyncio.Event) -> None:
        clip = f"/v1/clips/{clip_id_for(wish.highlight)}"
        headers = {"Authorization": f"Bearer {self._client.token(wish.account)}"}
        while await self._ask("GET", clip, headers) != HTTPStatus.OK:
            if settled.is_set():
                return
            await asyncio.sleep(AGAIN_SECONDS)
        told = self.ledger.told_of(wish.highlight, wish.account)
        for number, action in enumerate(wish.actions):
            await asyncio.sleep(wish.pause if number else wish.haste)
            told.asked(action)
            method, path = _CALLS[action]
            status, certain = None, True
            while status is None:
                status = await self._ask(method, clip + path, headers)
                if status is None:
                    certain = False
                    await asyncio.sleep(AGAIN_SECONDS)
            if status != HTTPStatus.OK:
                return
            told.answered(action)
            if action == "unkeep" and not certain:
                return  # a call that was given up may still arrive, after whatever would be asked next

    async def _ask(self, method: str, path: str, headers: dict[str, str]) -> int | None:
        """The status of an answer; None: nobody knows what has become of the call."""
        try:
            answer = await self._http.request(method, path, headers=headers)
        except httpx.TransportError:
            return None
        known = answer.status_code == HTTPStatus.OK or answer.status_code in _TOLD
        return answer.status_code if known else None


_CALLS = {
    "keep": ("POST", "/keep"),
    "unkeep": ("DELETE", "/keep"),
    "publish": ("POST", "/publish"),
    "unpublish": ("DELETE", "/publish"),
}


def detection_time() -> datetime:
    """A time for what is detected now: not later than the broker's, which would be taken instead."""
    return datetime.now(UTC) - 2 * DETECTION_GAP


def _highlight(send: Send) -> dict[str, Any]:
    start = 10_000.0 if send.flaw == "window_outside_source" else send.start
    key = "nowhere.mp4" if send.flaw == "source_missing" else f"vod.{send.container}"
    bucket = "not-ours" if send.flaw == "foreign bucket" else SOURCE_BUCKET
    return {
        "stream_highlight_id": send.highlight,
        "twitch_account_id": send.account,
        "source_vod_id": "vod",
        "source": {"profile": SOURCE_PROFILE, "bucket": bucket, "key": key},
        "start_seconds": start,
        "end_seconds": start + send.seconds,
        "kind": "refined",
        "title": f"Highlight {send.highlight}",
        "is_clipable": send.flaw != "not_clipable",
    }
