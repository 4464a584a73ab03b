"""How FastStream's messages become events: it gets records as they are, and no say in what is valid."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition

from clip_shared.bus.envelope import from_record
from clip_shared.bus.fetching import UnreadableRecord
from clip_shared.contracts.events import Data, Event
from clip_shared.errors import InvalidEvent


def records_of(raw: Any) -> tuple[ConsumerRecord, ...]:
    """Return the records of what FastStream delivers: one record, or the tuple of a batch."""
    return raw if isinstance(raw, tuple) else (raw,)


async def parse(raw: Any, original: Callable[[Any], Awaitable[Any]]) -> Any:
    """Parse without headers: FastStream takes them for UTF-8, and could not settle a message with others.

    :mod:`clip_shared.bus.envelope` reads them from the raw record, and says what is wrong with them.
    """
    bare = (
        tuple(replace(each, headers=()) for each in raw)
        if isinstance(raw, tuple)
        else replace(raw, headers=())
    )
    message = await original(bare)
    message.raw_message = raw
    message.consumer = Acknowledgement(message.consumer, records_of(raw))
    return message


async def leave_undecoded(message: Any) -> Any:
    """Leave decoding to the handler: FastStream would not settle a message that it could not decode."""
    return message.raw_message


@dataclass(frozen=True)
class Acknowledgement:
    """Commits these records alone: FastStream would commit all partitions, and erase their crash marks."""

    consumer: Any
    records: Sequence[ConsumerRecord]

    async def commit(self) -> None:
        """Commit the offsets that follow the records."""
        await self.consumer.commit(
            {TopicPartition(each.topic, each.partition): each.offset + 1 for each in self.records}
        )

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go back to a record."""
        self.consumer.seek(partition, offset)


def read_event(data_type: type[Data], record: ConsumerRecord) -> Event[Data]:
    """Return the event of a record.

    Raises:
        InvalidEvent: the record cannot be read, or breaks the contract of its topic.
    """
    if isinstance(record, UnreadableRecord):
        raise InvalidEvent(record.problem)
    return from_record(data_type, record)


def try_read_event(data_type: type[Data], record: ConsumerRecord) -> Event[Data] | InvalidEvent:
    """Return the event of a record, or what is wrong with it."""
    try:
        return read_event(data_type, record)
    except InvalidEvent as error:
        return error
