"""Inject each fault into the system, and end it."""

import asyncio
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from clip_shared.bus.fetching import UnreadableRecord
from local_stack.stack import SOURCE_BUCKET
from tests.chaos.load import NEVER_ANSWERED_VOD, ChaosPlatform, detection_time
from tests.chaos.observe import read_topic
from tests.chaos.plan import Fault, FaultKind, Send, killer, never_answered
from tests.chaos.s3_proxy import WHOLE, StorageFault
from tests.chaos.system import Supervised, SystemUnderTest

REPEATED_AT_ONCE = 12
MID_JOB_PATIENCE_SECONDS = 4.0
# How long a worker stays frozen after its session has ended.
BEYOND_SECONDS = 3.0
SPARE_BYTES = 64 * 1024


class Faults:
    """Inject faults into one system; ``injected`` counts faults that took place, ``missed`` the others.

    A server or process has one fault at a time: the next fault waits until it is over.
    """

    def __init__(self, system: SystemUnderTest, platform: ChaosPlatform) -> None:
        self.injected: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self._system = system
        self._platform = platform
        self._turns: dict[str, asyncio.Lock] = {}
        self._ways: dict[FaultKind, Callable[[Fault, random.Random], Awaitable[bool]]] = {
            FaultKind.KILL_AT: self._kill_at,
            FaultKind.KILL: self._kill,
            FaultKind.FREEZE: self._freeze,
            FaultKind.TERMINATE: self._terminate,
            FaultKind.JOIN_AND_LEAVE: self._join,
            FaultKind.JOIN_AND_DIE: self._join,
            FaultKind.BROKER_KILLED: self._break_broker,
            FaultKind.BROKER_STOPPED: self._break_broker,
            FaultKind.BROKER_FROZEN: self._freeze_broker,
            FaultKind.REFUSED: self._refuse,
            FaultKind.ALL_KILLED: self._kill_all,
            FaultKind.DATABASE_STOPPED: self._stop_database,
            FaultKind.STORAGE: self._fail_storage,
            FaultKind.REPEATED: self._repeat,
            FaultKind.DISK_FULL: self._fill_disk,
            FaultKind.KILLER: self._send_killer,
            FaultKind.POISONED_SOURCE: self._poison_source,
        }
        self.healing = asyncio.Event()
        # The highlight of this round that can never succeed, until it is dead-lettered.
        self.unanswered: Send | None = None

    async def inject(self, fault: Fault, seed: int, started: float) -> None:
        """Wait for a fault's time (on the monotonic clock), inject the fault, and end it."""
        await asyncio.sleep(max(0.0, started + fault.at - time.monotonic()))
        dice = random.Random(f"{seed} {fault}")  # noqa: S311 - chance, not a secret
        took_place = await self._ways[fault.kind](fault, dice)
        counts = self.injected if took_place else self.missed
        counts[f"{fault.kind}: {fault.target}"] += 1

    @asynccontextmanager
    async def _turn(self, target: str) -> AsyncIterator[None]:
        async with self._turns.setdefault(target, asyncio.Lock()):
            yield

    async def _kill_at(self, fault: Fault, _dice: random.Random) -> bool:
        file = self._system.arm(fault.target)
        while file.exists():
            if self.healing.is_set():
                file.unlink(missing_ok=True)
                return False
            await asyncio.sleep(0.1)
        return True

    async def _kill(self, fault: Fault, _dice: random.Random) -> bool:
        async with self._turn(fault.target):
            self._system.kill(self._system.of(fault.target))
        return True

    async def _freeze(self, fault: Fault, _dice: random.Random) -> bool:
        async with self._turn(fault.target), self._system.frozen(self._system.of(fault.target)):
            await asyncio.sleep(self._system.session_seconds + BEYOND_SECONDS)
        return True

    async def _terminate(self, fault: Fault, _dice: random.Random) -> bool:
        worker = self._system.of(fault.target)
        async with self._turn(fault.target):
            if fault.target == "clip-cutter":
                await self._until_mid_job()
            async with worker.lock:
                await self._system.end(worker)
        return True

    async def _until_mid_job(self) -> None:
        deadline = time.monotonic() + MID_JOB_PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if any(self._system.workspace.state.scratch.glob("*/job-*/*")):
                return
            await asyncio.sleep(0.02)

    async def _join(self, fault: Fault, _dice: random.Random) -> bool:
        worker: Supervised = await self._system.join(fault.target)
        await asyncio.sleep(fault.seconds)
        if fault.kind is FaultKind.JOIN_AND_DIE:
            self._system.kill(worker)
            # After a restart, it removes its files from the scratch disk, as the next worker would.
            await self._system.until_ready(worker)
        await self._system.leave(worker)
        return True

    async def _break_broker(self, fault: Fault, _dice: random.Random) -> bool:
        kafka = self._system.servers.kafka
        _, _, service = fault.target.partition(", then ")
        async with self._turn("kafka"):
            end = kafka.kill if fault.kind is FaultKind.BROKER_KILLED else kafka.stop
            await asyncio.to_thread(end)
            await asyncio.sleep(fault.seconds)
            if service:  # together with the messages that it could not send
                self._system.kill(self._system.of(service))
            await self._system.start_again(kafka)
        return True

    async def _freeze_broker(self, fault: Fault, _dice: random.Random) -> bool:
        async with self._turn("kafka"), self._system.frozen_server(self._system.servers.kafka):
            await asyncio.sleep(fault.seconds)
        return True

    async def _refuse(self, fault: Fault, _dice: random.Random) -> bool:
        async with self._turn("kafka"), self._system.refusing(fault.target):
            await asyncio.sleep(fault.seconds)
        return True

    async def _kill_all(self, fault: Fault, _dice: random.Random) -> bool:
        """Kill all processes as a power failure does, except the storage, whose losses are not tested."""
        servers = self._system.servers
        async with self._turn("kafka"), self._turn("postgres"):
            for worker in self._system.workers:
                self._system.kill(worker)
            await asyncio.to_thread(servers.kafka.kill)
            await self._system.stop_database_at_once()
            await asyncio.sleep(fault.seconds)
            await self._system.start_again(servers.postgres)
            await self._system.start_again(servers.kafka)
        return True

    async def _stop_database(self, fault: Fault, _dice: random.Random) -> bool:
        async with self._turn("postgres"):
            await self._system.stop_database_at_once()
            await asyncio.sleep(fault.seconds)
            await self._system.start_again(self._system.servers.postgres)
        return True

    async def _fail_storage(self, fault: Fault, dice: random.Random) -> bool:
        proxy, storage_fault = self._system.proxy, StorageFault(fault.target)
        async with self._turn("storage"):
            before = proxy.injected[storage_fault]
            # The fault hits all requests, or half of them.
            proxy.share = 1.0 if storage_fault in WHOLE else dice.choice((0.5, 1.0))
            proxy.fault = storage_fault
            await asyncio.sleep(fault.seconds)
            while proxy.injected[storage_fault] == before:
                if self.healing.is_set():
                    break
                await asyncio.sleep(0.1)
            proxy.fault = None
        return proxy.injected[storage_fault] > before

    async def _repeat(self, fault: Fault, dice: random.Random) -> bool:
        """Publish some of a topic's events a second time, in random order."""
        servers = self._system.environment["KAFKA_BOOTSTRAP_SERVERS"]
        records: list[ConsumerRecord] = []
        while not records and not self.healing.is_set():
            with suppress(KafkaError, TimeoutError):
                records = [each for each in await read_topic(servers, fault.target) if _is_repeatable(each)]
            await asyncio.sleep(0.2)
        for each in dice.sample(records, min(REPEATED_AT_ONCE, len(records))):
            await self._platform.publish(
                fault.target, each.value or b"", key=each.key, headers=list(each.headers)
            )
        return bool(records)

    async def _fill_disk(self, fault: Fault, _dice: random.Random) -> bool:
        if not self._system.scratch_is_bounded:
            return False
        ballast = self._system.workspace.state.scratch / "ballast"
        try:
            _fill(ballast)
            await asyncio.sleep(fault.seconds)
        finally:
            ballast.unlink(missing_ok=True)
        return True

    async def _send_killer(self, _fault: Fault, dice: random.Random) -> bool:
        await self._platform.detect(killer(dice.randrange(10**9)), detection_time())
        return True

    async def _poison_source(self, _fault: Fault, dice: random.Random) -> bool:
        """Send a highlight whose VOD the storage answers with errors, every time."""
        self._system.proxy.poisoned.add(f"/{SOURCE_BUCKET}/{NEVER_ANSWERED_VOD}")
        send = never_answered(dice.randrange(10**9))
        await self._platform.detect(send, detection_time())
        self.unanswered = send
        return True


def _is_repeatable(record: ConsumerRecord) -> bool:
    """Return whether a copy is the same event: not when its batch is crafted, or it has no timestamp."""
    return not isinstance(record, UnreadableRecord) and record.timestamp >= 0


def _fill(file: Path) -> None:
    with file.open("wb") as ballast:
        free = shutil.disk_usage(file.parent).free
        os.posix_fallocate(ballast.fileno(), 0, max(1, free - SPARE_BYTES))
