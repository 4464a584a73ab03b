"""The backlog of a service's consumers: how many messages wait, and for how long the oldest has waited.

A scrape sends no request to Kafka: positions and fetched messages are in memory, and
:mod:`clip_shared.bus.partitions` asks for the ends of partitions every few seconds.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from aiokafka import ConsumerRecord, TopicPartition
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from clip_shared.bus.envelope import event_time
from clip_shared.bus.partitions import PartitionPosition, Partitions

MILLISECONDS = 1000


@dataclass(frozen=True)
class Head:
    """The oldest message of a partition that a handler took and has not handled yet.

    ``timestamp_ms``: of the record; ``event_at``: the time of its event (None: it cannot be read).
    """

    offset: int
    timestamp_ms: int
    event_at: datetime | None


class Backlog(Collector):
    """The backlog of every topic, in the partitions that are assigned to this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._topics: dict[str, Partitions] = {}
        self._heads: dict[TopicPartition, Head] = {}
        registry.register(self)

    def add(self, topic: str, partitions: Partitions) -> None:
        """Show a topic's backlog."""
        self._topics[topic] = partitions

    def take(self, records: Sequence[ConsumerRecord]) -> None:
        """Note messages whose handler begins; they stay noted until they are handled or dead-lettered."""
        firsts: dict[TopicPartition, ConsumerRecord] = {}
        for record in records:  # in order, within each partition
            firsts.setdefault(_partition_of(record), record)
        for partition, record in firsts.items():
            self._heads[partition] = Head(record.offset, record.timestamp, event_time(record))

    def done(self, records: Sequence[ConsumerRecord]) -> None:
        """Note messages that were handled or dead-lettered."""
        for record in records:
            self._heads.pop(_partition_of(record), None)

    def forget(self, topic: str) -> None:
        """Forget the messages of a topic: its partitions have been revoked.

        The next process begins with what this one did not handle.
        """
        for partition in [each for each in self._heads if each.topic == topic]:
            self._heads.pop(partition, None)

    def oldest_event_seconds(self, topic: str) -> float:
        """Return the age of the topic's oldest event that was taken and is not handled; 0: no event is.

        It counts from the time of the event, which a producer may set later than the time of the record.
        """
        heads = [head for partition, head in tuple(self._heads.items()) if partition.topic == topic]
        moments = [head.event_at.timestamp() for head in heads if head.event_at is not None]
        return max((max(0.0, time.time() - each) for each in moments), default=0.0)

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics; Prometheus' client calls this at each scrape."""
        lag = GaugeMetricFamily(
            "clips_consumer_lag",
            "Messages not handled yet, by partition assigned to this process. Messages of the last 20 seconds"
            " may be missing.",
            labels=["topic", "partition"],
        )
        oldest = GaugeMetricFamily(
            "clips_oldest_waiting_seconds",
            "Age of the oldest message of the topic that is in a handler, is redelivered, or is next in a"
            " partition assigned to this process; 0 if no message waits.",
            labels=["topic"],
        )
        for topic, partitions in self._topics.items():
            positions = partitions.positions()
            for partition, behind in self._behind(positions):
                lag.add_metric([topic, str(partition.partition)], behind)
            oldest.add_metric([topic], self._oldest_seconds(positions))
        return [lag, oldest]

    def _behind(
        self, positions: dict[TopicPartition, PartitionPosition]
    ) -> Iterator[tuple[TopicPartition, int]]:
        for partition, each in positions.items():
            head = self._heads.get(partition)
            if each.end is not None:
                yield partition, max(0, each.end - (head.offset if head else each.position))

    def _oldest_seconds(self, positions: dict[TopicPartition, PartitionPosition]) -> float:
        now = time.time()
        heads = (self._heads.get(partition) for partition in positions)
        times = [head.timestamp_ms for head in heads if head]
        times += [each.next_timestamp_ms for each in positions.values() if each.next_timestamp_ms is not None]
        # Kafka takes any timestamp: one in the future too, and -1 for a record without one.
        return max((max(0.0, now - each / MILLISECONDS) for each in times if each > 0), default=0.0)


def _partition_of(record: ConsumerRecord) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)
