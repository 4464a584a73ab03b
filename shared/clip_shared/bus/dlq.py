"""Dead letters: count them, read them, and send them back to where they came from.

A dead letter stays in ``<topic>.dlq`` until its retention ends. It is *pending* until somebody deals with it:
what was sent back or discarded is noted in a topic of its own, ``dead-letters-dealt-with``, whose records
outlive every letter (the offsets of a group would be forgotten after a week).

What is sent back goes to the partition that it came from, with its identity and its time (see
:func:`clip_shared.bus.resend.send_copy`): a consumer that had done the work after all does it once, and an
old event does not win over newer ones.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition

from clip_shared.bus.delivery.dead_letters import LEFT_OUT, NOTE_PREFIX, SHA256, TRUNCATED
from clip_shared.bus.log_reader import LogReader, log_reader
from clip_shared.bus.resend import send_copy, sender
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.topics import DEALT_WITH, DLQ_SUFFIX, TOPICS
from clip_shared.errors import PermanentError

Position = tuple[TopicPartition, int]


@dataclass(frozen=True)
class DeadLetter:
    """A message that could not be handled, and what is known about it."""

    record: ConsumerRecord
    notes: Mapping[str, str]

    @property
    def position(self) -> str:
        """Where it stands in the dead letters: ``partition:offset``."""
        return f"{self.record.partition}:{self.record.offset}"

    @property
    def time(self) -> datetime:
        """When it was dead-lettered."""
        return datetime.fromtimestamp(self.record.timestamp / 1000, UTC)

    @property
    def original(self) -> ConsumerRecord:
        """The message as it came: where it stood, when it was sent, and without the notes."""
        return replace(
            self.record,
            topic=self.record.topic.removesuffix(DLQ_SUFFIX),
            partition=self._number("dlq_partition", self.record.partition),
            offset=self._number("dlq_offset", self.record.offset),
            timestamp=self._number("dlq_timestamp_ms", self.record.timestamp),
            headers=tuple(each for each in self.record.headers if not each[0].startswith(NOTE_PREFIX)),
        )

    def _number(self, note: str, otherwise: int) -> int:
        text = self.notes.get(note, "")
        return int(text) if text.removeprefix("-").isdecimal() else otherwise

    @property
    def lacks(self) -> str | None:
        """What of the message did not fit, in words; None: it is whole, and can be sent back."""
        parts = []
        if TRUNCATED in self.notes:
            size, digest = self.notes[TRUNCATED], self.notes.get(SHA256)
            parts.append(f"the end of its value ({size} bytes, sha256 {digest})")
        if LEFT_OUT in self.notes:
            parts.append(self.notes[LEFT_OUT])
        return " and ".join(parts) or None


@dataclass(frozen=True)
class Replayed:
    """How many dead letters were dealt with, and how many were refused because a part of them is missing."""

    dealt_with: int
    refused: int


async def count(settings: KafkaSettings, topic: str) -> tuple[int, int]:
    """How many dead letters a topic has: (pending, all that are retained)."""
    async with _letters(settings, topic) as letters:
        bounds = [await letters.reader.bounds(each) for each in letters.partitions]
        retained = sum(last - first for first, last in bounds)
        return retained - len(letters.dealt_with), retained


async def pending(settings: KafkaSettings, topic: str, *, limit: int) -> list[DeadLetter]:
    """The oldest dead letters of a topic that nobody has dealt with, at most ``limit``."""
    found: list[DeadLetter] = []
    async with _letters(settings, topic) as letters:
        async for letter in letters.pending():
            found.append(letter)
            if len(found) == limit:
                break
    return found


async def replay(settings: KafkaSettings, topic: str, *, limit: int, discard: bool = False) -> Replayed:
    """Send pending dead letters back to their topic, oldest first, and note that they are dealt with.

    Each is noted only once the bus has confirmed it: an interruption repeats at most one. A letter that lacks
    a part of its message stays pending, and can only be discarded.

    Args:
        settings: the bus.
        topic: the topic that they came from (not its dead letters).
        limit: at most so many.
        discard: note them without sending them back.
    """
    dealt_with = refused = 0
    async with _letters(settings, topic) as letters, sender(settings) as producer:
        async for letter in letters.pending():
            if dealt_with == limit:
                break
            if letter.lacks and not discard:
                refused += 1
                continue
            if not discard:
                await send_copy(producer, letter.original)
            await _note_dealt_with(producer, letter.record)
            dealt_with += 1
    return Replayed(dealt_with, refused)


@dataclass(frozen=True)
class _Letters:
    reader: LogReader
    partitions: list[TopicPartition]
    dealt_with: set[Position]

    async def pending(self) -> AsyncIterator[DeadLetter]:
        for partition in self.partitions:
            first, last = await self.reader.bounds(partition)
            while (partition, first) in self.dealt_with:  # what is dealt with is mostly the oldest
                first += 1
            async for record in self.reader.read(partition, first, last):
                if (partition, record.offset) not in self.dealt_with:
                    yield _letter(record)


@asynccontextmanager
async def _letters(settings: KafkaSettings, topic: str) -> AsyncIterator[_Letters]:
    name = topic + DLQ_SUFFIX
    if name not in {each.name for each in TOPICS}:
        raise PermanentError(f"{topic} has no dead letters; see: clip-shared dlq list")
    async with log_reader(settings, f"deal with {name}", name, DEALT_WITH.name) as reader:
        partitions = reader.partitions(name)
        yield _Letters(reader, partitions, await _dealt_with(reader, partitions))


async def _dealt_with(reader: LogReader, partitions: list[TopicPartition]) -> set[Position]:
    """The positions of the letters, of those that are there, that were dealt with."""
    noted = await _notes(reader)
    found: set[Position] = set()
    for partition in partitions:
        first, last = await reader.bounds(partition)
        ours = {offset: time for (place, offset), time in noted.items() if place == partition}
        if candidates := {offset for offset in ours if first <= offset < last}:
            # A note that is older than every letter speaks of a topic that was deleted and made again.
            oldest = await anext(reader.read(partition, first, last), None)
            if oldest is not None:  # else the retention has just ended
                found |= {(partition, offset) for offset in candidates if ours[offset] >= oldest.timestamp}
    return found


async def _notes(reader: LogReader) -> dict[Position, int]:
    """Every position that was noted, with the timestamp of its letter."""
    found = {}
    for partition in reader.partitions(DEALT_WITH.name):
        async for record in reader.read(partition, *await reader.bounds(partition)):
            topic, number, offset = (record.key or b"").decode().rsplit(":", 2)
            found[TopicPartition(topic, int(number)), int(offset)] = int(record.value or b"0")
    return found


async def _note_dealt_with(producer: AIOKafkaProducer, letter: ConsumerRecord) -> None:
    await producer.send_and_wait(
        DEALT_WITH.name,
        key=f"{letter.topic}:{letter.partition}:{letter.offset}".encode(),
        value=str(letter.timestamp).encode(),
    )


def _letter(record: ConsumerRecord) -> DeadLetter:
    notes = {
        name: value.decode(errors="replace")
        for name, value in record.headers
        if name.startswith(NOTE_PREFIX) and value is not None
    }
    return DeadLetter(record, notes)
