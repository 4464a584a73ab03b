"""What a service's consumers have still to do: how much waits, and for how long it has.

A scrape asks nobody: positions and fetched messages are in memory, and :class:`clip_shared.bus.partitions`
asks for the ends of partitions now and then.
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
from clip_shared.bus.partitions import Partitions, Place

MILLISECONDS = 1000


@dataclass(frozen=True)
class Head:
    """The first message of a partition that was taken and is not handled.

    ``timestamp_ms`` is the record's; ``event_at`` the time of its event, where it has one that can be read.
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
        """Show a topic from now on."""
        self._topics[topic] = partitions

    def take(self, records: Sequence[ConsumerRecord]) -> None:
        """Note messages that are begun. Those that fail stay noted until they are handled after all."""
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
        """Forget what was taken of a topic: its partitions have been revoked.

        Whoever gets a partition begins with what its last owner did not handle.
        """
        for partition in [each for each in self._heads if each.topic == topic]:
            self._heads.pop(partition, None)

    def oldest_event_seconds(self, topic: str) -> float:
        """Return for how long the oldest event of a topic that was taken has not been handled; 0: none was.

        It counts from the time of the event, which a producer may set later than when it wrote the event.
        """
        heads = [head for partition, head in tuple(self._heads.items()) if partition.topic == topic]
        moments = [head.event_at.timestamp() for head in heads if head.event_at is not None]
        return max((max(0.0, time.time() - each) for each in moments), default=0.0)

    def collect(self) -> Iterable[Metric]:
        """Show it to Prometheus."""
        lag = GaugeMetricFamily(
            "clips_consumer_lag",
            "Messages of a partition assigned to this process that are not handled yet. Those of the last 20"
            " seconds may be missing.",
            labels=["topic", "partition"],
        )
        oldest = GaugeMetricFamily(
            "clips_oldest_waiting_seconds",
            "Age of the oldest message of the topic that is being handled, is delivered again, or is next in"
            " one of the partitions assigned to this process; 0 when no message waits.",
            labels=["topic"],
        )
        for topic, partitions in self._topics.items():
            places = partitions.places()
            for partition, behind in self._behind(places):
                lag.add_metric([topic, str(partition.partition)], behind)
            oldest.add_metric([topic], self._oldest_seconds(places))
        return [lag, oldest]

    def _behind(self, places: dict[TopicPartition, Place]) -> Iterator[tuple[TopicPartition, int]]:
        for partition, place in places.items():
            head = self._heads.get(partition)
            if place.end is not None:
                yield partition, max(0, place.end - (head.offset if head else place.position))

    def _oldest_seconds(self, places: dict[TopicPartition, Place]) -> float:
        now = time.time()
        heads = (self._heads.get(partition) for partition in places)
        times = [head.timestamp_ms for head in heads if head]
        times += [each.next_timestamp_ms for each in places.values() if each.next_timestamp_ms is not None]
        # Kafka takes any time, one to come as well, and -1 for none.
        return max((max(0.0, now - each / MILLISECONDS) for each in times if each > 0), default=0.0)


def _partition_of(record: ConsumerRecord) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)
