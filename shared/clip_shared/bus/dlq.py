"""Dead letters: count them, read them, and send them back to where they came from.

A dead letter stays in ``<topic>.dlq`` until its retention ends. It is *pending* until an operator sends it
back or discards it; that is noted in the topic ``dead-letters-dealt-with``, whose records outlive every dead
letter (Kafka would forget the offsets of a group after a week).

A message that is sent back goes to its own partition, with its identity and its time (see
:func:`clip_shared.bus.resend.send_copy`): a consumer that has handled it already does its work once, and an
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
    """A message that could not be handled, and the notes about why."""

    record: ConsumerRecord
    notes: Mapping[str, str]

    @property
    def position(self) -> str:
        """Its place in the dead letters: ``partition:offset``."""
        return f"{self.record.partition}:{self.record.offset}"

    @property
    def time(self) -> datetime:
        """When it was dead-lettered."""
        return datetime.fromtimestamp(self.record.timestamp / 1000, UTC)

    @property
    def original(self) -> ConsumerRecord:
        """The message as it was delivered: with its place and timestamp, and without the notes."""
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
        """The parts of the message that did not fit, in words; None: it is complete, and can be sent back."""
        parts = []
        if TRUNCATED in self.notes:
            size, digest = self.notes[TRUNCATED], self.notes.get(SHA256)
            parts.append(f"the end of its value ({size} bytes, sha256 {digest})")
        if LEFT_OUT in self.notes:
            parts.append(self.notes[LEFT_OUT])
        return " and ".join(parts) or None


@dataclass(frozen=True)
class ReplayedDeadLetters:
    """How many dead letters were dealt with, and how many were not because a part is missing."""

    dealt_with: int
    refused: int


async def count(settings: KafkaSettings, topic: str) -> tuple[int, int]:
    """Return the number of dead letters of a topic: those pending, and all that are retained."""
    async with _open(settings, topic) as dead_letters:
        bounds = [await dead_letters.reader.bounds(each) for each in dead_letters.partitions]
        retained = sum(last - first for first, last in bounds)
        return retained - len(dead_letters.dealt_with), retained


async def pending(settings: KafkaSettings, topic: str, *, limit: int) -> list[DeadLetter]:
    """Return the oldest pending dead letters of a topic, at most ``limit``."""
    found: list[DeadLetter] = []
    async with _open(settings, topic) as dead_letters:
        async for dead_letter in dead_letters.pending():
            found.append(dead_letter)
            if len(found) == limit:
                break
    return found


async def replay(
    settings: KafkaSettings, topic: str, *, limit: int, discard: bool = False
) -> ReplayedDeadLetters:
    """Send pending dead letters back to their topic, oldest first, and note that they are dealt with.

    A dead letter is noted after Kafka has confirmed its message: an interruption repeats at most one. A dead
    letter that lacks a part of its message stays pending, and can only be discarded.

    Args:
        settings: how to reach Kafka.
        topic: the topic that the messages came from (not its dead letters).
        limit: the most dead letters to deal with.
        discard: note them without sending them back.

    Raises:
        PermanentError: the topic has no dead letters.
        TransientError: Kafka cannot be reached, or takes no record.
    """
    dealt_with = refused = 0
    async with _open(settings, topic) as dead_letters, sender(settings) as producer:
        async for dead_letter in dead_letters.pending():
            if dealt_with == limit:
                break
            if dead_letter.lacks and not discard:
                refused += 1
                continue
            if not discard:
                await send_copy(producer, dead_letter.original)
            await _note_dealt_with(producer, dead_letter.record)
            dealt_with += 1
    return ReplayedDeadLetters(dealt_with, refused)


@dataclass(frozen=True)
class _DeadLetterTopic:
    reader: LogReader
    partitions: list[TopicPartition]
    dealt_with: set[Position]

    async def pending(self) -> AsyncIterator[DeadLetter]:
        for partition in self.partitions:
            first, last = await self.reader.bounds(partition)
            while (partition, first) in self.dealt_with:  # mostly the oldest
                first += 1
            async for record in self.reader.read(partition, first, last):
                if (partition, record.offset) not in self.dealt_with:
                    yield _dead_letter(record)


@asynccontextmanager
async def _open(settings: KafkaSettings, topic: str) -> AsyncIterator[_DeadLetterTopic]:
    name = topic + DLQ_SUFFIX
    if name not in {each.name for each in TOPICS}:
        raise PermanentError(f"{topic} has no dead letters; see: clip-shared dlq list")
    async with log_reader(settings, f"deal with {name}", name, DEALT_WITH.name) as reader:
        partitions = reader.partitions(name)
        yield _DeadLetterTopic(reader, partitions, await _dealt_with(reader, partitions))


async def _dealt_with(reader: LogReader, partitions: list[TopicPartition]) -> set[Position]:
    """Return the positions of the retained dead letters that were dealt with."""
    noted = await _notes(reader)
    found: set[Position] = set()
    for partition in partitions:
        first, last = await reader.bounds(partition)
        ours = {offset: time for (place, offset), time in noted.items() if place == partition}
        if candidates := {offset for offset in ours if first <= offset < last}:
            # A note that is older than every dead letter is about a topic that was deleted and created again.
            oldest = await anext(reader.read(partition, first, last), None)
            if oldest is not None:  # else the retention has just ended
                found |= {(partition, offset) for offset in candidates if ours[offset] >= oldest.timestamp}
    return found


async def _notes(reader: LogReader) -> dict[Position, int]:
    """Return every position that was noted, with the timestamp of its dead letter."""
    found = {}
    for partition in reader.partitions(DEALT_WITH.name):
        async for record in reader.read(partition, *await reader.bounds(partition)):
            topic, number, offset = (record.key or b"").decode().rsplit(":", 2)
            found[TopicPartition(topic, int(number)), int(offset)] = int(record.value or b"0")
    return found


async def _note_dealt_with(producer: AIOKafkaProducer, dead_letter: ConsumerRecord) -> None:
    await producer.send_and_wait(
        DEALT_WITH.name,
        key=f"{dead_letter.topic}:{dead_letter.partition}:{dead_letter.offset}".encode(),
        value=str(dead_letter.timestamp).encode(),
    )


def _dead_letter(record: ConsumerRecord) -> DeadLetter:
    notes = {
        name: value.decode(errors="replace")
        for name, value in record.headers
        if name.startswith(NOTE_PREFIX) and value is not None
    }
    return DeadLetter(record, notes)
