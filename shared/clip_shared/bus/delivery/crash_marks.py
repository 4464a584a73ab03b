"""A message that crashes its process leaves no exception: crash marks count the processes it has crashed.

Only subscribers whose handlers run native code have them. Such a consumer commits each message before it
begins another one. So the message that crashed a process stands at a committed offset: it is the first
message of a partition that the next process begins with. That message, and a redelivered one, is *marked*
before its handler begins: its offset is committed once more, with the mark as the commit's metadata. The
commit that follows a handled message removes the mark; a failure that the process survived, and an orderly
stop, take it back. Every other message is handled without a mark, and costs nothing.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from clip_shared.errors import RepeatedCrash, TransientError

log = structlog.get_logger()

MAX_CRASHES = 3
MARK_SECONDS = 5.0

# The word is that of released versions, which read the marks of this one during an upgrade.
_METADATA = re.compile(r"deaths=(\d{1,9}) process=(\w*)")


@dataclass(frozen=True)
class CrashMark:
    """The number of processes that a message is known to have crashed, and the process that handles it now.

    ``process`` is empty while no process handles the message.
    """

    crashes: int = 0
    process: str = ""

    @classmethod
    def read(cls, metadata: str) -> "CrashMark":
        """Return the mark in a commit's metadata; a mark without crashes if it holds anything else."""
        found = _METADATA.fullmatch(metadata)
        return cls(int(found[1]), found[2]) if found else cls()

    def __str__(self) -> str:
        return f"deaths={self.crashes} process={self.process}" if self != CrashMark() else ""

    def crashes_seen_by(self, process: str) -> int:
        """Return the crashes, with that of the marked process if it is not ``process`` itself."""
        return self.crashes + (self.process not in {"", process})


@dataclass(frozen=True)
class _Suspect:
    """A message that may crash its process: its offset, and the processes it has crashed before."""

    offset: int
    crashes: int


class CrashMarks:
    """The crash marks of one subscriber.

    Args:
        subscriber: FastStream's; its consumer is replaced from time to time.
        process: a name that no other process has.
    """

    def __init__(self, subscriber: Any, process: str) -> None:
        self._subscriber = subscriber
        self._process = process
        self._stopping = False
        # The first message of each partition, or the last one that was marked.
        self._suspects: dict[TopicPartition, _Suspect] = {}
        self._marked: dict[TopicPartition, _Suspect] = {}

    @asynccontextmanager
    async def watch(self, record: ConsumerRecord, *, is_redelivered: bool) -> AsyncIterator[None]:
        """Mark a message, where that is due, while it is handled in this context.

        Raises:
            RepeatedCrash: the message has crashed ``MAX_CRASHES`` processes; the context is not entered.
            TransientError: Kafka did not answer, or did not take the mark.
        """
        await self._mark(record, is_redelivered=is_redelivered)
        try:
            yield
        except Exception:
            await self.take_back()
            raise
        self._marked.clear()  # the commit that follows removes the mark

    async def _mark(self, record: ConsumerRecord, *, is_redelivered: bool) -> None:
        partition = TopicPartition(record.topic, record.partition)
        if partition not in self._suspects:
            self._suspects[partition] = await self._first_suspect(partition, record.offset)
        elif is_redelivered and self._suspects[partition].offset != record.offset:
            self._suspects[partition] = _Suspect(record.offset, crashes=0)
        suspect = self._suspects[partition]
        if suspect.offset != record.offset:
            return
        if suspect.crashes >= MAX_CRASHES:
            raise RepeatedCrash(f"{suspect.crashes} processes crashed while they handled the message")
        if not self._stopping:
            await self._commit({partition: suspect}, self._process)
            self._marked = {partition: suspect}

    async def _first_suspect(self, partition: TopicPartition, offset: int) -> _Suspect:
        async with _kafka_answers():
            # aiokafka's consumer knows the metadata of commits, but has no public way to read it.
            commits = await self._subscriber.consumer._coordinator.fetch_committed_offsets([partition])
        commit = commits.get(partition)
        mark = CrashMark.read(commit.metadata) if commit and commit.offset == offset else CrashMark()
        crashes = mark.crashes_seen_by(self._process)
        if crashes:
            log.warning(
                "a process crashed while it handled the next message",
                topic=partition.topic,
                partition=partition.partition,
                offset=offset,
                crashes=crashes,
            )
        return _Suspect(offset, crashes)

    async def take_back(self) -> None:
        """Remove the mark of the message at work: a crash from now on has another cause."""
        marked, self._marked = self._marked, {}
        if marked:
            try:
                await self._commit(marked, process="")
            except TransientError as error:
                log.warning("a crash mark cannot be taken back", error=str(error))

    async def stop(self) -> None:
        """Take the mark back and write no more: the process has been told to end."""
        self._stopping = True
        await self.take_back()

    def forget(self) -> None:
        """Forget the partitions: they have been revoked."""
        self._suspects.clear()
        self._marked.clear()

    async def _commit(self, suspects: dict[TopicPartition, _Suspect], process: str) -> None:
        marks = {
            partition: (each.offset, str(CrashMark(each.crashes, process)))
            for partition, each in suspects.items()
        }
        async with _kafka_answers():
            await self._subscriber.consumer.commit(marks)


@asynccontextmanager
async def _kafka_answers() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(MARK_SECONDS):
            yield
    except (KafkaError, TimeoutError) as error:
        raise TransientError(f"crash marks cannot be read or written: {error!r}") from error
