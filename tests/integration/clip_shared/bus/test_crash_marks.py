"""Messages that crash the process that handles them, with SIGKILL: no exception is ever seen."""

import asyncio
import signal
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import ANY

import pytest
from aiokafka.structs import OffsetAndMetadata

from clip_shared.bus.bus import Rejected
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import Event, HighlightDetected
from clip_shared.errors import TransientError
from tests.integration.clip_shared.bus.buses import (
    committed,
    dead_letters,
    highlight,
    new_bus,
    running,
    skip_to_end,
    until,
)

pytestmark = pytest.mark.usefixtures("topics")

TOPIC = HighlightDetected.TOPIC
PROGRAM = """
import asyncio, os, signal, sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from clip_shared.bus.bus import Bus
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import HighlightDetected

service, titles = sys.argv[1], Path(sys.argv[2])
bus = Bus(KafkaSettings(), service=service, registry=CollectorRegistry(), grace_seconds=2)

async def handle(event):
    with titles.open("a") as file:
        file.write(event.data.title + "\\n")
    if event.data.title == "killer":
        os.kill(os.getpid(), signal.SIGKILL)

bus.subscriber(HighlightDetected, deadline_seconds=30, crash_marks=True)(handle)

async def main():
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    await bus.start()
    await told.wait()
    await bus.stop()

asyncio.run(main())
"""


@dataclass
class Worker:
    """A process that handles highlights, started again whenever it crashes."""

    settings: KafkaSettings
    folder: Path
    service: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}")
    crashes: int = 0

    @property
    def handled(self) -> list[str]:
        titles = self.folder / "titles"
        return titles.read_text().splitlines() if titles.exists() else []

    async def work_until(self, done: Callable[[], bool]) -> None:
        while True:
            process = await self._start()
            while process.returncode is None and not done():
                await asyncio.sleep(0.02)
            if process.returncode is None:
                process.terminate()
                assert await process.wait() == 0
                return
            assert process.returncode == -signal.SIGKILL
            self.crashes += 1

    async def _start(self) -> asyncio.subprocess.Process:
        program = self.folder / "program.py"
        program.write_text(PROGRAM)
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": self.settings.kafka_bootstrap_servers,
            "KAFKA_SESSION_TIMEOUT_SECONDS": str(self.settings.kafka_session_timeout_seconds),
        }
        command = (sys.executable, str(program), self.service, str(self.folder / "titles"))
        return await asyncio.create_subprocess_exec(*command, env=environment)


async def test_a_killer_is_dead_lettered_at_its_third_crash_and_the_rest_is_handled(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    key, worker = uuid.uuid4().hex, Worker(kafka_settings, tmp_path)
    await skip_to_end(kafka_settings, worker.service, TOPIC)
    async with running(new_bus(kafka_settings)) as bus:
        for title in ("killer", "behind it", "last"):
            await bus.publish(highlight(title, key))

    async with asyncio.timeout(110):
        await worker.work_until(lambda: "last" in worker.handled)
    assert worker.crashes == 3
    assert worker.handled == [*["killer"] * 3, "behind it", "last"]
    (letter,) = await dead_letters(kafka_settings, TOPIC, key.encode())
    headers = dict(letter.headers)
    assert headers["dlq_error_type"] == b"RepeatedCrash"
    assert headers["dlq_error"] == b"3 processes crashed while they handled the message"


@pytest.mark.parametrize("is_batch", [False, True])
async def test_without_crash_marks_commits_hold_none_and_those_of_an_older_version_count_nothing(
    kafka_settings: KafkaSettings, *, is_batch: bool
) -> None:
    key, service, handled = uuid.uuid4().hex, f"test-{uuid.uuid4().hex[:8]}", list[str]()
    group, seen = f"{service}.{TOPIC}", set[str]()
    await skip_to_end(kafka_settings, service, TOPIC, metadata="deaths=5 process=older")
    before = await committed(kafka_settings, group)
    bus = new_bus(kafka_settings, service)

    async def handle(events: list[Event[HighlightDetected]]) -> list[Rejected[HighlightDetected]]:
        (event,) = events
        seen.update(each.metadata for each in (await committed(kafka_settings, group)).values())
        handled.append(event.data.title)
        if len(handled) == 2:
            raise TransientError("it is redelivered")
        return []

    async def handle_one(event: Event[HighlightDetected]) -> None:
        await handle([event])

    if is_batch:
        bus.batch_subscriber(HighlightDetected, deadline_seconds=30, max_records=1)(handle)
    else:
        bus.subscriber(HighlightDetected, deadline_seconds=30)(handle_one)

    async with running(bus):
        for title in ("first", "second", "last"):
            await bus.publish(highlight(title, key))
        await until(lambda: handled[-1:] == ["last"])
    assert handled == ["first", "second", "second", "last"]
    assert seen <= {"", "deaths=5 process=older"}
    after = await committed(kafka_settings, group)
    assert [after[each] for each in after if after[each] != before[each]] == [OffsetAndMetadata(ANY, "")]
    assert await dead_letters(kafka_settings, TOPIC, key.encode()) == []
