"""Batches of events: the handler rejects single events, and the others are done."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic

from aiokafka import ConsumerRecord

from clip_shared import tracing
from clip_shared.bus.event_context import in_current_span, in_own_span
from clip_shared.bus.parsing import try_read_event
from clip_shared.contracts.events import Data, Event
from clip_shared.errors import InvalidEvent


@dataclass(frozen=True)
class Rejected(Generic[Data]):
    """An event of a batch that can never be handled, and why. It is dead-lettered; the others are not."""

    event: Event[Data]
    error: Exception


BatchHandler = Callable[[list[Event[Data]]], Awaitable[list[Rejected[Data]]]]


@dataclass(frozen=True)
class _BatchItem(Generic[Data]):
    record: ConsumerRecord
    event: Event[Data] | InvalidEvent


async def handle_batch(
    handler: BatchHandler[Data], data_type: type[Data], records: Sequence[ConsumerRecord]
) -> list[tuple[ConsumerRecord, Exception]]:
    """Let a handler handle the valid events of a batch.

    Returns:
        the records that can never be handled, each with its error.
    """
    batch = [_BatchItem(record, try_read_event(data_type, record)) for record in records]
    with ExitStack() as spans:
        batch = _in_their_traces(batch, spans)
        events = [item.event for item in batch if isinstance(item.event, Event)]
        rejected = {id(each.event): each.error for each in await handler(events)} if events else {}
    return list(_failed(batch, rejected))


def _failed(
    batch: Sequence[_BatchItem[Data]], rejected: dict[int, Exception]
) -> Iterator[tuple[ConsumerRecord, Exception]]:
    for item in batch:
        error = item.event if isinstance(item.event, InvalidEvent) else rejected.get(id(item.event))
        if error is not None:
            yield item.record, error


def _in_their_traces(batch: list[_BatchItem[Data]], spans: ExitStack) -> list[_BatchItem[Data]]:
    if not tracing.is_on():
        return batch
    # A message that is delivered alone has a span of its own already.
    trace = in_current_span if len(batch) == 1 else partial(in_own_span, spans=spans)
    return [
        each if isinstance(each.event, InvalidEvent) else replace(each, event=trace(each.event))
        for each in batch
    ]
