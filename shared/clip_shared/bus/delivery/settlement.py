"""The decision about failed messages: dead-lettered, or redelivered. See :mod:`clip_shared.errors`."""

from collections.abc import Mapping, Sequence

from aiokafka import ConsumerRecord, TopicPartition

from clip_shared.bus.delivery.dead_letter_queue import DeadLetterQueue
from clip_shared.bus.delivery.redelivery import Redelivery
from clip_shared.bus.delivery.retries import Retries, Retry, position_of
from clip_shared.bus.partitions import Partitions
from clip_shared.errors import (
    DeadlineExceeded,
    GivenUp,
    HeldBack,
    PermanentError,
    RefusedRecord,
    TransientError,
)

MAX_UNKNOWN_ERRORS = 5
MAX_DEADLINES = 2
# After an error in the settlement itself, the partition waits as after this many failed attempts.
SETTLEMENT_FAILED_ATTEMPT = 10
# Of the time after which a message is given up: an hour of six. See Retry.note_others.
QUIET_SHARE = 1 / 6


class Settlement:
    """Settles failed messages.

    Args:
        topics: the partitions of each topic's consumer, by topic.
        retries: the memory of messages that failed.
        dead_letters: takes messages that will not be tried again.
        redelivery: pauses the partitions of the others.
        give_up_after_seconds: how long a message may fail while others of its topic succeed.
    """

    def __init__(
        self,
        topics: Mapping[str, Partitions],
        retries: Retries,
        dead_letters: DeadLetterQueue,
        redelivery: Redelivery,
        give_up_after_seconds: float,
    ) -> None:
        self._topics = topics
        self._retries = retries
        self._dead_letters = dead_letters
        self._redelivery = redelivery
        self._give_up_after_seconds = give_up_after_seconds

    async def settle(self, records: Sequence[ConsumerRecord], error: Exception) -> bool:
        """Settle failed messages, and never raise: FastStream would redeliver them without a pause.

        A batch that failed is always redelivered, message by message: it does not say which one failed.

        Returns:
            True: the message is dead-lettered. False: all of them are redelivered after a pause.
        """
        try:
            if len(records) == 1:
                return await self._settle_one(records[0], error)
            self._redelivery.pause(records, error, attempt=1)
        except Exception as failure:  # noqa: BLE001 - the partition has to wait in any case
            self._redelivery.pause(records, failure, attempt=SETTLEMENT_FAILED_ATTEMPT)
        return False

    async def _settle_one(self, record: ConsumerRecord, error: Exception) -> bool:
        retry = self._retries.count(position_of(record))
        if (final := await self._final_error(record, retry, error)) is not None:
            try:
                await self._dead_letters.put([(record, final)])
            except (TransientError, RefusedRecord) as refusal:
                error = refusal
            else:
                self._retries.forget([position_of(record)])
                return True
        retry.is_held_back = isinstance(error, HeldBack)
        self._redelivery.pause([record], error, attempt=retry.attempts)
        return False

    async def _final_error(self, record: ConsumerRecord, retry: Retry, error: Exception) -> Exception | None:
        """Return the error to dead-letter a message with; None: it is redelivered."""
        if isinstance(error, PermanentError):
            return error
        if isinstance(error, TransientError):
            return None if isinstance(error, HeldBack) else await self._given_up(record, retry, error)
        retry.unknown_errors += 1
        most = MAX_DEADLINES if isinstance(error, DeadlineExceeded) else MAX_UNKNOWN_ERRORS
        return error if retry.unknown_errors >= most else None

    async def _given_up(self, record: ConsumerRecord, retry: Retry, error: Exception) -> GivenUp | None:
        """Return an error if this message alone fails: an outage would stop the others as well."""
        partition = TopicPartition(record.topic, record.partition)
        others = await self._topics[record.topic].committed_elsewhere(partition)
        retry.note_others(others, quiet_seconds=self._give_up_after_seconds * QUIET_SHARE)
        if retry.alone_seconds < self._give_up_after_seconds:
            return None
        hours = retry.alone_seconds / 3600
        return GivenUp(f"it failed for {hours:.1f} h while other messages succeeded, at last with: {error}")
