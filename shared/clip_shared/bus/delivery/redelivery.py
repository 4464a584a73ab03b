"""Failed messages are redelivered after a pause, in which their partitions wait and no others do."""

from collections.abc import Mapping, Sequence

import structlog
from aiokafka import ConsumerRecord, TopicPartition

from clip_shared.backoff import backoff_seconds
from clip_shared.bus.delivery.dead_letters import MAX_ERROR_LENGTH
from clip_shared.bus.delivery.metrics import DeliveryMetrics
from clip_shared.bus.partitions import Partitions
from clip_shared.errors import DeadlineExceeded, TransientError

log = structlog.get_logger()

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0


class Redelivery:
    """The pauses before messages are redelivered.

    Args:
        topics: the partitions of each topic's consumer, by topic.
        metrics: where redeliveries are counted.
    """

    def __init__(self, topics: Mapping[str, Partitions], metrics: DeliveryMetrics) -> None:
        self._topics = topics
        self._metrics = metrics

    def pause(self, records: Sequence[ConsumerRecord], error: Exception, *, attempt: int) -> None:
        """Pause the partitions of messages of one topic, which failed together.

        Args:
            records: what failed.
            error: why.
            attempt: the number of the attempt that failed, from 1 on: the pause grows with it.
        """
        first = records[0]
        seconds = backoff_seconds(attempt, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS)
        partitions = {TopicPartition(each.topic, each.partition) for each in records}
        self._topics[first.topic].pause(partitions, seconds)
        self._metrics.handled.labels(first.topic, "retried").inc()
        is_known = isinstance(error, TransientError | DeadlineExceeded)
        log.warning(
            "will be delivered again",
            topic=first.topic,
            partition=first.partition,
            offset=first.offset,
            messages=len(records),
            attempt=attempt,
            pause_seconds=round(seconds, 2),
            error_type=type(error).__name__,
            error=str(error)[:MAX_ERROR_LENGTH],
            exc_info=None if is_known else error,
        )
