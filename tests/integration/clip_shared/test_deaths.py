"""Messages that kill the process that handles them, with SIGKILL: no exception is ever seen."""

import asyncio
import signal
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import Event, ObjectReleased, ReleaseReason
from tests.integration.clip_shared.buses import dead_letters, highlight, new_bus, skip_to_end

pytestmark = pytest.mark.usefixtures("topics")

PROGRAM = """
import asyncio, os, signal, sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from clip_shared.bus.bus import Bus
from clip_shared.contracts.events import HighlightDetected, ObjectReleased
from clip_shared.settings import KafkaSettings

service, topic, diary = sys.argv[1], sys.argv[2], Path(sys.argv[3])
bus = Bus(KafkaSettings(), service=service, registry=CollectorRegistry(), grace_seconds=2)

def work(names):
    with diary.open("a") as file:
        file.write(" ".join(names) + "\\n")
    if any(name.endswith("killer") for name in names):
        os.kill(os.getpid(), signal.SIGKILL)

async def one(event):
    work([event.data.title])

async def batch(events):
    work([event.data.object_key for event in events])
    return []

if topic == HighlightDetected.TOPIC:
    bus.subscriber(HighlightDetected, deadline_seconds=30)(one)
else:
    bus.batch_subscriber(ObjectReleased, deadline_seconds=30, max_records=5)(batch)

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
    """A process that handles messages, started again whenever it dies."""

    settings: KafkaSettings
    folder: Path
    topic: str
    service: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}")
    deaths: int = 0

    @property
    def handled(self) -> list[str]:
        """Each line: what was handled together."""
        diary = self.folder / "diary"
        return diary.read_text().splitlines() if diary.exists() else []

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
            self.deaths += 1

    async def _start(self) -> asyncio.subprocess.Process:
        program = self.folder / "program.py"
        program.write_text(PROGRAM)
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": self.settings.kafka_bootstrap_servers,
            "KAFKA_SESSION_TIMEOUT_SECONDS": str(self.settings.kafka_session_timeout_seconds),
        }
        command = (sys.executable, str(program), self.service, self.topic, str(self.folder / "diary"))
        return await asyncio.create_subprocess_exec(*command, env=environment)


async def test_a_killer_is_dead_lettered_at_its_third_death_and_the_rest_is_handled(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    key, topic = uuid.uuid4().hex, "highlight-detected"
    worker = Worker(kafka_settings, tmp_path, topic)
    await skip_to_end(kafka_settings, worker.service, topic)
    bus = new_bus(kafka_settings)
    await bus.start()
    for title in ("killer", "behind it", "last"):
        await bus.publish(highlight(title, key))
    await bus.stop()

    async with asyncio.timeout(110):
        await worker.work_until(lambda: "last" in worker.handled)
    assert worker.deaths == 3
    assert worker.handled == [*["killer"] * 3, "behind it", "last"]
    (letter,) = await dead_letters(kafka_settings, topic, key.encode())
    headers = dict(letter.headers)
    assert headers["dlq_error_type"] == b"RepeatedDeath"
    assert headers["dlq_error"] == b"3 processes have died while they handled it"


async def test_in_a_batch_only_the_killer_is_dead_lettered(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    clip_id, topic = uuid.uuid4(), "clip-objects-released"
    worker = Worker(kafka_settings, tmp_path, topic)
    keys = [f"{clip_id}-{name}" for name in ("a", "b", "killer", "c", "d", "e", "f", "g", "h", "i")]
    await skip_to_end(kafka_settings, worker.service, topic)
    bus = new_bus(kafka_settings)
    await bus.start()
    for key in keys:
        released = ObjectReleased(
            clip_id=clip_id, bucket="clips", object_key=key, reason=ReleaseReason.PURGED
        )
        await bus.publish(Event.new(released, source="test"))
    await bus.stop()

    async with asyncio.timeout(110):
        await worker.work_until(lambda: " ".join(worker.handled).endswith(keys[-1]))
    assert worker.handled[0] == " ".join(keys[:5])
    # One death with the batch, the rest alone.
    assert worker.handled[1:6] == [keys[0], keys[1], *[keys[2]] * 3]
    assert worker.deaths == 4
    assert worker.handled[6:8] == keys[3:5]
    # Batches again, in the end.
    assert any(" " in line for line in worker.handled[8:])
    (letter,) = await dead_letters(kafka_settings, topic, str(clip_id).encode())
    assert keys[2].encode() in letter.value
