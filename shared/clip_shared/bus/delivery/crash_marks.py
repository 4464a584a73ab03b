"""Work that kills its process leaves no exception behind: here its deaths are counted, across processes.

A consumer commits each message before it begins another one. So whatever killed it stands at a committed
offset: it is the first message of a partition that its successor begins with. That one, and a message that is
delivered again, is *marked* before it is begun: its offset is committed once more, with the mark as the
commit's metadata. The commit that follows a handled message removes the mark; a failure that the process
survived, and a stop in order, take it back. Every other message is handled without a mark, and costs nothing.

A batch does not say which of its messages was the killer: after a death it is split (see
:class:`clip_shared.bus.batch_size.BatchSize`).
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from faststream.exceptions import NackMessage

from clip_shared.bus.batch_size import BatchSize
from clip_shared.errors import RepeatedDeath, TransientError

log = structlog.get_logger()

MAX_DEATHS = 3
MARK_SECONDS = 5.0

_MARK = re.compile(r"deaths=(\d{1,9}) process=(\w*)")


@dataclass(frozen=True)
class Mark:
    """How many processes are known to have died of a message, and which one handles it (empty: none)."""

    deaths: int = 0
    process: str = ""

    @classmethod
    def read(cls, metadata: str) -> "Mark":
        """The mark of a commit; of one that has none, no death and no process."""
        found = _MARK.fullmatch(metadata)
        return cls(int(found[1]), found[2]) if found else cls()

    def __str__(self) -> str:
        """The metadata of a commit."""
        return f"deaths={self.deaths} process={self.process}" if self != Mark() else ""

    def deaths_seen_by(self, process: str) -> int:
        """The deaths, with the one that ``process`` finds: nobody is left who handles the message."""
        return self.deaths + (self.process not in {"", process})


class Deaths:
    """The deaths that one subscriber's messages have brought about.

    Args:
        subscriber: FastStream's; its consumer comes and goes.
        batch_size: the subscriber's.
        process: a name that no other process has: it does not count its own marks as somebody's death.
    """

    def __init__(self, subscriber: Any, batch_size: BatchSize, process: str) -> None:
        self._subscriber = subscriber
        self._process = process
        self._batch_size = batch_size
        self._stopping = False
        # By partition, the message that was looked at last: its offset and its deaths.
        self._known: dict[TopicPartition, tuple[int, int]] = {}
        self._marked: dict[TopicPartition, tuple[int, int]] = {}

    @asynccontextmanager
    async def watch(self, records: Sequence[ConsumerRecord], *, again: bool) -> AsyncIterator[None]:
        """Mark a message or a batch, where that is due, for as long as it is handled.

        Args:
            records: what is handled in the context.
            again: this process has had it before.

        Raises:
            RepeatedDeath: too many processes have died of it; nothing was begun.
            NackMessage: somebody has died of a message of this batch; its messages will come one by one.
            TransientError: the bus did not answer, or did not take the mark.
        """
        await self._begin(records, again)
        try:
            yield
        except Exception:
            await self.take_back()
            raise
        self._marked.clear()  # the commit that follows removes the marks

    async def _begin(self, records: Sequence[ConsumerRecord], again: bool) -> None:
        firsts = _first_offsets(records)
        await self._learn({each: offset for each, offset in firsts.items() if each not in self._known})
        due = {}
        for partition, offset in firsts.items():
            known_offset, deaths = self._known[partition]
            if offset == known_offset:
                due[partition] = (offset, deaths)
            elif again or self._batch_size.is_split:
                due[partition] = self._known[partition] = (offset, 0)
        most = max((deaths for _, deaths in due.values()), default=0)
        if most and len(records) > 1:
            self._batch_size.split()
            raise NackMessage
        if most >= MAX_DEATHS:
            raise RepeatedDeath(f"{most} processes have died while they handled it")
        if due and not self._stopping:
            await self._write(due, self._process)
            self._marked = due

    async def _learn(self, offsets: Mapping[TopicPartition, int]) -> None:
        if not offsets:
            return
        async with _answer_of_the_bus():
            # aiokafka's consumer knows the metadata of commits, but has no public way to read it.
            commits = await self._subscriber.consumer._coordinator.fetch_committed_offsets(list(offsets))
        for partition, offset in offsets.items():
            commit = commits.get(partition)
            mark = Mark.read(commit.metadata) if commit and commit.offset == offset else Mark()
            deaths = mark.deaths_seen_by(self._process)
            if deaths:
                log.warning(
                    "a process died of the message that comes next",
                    topic=partition.topic,
                    partition=partition.partition,
                    offset=offset,
                    deaths=deaths,
                )
            self._known[partition] = (offset, deaths)

    async def _write(self, marks: Mapping[TopicPartition, tuple[int, int]], process: str) -> None:
        async with _answer_of_the_bus():
            await self._subscriber.consumer.commit(
                {each: (offset, str(Mark(deaths, process))) for each, (offset, deaths) in marks.items()}
            )

    async def take_back(self) -> None:
        """Remove the marks of what is at work: should the process die now, it died of something else."""
        marks, self._marked = self._marked, {}
        if marks:
            try:
                await self._write(marks, process="")
            except TransientError as error:
                log.warning("a mark could not be taken back", error=str(error))

    async def stop(self) -> None:
        """Take marks back and set no more: the process has been told to end."""
        self._stopping = True
        await self.take_back()

    def forget(self) -> None:
        """Drop what is known of partitions: they have been revoked."""
        self._known.clear()
        self._marked.clear()


@asynccontextmanager
async def _answer_of_the_bus() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(MARK_SECONDS):
            yield
    except (KafkaError, TimeoutError) as error:
        raise TransientError(f"deaths cannot be counted: {error!r}") from error


def _first_offsets(records: Iterable[ConsumerRecord]) -> dict[TopicPartition, int]:
    firsts: dict[TopicPartition, int] = {}
    for record in records:
        partition = TopicPartition(record.topic, record.partition)
        firsts[partition] = min(record.offset, firsts.get(partition, record.offset))
    return firsts
